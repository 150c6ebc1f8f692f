"""Values that look right and are wrong, and secrets that can't be one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.config import PasswordSource
from exporter.config.checks import readable_by_all, secret_warnings
from exporter.config.oddities import doubts, oddity
from tests.support.config_texts import ACCOUNT_SID, SERVICE, account, factor

if TYPE_CHECKING:
    from tests.config.conftest import Loading, Refusing
    from tests.support.certificates import Certificates

VARIABLE = "contains a variable that nothing replaces"
IN_TOML = "TOML has no variables: write the value, or set"
INSTEAD = "instead of this key"
IN_VARIABLE = "set it to the value itself: nothing replaces variables in it"
NO_BREAK = "contains an invisible character (U+00A0 no-break space, character 2)"
ZERO_WIDTH = "contains an invisible character (U+200B zero width space, character 2); remove it"

SECRETS = [
    "9f86d081884c7d659a2feaa0c55ad015",
    "a-made-up-secret",
    "made-up",
    "hunter2",
    "p",
    "secretary-of-state-9",
    "$ecret",
    "p$ss{word}",
    "testing-1-2-3-4",
    "'half",
    "xX",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_that_may_be_one(secret: str) -> None:
    assert list(doubts(secret)) == []


@pytest.mark.parametrize(
    ("secret", "problem"),
    [
        ("${TWILIO_AUTH_TOKEN}", "contains a variable that nothing replaces"),
        ("$TWILIO_AUTH_TOKEN", "contains a variable that nothing replaces"),
        ("$(TOKEN)", "contains a variable that nothing replaces"),
        ("{{ twilio_token }}", "contains a variable that nothing replaces"),
        ('"made-up"', "has quotes around it"),
        ("'made-up'", "has quotes around it"),
        ("\u201cmade-up\u201d", "begins with a curly quote (U+201C left double quotation mark)"),
        ("made\u00a0up", "contains an invisible character (U+00A0 no-break space, character 5)"),
        ("changeme", "is a placeholder"),
        ("CHANGE-ME", "is a placeholder"),
        ("your_auth_token", "is a placeholder"),
        ("your-auth-token-here", "is a placeholder"),
        ("the secret itself", "is a placeholder"),
        ("my-secret", "is a placeholder"),
        ("password", "is a placeholder"),
        ("API_KEY_SECRET", "is a placeholder"),
        ("<auth token>", "is a placeholder"),
        ("[AuthToken]", "is a placeholder"),
        ("tbd", "is a placeholder"),
        ("...", "is a placeholder"),
        ("xxx", "is one repeated character"),
        ("0" * 32, "is one repeated character"),
        ("*****", "is one repeated character"),
        (ACCOUNT_SID, "is a SID"),
    ],
)
def test_a_secret_that_cannot_be_one(secret: str, problem: str) -> None:
    (doubt,) = doubts(secret)
    assert doubt.problem == problem
    assert doubt.hint


@pytest.mark.parametrize(
    "value",
    ["5m", "a$b", "caf\u00e9", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u201cso-called\u201d team"],
)
def test_values_that_are_not_odd(value: str) -> None:
    assert oddity(value) is None


def test_a_secret_in_the_configuration(load_text: Loading, tmp_path: Path) -> None:
    place = f"{tmp_path}/config.toml: accounts.main.password"
    (warning,) = load_text(account(password='"${TOKEN}"') + factor(1)).warnings
    assert warning.place == place
    assert (
        warning.hint
        == "TOML has no variables: set VERIFY_EXPORTER_ACCOUNTS__MAIN__PASSWORD instead, or name a file"
    )
    variable = {"VERIFY_EXPORTER_ACCOUNTS__MAIN__PASSWORD": "'made-up'"}
    (warning,) = load_text(account(password='"x"') + factor(1), environ=variable).warnings
    assert (warning.place, warning.text) == ("VERIFY_EXPORTER_ACCOUNTS__MAIN__PASSWORD", "has quotes around it")
    oauth = 'oauth = { client_id = "OQ1", client_secret_file = "f" }\n'
    text = f'[accounts.main]\naccount_sid = "{ACCOUNT_SID}"\n{oauth}'
    (warning,) = load_text(text + factor(1), f="changeme\n").warnings
    place = f"{tmp_path}/config.toml: accounts.main.oauth.client_secret_file"
    assert (warning.place, warning.text) == (place, f"the secret in {tmp_path}/f is a placeholder")


def test_the_made_up_secret_of_a_simulator_draws_no_warning(load_text: Loading) -> None:
    text = account(password='"changeme"', base_url='"http://127.0.0.1:9"') + factor(1)
    assert load_text(text).warnings == ()


def test_the_secret_of_a_watchlist_url(load_text: Loading) -> None:
    source = '[[watchlist.http]]\nname = "x"\nurl = "https://example.com"\nbearer_token_file = "token"\n'
    (warning,) = load_text(account() + source, token="<token>").warnings
    assert warning.text.endswith("/token is a placeholder")


def test_a_secret_that_every_user_can_read() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        if not all(parent.stat().st_mode & 0o001 for parent in folder.parents):
            pytest.skip("the directory for temporary files is private")
        secret, link = folder / "secret", folder / "link"
        secret.write_text("made-up")
        link.symlink_to(secret)
        readable = {}
        for folder_mode, mode in ((0o700, 0o644), (0o755, 0o640), (0o755, 0o644)):
            folder.chmod(folder_mode)
            secret.chmod(mode)
            readable[folder_mode, mode] = (readable_by_all(secret), readable_by_all(link))
        assert readable == {
            (0o700, 0o644): (False, False),
            (0o755, 0o640): (False, False),
            (0o755, 0o644): (True, True),
        }
        assert not readable_by_all(folder / "missing")
        (warning,) = secret_warnings("place", PasswordSource.from_file(secret))
        assert str(warning) == (
            f"place: every user can read {secret}; take that permission from others (chmod o-rwx)"
        )


def test_a_configuration_with_a_secret_that_every_user_can_read(
    load_text: Loading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.config.checks.readable_by_all", lambda path: path == tmp_path / "config.toml")
    (warning,) = load_text(account() + factor(1)).warnings
    assert warning.text == f"every user can read {tmp_path}/config.toml, which holds this secret"
    assert warning.hint.startswith("move the secret to password_file, or ")
    environ = {"VERIFY_EXPORTER_ACCOUNTS__MAIN__PASSWORD": "made-up"}
    text = f'[accounts.main]\naccount_sid = "{ACCOUNT_SID}"\n' + factor(1)
    assert load_text(text, environ=environ).warnings == ()


def test_keys_that_every_user_can_read(
    load_text: Loading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificates: Certificates
) -> None:
    monkeypatch.setattr("exporter.config.checks.readable_by_all", lambda path: path.name in ("key", "server.key"))
    text = account() + factor(1) + '[metrics]\nidentity = "hmac"\nidentity_key_file = "key"\n'
    (warning,) = load_text(text, key="k" * 32).warnings
    assert (warning.place, warning.text) == (
        f"{tmp_path}/config.toml: metrics.identity_key_file",
        f"every user can read {tmp_path}/key",
    )
    certificates.copy_to(tmp_path)
    web = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
    (warning,) = load_text('[web]\nconfig_file = "web.yml"\n' + account() + factor(1), web_dot_yml=web).warnings
    assert str(warning).startswith(f"{tmp_path}/web.yml: line 3: tls_server_config.key_file: every user can read ")


def test_variables_with_another_prefix(load_text: Loading, errors_of: Refusing) -> None:
    text = account() + account("other-one") + factor(1, account='"main"')
    environ = {
        "VERIFY_FACTOR_EXPORTER_POLLING__INTERVAL": "1m",
        "twilio_verify_exporter_log_level": "debug",
        "TWILIO_VERIFY_FACTOR_EXPORTER_ACCOUNTS__OTHER_ONE__PASSWORD": "x",
        "VERIFY__WEB__ENABLE_PROBE": "true",
        "FACTOR_EXPORTER_SHARDING_SHARD": "0/2",
        "VERFIY_EXPORTER_LOG__FORMAT": "json",
        "VERIFY_EXPORTER": "",
        # what isn't ours
        "TWILIO_ACCOUNT_SID": "AC1",
        "TWILIO_AUTH_TOKEN": "x",
        "VERIFY_FACTOR_EXPORTER_SERVICE_HOST": "10.0.0.1",
        "VERIFY_FACTOR_EXPORTER_PORT_10069_TCP_ADDR": "10.0.0.1",
        "VERIFY_FACTOR_EXPORTER_PORT": "tcp://10.0.0.1:10069",
        "VERIFY_FACTOR_EXPORTER_IMAGE": "x",
        "VERIFY_FACTOR_EXPORTER_WATCHLIST__FILES": "x",
        "VERIFY_FACTOR_EXPORTER_WATCHLIST_FILES": "x",
        "MY_VERIFY_EXPORTER_LOG__LEVEL": "debug",
        "LOG__LEVEL": "debug",
        "VERIFY_LOG_LEVEL": "debug",
        "VERIFY_EXPERT_LOG_COLOUR": "x",
        "VERIFY_FACTOR_EXPORTER_ACCOUNTS": "x",
    }
    warnings = load_text(text, environ=environ).warnings
    assert {warning.place: warning.hint.removeprefix("rename it to VERIFY_EXPORTER_") for warning in warnings} == {
        "VERIFY_FACTOR_EXPORTER_POLLING__INTERVAL": "POLLING__INTERVAL",
        "twilio_verify_exporter_log_level": "LOG__LEVEL",
        "TWILIO_VERIFY_FACTOR_EXPORTER_ACCOUNTS__OTHER_ONE__PASSWORD": "ACCOUNTS__OTHER_ONE__PASSWORD",
        "VERIFY__WEB__ENABLE_PROBE": "WEB__ENABLE_PROBE",
        "FACTOR_EXPORTER_SHARDING_SHARD": "SHARDING__SHARD",
        "VERFIY_EXPORTER_LOG__FORMAT": "LOG__FORMAT",
    }


@pytest.mark.parametrize(
    ("environ", "keys", "expected"),
    [
        ({"HTTPS_PROXY": "proxy:3128"}, {}, ["HTTPS_PROXY: has no scheme, so http is assumed; "]),
        ({"https_proxy": "proxy:3128"}, {}, ["https_proxy: has no scheme, so http is assumed; "]),
        ({"HTTPS_PROXY": "http://proxy:3128"}, {}, []),
        ({"HTTPS_PROXY": ""}, {}, []),
        ({"HTTP_PROXY": "proxy:3128"}, {}, []),
        ({"HTTPS_PROXY": "proxy:3128"}, {"proxy_url": '"http://proxy:3128"'}, []),
        ({"HTTPS_PROXY": "proxy:3128"}, {"base_url": '"http://localhost:1"'}, []),
        ({"HTTPS_PROXY": "proxy:3128"}, {"base_url": '"https://localhost:1"'}, []),
    ],
)
def test_the_proxy_of_the_environment(
    load_text: Loading, environ: dict[str, str], keys: dict[str, str], expected: list[str]
) -> None:
    warnings = load_text(account(**keys) + factor(1), environ=environ).warnings
    assert [str(warning)[: len(text)] for warning, text in zip(warnings, expected, strict=True)] == expected


def test_what_is_odd_in_settings(load_text: Loading, errors_of: Refusing, tmp_path: Path) -> None:
    assert errors_of(
        '[polling]\ninterval = "${X}"\n[web]\nallowed_hosts = ["a\u200b"]\n',
        environ={
            "VERIFY_EXPORTER_POLLING__TIMEOUT": "$TIMEOUT",
            "VERIFY_EXPORTER_POLLING__MAX_ATTEMPTS": "{{ n }}",
        },
    ) == [
        "VERIFY_EXPORTER_POLLING__MAX_ATTEMPTS: contains a variable that nothing replaces; write the value itself",
        f"config.toml: web.allowed_hosts[0]: {ZERO_WIDTH}",
        f"config.toml: polling.interval: {VARIABLE}; {IN_TOML} VERIFY_EXPORTER_POLLING__INTERVAL {INSTEAD}",
        f"VERIFY_EXPORTER_POLLING__TIMEOUT: {VARIABLE}; {IN_VARIABLE}",
    ]
    warnings = load_text(account() + factor(1) + '[state]\nfile = "${STATE}/x"\n').warnings
    assert [warning.place for warning in warnings] == [f"{tmp_path}/config.toml: state.file"]
    assert "VERIFY_EXPORTER_STATE__FILE" in warnings[0].hint


def test_what_is_odd_in_entries(load_text: Loading, errors_of: Refusing, tmp_path: Path) -> None:
    odd = factor(1, name='"${NAME}"', labels='{ team = "a\u00a0b" }') + factor(
        2, name='"{{ x }}"', labels='{ team = "a\u00a0b" }'
    )
    entity = f'[[entities]]\nname = "x\u200b"\nservice_sid = "{SERVICE}"\nidentity = "made-up-identity"\n'
    warnings = load_text(account() + odd + entity).warnings
    assert [str(warning).removeprefix(f"{tmp_path}/config.toml: ") for warning in warnings] == [
        f"factors[0].labels.team: {NO_BREAK} (here and in 1 more); remove it",
        "factors[0].name: contains a variable that nothing replaces; write the value itself",
        "entities[0].name: contains an invisible character (U+200B zero width space, character 2); remove it",
    ]
    csv = f"service_sid,identity,factor_sid\n{SERVICE},${{USER}},YF{1:032x}\n"
    files = '[watchlist]\nfiles = ["w.csv"]\n'
    assert errors_of(files + account(), w_dot_csv=csv) == [
        "w.csv: line 2, column 2 (identity): contains a variable that nothing replaces; write the value itself"
    ]


def test_a_file_that_begins_with_a_byte_order_mark_is_read(tmp_path: Path, load_text: Loading) -> None:
    config = load_text("\ufeff" + account() + factor(1))
    assert len(config.factors) == 1
    assert config.warnings == ()
