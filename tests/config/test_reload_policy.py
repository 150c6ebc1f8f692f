"""What a reload may not do, decided from two configurations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from exporter.config import Config, load, reload_errors
from tests.support.certificates import Certificates
from tests.support.config_files import BCRYPT_HASH, append_entries, numbered_entries, numbered_entry, write_config
from tests.support.https_exporter import PAIR

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

ACCOUNT: Mapping[str, object] = {"account_sid": "AC" + "1" * 32, "password": "correct-horse-battery-1"}
USERS = f"basic_auth_users:\n  one: {BCRYPT_HASH}\n  two: {BCRYPT_HASH}\n"
REQUIRED = "  client_auth_type: RequireAndVerifyClientCert\n"
OPTIONAL = "  client_auth_type: VerifyClientCertIfGiven\n"
AUTHORITY = "  client_ca_file: ca.crt\n"
TLS13 = "  min_version: TLS13\n"
SUITES = "  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]\n"
CURVES = "  curve_preferences: [CurveP256]\n"
HEADERS = "http_server_config:\n  headers:\n"
DENY = "    X-Frame-Options: deny\n"
NOSNIFF = "    X-Content-Type-Options: nosniff\n"
RATE = "rate_limit:\n  interval: 1s\n"
NAMES = "  client_allowed_sans: [prometheus, backup]\n"
MUTUAL = PAIR + REQUIRED + AUTHORITY + NAMES


class Files:
    """The files of a configuration in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def load(
        self,
        factors: Iterable[Mapping[str, object]] = (numbered_entry(1), numbered_entry(2)),
        *,
        accounts: Iterable[str] = ("main",),
        web_config: str | None = None,
        files: Mapping[str, str] | None = None,
        services: Iterable[Mapping[str, object]] = (),
        **tables: Any,
    ) -> Config:
        """Write the files and load them."""
        if web_config is not None:
            (self.directory / "web.yml").write_text(web_config)
            tables["web"] = tables.get("web", {}) | {"config_file": "web.yml"}
        for name, text in (files or {}).items():
            (self.directory / name).write_text(text)
        path = write_config(self.directory / "config.toml", dict.fromkeys(accounts, ACCOUNT), factors, **tables)
        return load(append_entries(path, "services", *services), environ={}, flags={})


@pytest.fixture
def config_files(tmp_path: Path) -> Files:
    Certificates.make(tmp_path)
    return Files(tmp_path)


def problems(old: Config, new: Config) -> str:
    """Return the errors of a reload as one text."""
    return "\n".join(map(str, reload_errors(old, new)))


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        (PAIR, USERS, "would turn off TLS"),
        (PAIR, "rate_limit: {}\n", "would turn off TLS"),
        (PAIR, None, "web.config_file: would turn off TLS"),
        (PAIR + USERS, PAIR, "would turn off basic authentication"),
        (USERS, None, "would turn off basic authentication"),
        (PAIR + REQUIRED + AUTHORITY, PAIR, "no longer require or verify client certificates"),
        (PAIR + REQUIRED + AUTHORITY, PAIR + OPTIONAL + AUTHORITY, "no longer require or verify"),
        (PAIR + OPTIONAL + AUTHORITY, PAIR, "no longer require or verify"),
        (MUTUAL, PAIR + REQUIRED + AUTHORITY, "client certificates with any name"),
        (PAIR + REQUIRED + AUTHORITY, PAIR + REQUIRED, "every authority that this system trusts"),
        (USERS, "# nothing\n\n", "web.yml: is empty"),
        (PAIR + TLS13, PAIR, "web.yml: would accept TLS 1.2 again"),
        (PAIR + SUITES, PAIR, "web.yml: would replace the cipher_suites by the default"),
        (PAIR + CURVES, PAIR, "web.yml: would replace the curve_preferences by the default"),
        (f"{USERS}{RATE}  burst: 2\n", USERS, "web.yml: would turn off the rate limit"),
        (HEADERS + DENY + NOSNIFF, HEADERS + DENY, "would no longer send the header X-Content-Type-Options"),
        (
            f"{USERS}{RATE}  burst: 2\n",
            f"{USERS}{RATE}",
            "web.yml: would refuse every request, because its rate limit",
        ),
        (USERS, f"{USERS}{RATE}  burst: 0\n", "web.yml: would refuse every request, because its rate limit"),
    ],
)
def test_less_protection_needs_a_restart(config_files: Files, before: str, after: str | None, problem: str) -> None:
    old = config_files.load(web_config=before)
    found = problems(old, config_files.load(web_config=after))
    assert problem in found
    assert "restart the exporter" in found


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, MUTUAL + USERS),
        (PAIR, PAIR + REQUIRED + AUTHORITY),
        (PAIR + OPTIONAL, PAIR + REQUIRED),
        (MUTUAL, PAIR + REQUIRED + AUTHORITY + "  client_allowed_sans: [prometheus-2]\n"),
        (PAIR + USERS, PAIR + f"basic_auth_users:\n  three: {BCRYPT_HASH}\n"),
        (PAIR, "rate_limit: {}\n" + PAIR),
        (PAIR, PAIR + TLS13),
        (PAIR, PAIR + SUITES + CURVES),
        (f"{RATE}  burst: 2\n", f"{RATE}  burst: 5\n"),
        (HEADERS + DENY, f"{HEADERS}    X-Frame-Options: sameorigin\n{NOSNIFF}"),
    ],
)
def test_equal_or_more_protection_needs_none(config_files: Files, before: str | None, after: str) -> None:
    assert problems(config_files.load(web_config=before), config_files.load(web_config=after)) == ""


