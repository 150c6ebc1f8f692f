"""Flags over environment over file, and the place that each value is known by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import ListenAddress, LogLevel
from exporter.config.sources import EnvironmentSource, FlagSource, is_link_variable, variable_name
from exporter.config.tree import Key, settings_tree
from tests.support.config_texts import ACCOUNT_SID, API_KEY, account, factor

if TYPE_CHECKING:
    from pathlib import Path

    from tests.config.conftest import Loading, Refusing


def test_flags_over_environment_over_file_over_defaults(load_text: Loading) -> None:
    text = '[log]\nlevel = "error"\n[polling]\ninterval = "1h"\nmax_attempts = 7\n'
    environ = {"VERIFY_EXPORTER_LOG__LEVEL": "warning", "VERIFY_EXPORTER_POLLING__INTERVAL": "2m"}
    settings = load_text(text, environ=environ, flags={"log.level": "debug"}).settings
    assert settings.log.level is LogLevel.DEBUG
    assert settings.polling.interval == 120
    assert settings.polling.max_attempts == 7
    assert settings.polling.stale_after == 3


def test_every_kind_of_value_from_the_environment(load_text: Loading, tmp_path: Path) -> None:
    environ = {
        "VERIFY_EXPORTER_WEB__LISTEN_ADDRESS": "[::1]:9",
        "verify_exporter_Web__Telemetry_Path": "/m",
        "VERIFY_EXPORTER_WEB__ENABLE_PROBE": "False",
        "VERIFY_EXPORTER_POLLING__UNVERIFIED_WINDOW": "0s",
        "VERIFY_EXPORTER_POLLING__MAX_ATTEMPTS": "5",
        "VERIFY_EXPORTER_ACCOUNTS__MAIN__ACCOUNT_SID": ACCOUNT_SID,
        "VERIFY_EXPORTER_ACCOUNTS__MAIN__USERNAME": API_KEY.lower(),
        "VERIFY_EXPORTER_ACCOUNTS__MAIN__PASSWORD": "from-the-environment",
        "VERIFY_EXPORTER_ACCOUNTS__MAIN__REQUESTS_PER_SECOND": "0.5",
        "VERIFY_EXPORTER_ACCOUNTS__MAIN__PROXY_URL": "http://user:secret@proxy:3128",
        "VERIFY_EXPORTER_ACCOUNTS__MAIN__CA_FILE": "",
        "PATH": "/bin",
        "VERIFY_EXPORTERS": "not ours",
    }
    config = load_text(factor(), environ=environ)
    settings = config.settings
    assert settings.web.listen_address == (ListenAddress("::1", 9),)
    assert settings.web.telemetry_path == "/m"
    assert settings.polling.unverified_window == 0
    assert settings.polling.max_attempts == 5
    main = settings.accounts["main"]
    assert main.user == API_KEY
    assert main.requests_per_second == 0.5
    assert main.proxy_url is not None
    assert main.proxy_url.get_secret_value() == "http://user:secret@proxy:3128"
    assert main.ca_file is None
    assert config.passwords["main"].current == "from-the-environment"
    assert config.factors[0].key.account == "main"


def test_the_user_name_is_the_account_unless_an_api_key_is_given(load_text: Loading) -> None:
    assert load_text(account()).settings.accounts["main"].user == ACCOUNT_SID


def test_an_account_with_a_hyphen_is_written_with_an_underscore(load_text: Loading, errors_of: Refusing) -> None:
    environ = {"VERIFY_EXPORTER_ACCOUNTS__EU_WEST__MAX_CONCURRENCY": "9"}
    assert load_text(account("eu-west"), environ=environ).settings.accounts["eu-west"].max_concurrency == 9
    both = account("eu-west") + account("eu_west")
    assert load_text(both, environ=environ).settings.accounts["eu_west"].max_concurrency == 9
    environ = {"VERIFY_EXPORTER_ACCOUNTS__A_B_C__MAX_CONCURRENCY": "9"}
    (detail,) = errors_of(account("a-b_c") + account("a_b-c"), environ=environ)
    assert detail.endswith("MAX_CONCURRENCY: matches several accounts; set the key in the configuration file")


def test_an_account_of_the_environment_alone_needs_an_account_sid(errors_of: Refusing) -> None:
    environ = {"VERIFY_EXPORTER_ACCOUNTS__OTHER__PASSWORD": "x"}
    (detail,) = errors_of("", environ=environ)
    assert detail == (
        'VERIFY_EXPORTER_ACCOUNTS__OTHER__PASSWORD: the account "other" has no account_sid; '
        "set accounts.other.account_sid"
    )


def test_a_bad_account_name_in_a_variable(errors_of: Refusing) -> None:
    environ = {"VERIFY_EXPORTER_ACCOUNTS__A.B__ACCOUNT_SID": ACCOUNT_SID}
    errors = errors_of("", environ=environ)
    assert len(errors) == 1
    assert errors[0].startswith('VERIFY_EXPORTER_ACCOUNTS__A.B__ACCOUNT_SID: "a.b" is not a valid account name')


def test_flags_as_the_command_line_gives_them(load_text: Loading) -> None:
    flags = {
        "web.listen_address": [":1", "127.0.0.1:2"],
        "web.config_file": None,
        "watchlist.files": [],
        "sharding.shard": "0/1",
        "polling.max_attempts": "4",
        "polling.stale_after": 5,
    }
    settings = load_text("", flags=flags).settings
    assert settings.web.listen_address == (ListenAddress(None, 1), ListenAddress("127.0.0.1", 2))
    assert settings.polling.max_attempts == 4
    assert settings.polling.stale_after == 5


@pytest.mark.parametrize(
    ("name", "value", "detail"),
    [
        ("web.listen_address", ["1"], '--web.listen-address[0]: "1" needs a colon: ":1"'),
        ("web.config_file", "no-web.yml", "--web.config.file: no-web.yml does not exist; "),
        ("sharding.shard", "2/2", '--shard: "2/2" is not a shard such as "0/4"'),
        ("log.level", "loud", '--log.level: "loud" is not one of debug, info, warning, error'),
        ("polling.max_attempts", "x", '--polling.max-attempts: "x" is not a whole number'),
        ("polling.intervall", "5m", '--polling.intervall: unknown key; did you mean "polling.interval"?'),
        ("polling", "5m", "--polling: unknown key"),
    ],
)
def test_an_error_of_a_flag_names_the_flag(name: str, value: object, detail: str, errors_of: Refusing) -> None:
    errors = errors_of("", flags={name: value})
    assert len(errors) == 1
    assert errors[0].startswith(detail)


def test_a_relative_path_belongs_to_the_file_that_holds_it(
    load_text: Loading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (elsewhere / "secret").write_text("of the working directory")
    (tmp_path / "secret").write_text("beside the file")
    text = f'[accounts.main]\naccount_sid = "{ACCOUNT_SID}"\npassword_file = "secret"\n'
    config = load_text(text)
    assert config.passwords["main"].current == "beside the file"
    assert config.passwords["main"].path == tmp_path / "secret"
    environ = {"VERIFY_EXPORTER_ACCOUNTS__MAIN__PASSWORD_FILE": "secret"}
    assert load_text(text, environ=environ).passwords["main"].current == "of the working directory"


def test_a_table_in_the_file_is_merged_with_the_environment_and_never_hidden_by_it(errors_of: Refusing) -> None:
    environ = {"VERIFY_EXPORTER_POLLING__INTERVAL": "2m"}
    assert errors_of("polling = 3\n", environ=environ) == [
        "config.toml: polling: is a whole number, not a table; write [polling] with its keys below it"
    ]


LINKS = {
    "VERIFY_EXPORTER_SERVICE_HOST": "10.0.0.1",
    "VERIFY_EXPORTER_SERVICE_PORT": "10069",
    "VERIFY_EXPORTER_SERVICE_PORT_METRICS": "10069",
    "VERIFY_EXPORTER_PORT": "tcp://10.0.0.1:10069",
    "VERIFY_EXPORTER_PORT_10069_TCP": "tcp://10.0.0.1:10069",
    "VERIFY_EXPORTER_PORT_10069_TCP_PROTO": "tcp",
    "VERIFY_EXPORTER_PORT_10069_TCP_PORT": "10069",
    "VERIFY_EXPORTER_PORT_10069_TCP_ADDR": "10.0.0.1",
    "VERIFY_EXPORTER_PORT_53_UDP_PORT": "53",
    "VERIFY_EXPORTER_HEADLESS_SERVICE_HOST": "10.0.0.1",
    "VERIFY_EXPORTER_WEB_PORT": "udp://10.0.0.1:1",
}


@pytest.mark.parametrize("name", LINKS)
def test_link_variables_are_ignored(name: str) -> None:
    assert is_link_variable(name, LINKS[name])
    assert not EnvironmentSource(settings_tree(), {name: LINKS[name]}, ()).errors


@pytest.mark.parametrize(
    "name", ["VERIFY_EXPORTER_PORT", "VERIFY_EXPORTER_WEB_PORT", "VERIFY_EXPORTER_WEB__SERVICE_HOST"]
)
def test_what_only_looks_like_a_link_variable_is_an_error(name: str) -> None:
    assert not is_link_variable(name, "10070")
    assert len(EnvironmentSource(settings_tree(), {name: "10070"}, ()).errors) == 1


def test_no_key_of_ours_is_taken_for_a_link_variable() -> None:
    for key in settings_tree().leaves():
        assert not is_link_variable(variable_name(key.path), "tcp://x")


@given(st.text(min_size=1), st.text())
def test_any_variable_with_the_prefix_is_read_or_refused(name: str, text: str) -> None:
    variable = f"VERIFY_EXPORTER_{name}"
    source = EnvironmentSource(settings_tree(), {variable: text}, ("main",))
    assert source.places or source.errors or is_link_variable(variable, text)
    assert all(str(detail).isprintable() for detail in source.errors)


def test_every_key_can_be_set_by_flag_and_by_variable_or_says_why_not() -> None:
    for key in settings_tree().leaves():
        source = EnvironmentSource(settings_tree(), {variable_name(key.path): "x"}, ("main",))
        if "[]" in key.path or key.kind.files_only:
            assert "can be set in files only" in source.errors[0].problem
        else:
            path = tuple("main" if part == "*" else part for part in key.path)
            assert (
                path in source.places or source.errors[0].problem.startswith('"x"') or "value" in str(source.errors)
            )


def test_a_source_answers_for_single_keys_too() -> None:
    source = FlagSource(settings_tree(), {"log.level": "debug"})
    field = source.settings_cls.model_fields["log"]
    assert source.get_field_value(field, "log") == ({"level": "debug"}, "log", False)
    assert repr(source()) == "<settings>"


def test_the_flags_of_the_tree() -> None:
    flags = {key.dotted: key.flag.name for key in settings_tree().leaves() if isinstance(key, Key) and key.flag}
    assert flags == {
        "web.listen_address": "--web.listen-address",
        "web.telemetry_path": "--web.telemetry-path",
        "web.config_file": "--web.config.file",
        "log.level": "--log.level",
        "log.format": "--log.format",
        "sharding.shard": "--shard",
    }
