"""Chart and exporter agree on configuration, ports, paths and names."""

from __future__ import annotations

import argparse
import os
import re
import tomllib
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import trustme
import yaml

from exporter.cli import check
from exporter.cli.healthcheck import DEFAULT_URL
from exporter.config import load
from exporter.config.settings import Settings
from exporter.config.sharding import Shard, shard_of
from exporter.config.values import parse_duration
from tests.support.chart.cases import VALID, Case, case
from tests.support.chart.installation import installed
from tests.support.chart.kubelet import Cluster, arguments
from tests.support.chart.rendering import NEWEST
from tests.support.running_exporter import running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chart.conftest import Rendering
    from tests.support.chart.rendering import Helm, Manifest, Rendered


@pytest.fixture(scope="module")
def certificates() -> dict[str, str]:
    """Return the replacements for the placeholders of certificate and key in fixtures."""
    authority = trustme.CA()
    server = authority.issue_cert("localhost")
    chain = b"".join(blob.bytes() for blob in server.cert_chain_pems).decode()
    return {"CERTIFICATE": chain, "PRIVATE KEY": server.private_key_pem.bytes().decode()}


@pytest.mark.parametrize("fixture", VALID, ids=str)
def test_the_exporter_accepts_the_rendered_configuration(
    fixture: Case,
    rendering: Rendering,
    certificates: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, environ = installed(fixture, rendering(fixture, NEWEST), certificates, tmp_path)
    for name in os.environ:
        if name.startswith("VERIFY_EXPORTER"):
            monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    parser = argparse.ArgumentParser()
    check.add_arguments(parser)
    status = check.run(parser.parse_args(["--config.file", str(path)]))
    output = capsys.readouterr()
    assert output.err == ""
    assert output.out == f"{path} is valid: {fixture.expected['check']}\n"
    assert status == 0


@pytest.mark.parametrize("fixture", VALID, ids=str)
def test_identities_and_passwords_are_only_in_secrets(fixture: Case, rendering: Rendering) -> None:
    rendered = rendering(fixture, NEWEST)
    cluster = Cluster.of(rendered, fixture.given)
    texts = [text for key, files in cluster.files.items() if key[0] == "Secret" for text in files.values()]
    private = {*re.findall(r'(?m)^identity = "(.+)"$', "\n".join(texts)), "made-up-secret"}
    others = "\n".join(str(item) for item in rendered.objects if item["kind"] != "Secret")
    assert len(private) > 1 or str(fixture) == "services"  # which lists nobody
    assert [text for text in private if text in others] == []


def test_the_names_of_the_service_are_allowed_where_a_path_needs_them(
    rendering: Rendering, certificates: dict[str, str], tmp_path: Path
) -> None:
    path, environ = installed(
        case("everything"), rendering(case("everything"), NEWEST), certificates, tmp_path / "everything"
    )
    hosts = load(path, environ=environ, flags={}).settings.web.allowed_hosts
    assert hosts == (
        "exporter.example.com",
        "verify-factor-exporter",
        "verify-factor-exporter.monitoring",
        "verify-factor-exporter.monitoring.svc",
        "verify-factor-exporter.monitoring.svc.cluster.local",
    )
    path, environ = installed(
        case("smallest"), rendering(case("smallest"), NEWEST), certificates, tmp_path / "smallest"
    )
    assert load(path, environ=environ, flags={}).settings.web.allowed_hosts == ()


def test_special_characters_are_preserved(
    rendering: Rendering, certificates: dict[str, str], tmp_path: Path
) -> None:
    fixture = case("strange-texts")
    path, environ = installed(fixture, rendering(fixture, NEWEST), certificates, tmp_path)
    config = load(path, environ=environ, flags={})
    assert [(factor.name, dict(factor.labels)) for factor in config.factors] == [
        (
            'on call "push" \\ {{ .Values }} <b>&\'é\N{KEY}',
            {"team": 'a "quoted" team', "note": "# no comment = here"},
        ),
        ("true", {"zone": "1"}),
    ]


def test_each_url_gets_its_own_secret_whatever_the_order(helm: Helm, tmp_path: Path) -> None:
    fixture = case("http")
    values = yaml.safe_load(fixture.values.read_text(encoding="utf-8"))
    found = []
    for order in (1, -1):
        values["watchlist"]["http"] = [
            source | {"credentials": {"existingSecret": {"name": "twilio", "key": f"key-{source['name'][:2]}"}}}
            for source in values["watchlist"]["http"][::order]
        ]
        changed = tmp_path / "values.yaml"
        changed.write_text(yaml.safe_dump(values), encoding="utf-8")
        rendered = helm.template(changed)
        files = {
            source["name"]: source.get("bearer_token_file") or source["password_file"]
            for source in tomllib.loads(rendered.config)["watchlist"]["http"]
        }
        volumes = {volume["name"]: volume for volume in rendered.workload["spec"]["template"]["spec"]["volumes"]}
        keys = {
            item["path"]: item["key"]
            for source in volumes["credentials"]["projected"]["sources"]
            for item in source["secret"]["items"]
        }
        assert {name: keys[path.rpartition("/")[2]] for name, path in files.items()} == {
            name: f"key-{name[:2]}" for name in files
        }
        found.append(files)
    assert found[0] == found[1]  # a pod that still has the old volume doesn't send a secret to another URL
    assert len(set(found[0].values())) == 4


@pytest.mark.parametrize("fixture", [case("development"), case("web-config")], ids=str)
async def test_the_exporter_answers_probes(
    fixture: Case, rendering: Rendering, certificates: dict[str, str], tmp_path: Path
) -> None:
    rendered = rendering(fixture, NEWEST)
    path, _environ = installed(fixture, rendered, certificates, tmp_path)
    ports = rendered.workload["spec"]["template"]["spec"]["containers"][0]["ports"]
    text = path.read_text(encoding="utf-8")
    for port in ports:
        text = text.replace(f'":{port["containerPort"]}"', '"127.0.0.1:0"')
    path.write_text(text, encoding="utf-8")
    async with running(path) as exporter, aiohttp.ClientSession() as session:
        addresses = {"metrics": exporter.daemon.server.addresses, "health": exporter.daemon.health_server.addresses}
        assert {name for name, opened in addresses.items() if opened} == {port["name"] for port in ports}
        for probe in probes(rendered):
            url = addresses[probe["httpGet"]["port"]][0] + probe["httpGet"]["path"]
            async with session.get(url) as answer:
                assert answer.status == 200 if "healthy" in url else answer.status in {200, 503}


async def test_scrapes_get_metrics(rendering: Rendering, certificates: dict[str, str], tmp_path: Path) -> None:
    fixture = case("development")
    rendered = rendering(fixture, NEWEST)
    path, _environ = installed(fixture, rendered, certificates, tmp_path)
    (port,) = rendered.workload["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert DEFAULT_URL.endswith(f":{port['containerPort']}")
    moved = path.read_text(encoding="utf-8").replace(f'":{port["containerPort"]}"', '"127.0.0.1:0"')
    path.write_text(f"{moved}\n", encoding="utf-8")
    async with running(path) as exporter:
        assert await exporter.status("/metrics") == 200


def probes(rendered: Rendered) -> list[dict[str, Any]]:
    container = rendered.workload["spec"]["template"]["spec"]["containers"][0]
    return [container[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness")]


@pytest.mark.parametrize("fixture", VALID, ids=str)
def test_probes_use_the_health_port(fixture: Case, rendering: Rendering) -> None:
    rendered = rendering(fixture, NEWEST)
    web = tomllib.loads(rendered.config)["web"]
    port = "health" if web.get("config_file") else "metrics"
    assert [(probe["httpGet"]["path"], probe["httpGet"]["port"]) for probe in probes(rendered)] == [
        ("/-/healthy", port),
        ("/-/healthy", port),
        ("/-/ready", port),
    ]
    assert all(probe["httpGet"].get("scheme", "HTTP") == "HTTP" for probe in probes(rendered))


@pytest.mark.parametrize("fixture", VALID, ids=str)
def test_ports_of_exporter_pod_and_service_agree(fixture: Case, rendering: Rendering) -> None:
    rendered = rendering(fixture, NEWEST)
    web = tomllib.loads(rendered.config)["web"]
    listening = {"metrics": web["listen_address"]}
    if "health_listen_address" in web:
        listening["health"] = web["health_listen_address"]
    ports = rendered.workload["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert {port["name"]: f":{port['containerPort']}" for port in ports} == listening
    for service in rendered.of_kind("Service"):
        assert {port["targetPort"] for port in service["spec"]["ports"]} == listening.keys()
    for pod in rendered.of_kind("Pod"):
        urls = [text.removeprefix("--url=") for text in pod["spec"]["containers"][0]["args"] if "://" in text]
        names = []
        for url in urls:
            scheme, _, address = url.partition("://")
            *of_pod, name, namespace, rest = address.split(".")
            names += of_pod
            service = next(item for item in rendered.of_kind("Service") if item["metadata"]["name"] == name)
            assert namespace == service["metadata"]["namespace"]
            (port,) = [port for port in service["spec"]["ports"] if port["name"] == "metrics"]
            assert (rest, scheme) == (f"svc:{port['port']}", port["appProtocol"])
        if rendered.workload["kind"] == "StatefulSet":  # one URL per shard, by the name of its pod
            replicas = range(rendered.workload["spec"]["replicas"])
            assert names == [f"{rendered.workload['metadata']['name']}-{ordinal}" for ordinal in replicas]
        else:
            assert (names, len(urls)) == ([], 1)


@pytest.mark.parametrize("fixture", VALID, ids=str)
def test_monitors_scrape_the_telemetry_path(fixture: Case, rendering: Rendering) -> None:
    rendered = rendering(fixture, NEWEST)
    path = tomllib.loads(rendered.config)["web"].get("telemetry_path", "/metrics")
    for endpoint in endpoints(rendered):
        assert endpoint["path"] == path
        assert endpoint["port"] == "metrics"
        assert endpoint["honorLabels"] is False
    for scrape in rendered.of_kind("ScrapeConfig"):
        assert scrape["spec"]["metricsPath"] == path
        assert scrape["spec"]["relabelings"][0] == {
            "action": "keep",
            "sourceLabels": ["__meta_kubernetes_pod_container_port_name"],
            "regex": "metrics",
        }


def endpoints(rendered: Rendered) -> list[dict[str, Any]]:
    return [
        endpoint
        for item in rendered.of_kind("ServiceMonitor", "PodMonitor")
        for endpoint in item["spec"].get("endpoints", item["spec"].get("podMetricsEndpoints"))
    ]


def selects(selector: dict[str, str], item: Manifest) -> bool:
    return bool(selector.items() <= item["metadata"]["labels"].items())


@pytest.mark.parametrize("fixture", VALID, ids=str)
def test_selectors_match_the_exporter_but_not_the_test_pod(fixture: Case, rendering: Rendering) -> None:
    rendered = rendering(fixture, NEWEST)
    exporter, *tests = rendered.pods
    selectors = [item["spec"]["selector"] for item in rendered.of_kind("Service")]
    selectors += [rendered.workload["spec"]["selector"]["matchLabels"]]
    for item in rendered.of_kind("PodDisruptionBudget", "PodMonitor"):
        selectors.append(item["spec"]["selector"]["matchLabels"])
    for policy in rendered.of_kind("NetworkPolicy"):
        selectors.append(policy["spec"]["podSelector"]["matchLabels"])
        peer = policy["spec"]["ingress"][1]["from"][0]["podSelector"]["matchLabels"]
        assert [selects(peer, pod) for pod in tests] == [True]
    for scrape in rendered.of_kind("ScrapeConfig"):
        (written,) = [item["label"] for item in scrape["spec"]["kubernetesSDConfigs"][0]["selectors"]]
        selectors.append(dict(part.split("=") for part in written.split(",")))
    for selector in selectors:
        assert selects(selector, exporter)
        assert not any(selects(selector, pod) for pod in tests)


@pytest.mark.parametrize("fixture", [case("everything"), case("web-config")], ids=str)
def test_the_network_policy_allows_scrapes_and_twilio(fixture: Case, rendering: Rendering) -> None:
    rendered = rendering(fixture, NEWEST)
    policy = rendered.one("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    ports = {port["name"] for port in rendered.workload["spec"]["template"]["spec"]["containers"][0]["ports"]}
    monitoring, helm_test = policy["ingress"]
    assert monitoring["from"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    ]
    assert [port["port"] for port in monitoring["ports"]] == ["metrics"]
    assert {port["port"] for port in helm_test["ports"]} <= ports
    dns, twilio, *_more = policy["egress"]
    assert [(port["port"], port["protocol"]) for port in dns["ports"]] == [(53, "UDP"), (53, "TCP")]
    assert "to" not in dns
    assert twilio["ports"][0] == {"port": 443, "protocol": "TCP"}
    assert all(block["ipBlock"]["except"] for block in twilio["to"]), "cloud metadata must be excluded"


@pytest.mark.parametrize(
    ("name", "ports"),
    [
        ("web-config", [443]),
        ("everything", [443, 3128]),
        ("proxies-of-accounts", [443, 8888, 80, 8443]),
        ("oauth", [443, 9443]),
        ("http", [443, 8443]),
    ],
)
def test_the_network_policy_allows_every_configured_address(
    name: str, ports: list[int], rendering: Rendering
) -> None:
    _dns, twilio, *_more = rendering(case(name), NEWEST).one("NetworkPolicy")["spec"]["egress"]
    assert twilio["ports"] == [{"port": port, "protocol": "TCP"} for port in ports]


@pytest.mark.parametrize("fixture", VALID, ids=str)
def test_targets_have_the_service_label(fixture: Case, rendering: Rendering) -> None:
    # A ServiceMonitor sets this label by itself.
    rendered = rendering(fixture, NEWEST)
    services = {item["metadata"]["name"] for item in rendered.of_kind("Service")}
    rules = [endpoint["relabelings"] for endpoint in endpoints(rendered)]
    rules += [item["spec"]["relabelings"] for item in rendered.of_kind("ScrapeConfig")]
    labelled = [rule["replacement"] for found in rules for rule in found if rule.get("targetLabel") == "service"]
    assert len(labelled) == len(rendered.of_kind("PodMonitor", "ScrapeConfig"))
    assert {*labelled} <= services


@pytest.mark.parametrize("fixture", VALID, ids=str)
def test_a_service_monitor_matches_one_service(fixture: Case, rendering: Rendering) -> None:
    rendered = rendering(fixture, NEWEST)
    for monitor in rendered.of_kind("ServiceMonitor"):
        selector = monitor["spec"]["selector"]["matchLabels"]
        found = [item for item in rendered.of_kind("Service") if selects(selector, item)]
        assert [item["metadata"]["name"] for item in found] == [rendered.workload["metadata"]["name"]]
        assert monitor["spec"]["namespaceSelector"]["matchNames"] == [found[0]["metadata"]["namespace"]]


def test_a_service_monitor_matches_one_service_of_a_sharded_release(rendering: Rendering) -> None:
    monitor = rendering(case("everything"), NEWEST).one("ServiceMonitor")["spec"]["selector"]["matchLabels"]
    services = rendering(case("sharded"), NEWEST).of_kind("Service")
    assert [selects(monitor, item) for item in services] == [True, False]


@pytest.mark.parametrize("fixture", VALID, ids=str)
def test_the_service_account_exists(fixture: Case, rendering: Rendering) -> None:
    rendered = rendering(fixture, NEWEST)
    accounts = {item["metadata"]["name"] for item in rendered.of_kind("ServiceAccount")} or {"default"}
    assert {rendered.workload["spec"]["template"]["spec"]["serviceAccountName"]} == accounts


def test_shards_use_the_ordinal_of_their_pod(
    rendering: Rendering, certificates: dict[str, str], tmp_path: Path
) -> None:
    fixture = case("sharded")
    rendered = rendering(fixture, NEWEST)
    path, environ = installed(fixture, rendered, certificates, tmp_path)
    replicas = rendered.workload["spec"]["replicas"]
    pods = [{"POD_NAME": environ["POD_NAME"].replace("-0", f"-{ordinal}")} for ordinal in range(replicas)]
    (shard,) = [
        word.removeprefix("--shard=")
        for word in arguments(rendered.workload["spec"]["template"])
        if word.startswith("--shard=")
    ]
    configs = [load(path, environ=pod, flags={"sharding.shard": shard}) for pod in pods]
    shards = [shard_of(config.settings.sharding.shard, pod, "") for config, pod in zip(configs, pods, strict=True)]
    assert shards == [Shard(0, 3), Shard(1, 3), Shard(2, 3)]
    assert sum(len(config.factors) for config in configs) == 1
    assert rendered.workload["spec"]["serviceName"] in {
        item["metadata"]["name"] for item in rendered.of_kind("Service")
    }


def test_the_test_pod_outlasts_the_first_fetches(rendering: Rendering) -> None:
    # The exporter is ready after one interval at most.
    pod = rendering(case("smallest"), NEWEST).one("Pod")["spec"]
    (wait,) = [word.removeprefix("--wait=") for word in pod["containers"][0]["args"] if word.startswith("--wait=")]
    assert Settings().polling.interval + 120 <= parse_duration(wait) <= pod["activeDeadlineSeconds"] - 60


@pytest.mark.parametrize("fixture", VALID, ids=str)
def test_the_grace_period_covers_the_shutdown(fixture: Case, rendering: Rendering) -> None:
    rendered = rendering(fixture, NEWEST)
    polling = tomllib.loads(rendered.config).get("polling", {})
    default = Settings().polling.shutdown_timeout
    shutdown = parse_duration(polling["shutdown_timeout"]) if "shutdown_timeout" in polling else default
    grace = rendered.workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace >= shutdown + 3
