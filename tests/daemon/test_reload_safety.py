"""A reload under damaged files: protection and watchlist stay, and what is right again is applied."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings

from exporter.config import Config, ConfigError, load
from exporter.daemon.reload import ConfigStatus, Reloader
from exporter.polling.clock import Clock
from exporter.polling.roster import Difference
from tests.support.certificates import Certificates
from tests.support.config_files import BCRYPT_HASH, account_of, entry, numbered_entries, write_config
from tests.support.damaged_files import DamagedFiles, Step
from tests.support.https_exporter import PAIR
from tests.support.running_exporter import becomes, running

if TYPE_CHECKING:
    from exporter.simulator import Simulator

ACCOUNT = '[accounts.main]\naccount_sid = "AC' + "1" * 32 + '"\npassword = "correct-horse-battery-1"\n\n'
CONTENTS = {
    "config.toml": ('[web]\nconfig_file = "web.yml"\n\n[watchlist]\nfiles = ["w-*.toml"]\n\n' + ACCOUNT),
    "web.yml": (
        PAIR
        + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n"
        + "  client_allowed_sans: [one]\n"
        + f"basic_auth_users:\n  one: {BCRYPT_HASH}\n"
    ),
    "w-a.toml": numbered_entries(1, 2),
}
REPORTS = {"/": "The last reload was refused: the configuration of", "/config": "# The last reload was refused"}
CERTIFICATES = ("server.crt", "server.key", "ca.crt")


@dataclass(frozen=True, slots=True)
class LoadedFiles(DamagedFiles):
    """Files of a configuration that protects everything."""

    def load(self) -> Config:
        """Load the configuration."""
        return load(self.directory / "config.toml", environ={}, flags={})


@pytest.fixture(scope="module")
def damaged_files(tmp_path_factory: pytest.TempPathFactory) -> LoadedFiles:
    directory = tmp_path_factory.mktemp("files")
    Certificates.make(directory)
    whole = {name: text.encode() for name, text in CONTENTS.items()}
    return LoadedFiles(directory, whole | {name: (directory / name).read_bytes() for name in CERTIFICATES})


STEPS = DamagedFiles(Path(), dict.fromkeys((*CONTENTS, *CERTIFICATES), b"")).steps()


@pytest.mark.slow
@given(STEPS)
@example([("cut", "web.yml", 0)])
@example([("cut", "web.yml", len(PAIR))])
@example([("cut", "w-a.toml", 0)])
@example([("remove", "w-a.toml", 0)])
@example([("loop", "w-a.toml", 0)])
@example([("directory", "w-a.toml", 0)])
@example([("unreadable", "w-a.toml", 0)])
@example([("pipe", "config.toml", 0)])
@example([("cut", "config.toml", 0)])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_sequence_of_damages_weakens_protection_or_empties_the_watchlist(
    damaged_files: LoadedFiles, steps: list[Step]
) -> None:
    async def run() -> None:
        damaged_files.restore()
        running_config = first = damaged_files.load()
        assert first.web.client_names
        status = ConfigStatus(0.0)

        async def apply(config: Config) -> Difference:
            nonlocal running_config
            running_config = config
            return Difference()

        reloader = Reloader(first, load=damaged_files.load, apply=apply, status=status, clock=Clock())
        for how, name, size in steps:
            damaged_files.damage(how, name, size)
            before = running_config
            try:
                await reloader.reload()
            except ConfigError:
                assert running_config is before
                assert not status.successful
            assert running_config.web.requires_client_certificate
            assert running_config.web.client_names
            assert running_config.web.own_authorities
            assert running_config.web.users
            assert {factor.key.account for factor in running_config.factors} == {"main"}
        damaged_files.restore()
        await reloader.reload()
        assert status.successful
        assert running_config.factors == first.factors
        assert running_config.sha256 == first.sha256

    asyncio.run(run())


async def test_a_reload_that_fails_for_any_reason_is_not_successful(damaged_files: LoadedFiles) -> None:
    def load_config() -> Config:
        raise PermissionError

    async def apply(_config: Config) -> Difference:
        raise AssertionError("nothing was loaded")

    damaged_files.restore()
    status = ConfigStatus(0.0)
    reloader = Reloader(damaged_files.load(), load=load_config, apply=apply, status=status, clock=Clock())
    with pytest.raises(PermissionError):
        await reloader.reload()
    assert not status.successful


async def test_a_truncated_web_config_file_is_refused_in_metric_and_log(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("exporter.daemon.jobs.WATCH_SECONDS", 0.1)
    caplog.set_level(logging.INFO)
    (tmp_path / "web.yml").write_text(f"basic_auth_users:\n  one: {BCRYPT_HASH}\n")
    path = write_config(
        tmp_path / "config.toml",
        {"main": account_of(simulator)},
        [entry("one", simulator.add_factor())],
        web={"config_file": "web.yml"},
    )
    async with running(path) as exporter:
        assert await exporter.status("/metrics") == 401
        (tmp_path / "web.yml").write_bytes(b"")
        await becomes(lambda: not exporter.daemon.config_status.successful)
        assert await exporter.status("/metrics") == 401
        errors = [str(getattr(line, "fields", {}).get("error")) for line in caplog.records]
        assert any("would turn off basic authentication" in error for error in errors)


async def test_lost_factors_come_back_with_their_file(simulator: Simulator, tmp_path: Path, brisk: None) -> None:
    factor = simulator.add_factor()
    keys = "".join(f'{name} = "{value}"\n' for name, value in entry("one", factor).items())
    (tmp_path / "w.toml").write_text(f"[[factors]]\n{keys}")
    path = write_config(
        tmp_path / "config.toml", {"main": account_of(simulator)}, watchlist={"files": ["*.csv", "w*"]}
    )
    async with running(path) as exporter:
        await exporter.shows(lambda page: page.factor("verified", "one") == 1)
        whole = (tmp_path / "w.toml").read_bytes()
        (tmp_path / "w.toml").unlink()
        with pytest.raises(ConfigError, match="would lose its only entry"):
            await exporter.daemon.reload()
        page = await exporter.scrape()
        assert page.factor("verified", "one") == 1
        assert page.value("twilio_verify_exporter_config_last_reload_successful") == 0
        for shown_at, words in REPORTS.items():
            assert words in (await exporter.get(shown_at))[1]
        (tmp_path / "w.toml").write_bytes(whole)
        assert await exporter.daemon.reload() == Difference()
        for shown_at, words in REPORTS.items():
            assert words not in (await exporter.get(shown_at))[1]


def test_a_pipe_with_a_silent_writer_blocks_nobody(tmp_path: Path) -> None:
    pipe = tmp_path / "config.toml"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)
    try:
        with pytest.raises(ConfigError, match="is not a regular file"):
            load(pipe, environ={}, flags={})
    finally:
        os.close(writer)