@pytest.mark.parametrize("key", ["enable_lifecycle", "enable_probe"])
def test_a_closed_path_is_opened_by_a_restart_only(config_files: Files, key: str) -> None:
    off, on = config_files.load(), config_files.load(web={key: True})
    assert f"web.{key}: is off and can't be turned on by a reload; restart" in problems(off, on)
    assert problems(on, off) == problems(on, on) == ""


@pytest.mark.parametrize(
    ("before", "after", "allowed"),
    [
        ("none", "plain", False),
        ("hmac", "plain", False),
        ("none", "hmac", False),
        ("plain", "hmac", True),
        ("hmac", "none", True),
        ("plain", "plain", True),
    ],
)
def test_a_reload_never_shows_more_of_an_identity(
    config_files: Files, before: str, after: str, allowed: bool
) -> None:
    (config_files.directory / "key").write_bytes(b"k" * 32)
    old, new = (config_files.load(metrics={"identity": how, "identity_key_file": "key"}) for how in (before, after))
    assert (problems(old, new) == "") is allowed


def test_the_watchlist_is_not_emptied(config_files: Files) -> None:
    old, new = config_files.load(), config_files.load(())
    assert "would lose all its 2 entries" in problems(old, new)
    assert "would lose its only entry" in problems(config_files.load([numbered_entry(1)]), new)
    assert problems(new, new) == problems(new, old) == ""
    assert problems(old, config_files.load((), watchlist={"allow_empty": True})) == ""
    assert "would lose" in problems(old, config_files.load((), accounts=()))


def test_an_account_that_stays_keeps_an_entry(config_files: Files) -> None:
    both = [numbered_entry(1, account="main"), numbered_entry(2, account="other")]
    old = config_files.load(both, accounts=("main", "other"))
    emptied = config_files.load(both[:1], accounts=("main", "other"))
    assert 'leave the account "other" without entries; it has 1 entry' in problems(old, emptied)
    assert problems(old, config_files.load(both[:1])) == "", "the account is gone, too"
    allowed = config_files.load(both[:1], accounts=("main", "other"), watchlist={"allow_empty": True})
    assert problems(old, allowed) == ""
    assert problems(emptied, emptied) == ""


def test_a_service_is_an_entry_of_its_account(config_files: Files) -> None:
    services = [{"name": "consumer", "service_sid": "VA" + "5" * 32}]
    old = config_files.load((), services=services)
    assert "would lose its only entry" in problems(old, config_files.load(()))
    assert problems(config_files.load(), old) == "", "the factors are gone, but the account keeps an entry"
    assert problems(old, config_files.load([numbered_entry(1)])) == ""


