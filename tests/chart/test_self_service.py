"""Teams add entries by labelled Secrets: files that appear, change and disappear while the exporter runs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from exporter.simulator import Simulator
from tests.support.chart.cases import case
from tests.support.chart.installation import installed
from tests.support.chart.rendering import NEWEST
from tests.support.chart.sidecar import containers, file_name, write
from tests.support.config_files import entry
from tests.support.running_exporter import becomes, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from exporter.simulator import SimulatedFactor
    from tests.chart.conftest import Rendering
    from tests.support.chart.rendering import Helm

SUCCESSFUL = "twilio_verify_exporter_config_last_reload_successful"


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(seed=7) as running_simulator:
        yield running_simulator


@pytest.fixture
def config(helm: Helm, simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return config.toml of a release whose watchlist comes from labelled Secrets only, of which there are none."""
    monkeypatch.setattr("exporter.daemon.jobs.WATCH_SECONDS", 0.1)
    monkeypatch.setattr("exporter.daemon.jobs.DISPATCH_SECONDS", 0.1)
    settings = {
        "accounts.main.account_sid": simulator.account_sid,
        "accounts.main.username": simulator.username,
        "accounts.main.base_url": simulator.base_url,
        "config.polling.interval": "1s",
        "config.polling.unverified_interval": "1s",
        "state.type": "none",
    }
    flags = [flag for name, value in settings.items() for flag in ("--set", f"{name}={value}")]
    fixture = case("self-service")
    rendered = helm.template(fixture.values, NEWEST, *flags)
    path, _environ = installed(fixture, rendered, {}, tmp_path)
    (path.parents[1] / "credentials" / "main").write_text(simulator.password)
    for file in folder(path).glob("namespace_*"):
        file.unlink()
    path.write_text(path.read_text().replace('":10069"', '"127.0.0.1:0"'), encoding="utf-8")
    return path


def folder(config: Path) -> Path:
    return config.parents[1] / "watchlist.d"


def secret(config: Path, namespace: str, key: str = "factors.toml") -> Path:
    """Return the file of a Secret of a team."""
    return folder(config) / file_name(namespace, "Secret", "factors", key)


def listing(name: str, factor: SimulatedFactor) -> str:
    keys = (f'{key} = "{value}"' for key, value in entry(name, factor).items())
    return "\n".join(["[[factors]]", *keys, ""])


def allow_empty(config: Path) -> None:
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("[watchlist]\n", "[watchlist]\nallow_empty = true\n"), encoding="utf-8")


