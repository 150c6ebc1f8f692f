"""compose.yaml and the provisioning files, as far as they can be checked without Docker."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from exporter.cli import demo
from exporter.config.values import parse_duration
from tools.stack.shortened import job_of

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "grafana"
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SCRAPES = yaml.safe_load((GRAFANA / "prometheus" / "prometheus.yaml").read_text(encoding="utf-8"))
(SOURCE,) = yaml.safe_load(
    (GRAFANA / "provisioning" / "datasources" / "prometheus.yaml").read_text(encoding="utf-8")
)["datasources"]
(PROVIDER,) = yaml.safe_load(
    (GRAFANA / "provisioning" / "dashboards" / "verify-factor-exporter.yaml").read_text(encoding="utf-8")
)["providers"]
# The documented default ports of the images.
PORTS = {"exporter": 10069, "prometheus": 9090, "alertmanager": 9093, "grafana": 3000}


def mounts(service: str) -> dict[PurePosixPath, Path]:
    """Return the mounted folders of the repository, by their path in the container."""
    found = {}
    for volume in SERVICES[service].get("volumes", ()):
        source, target, *options = volume.split(":")
        if source.startswith("."):
            assert options == ["ro"], volume
            found[PurePosixPath(target)] = (ROOT / source).resolve()
        else:
            assert source in COMPOSE["volumes"], volume
    return found


def on_disk(service: str, inside: str) -> Path:
    """Return the file of the repository at a path in the container."""
    path = PurePosixPath(inside)
    for target, source in mounts(service).items():
        if path.is_relative_to(target):
            return source / path.relative_to(target)
    raise AssertionError(f"{service} has no file of the repository at {inside}")


def flag(service: str, name: str) -> str:
    """Return the value of a flag in the command of a service."""
    (value,) = (word.partition("=")[2] for word in SERVICES[service]["command"] if word.startswith(f"{name}="))
    return str(value)


def test_the_services_and_their_mounts_exist() -> None:
    assert set(SERVICES) == set(PORTS)
    for service in SERVICES:
        for source in mounts(service).values():
            assert source.is_dir(), source


def test_ports_are_published_on_loopback_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert sorted(published) == sorted(f"127.0.0.1:{port}:{port}" for port in PORTS.values())
    assert [name for name, service in SERVICES.items() if service.get("network_mode") != "service:exporter"] == [
        "exporter"
    ]


@pytest.mark.parametrize("service", sorted(set(PORTS) - {"exporter"}))
def test_images_are_pinned_by_version(service: str) -> None:
    assert re.fullmatch(r"docker\.io/[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", SERVICES[service]["image"])


def test_the_exporter_runs_the_demo_on_its_port() -> None:
    command, *flags = SERVICES["exporter"]["command"]
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)

    assert command == "demo"
    assert parser.parse_args(flags).listen == [f":{PORTS['exporter']}"]
    assert (SERVICES["exporter"]["build"], SERVICES["exporter"]["read_only"]) == (".", True)
    assert SERVICES["exporter"]["tmpfs"] == ["/tmp"]  # noqa: S108  the demo writes its configuration there


def test_prometheus_finds_configuration_rules_and_targets() -> None:
    config = flag("prometheus", "--config.file")
    assert on_disk("prometheus", config) == GRAFANA / "prometheus" / "prometheus.yaml"
    for name in SCRAPES["rule_files"]:
        assert on_disk("prometheus", str(PurePosixPath(config).parent / name)).resolve().is_file()
    (scrape,) = SCRAPES["scrape_configs"]
    (pager,) = SCRAPES["alerting"]["alertmanagers"]
    assert scrape["static_configs"] == [{"targets": [f"localhost:{PORTS['exporter']}"]}]
    assert pager["static_configs"] == [{"targets": [f"localhost:{PORTS['alertmanager']}"]}]


def test_prometheus_stores_the_exemplars_that_a_dashboard_shows() -> None:
    boards = [json.loads(path.read_text(encoding="utf-8")) for path in (GRAFANA / "dashboards").glob("*.json")]
    queries = [query for board in boards for panel in board["panels"] for query in panel.get("targets", ())]
    assert any(query.get("exemplar") for query in queries)
    assert "exemplar-storage" in flag("prometheus", "--enable-feature").split(",")


def test_alertmanager_finds_configuration_and_templates() -> None:
    config = flag("alertmanager", "--config.file")
    path = on_disk("alertmanager", config)
    assert path == GRAFANA / "alertmanager" / "alertmanager.yaml"
    for name in yaml.safe_load(path.read_text(encoding="utf-8"))["templates"]:
        assert on_disk("alertmanager", str(PurePosixPath(config).parent / name)).is_file()


def test_grafana_finds_data_source_and_dashboards() -> None:
    assert mounts("grafana")[PurePosixPath("/etc/grafana/provisioning")] == GRAFANA / "provisioning"
    assert on_disk("grafana", PROVIDER["options"]["path"]) == GRAFANA / "dashboards"
    home = on_disk("grafana", SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert json.loads(home.read_text(encoding="utf-8"))["uid"]
    assert (SOURCE["uid"], SOURCE["url"]) == ("prometheus", f"http://localhost:{PORTS['prometheus']}")
    assert parse_duration(SOURCE["jsonData"]["timeInterval"]) == parse_duration(
        SCRAPES["global"]["scrape_interval"]
    )


def test_grafana_is_read_only_without_a_password() -> None:
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert (PROVIDER["allowUiUpdates"], PROVIDER["disableDeletion"], SOURCE["editable"]) == (False, True, False)


def test_the_job_name_matches_the_rules() -> None:
    text = (GRAFANA / "prometheus" / "prometheus.yaml").read_text(encoding="utf-8")
    assert job_of(text) == "verify-factor-exporter"