def test_a_shard_may_lose_its_last_entry_while_others_keep_theirs(config_files: Files) -> None:
    factors = [numbered_entry(number) for number in range(40)]
    shard = {"shard": "0/2"}
    old = config_files.load(factors, sharding=shard)
    elsewhere = [
        of for of in factors if of["factor_sid"] not in {watched.key.factor_sid for watched in old.factors}
    ]
    new = config_files.load(elsewhere, sharding=shard)
    assert old.factors
    assert not new.factors
    assert problems(old, new) == ""


def test_a_pattern_without_a_match_counts_as_an_emptied_list(config_files: Files) -> None:
    watchlist = {"files": ["w-*.toml"]}
    old = config_files.load((), files={"w-a.toml": numbered_entries(1)}, watchlist=watchlist)
    (config_files.directory / "w-a.toml").rename(config_files.directory / "w-a.toml.bak")
    found = problems(old, config_files.load((), watchlist=watchlist))
    assert "would lose its only entry" in found
    assert f"watchlist.files[0]: w-*.toml matches no file (in {config_files.directory}); restore" in found


def test_a_pattern_that_never_matched_is_not_named(config_files: Files) -> None:
    watchlist = {"files": ["v-*.toml", "w-*.toml"]}
    old = config_files.load((), files={"w-a.toml": numbered_entries(1)}, watchlist=watchlist)
    (config_files.directory / "w-a.toml").write_text("factors = []\n")
    assert "matches no file" not in problems(old, config_files.load((), watchlist=watchlist))


def test_only_an_empty_watchlist_file_may_need_allow_empty_after_a_restart(config_files: Files) -> None:
    tables: dict[str, Any] = {"watchlist": {"files": ["w-a.toml"]}, "state": {"file": "state.jsonl"}}
    old = config_files.load(files={"w-a.toml": numbered_entries(3)}, web_config=USERS, **tables)
    new = config_files.load(files={"w-a.toml": ""}, web_config="", **tables)
    hints = [error.hint for error in reload_errors(old, new) if error.problem == "is empty"]
    restart = "restore the file, or restart the exporter"
    assert sorted(hints) == [restart, f"{restart} with watchlist.allow_empty = true"]


def test_factors_move_between_files(config_files: Files) -> None:
    watchlist = {"files": ["w-*.toml", "v-*.toml"]}
    old = config_files.load((), files={"w-a.toml": numbered_entries(1, 2)}, watchlist=watchlist)
    parted = config_files.load(
        (), files={"w-a.toml": numbered_entries(2), "v-b.toml": numbered_entries(1)}, watchlist=watchlist
    )
    (config_files.directory / "w-a.toml").unlink()
    joined = config_files.load((), files={"v-b.toml": numbered_entries(1, 2)}, watchlist=watchlist)
    inline = config_files.load(files={"v-b.toml": "factors = []\n"}, watchlist=watchlist)
    for before, after in ((old, parted), (parted, joined), (joined, inline), (inline, inline)):
        assert problems(before, after) == ""


@pytest.mark.parametrize("text", ["", "\n \n", "# nothing\n", "\ufeff"])
def test_a_file_that_became_empty_is_refused_until_a_restart(config_files: Files, text: str) -> None:
    watchlist = {"files": ["w-*.toml"], "allow_empty": True}
    old = config_files.load(files={"w-a.toml": numbered_entries(3)}, watchlist=watchlist)
    new = config_files.load(files={"w-a.toml": text}, watchlist=watchlist)
    assert "w-a.toml: is empty; restore the file, or restart the exporter" in problems(old, new)
    assert problems(new, new) == problems(new, old) == ""
    added = config_files.load(files={"w-b.toml": text}, watchlist=watchlist)
    assert "w-b.toml: is empty" in problems(new, added)


def test_an_empty_configuration_file_is_refused(config_files: Files) -> None:
    old = config_files.load()
    (config_files.directory / "config.toml").write_bytes(b"")
    new = load(config_files.directory / "config.toml", environ={}, flags={})
    assert "config.toml: is empty" in problems(old, new)


def test_a_key_of_blanks_is_refused(config_files: Files) -> None:
    (config_files.directory / "key").write_bytes(b"#" * 32)
    metrics = {"identity": "hmac", "identity_key_file": "key"}
    old = config_files.load(metrics=metrics)
    assert problems(old, old) == ""
    (config_files.directory / "key").write_bytes(b" " * 32)
    assert "key: is empty" in problems(old, config_files.load(metrics=metrics))
