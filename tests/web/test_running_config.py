"""``/config``: the applied configuration, every key shown or redacted, always valid TOML."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import load
from exporter.config.tree import settings_tree
from exporter.web.running_config import MOST_ENTRIES, SHOWN, _quoted, lines
from tests.support.config_files import write_config
from tests.support.served_exporter import IDENTITY, SERVICE_SID, entries, serving

if TYPE_CHECKING:
    from pathlib import Path

# The decision against a key is written down too: a new key needs one or the other.
REDACTED = {
    "accounts.NAME.account_sid",
    "accounts.NAME.username",
    "accounts.NAME.password",
    "accounts.NAME.oauth.client_id",
    "accounts.NAME.oauth.client_secret",
    "accounts.NAME.proxy_url",
    "watchlist.http[].username",
    "factors[].identity",
    "entities[].identity",
}


def test_every_configuration_key_is_either_shown_or_redacted() -> None:
    keys = {key.dotted for key in settings_tree().leaves()}
    assert keys == SHOWN | REDACTED
    assert not SHOWN & REDACTED
    assert not [key.dotted for key in settings_tree().leaves() if key.kind.secret and key.dotted in SHOWN]


async def config_of(folder: Path, **parts: Any) -> tuple[str, dict[str, Any]]:
    async with serving(folder, **parts) as running:
        reply = await running.request("/config")
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
    return reply.text, tomllib.loads(reply.text)


async def test_the_applied_configuration_is_shown_without_secrets_and_identities(tmp_path: Path) -> None:
    text, document = await config_of(
        tmp_path,
        factors=entries("payments", labels={"team": "pay"}, interval="2m"),
        accounts=("main", "other"),
        polling={"interval": "90s"},
        metrics={"factor_families": ["verified", "up"]},
    )
    assert document["polling"]["interval"] == "1m30s"
    assert document["web"]["telemetry_path"] == "/metrics", "defaults are shown, too"
    assert document["metrics"]["factor_families"] == ["verified", "up"]
    assert document["accounts"].keys() == {"main", "other"}
    assert document["accounts"]["main"] | {"base_url": ""} == {
        "account_sid": "[redacted]",
        "password": "[redacted]",
        "base_url": "",
        "max_concurrency": 4,
        "requests_per_second": 10.0,
    }
    assert document["factors"] == [
        {
            "name": "payments",
            "account": "main",
            "service_sid": SERVICE_SID,
            "identity": "[redacted]",
            "factor_sid": f"YF{1:032x}",
            "interval": "2m",
            "paused": False,
            "labels": {"team": "pay"},
        }
    ]
    assert "# username is not set" in text.splitlines()
    for secret in ("made-up", IDENTITY, "AC0000"):
        assert secret not in text


async def test_flags_variables_and_watchlist_files_are_included(tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text(
        f"service_sid,identity,factor_sid,name\n{SERVICE_SID},{IDENTITY},YF{2:032x},from-a-file\n"
    )
    account = {"account_sid": "AC" + "0" * 32, "password": "made-up", "proxy_url": "http://me:secret@proxy:3128"}
    path = write_config(tmp_path / "c.toml", {"main": account}, entries("own"), watchlist={"files": ["more.csv"]})
    with path.open("a") as file:
        file.write(f'[[entities]]\nname = "ops"\nservice_sid = "{SERVICE_SID}"\nidentity = "{IDENTITY}"\n')
        file.write(f'[[services]]\nname = "all"\nservice_sid = "{SERVICE_SID}"\nfactor_types = ["push"]\n')
    config = load(path, environ={"VERIFY_EXPORTER_LOG__LEVEL": "error"}, flags={"log.format": "json"})
    text = "\n".join(lines(config, 1_800_000_000.0))
    document = tomllib.loads(text)
    assert document["log"] == {"level": "error", "format": "json"}
    assert [factor["name"] for factor in document["factors"]] == ["own", "from-a-file"]
    assert [(of["name"], of["identity"]) for of in document["entities"]] == [("ops", "[redacted]")]
    assert document["services"] == [
        {
            "name": "all",
            "account": "main",
            "service_sid": SERVICE_SID,
            "factor_types": ["push"],
            "max_entities": 10000,
            "labels": {},
        }
    ]
    assert document["accounts"]["main"]["proxy_url"] == "[redacted]"
    assert "# Applied 2027-01-15T08:00:00Z" in text
    assert "# Shard 0/1; listed factors: 2, entities: 1, services: 1." in text
    for secret in ("made-up", "secret", IDENTITY):
        assert secret not in text


async def test_an_identity_used_as_a_name_is_redacted(tmp_path: Path) -> None:
    text, _ = await config_of(tmp_path, factors=entries(IDENTITY, labels={"who": IDENTITY}))
    assert IDENTITY not in text


async def test_a_long_watchlist_is_cut_and_says_so(tmp_path: Path) -> None:
    text, document = await config_of(tmp_path, factors=entries(*(f"f{n}" for n in range(MOST_ENTRIES + 7))))
    assert len(document["factors"]) == MOST_ENTRIES
    assert text.splitlines()[-1] == "# and 7 more; see /api/v1/factors for all watched factors"
    assert f"listed factors: {MOST_ENTRIES + 7}" in text


@pytest.mark.parametrize("name", ['say "no"\\', "ünï → 日本", "tab and [redacted] = 1", "a" * 128])
async def test_names_that_look_like_toml_are_names(tmp_path: Path, name: str) -> None:
    _, document = await config_of(tmp_path, factors=entries(name, labels={"x": 'a"] [web] b\\'}))
    assert document["factors"][0]["name"] == name
    assert document["factors"][0]["labels"] == {"x": 'a"] [web] b\\'}


@given(st.text(st.characters(codec="utf-8"), max_size=80))
def test_any_text_is_written_on_one_printable_line_and_reads_back(text: str) -> None:
    written = _quoted(text)
    assert written.isprintable()
    assert tomllib.loads(f"x = {written}") == {"x": text}


def test_a_lone_surrogate_is_replaced() -> None:
    assert _quoted("a\udc80b") == '"a\ufffdb"'
