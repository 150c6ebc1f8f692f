"""Configuration files for tests: tables in, a file out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from exporter.simulator import SimulatedFactor, Simulator

POLLING: Mapping[str, object] = {
    "interval": "1s",
    "unverified_interval": "1s",
    "timeout": "60s",  # a busy machine is no slow API; tests of timeouts set their own
    "shutdown_timeout": "1s",
}

BCRYPT_HASH = "$2y$04$abcdefghijklmnopqrstuuXNh2FVyHIZ7RsTsWn0Fo9L1oW7ZfzKe"
"""A bcrypt hash in form; no password is known for it."""


def account_of(simulator: Simulator, **keys: object) -> dict[str, object]:
    """Return the table of the simulator's account; ``None`` takes a key out."""
    table: dict[str, object] = {
        "account_sid": simulator.account_sid,
        "username": simulator.username,
        "password": simulator.password,
        "base_url": simulator.base_url,
    }
    return {key: value for key, value in (table | keys).items() if value is not None}


def app_of(simulator: Simulator, **keys: object) -> dict[str, object]:
    """Return the table of the simulator's account with its OAuth app; ``None`` takes a key of the app out."""
    app: dict[str, object] = {
        "client_id": simulator.oauth.client_id,
        "client_secret": simulator.oauth.client_secret,
        "token_url": simulator.token_url,
    }
    oauth = {key: value for key, value in (app | keys).items() if value is not None}
    return account_of(simulator, username=None, password=None, oauth=oauth)


def entry(name: str, factor: SimulatedFactor, **keys: object) -> dict[str, object]:
    """Return the entry of a watchlist for a factor."""
    return {
        "name": name,
        "service_sid": factor.service_sid,
        "identity": factor.identity,
        "factor_sid": factor.sid,
        **keys,
    }


def numbered_entry(number: int, **keys: object) -> dict[str, object]:
    """Return the watchlist entry of a factor that no API knows."""
    identity = f"entity-{number:08}"
    return {
        "service_sid": "VA" + "1" * 32,
        "identity": identity,
        "factor_sid": f"YF{number:032x}",
        "name": f"f{number}",
    } | keys


def numbered_entries(*numbers: int) -> str:
    """Return a watchlist file in TOML with such entries."""
    return "".join(
        "[[factors]]\n" + "".join(f'{key} = "{value}"\n' for key, value in numbered_entry(number).items())
        for number in numbers
    )


def write_config(
    path: Path,
    accounts: Mapping[str, Mapping[str, object]],
    factors: Iterable[Mapping[str, object]] = (),
    *,
    polling: Mapping[str, object] | None = None,
    **tables: Mapping[str, object],
) -> Path:
    """Write a configuration that listens on a free port of loopback; return its path."""
    text = [
        _table("web", {"listen_address": "127.0.0.1:0"} | dict(tables.pop("web", {}))),
        _table("polling", dict(POLLING) | dict(polling or {})),
        *(_table(name, keys) for name, keys in tables.items()),
        *(_table(f"accounts.{name}", keys) for name, keys in accounts.items()),
        *(_table("factors", keys, listed=True) for keys in factors),
    ]
    path.write_text("\n".join(text), encoding="utf-8")
    return path


def append_entries(path: Path, array: str, *entries: Mapping[str, object]) -> Path:
    """Append entries of an array of tables, such as ``services``, to a configuration; return its path."""
    text = "\n".join(_table(array, keys, listed=True) for keys in entries)
    path.write_text(path.read_text(encoding="utf-8") + "\n" + text, encoding="utf-8")
    return path


def _table(name: str, keys: Mapping[str, object], *, listed: bool = False) -> str:
    head = f"[[{name}]]" if listed else f"[{name}]"
    return "\n".join([head, *(f"{key} = {_value(value)}" for key, value in keys.items()), ""])


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)  # TOML knows no pairs of surrogates
