"""No secret and no identity in any text: errors, warnings, repr, str, logs; however malformed the input is."""

from __future__ import annotations

import itertools
import json
import logging
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.cli.findings import Finding, Severity, from_config, refused
from exporter.config import Config, ConfigError, load
from exporter.config.csvfile import COLUMNS
from tests.support.config_texts import ACCOUNT_SID, HEADER, SERVICE, account, factor, factor_sid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from tests.config.conftest import Loading

CANARY = "canary7f3a9c51e2"
DIGITS = 736401958827
SPELLINGS = [
    CANARY,
    f" {CANARY}",
    f"{CANARY}@example.com",
    f"{CANARY}\\n",
    f"{CANARY}\\u0000",
    CANARY * 9,
    f"VA{CANARY}",
    CANARY.upper(),
]
PASSWORD_KEYS = ["password", "username", "account_sid", "base_url", "proxy_url"]
FACTOR_KEYS = ["identity", "service_sid", "factor_sid", "account", "interval", "paused"]
SHOWN_KEYS = ["name", "labels"]
"""What is shown by its nature, but not in errors and warnings, where an identity may stand in its place."""


def texts_of(config: Config) -> Iterator[str]:
    yield "\n".join(map(str, config.warnings))
    for part in (config, config.settings, config.passwords, *config.settings.accounts.values()):
        yield repr(part)
        yield str(part)
    for listed in (config.factors, config.entities, config.warnings):
        yield repr(listed)
        yield "\n".join(map(str, listed))


def everything_printed(path: Path, environ: dict[str, str], flags: dict[str, str]) -> str:
    try:
        config = load(path, environ=environ, flags=flags)
    except ConfigError as error:
        printed = [str(error), repr(error), repr(error.errors), *map(str, error.errors)]
        return "\n".join([*printed, *traceback.format_exception(error), *shown_by_check(refused(error))])
    return "\n".join([*texts_of(config), *shown_by_check(from_config(Severity.WARNING, config.warnings))])


def shown_by_check(findings: list[Finding]) -> Iterator[str]:
    for finding in findings:
        yield str(finding)
        yield repr(finding)
        yield json.dumps(finding.as_json())
        if finding.excerpt is not None:
            yield finding.excerpt.rendered()


def failing(check: Callable[..., None], rows: Iterable[tuple[Any, Any]], folder: Path) -> list[tuple[Any, Any]]:
    """Return the rows for which a check fails."""
    failed = []
    for row in rows:
        try:
            check(*row, folder)
        except AssertionError:
            failed.append(row)
    return failed


def assert_hidden(path: Path, environ: dict[str, str] | None = None, flags: dict[str, str] | None = None) -> None:
    printed = everything_printed(path, environ or {}, flags or {})
    assert CANARY not in printed.lower()
    assert str(DIGITS) not in printed


