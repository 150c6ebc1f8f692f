"""Several exporters, one watchlist: each factor is watched by one of them, and each says which part it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.config import ConfigError, load
from exporter.polling.roster import Difference
from tests.support.config_files import entry, write_config
from tests.support.running_exporter import running
from tests.support.served_exporter import ACCOUNT_SID

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.simulator import Simulator

ACCOUNT = {"account_sid": ACCOUNT_SID, "password": "made-up"}
SHARDS = 3


def watchlist(folder: Path, simulator: Simulator) -> Path:
    factors = [entry(f"f{n}", simulator.add_factor(identity=f"identity-{n // 2:06d}")) for n in range(30)]
    path = write_config(folder / "config.toml", {"main": dict(ACCOUNT)}, factors)
    service = factors[0]["service_sid"]
    text = path.read_text(encoding="utf-8")
    for n in range(15):
        text += f'[[entities]]\nname = "e{n}"\nservice_sid = "{service}"\nidentity = "identity-{n:06d}"\n'
    path.write_text(text, encoding="utf-8")
    return path


async def test_the_shards_share_the_watchlist(simulator: Simulator, tmp_path: Path) -> None:
    path = watchlist(tmp_path, simulator)
    whole = load(path, environ={}, flags={})
    parts = [load(path, environ={}, flags={"sharding.shard": f"{n}/{SHARDS}"}) for n in range(SHARDS)]
    assert sorted(of.key for part in parts for of in part.factors) == sorted(of.key for of in whole.factors)
    assert sorted(of.key for part in parts for of in part.entities) == sorted(of.key for of in whole.entities)
    for part in parts:
        assert {of.identity for of in part.factors} == {of.key.identity for of in part.entities}
        assert part.sha256 == whole.sha256
        assert part.warnings == whole.warnings
    async with running(parts[1]) as exporter:
        page = await exporter.scrape()
        assert page.value("twilio_verify_exporter_shards") == SHARDS
        assert page.value("twilio_verify_exporter_shard_info", shard="1") == 1
        assert page.value("twilio_verify_exporter_watchlist_factors") == len(parts[1].factors)


async def test_a_reload_keeps_the_running_shard(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = watchlist(tmp_path, simulator)
    text = path.read_text(encoding="utf-8")

    def write(shard: str) -> None:
        path.write_text(f'[sharding]\nshard = "{shard}"\n\n{text}', encoding="utf-8")

    write("0/3")
    async with running(path) as exporter:
        before = exporter.daemon.engine.config
        write("0/5")
        assert await exporter.daemon.reload() == Difference()
        after = exporter.daemon.engine.config
        assert (after.shard, after.factors, after.entities) == (before.shard, before.factors, before.entities)
        assert "restart needed for changed keys" in caplog.text
        page = await exporter.scrape()
        assert page.value("twilio_verify_exporter_shards") == 3
        assert page.value("twilio_verify_exporter_watchlist_listed_factors") == len(before.factors)
        assert page.value("twilio_verify_exporter_watchlist_total_factors") == 30
    load_again = load(path, environ={}, flags={})
    assert load_again.shard == (0, 5), "a restart uses the new shard"


def test_the_variable_and_the_pod(simulator: Simulator, tmp_path: Path) -> None:
    path = watchlist(tmp_path, simulator)
    environ = {"VERIFY_EXPORTER_SHARDING__SHARD": "auto/3", "POD_NAME": "exporter-2"}
    assert load(path, environ=environ, flags={}).shard == (2, 3)
    with pytest.raises(ConfigError) as refused:
        load(path, environ=environ | {"POD_NAME": "exporter-3"}, flags={})
    assert str(refused.value) == (
        'VERIFY_EXPORTER_SHARDING__SHARD: "auto/3" has too few shards for the pod with ordinal 3; '
        "raise the count to 4"
    )