@pytest.mark.slow
async def test_entries_come_change_and_go_with_their_secrets(config: Path, simulator: Simulator) -> None:
    one, two, three = (simulator.add_factor() for _ in range(3))
    async with running(config) as exporter:
        page = await exporter.scrape()
        assert page.value("twilio_verify_exporter_watchlist_factors") == 0
        write(secret(config, "payments"), listing("one", one))
        await exporter.shows(lambda page: page.factor("verified", "one") == 1)
        write(secret(config, "ops"), listing("two", two))  # the same names in another namespace
        await exporter.shows(lambda page: page.factor("verified", "two") == 1)
        aside = config.parent / "aside"
        write(aside, listing("one", one) + listing("three", three))
        aside.replace(secret(config, "payments"))  # as a tool that replaces files does
        page = await exporter.shows(lambda page: page.factor("verified", "three") == 1)
        assert page.factor("verified", "one") == page.factor("verified", "two") == 1
        secret(config, "ops").unlink()
        page = await exporter.shows(lambda page: page.factor("verified", "two") is None)
        assert page.factor("verified", "one") == page.factor("verified", "three") == 1
        assert page.value(SUCCESSFUL) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "bad", "error"),
    [
        ("factors.toml", "[[factors]\n", "factors.toml:1:"),
        ("factors.toml", '[[factors]]\nname = "two"\nservice_sid = "VA1"\n', 'factors[0] "two": service_sid'),
        ("factors.toml", "SAME", "lists the same factor as"),
        ("factors.toml", "", "is empty"),  # a file half written, or that of a key NAME.url
        ("factors.yaml", "factors: []", "is neither a .csv nor a .toml file"),
    ],
    ids=["syntax", "key", "twice", "empty", "suffix"],
)
async def test_a_bad_secret_is_reported_and_changes_nothing(
    key: str, bad: str, error: str, config: Path, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    one, two = simulator.add_factor(), simulator.add_factor()
    write(secret(config, "payments"), listing("one", one))
    async with running(config) as exporter:
        await exporter.shows(lambda page: page.factor("verified", "one") == 1)
        write(secret(config, "ops", key), listing("uno", one) if bad == "SAME" else bad)
        page = await exporter.shows(lambda page: page.value(SUCCESSFUL) == 0)
        assert page.factor("verified", "one") == 1
        errors = [str(getattr(line, "fields", {}).get("error")) for line in caplog.records]
        assert [text for text in errors if "namespace_ops.secret_factors." in text and error in text]
        assert not any(factor.identity in line.getMessage() for factor in (one, two) for line in caplog.records)
        secret(config, "ops", key).unlink()
        write(secret(config, "ops"), listing("two", two))
        page = await exporter.shows(lambda page: page.value(SUCCESSFUL) == 1)
        await exporter.shows(lambda page: page.factor("verified", "two") == 1)
        assert page.factor("verified", "one") == 1


@pytest.mark.slow
async def test_the_last_secret_of_an_account_is_kept_until_it_may_be_empty(
    config: Path, simulator: Simulator
) -> None:
    write(secret(config, "payments"), listing("one", simulator.add_factor()))
    async with running(config) as exporter:
        await exporter.shows(lambda page: page.factor("verified", "one") == 1)
        secret(config, "payments").unlink()
        page = await exporter.shows(lambda page: page.value(SUCCESSFUL) == 0)
        assert page.factor("verified", "one") == 1
        allow_empty(config)
        await becomes(lambda: exporter.daemon.config_status.successful)
        assert (await exporter.scrape()).factor("verified", "one") is None


def test_the_sidecar_and_the_exporter_share_a_folder(rendering: Rendering) -> None:
    for name in ("self-service", "self-service-everywhere"):
        pod = rendering(case(name), NEWEST).workload["spec"]["template"]
        settings = [{item["name"]: item["value"] for item in found["env"]} for found in containers(pod)]
        folders = {setting["FOLDER"] for setting in settings}
        (exporter,) = (found for found in pod["spec"]["containers"] if found["name"] == "exporter")
        mounts = {place["mountPath"]: place for place in exporter["volumeMounts"]}
        assert folders <= mounts.keys()
        for place in folders:
            assert mounts[place]["readOnly"]
            for container in containers(pod):
                (own,) = (item for item in container["volumeMounts"] if item["mountPath"] == place)
                assert own["name"] == mounts[place]["name"]
                assert not own.get("readOnly")
        assert [setting["METHOD"] for setting in settings] == [
            "LIST", "WATCH" if name == "self-service" else "SLEEP"
        ]  # fmt: skip


def test_a_secret_chooses_neither_a_folder_nor_a_download(rendering: Rendering) -> None:
    pod = rendering(case("self-service"), NEWEST).workload["spec"]["template"]
    for container in containers(pod):
        settings = {item["name"]: item["value"] for item in container["env"]}
        # The key of an annotation begins and ends with a letter or digit.
        assert not settings["FOLDER_ANNOTATION"].strip("-")
        assert settings["HTTP_PROXY"] == settings["HTTPS_PROXY"] == "http://127.0.0.1:9"
        assert settings["NO_PROXY"] == "$(KUBERNETES_SERVICE_HOST)"


@pytest.mark.parametrize(
    ("name", "ports", "blocks"),
    [
        ("self-service", [6443], ["192.0.2.10/32"]),
        ("self-service-everywhere", [443, 6443], ["0.0.0.0/0", "::/0"]),
    ],
)
def test_the_network_policy_allows_the_api_server(
    name: str, ports: list[int], blocks: list[str], rendering: Rendering
) -> None:
    _dns, _twilio, api_server = rendering(case(name), NEWEST).one("NetworkPolicy")["spec"]["egress"]
    assert api_server["ports"] == [{"port": port, "protocol": "TCP"} for port in ports]
    assert [peer["ipBlock"]["cidr"] for peer in api_server["to"]] == blocks