def a_secret_at_any_key_of_an_account(key: str, value: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(account("main", **{key: value}))
    assert_hidden(tmp_path / "config.toml")


def test_a_secret_at_any_key_of_an_account(tmp_path: Path) -> None:
    keys = PASSWORD_KEYS
    values = (
        [f'"{text}"' for text in SPELLINGS]
        + [str(DIGITS), f"{DIGITS}.5", f'["{CANARY}"]', f'{{ secret = "{CANARY}" }}', f'"""\n{CANARY}"""']
        + [f'"https://user:{CANARY}@example.com"', f'"http://example.com/{CANARY}"', f'"http://{CANARY}:1x"']
    )
    assert failing(a_secret_at_any_key_of_an_account, itertools.product(keys, values), tmp_path) == []


def a_secret_at_any_key_of_an_app(key: str, value: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        f'[accounts.main]\naccount_sid = "{ACCOUNT_SID}"\noauth.{key} = {value}\n'
    )
    assert_hidden(tmp_path / "config.toml")


def test_a_secret_at_any_key_of_an_app(tmp_path: Path) -> None:
    keys = ["client_id", "client_secret", "token_url", "scope"]
    values = [f'"{text}"' for text in SPELLINGS] + [str(DIGITS), f'["{CANARY}"]', f'"https://user:{CANARY}@x"']
    assert failing(a_secret_at_any_key_of_an_app, itertools.product(keys, values), tmp_path) == []


@pytest.mark.parametrize("value", [CANARY, f"{CANARY}9", f"x{CANARY}=", CANARY.upper()])
def test_a_secret_in_the_place_of_its_file(value: str, tmp_path: Path) -> None:
    text = f'[accounts.main]\naccount_sid = "{ACCOUNT_SID}"\n'
    (tmp_path / "config.toml").write_text(f'{text}password_file = "{value}"\n')
    assert_hidden(tmp_path / "config.toml")
    (tmp_path / "config.toml").write_text(text)
    assert_hidden(tmp_path / "config.toml", {"VERIFY_EXPORTER_ACCOUNTS__MAIN__PASSWORD_FILE": value})


@pytest.mark.parametrize("key", SHOWN_KEYS)
@pytest.mark.parametrize(
    "value", [f'"{CANARY}"', f'"{CANARY}\\n"', f'{{ pod = "{CANARY}" }}', f'{{ le = "{CANARY}" }}']
)
def test_an_identity_in_the_place_of_what_is_shown(key: str, value: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(account() + 2 * factor(1, **{key: value}))
    with pytest.raises(ConfigError) as refused:
        load(path, environ={}, flags={})
    assert CANARY not in str(refused.value)
    path.write_text(account() + factor(1, **{key: value}))
    try:
        printed = "\n".join(map(str, load(path, environ={}, flags={}).warnings))
    except ConfigError as error:
        printed = str(error)
    assert CANARY not in printed


def an_identity_at_any_key_of_a_factor(key: str, value: str, tmp_path: Path) -> None:
    listed = factor(1, **{key: value}) + factor(2, name='"x"', **{key: value})
    for content in (account() + listed, account() + account("other") + listed, listed):
        (tmp_path / "config.toml").write_text(content)
        assert_hidden(tmp_path / "config.toml")
    (tmp_path / "config.toml").write_text(account() + '[watchlist]\nfiles = ["w.toml"]\n')
    (tmp_path / "w.toml").write_text(listed)
    assert_hidden(tmp_path / "config.toml")


@pytest.mark.slow
def test_an_identity_at_any_key_of_a_factor(tmp_path: Path) -> None:
    keys = FACTOR_KEYS
    values = [f'"{text}"' for text in SPELLINGS] + [
        str(DIGITS),
        f'["{CANARY}"]',
        f'{{ team = "{CANARY}" }}',
        f"{{ team = {DIGITS} }}",
    ]
    assert failing(an_identity_at_any_key_of_a_factor, itertools.product(keys, values), tmp_path) == []


@pytest.mark.parametrize(
    "line",
    [
        f"password = {CANARY}",
        f'password = "{CANARY}',
        f'password "{CANARY}"',
        f'password = "x" {CANARY}',
        f"password = '{CANARY}\x01'",
        f'password = "\\{CANARY}"',
        f'password = "x"\npassword = "{CANARY}"',
        f'password = ["{CANARY}"',
        f'password = {{ a = "{CANARY}"',
        f"{CANARY}",
        f"[{CANARY}",
        f"# {CANARY}\x02",
    ],
)
def test_a_secret_in_a_line_that_is_no_toml(line: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f"[accounts.main]\n{line}\n")
    assert_hidden(tmp_path / "config.toml")
    (tmp_path / "config.toml").write_text(account() + '[watchlist]\nfiles = ["w.toml"]\n')
    (tmp_path / "w.toml").write_text(f"[[factors]]\n{line}\n")
    assert_hidden(tmp_path / "config.toml")


def an_identity_in_any_cell(column: int, cell: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(account() + '[watchlist]\nfiles = ["w.csv"]\n')
    cells = [SERVICE, "made-up-identity", factor_sid(1), "name", "main", "5m", "true", "value"]
    cells[column : column + 1] = [cell]
    header = ",".join((*COLUMNS, "labels.team"))
    row = ",".join(cells)
    for content in (f"{header}\n{row}\n{row}\n", f"{row}\n", row.replace(",", ";"), row.replace(",", "\t")):
        (tmp_path / "w.csv").write_text(content)
        assert_hidden(tmp_path / "config.toml")


@pytest.mark.slow
def test_an_identity_in_any_cell(tmp_path: Path) -> None:
    keys = range(len(COLUMNS) + 2)
    values = [
        CANARY,
        f" {CANARY}",
        f"{CANARY}@example.com",
        f'"{CANARY}',
        f'"{CANARY}"x',
        f'"{CANARY}\n"',
        CANARY * 9,
    ]
    assert failing(an_identity_in_any_cell, itertools.product(keys, values), tmp_path) == []


@pytest.mark.parametrize("column", range(5))
def test_an_identity_in_the_header(column: int, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(account() + '[watchlist]\nfiles = ["w.csv"]\n')
    cells = [*HEADER.split(","), "name"]
    cells[column : column + 1] = [CANARY]
    (tmp_path / "w.csv").write_text(",".join(cells) + "\n")
    assert_hidden(tmp_path / "config.toml")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(account() + '[watchlist]\nfiles = ["w.csv", "w.toml"]\n')
    for name in ("w.csv", "w.toml"):
        (tmp_path / name).write_bytes(HEADER.encode() + b"\n" + CANARY.encode() + b"\xff")
    assert_hidden(tmp_path / "config.toml")


def a_secret_in_a_variable_or_a_flag(key: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(account())
    assert_hidden(tmp_path / "config.toml", {f"VERIFY_EXPORTER_ACCOUNTS__MAIN__{key}": text})
    assert_hidden(tmp_path / "config.toml", {"VERIFY_EXPORTER_FACTORS": text, "VERIFY_EXPORTER_QUUX": text})
    assert_hidden(tmp_path / "config.toml", flags={f"accounts.main.{key.lower()}": text})


def test_a_secret_in_a_variable_or_a_flag(tmp_path: Path) -> None:
    keys = [name.upper() for name in PASSWORD_KEYS] + ["PASSWROD", "MAX_CONCURRENCY"]
    values = [CANARY, f" {CANARY}", f"{CANARY}\n", f"https://a:{CANARY}@b", f"{CANARY}\x00", ""]
    assert failing(a_secret_in_a_variable_or_a_flag, itertools.product(keys, values), tmp_path) == []


@pytest.mark.parametrize("content", [CANARY, f"{CANARY}\n\n", f" {CANARY}", f"{CANARY}\x00", f"{CANARY}\udcff"])
def test_the_content_of_a_secret_file(content: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(content.encode(errors="surrogateescape"))
    for key in ("password_file", "ca_file", "identity_key_file"):
        text = f'[accounts.main]\naccount_sid = "{ACCOUNT_SID}"\n'
        text += f'{key} = "secret"\n' if key != "identity_key_file" else 'password = "x"\n'
        if key == "identity_key_file":
            text += '[metrics]\nidentity = "hmac"\nidentity_key_file = "secret"\n'
        (tmp_path / "config.toml").write_text(text)
        assert_hidden(tmp_path / "config.toml")


def test_an_identity_that_is_a_name_draws_warnings_that_dont_show_it(load_text: Loading) -> None:
    keys = {"identity": f'"{CANARY}"', "name": f'"{CANARY}"', "labels": f'{{ user = "{CANARY}" }}'}
    warnings = load_text(account() + factor(1, **keys) + factor(2)).warnings
    assert len(warnings) == 2
    assert all("is an identity" in warning.text and CANARY not in str(warning) for warning in warnings)


def test_a_name_that_is_the_identity_of_another_factor_draws_a_warning(load_text: Loading) -> None:
    (warning,) = load_text(account() + factor(1, name=f'"{CANARY}"') + factor(2, identity=f'"{CANARY}"')).warnings
    assert warning.place.endswith("config.toml: factors[0].name")
    assert CANARY not in str(warning)


def test_pydantic_settings_can_be_told_to_log_its_sources(
    load_text: Loading, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PYDANTIC_SETTINGS_DEBUG", "1")
    with caplog.at_level(logging.DEBUG):
        load_text(
            account("main", password=f'"{CANARY}"') + factor(1, identity=f'"{CANARY}"'),
            environ={"VERIFY_EXPORTER_ACCOUNTS__MAIN__PASSWORD": CANARY},
        )
    assert CANARY not in caplog.text


@given(st.data())
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_configuration_mangled_anywhere(tmp_path: Path, data: st.DataObject) -> None:
    text = account("main", password=f'"{CANARY}"') + factor(1, identity=f'"{CANARY}"')
    start = data.draw(st.integers(0, len(text)))
    length = data.draw(st.integers(0, 12))
    mangled = (
        text[:start] + data.draw(st.sampled_from(["", '"', "\n", "=", "[", "\x00", " x "])) + text[start + length :]
    )
    if mangled.count(CANARY) == 2:
        (tmp_path / "config.toml").write_text(mangled)
        assert_hidden(tmp_path / "config.toml")
