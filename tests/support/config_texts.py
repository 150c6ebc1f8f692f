"""Pieces of configuration that the tests are put together from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SERVICE = "VA" + "0" * 32
ACCOUNT_SID = "AC" + "0" * 32
API_KEY = "SK" + "0" * 32
IDENTITY = "made-up-identity"
PASSWORD = "a-made-up-secret"
HEADER = "service_sid,identity,factor_sid"


def factor_sid(number: int) -> str:
    """Return the SID of a made-up factor."""
    return f"YF{number:032x}"


def account(name: str = "main", **keys: str) -> str:
    """Return an account's table in TOML; a key's value is TOML too."""
    table = {"account_sid": f'"{ACCOUNT_SID}"', "password": f'"{PASSWORD}"', **keys}
    return f"[accounts.{name}]\n" + _lines(table)


def factor(number: int = 1, **keys: str) -> str:
    """Return a factor's table in TOML; a key's value is TOML too."""
    table = {
        "service_sid": f'"{SERVICE}"',
        "identity": f'"{IDENTITY}"',
        "factor_sid": f'"{factor_sid(number)}"',
        **keys,
    }
    return "[[factors]]\n" + _lines(table)


def row(number: int = 1, *cells: str) -> str:
    """Return a factor's row in CSV."""
    return ",".join((SERVICE, IDENTITY, factor_sid(number), *cells)) + "\n"


def problem_of(parse: Callable[[object], object], value: object) -> str | None:
    """Return what a parser says is wrong with a value; None when nothing is."""
    try:
        parse(value)
    except ValueError as error:
        return str(error)
    return None


def _lines(table: dict[str, str]) -> str:
    return "".join(f"{key} = {value}\n" for key, value in table.items())
