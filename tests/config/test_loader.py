"""A whole configuration: what it holds once loaded, and that all errors are reported at once."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import Config, ConfigError, ErrorDetail, IdentityLabel, current_fingerprint, load
from exporter.config.files import UnreadableError, expand, parse_toml, read_bytes
from exporter.config.settings import Settings
from exporter.watched import FACTOR_TYPES, FactorKey, ServiceKey, WatchedFactor, WatchedService
from tests.support.config_texts import (
    ACCOUNT_SID,
    HEADER,
    IDENTITY,
    PASSWORD,
    SERVICE,
    account,
    factor,
    factor_sid,
    row,
)

if TYPE_CHECKING:
    from tests.config.conftest import Loading, Refusing

LINE_FEEDS = "save the file with line feeds (LF or CRLF)"


def test_a_factor_as_it_is_watched(load_text: Loading) -> None:
    keys = {
        "name": '"oncall"',
        "interval": '"90s"',
        "paused": "true",
        "labels": '{ b = "2", a = "1", none = "" }',
        "service_sid": f'"va{"0" * 32}"',
        "account": '"main"',
    }
    config = load_text(account() + factor(10, **keys) + factor(11))
    assert config.factors == (
        WatchedFactor(
            FactorKey("main", SERVICE, factor_sid(10)), "oncall", IDENTITY, 90, True, (("a", "1"), ("b", "2"))
        ),
        WatchedFactor(FactorKey("main", SERVICE, factor_sid(11)), factor_sid(11), IDENTITY, 300),
    )


@pytest.mark.parametrize("name", ["config.toml", "a.csv", "password", "link"])
def test_a_state_file_that_is_read_as_something_else_is_refused(
    errors_of: Refusing, tmp_path: Path, name: str
) -> None:
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "link").symlink_to("a.csv")
    text = account().replace(f'password = "{PASSWORD}"', 'password_file = "password"')
    text += f'[watchlist]\nfiles = ["a.csv"]\n[state]\nfile = "{name}"\n'
    (error,) = errors_of(text, a_dot_csv=f"{HEADER}\n{row(1)}")
    assert f"state.file: {name} is also read as configuration, and would be overwritten; name a file" in error


def test_a_config_knows_what_it_was_made_of(load_text: Loading, tmp_path: Path) -> None:
    text = account() + '[watchlist]\nfiles = ["*.csv", "b.toml", "a.csv"]\n'
    csv_text = f"{HEADER}\n{row(1)}"
    config = load_text(text, b_dot_toml=factor(2), a_dot_csv=csv_text)
    assert config.path == tmp_path / "config.toml"
    assert list(config.files) == [tmp_path / "config.toml", tmp_path / "a.csv", tmp_path / "b.toml"]
    digest = hashlib.sha256()
    for content in (text, csv_text, factor(2)):
        digest.update(f"{len(content)}\n{content}".encode())
    assert config.sha256 == digest.hexdigest()
    assert config.fingerprint == current_fingerprint(config)
    assert config.passwords["main"].current == PASSWORD
    assert config.entities == ()
    assert config.warnings == ()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.sha256 = ""  # type: ignore[misc]  # that it is refused is the test
    with pytest.raises(ValueError, match="frozen"):
        config.settings.polling.interval = 1  # type: ignore[misc]  # that it is refused is the test


def test_a_fingerprint_follows_the_watchlist_files(load_text: Loading, tmp_path: Path) -> None:
    config = load_text(account() + '[watchlist]\nfiles = ["*.csv"]\n', a_dot_csv=f"{HEADER}\n{row(1)}")
    (tmp_path / "a.csv").touch()
    assert current_fingerprint(config) == config.fingerprint
    (tmp_path / "b.csv").write_text(f"{HEADER}\n{row(2)}")
    assert current_fingerprint(config) != config.fingerprint
    (tmp_path / "b.csv").unlink()
    assert current_fingerprint(config) == config.fingerprint
    (tmp_path / "config.toml").unlink()
    assert current_fingerprint(config) != config.fingerprint


def test_a_fingerprint_covers_every_file_except_passwords(load_text: Loading, tmp_path: Path) -> None:
    text = (
        f'[accounts.main]\naccount_sid = "{ACCOUNT_SID}"\npassword_file = "secret"\nca_file = "ca.pem"\n'
        '[web]\nconfig_file = "web.yml"\n[metrics]\nidentity = "hmac"\nidentity_key_file = "key"\n'
    )
    authority = trustme.CA()
    server = authority.issue_cert("localhost")
    config = load_text(
        text,
        secret="one",
        key=b"k" * 32,
        ca_dot_pem=authority.cert_pem.bytes(),
        server_dot_crt=server.cert_chain_pems[0].bytes(),
        server_dot_key=server.private_key_pem.bytes(),
        web_dot_yml="tls_server_config: {cert_file: server.crt, key_file: server.key}\n",
    )
    assert {path.name for path in config.files} == {
        *("config.toml", "ca.pem", "key", "web.yml", "server.crt", "server.key"),
    }
    (tmp_path / "secret").write_text("two")
    assert current_fingerprint(config) == config.fingerprint
    for path in config.files:
        content = path.read_bytes()
        path.write_bytes(content + b"\n")
        assert current_fingerprint(config) != config.fingerprint, path
        path.unlink()
        assert current_fingerprint(config) != config.fingerprint, path
        path.write_bytes(content)
        assert current_fingerprint(config) == config.fingerprint, path


def test_a_digest_is_of_files_and_not_of_secrets(load_text: Loading, tmp_path: Path) -> None:
    text = f'[accounts.main]\naccount_sid = "{ACCOUNT_SID}"\npassword_file = "secret"\n'
    first = load_text(text, secret="one").sha256
    assert load_text(text, secret="two").sha256 == first


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (None, "config.toml: does not exist; create it or correct the path"),
        (b"\xff\xfea", "config.toml: is UTF-16; save it as UTF-8"),
        (
            b"[web]\na = '\xe9'",
            "config.toml: line 2, character 6: is not UTF-8 text (byte 0xE9, maybe Latin-1); save it as UTF-8",
        ),
        (b"a = " + b"[" * 5000, "config.toml: is nested too deeply"),
        (b"a = " + b"9" * 5000, "config.toml: is not valid TOML; see toml.io for the format"),
        (b"a =", "config.toml: line 1, column 4: the key has no value; write one, or remove the key"),
        (
            b"a = 1\r\rb = 2",
            f"config.toml: line 1, column 6: a carriage return alone is no line end; {LINE_FEEDS}",
        ),
    ],
)
def test_a_file_that_cannot_be_read(content: bytes | None, detail: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        load(path, environ={}, flags={})
    assert str(refused.value).replace(f"{tmp_path}/", "") == detail


def test_a_directory_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a directory; name a file in it"):
        load(tmp_path, environ={}, flags={})


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (PermissionError(13, "Permission denied"), "is not readable by this user"),
        (OSError(5, "Input/output error"), "cannot be read (Input/output error)"),
        (ValueError("embedded null byte"), "cannot be read (unusable path)"),
    ],
)
def test_other_reasons_why_a_file_cannot_be_read(
    error: Exception, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(UnreadableError) as raised:
        read_bytes(Path("x"))
    assert raised.value.problem == problem


@given(st.text())
def test_any_text_is_toml_or_refused_on_one_line(text: str) -> None:
    try:
        parse_toml(text)
    except UnreadableError as error:
        detail = error.detail("x")
    else:
        detail = ErrorDetail("x", "is good")
    assert str(detail).isprintable()


def test_all_errors_are_reported_at_once(errors_of: Refusing) -> None:
    text = (
        'colour = 1\n[polling]\ninterval = "soon"\n'
        + account("main", username='"x"', ca_file='"nowhere"')
        + account("Bad")
        + factor(1, identity='"x"')
        + factor(2, account='"main"')
        + factor(2, account='"main"')
        + '[metrics]\nidentity = "hmac"\nfactor_families = ["nope"]\n'
        + '[watchlist]\nfiles = ["", "w.csv", "nowhere.csv"]\n'
    )
    errors = errors_of(
        text,
        environ={"VERIFY_EXPORTER_QUUX": "", "VERIFY_EXPORTER_LOG__LEVEL": "loud"},
        flags={"log.format": "xml"},
        known_families=("verified", "up"),
        w_dot_csv=f"{HEADER},account\n{row(3)}{row(4, 'main')}{row(4, 'main')}",
    )
    assert [detail.split(": ")[:2] for detail in errors] == [
        ["config.toml", "colour"],
        ["VERIFY_EXPORTER_QUUX", "unknown variable; remove it"],
        ["VERIFY_EXPORTER_LOG__LEVEL", '"loud" is not one of debug, info, warning, error'],
        ["--log.format", '"xml" is not one of logfmt, json'],
        ["config.toml", "polling.interval"],
        ["config.toml", "accounts.main.username"],
        ["config.toml", "accounts.Bad"],
        ["config.toml", "watchlist.files[0]"],
        ["config.toml", "metrics.factor_families[0]"],
        ["config.toml", "accounts.main.ca_file"],
        ["config.toml", "metrics.identity"],
        ["config.toml", "factors[0].identity"],
        ["config.toml", "factors[2]"],
        ["w.csv", "line 2, column 4"],
        ["w.csv", "line 4"],
        ["config.toml", "watchlist.files[2]"],
    ]


def test_families_are_checked_when_they_are_known(load_text: Loading, errors_of: Refusing) -> None:
    text = '[metrics]\nfactor_families = ["verified", "*_seconds", "exist"]\n'
    assert load_text(text).settings.metrics.factor_families == ("verified", "*_seconds", "exist")
    known = ("verified", "exists", "interval_seconds")
    assert errors_of(text, known_families=known) == [
        'config.toml: metrics.factor_families[2]: "exist" matches no per-factor metric; did you mean "exists"?'
    ]
    assert errors_of('[metrics]\nfactor_families = ["zz*"]\n', known_families=known)[0].endswith(
        '"zz*" matches no per-factor metric; known: "exists", "interval_seconds", "verified"'
    )
    assert (
        load_text("[metrics]\nfactor_families = []\n", known_families=known).settings.metrics.factor_families == ()
    )


def test_an_identity_key_for_hmac(load_text: Loading) -> None:
    text = '[metrics]\nidentity = "hmac"\nidentity_key_file = "key"\n'
    config = load_text(text, key=b"k" * 32 + b"\n")
    assert config.settings.metrics.identity is IdentityLabel.HMAC
    assert config.identity_key == b"k" * 32
    assert load_text("").identity_key is None


def test_authorities_in_pem(load_text: Loading) -> None:
    authority = "# Főtanúsítvány\n".encode() + trustme.CA().cert_pem.bytes()
    config = load_text(account("main", ca_file='"ca.pem"'), ca_dot_pem=authority)
    ca_file = config.settings.accounts["main"].ca_file
    assert ca_file is not None
    assert ca_file.read_bytes() == authority


def test_an_invalid_path_of_a_password_file_is_one_error(errors_of: Refusing) -> None:
    text = f'[accounts.main]\naccount_sid = "{ACCOUNT_SID}"\npassword_file = " x"\n'
    assert errors_of(text) == ["config.toml: accounts.main.password_file: has white space around it; remove it"]


def test_an_empty_key_file_is_no_key(errors_of: Refusing) -> None:
    assert errors_of('[metrics]\nidentity = "hmac"\nidentity_key_file = ""\n') == [
        'config.toml: metrics.identity: "hmac" needs a key; set metrics.identity_key_file'
    ]
    assert len(errors_of('[metrics]\nidentity = "hmac"\nidentity_key_file = 1\n')) == 1


def test_no_credential_because_the_path_is_empty(errors_of: Refusing) -> None:
    text = f'[accounts.main]\naccount_sid = "{ACCOUNT_SID}"\npassword_file = ""\n'
    assert errors_of(text) == [
        "config.toml: accounts.main: has none of password_file, password and oauth; set password_file or oauth"
    ]


def test_patterns_match_files_that_are_not_hidden_and_each_once(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", ".hidden.csv", "deep/er/c.csv", "d[1].csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "none").mkdir()
    (tmp_path / "link.csv").symlink_to("a.csv")
    patterns = ["*.csv", "**/*.csv", "a.csv", "d[1].csv", "none*", str(tmp_path / "nowhere")]
    files, warnings = expand(tmp_path, [(f"files[{index}]", pattern) for index, pattern in enumerate(patterns)])
    assert [(place, str(path.relative_to(tmp_path))) for place, path in files] == [
        ("files[0]", "a.csv"),
        ("files[0]", "b.csv"),
        ("files[0]", "d[1].csv"),
        ("files[1]", "deep/er/c.csv"),
        ("files[5]", "nowhere"),
    ]
    assert [warning.place for warning in warnings] == ["files[4]"]


def test_a_directory_that_cannot_be_listed_is_an_error_like_a_file(errors_of: Refusing, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    long = "x" * 300
    (tmp_path / "file").touch()
    patterns = [("a", "loop/*/*.csv"), ("b", f"{long}/*.csv"), ("c", "file/*"), ("d", "no/*")]
    files, warnings = expand(tmp_path, patterns)
    assert files == [("a", tmp_path / "loop"), ("b", tmp_path / long)]
    assert [warning.place for warning in warnings] == ["c", "d"]
    assert errors_of('[watchlist]\nfiles = ["loop/*.csv"]\n') == [
        "config.toml: watchlist.files[0]: loop cannot be read (Too many levels of symbolic links); correct the path"
    ]


def test_an_explicit_default_is_accepted(load_text: Loading) -> None:
    text = (
        '[web]\nconfig_file = ""\nhealth_listen_address = ""\nenable_probe = false\n'
        'enable_lifecycle = false\n[polling]\ndiscovery_interval = "900s"\nforget_after = "1d"\n'
        '[state]\nfile = ""\n[sharding]\nshard = "0/1"\n'
    )
    assert isinstance(load_text(text), Config)


def test_an_empty_list_of_entities_is_not_refused(load_text: Loading) -> None:
    assert load_text("entities = []\nfactors = []\n").entities == ()


def entity(name: str = "ops", identity: str = IDENTITY, extra: str = "") -> str:
    return f'[[entities]]\nname = "{name}"\nservice_sid = "{SERVICE}"\nidentity = "{identity}"\n{extra}'


def test_entities(load_text: Loading, errors_of: Refusing) -> None:
    config = load_text(account() + '[polling]\ninterval = "2m"\n' + entity(extra='labels = { team = "ops" }\n'))
    assert [(found.name, found.key.account, found.key.service_sid) for found in config.entities] == [
        ("ops", "main", SERVICE)
    ]
    assert (config.entities[0].interval_seconds, config.entities[0].labels) == (120, (("team", "ops"),))
    assert config.warnings == ()
    assert IDENTITY not in repr(config.entities)
    assert errors_of(account("a") + account("b") + entity()) == [
        'config.toml: entities[0]: needs an account, as several are configured; set account to one of "a", "b"'
    ]


def test_an_entity_and_its_name_are_listed_once(load_text: Loading, errors_of: Refusing) -> None:
    other = IDENTITY + "-2"
    assert errors_of(account() + entity("one") + entity("two") + entity("one", other)) == [
        "config.toml: entities[1]: lists the same entity as config.toml: entities[0]; remove one of the two",
        (
            "config.toml: entities[2].name: is also the name of config.toml: entities[0], in the same account and "
            "service; rename one of the two"
        ),
    ]
    warnings = load_text(account() + entity(IDENTITY)).warnings
    assert [warning.place.rpartition("/")[2] for warning in warnings] == ["config.toml: entities[0].name"]


def service(name: str = "consumer", sid: str = SERVICE, extra: str = "") -> str:
    return f'[[services]]\nname = "{name}"\nservice_sid = "{sid}"\n{extra}'


OTHER_SERVICE = "VA" + "c" * 32


def test_services(load_text: Loading, errors_of: Refusing) -> None:
    key = ServiceKey("main", SERVICE)
    polling = '[polling]\ninterval = "2m"\n'
    assert load_text(account() + polling + service()).services == (WatchedService(key, "consumer", 120.0),)
    extra = 'factor_types = ["totp", "push"]\nmax_entities = 7\nlabels = { team = "login" }\n'
    config = load_text(account() + service(extra=extra) + entity())
    assert config.services == (WatchedService(key, "consumer", 300.0, ("totp", "push"), 7, (("team", "login"),)),)
    assert config.listed == {"main": 2}
    assert (config.factors, config.total_factors, config.warnings) == ((), 0, ())
    assert errors_of(account("a") + account("b") + service()) == [
        'config.toml: services[0]: needs an account, as several are configured; set account to one of "a", "b"'
    ]
    assert errors_of(service()) == [
        "config.toml: no account is configured, and 1 watchlist entry needs one; add a table [accounts.main]"
    ]


@pytest.mark.parametrize(
    ("chosen", "wanted", "unwanted"),
    [
        (FACTOR_TYPES, {"push", "totp", "passkeys", "a-later-type", ""}, set()),
        (("totp",), {"totp", ""}, {"push", "passkeys", "a-later-type"}),
        (("push", "passkeys"), {"push", "passkeys", ""}, {"totp", "a-later-type"}),
    ],
)
def test_which_listed_types_a_service_wants(chosen: tuple[str, ...], wanted: set[str], unwanted: set[str]) -> None:
    watched = WatchedService(ServiceKey("main", SERVICE), "consumer", 300.0, chosen)
    assert {kind for kind in wanted | unwanted if watched.wants(kind)} == wanted


def test_the_services_are_those_of_every_shard(load_text: Loading) -> None:
    text = account() + "".join(service("all", f"VA{number:032x}") for number in range(8))
    parts = [load_text(text, flags={"sharding.shard": f"{ordinal}/3"}) for ordinal in range(3)]
    assert {part.services for part in parts} == {load_text(text).services}


def test_a_service_is_listed_once_per_account(load_text: Loading, errors_of: Refusing) -> None:
    in_b = service("other", SERVICE.lower(), 'account = "b"\n')
    twice = account("a") + account("b") + service(extra='account = "a"\n') + in_b
    assert [found.key.account for found in load_text(twice).services] == ["a", "b"]
    assert errors_of(twice + in_b) == [
        "config.toml: services[2]: lists the same service as config.toml: services[1]; remove one of the two"
    ]


def test_a_service_and_an_entity_in_it_have_different_names(load_text: Loading, errors_of: Refusing) -> None:
    assert errors_of(account() + entity("same") + service("same")) == [
        (
            "config.toml: services[0].name: is also the name of config.toml: entities[0], in the same account and "
            "service; rename one of the two"
        )
    ]
    assert load_text(account() + entity("same") + service("same", OTHER_SERVICE)).services
    assert errors_of(
        account() + service("same") + '[watchlist]\nfiles = ["w.toml"]\n', w_dot_toml=entity("same")
    ) == [
        (
            "w.toml: entities[0].name: is also the name of config.toml: services[0], in the same account and "
            "service; rename one of the two"
        )
    ]


@pytest.mark.parametrize(
    ("extra", "error"),
    [
        (
            "factor_types = []\n",
            "factor_types: is empty, so nothing would be watched; list at least one, or remove",
        ),
        ('factor_types = ["totp", "totp"]\n', 'factor_types: "totp" is listed twice; remove one'),
        ('factor_types = ["totp", "sms"]\n', 'factor_types[1]: "sms" is not one of push, totp, passkeys'),
        ("factor_types = [7]\n", "factor_types[0]: is a whole number, not a string"),
        ('factor_types = "totp"\n', 'factor_types: is a string, not a list; write ["totp"]'),
        ("max_entities = 0\n", "max_entities: 0 is not between 1 and 1000000"),
        ('max_entities = "7"\n', "max_entities: is a string, not a whole number; write it without quotes"),
        ('labels = { entity = "x" }\n', "labels.entity: is a reserved label name; choose another"),
        ('identity = "somebody-0001"\n', "identity: unknown key; remove it"),
        ('factor_type = "totp"\n', 'factor_type: unknown key; did you mean "factor_types"?'),
    ],
)
def test_errors_in_a_service(errors_of: Refusing, extra: str, error: str) -> None:
    (found,) = errors_of(account() + service(extra=extra))
    assert found.startswith(f"config.toml: services[0].{error}")
    assert "somebody" not in found


def test_a_service_is_not_listed_in_a_watchlist_file(errors_of: Refusing) -> None:
    files = '[watchlist]\nfiles = ["w.toml"]\n'
    assert errors_of(account() + files, w_dot_toml=service() + service("twice")) == [
        'w.toml: "services": is not allowed here; move [[services]] to the configuration file'
    ]


def test_unusual_labels_of_a_service(load_text: Loading) -> None:
    extra = f'labels = {{ pod = "x", long = "{"x" * 1001}" }}\n'
    warnings = load_text(account() + service(extra=extra)).warnings
    places = [warning.place.rpartition("/")[2] for warning in warnings]
    assert places == ["config.toml: services[0].labels.pod", "config.toml: services[0].labels.long"]


def test_settings_without_sources_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB", '{"telemetry_path": "/x"}')
    assert Settings() == Settings.from_sources()
    assert Settings().web.telemetry_path == "/metrics"


@pytest.mark.parametrize(("entries", "excluded"), [(10, []), (4_000, [False])])
def test_many_objects_are_excluded_from_garbage_collection_before_it_goes_on(
    load_text: Loading, monkeypatch: pytest.MonkeyPatch, entries: int, excluded: list[bool]
) -> None:
    monkeypatch.setattr("exporter.config.garbage.MANY_OBJECTS", 5_000)
    enabled: list[bool] = []
    monkeypatch.setattr("exporter.config.garbage.gc.freeze", lambda: enabled.append(gc.isenabled()))
    rows = "".join(row(number) for number in range(entries))
    config = load_text('[watchlist]\nfiles = ["w.csv"]\n' + account(), w_dot_csv=f"{HEADER}\n{rows}")
    assert len(config.factors) == entries
    assert enabled == excluded
    assert gc.isenabled()
