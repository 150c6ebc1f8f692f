"""The chart's rules and dashboards are those of grafana/, with the changes from the values."""

from __future__ import annotations

import copy
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from exporter.config.values import OVERWRITTEN_LABELS
from exporter.exposition.catalogue import CATALOGUE
from grafana.boards.__main__ import BOARDS
from grafana.boards.board import RUNBOOKS, render
from helm.generate import GRAFANA, RULES
from tests.support.chart.cases import FIXTURES, VALID, Case, case
from tests.support.chart.rendering import NEWEST

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chart.conftest import Rendering
    from tests.support.chart.rendering import Helm, Rendered
    from tests.support.fixtures import Program

Rules = dict[str, dict[str, Any]]


def source(name: str = "rules.yaml") -> dict[str, Any]:
    return dict(yaml.safe_load((GRAFANA / "rules" / RULES[name]).read_text(encoding="utf-8")))


def alerts(groups: list[dict[str, Any]]) -> Rules:
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def groups_of(rendered: Rendered) -> list[dict[str, Any]]:
    return list(rendered.one("PrometheusRule")["spec"]["groups"])


def test_without_overrides_the_rules_are_unchanged(rendering: Rendering) -> None:
    assert groups_of(rendering(case("sharded"), NEWEST)) == source()["groups"]


def test_alert_names_never_change(rendering: Rendering) -> None:
    names = (FIXTURES / "default-alerts.txt").read_text(encoding="utf-8").splitlines()
    assert sorted(alerts(groups_of(rendering(case("sharded"), NEWEST)))) == names


def test_overrides_change_only_what_they_name(rendering: Rendering) -> None:
    rendered = rendering(case("everything"), NEWEST)
    found = groups_of(rendered)
    assert found[-1] == {"name": "own", "rules": [{"record": "own:up", "expr": "up"}]}
    optional = [group for name in ("unused-passkeys.yaml", "watchdog.yaml") for group in source(name)["groups"]]
    expected = copy.deepcopy(alerts([*source()["groups"], *optional]))
    del expected["TwilioVerifyEnrolmentAbandoned"]
    for rule in expected.values():
        rule["labels"]["team"] = "{{ with $labels.team }}{{ . }}{{ else }}identity{{ end }}"
        rule["annotations"]["runbook_url"] = re.sub(
            r"^.*/runbooks/", "https://docs.example.com/runbooks/", rule["annotations"]["runbook_url"]
        )
        rule["annotations"]["dashboard_url"] = rule["annotations"]["dashboard_url"].replace(
            "http://localhost:3000", "https://grafana.example.com"
        )
        rule["expr"] = rule["expr"].replace("endpoint, node", "endpoint, node, replica")
        rule["expr"] = rule["expr"].replace('job="verify-factor-exporter"', 'job="twilio-factors"')
    expected["TwilioVerifyFactorUnverified"] |= {
        "for": "1h",
        "keep_firing_for": "5m",
        "labels": {"severity": "warning", "team": "helpdesk"},
    }
    expected["TwilioVerifyPasskeysUnused"]["for"] = "1d"
    expected["TwilioVerifyDataStale"]["expr"] = "vector(0) > 1"
    expected["TwilioVerifyDataStale"]["annotations"]["summary"] = "Not known."
    assert alerts(found) == expected


@pytest.mark.parametrize("fixture", VALID, ids=str)
def test_the_job_of_the_rules_is_the_job_of_the_scrape(fixture: Case, rendering: Rendering) -> None:
    rendered = rendering(fixture, NEWEST)
    scraped = set()
    for item in rendered.of_kind("ServiceMonitor", "PodMonitor"):
        (endpoint,) = item["spec"].get("endpoints", item["spec"].get("podMetricsEndpoints"))
        scraped |= {rule["replacement"] for rule in endpoint["relabelings"] if rule.get("targetLabel") == "job"}
    for item in rendered.of_kind("ScrapeConfig"):
        scraped |= {item["spec"]["jobName"]}
        scraped |= {rule["replacement"] for rule in item["spec"]["relabelings"] if rule.get("targetLabel") == "job"}
    used = set(re.findall(r'job="([^"]*)"', str([item["spec"] for item in rendered.of_kind("PrometheusRule")])))
    assert len(scraped) <= 1
    if rendered.of_kind("PrometheusRule"):
        assert used == scraped


def test_the_rules_drop_the_labels_of_pods(rendering: Rendering) -> None:
    dropped = "instance, pod, container, endpoint, node"
    assert {*dropped.split(", ")} - {"instance"} <= OVERWRITTEN_LABELS
    assert dropped in (GRAFANA / "rules" / RULES["rules.yaml"]).read_text(encoding="utf-8")
    assert f"({dropped})" not in str(groups_of(rendering(case("everything"), NEWEST)))


@pytest.mark.parametrize("fixture", [case("everything"), case("sharded")], ids=str)
def test_dashboards_differ_only_in_the_links_to_runbooks(fixture: Case, rendering: Rendering) -> None:
    rendered = rendering(fixture, NEWEST)
    values = yaml.safe_load(fixture.values.read_text(encoding="utf-8"))
    base = str(values.get("rules", {}).get("runbookBase") or RUNBOOKS)
    texts = [text for item in rendered.of_kind("ConfigMap") for text in item.get("data", {}).values()]
    texts += [item["spec"]["json"] for item in rendered.of_kind("GrafanaDashboard")]
    files = [render(board, runbooks=base) for board in BOARDS]
    assert any(base in text for text in files)
    assert [text for text in files if text.rstrip() not in {found.rstrip() for found in texts}] == []


def test_dashboards_are_those_for_the_type_of_data_source(rendering: Rendering) -> None:
    rendered = rendering(case("victoriametrics"), NEWEST)
    found = {name: text for item in rendered.of_kind("ConfigMap") for name, text in item.get("data", {}).items()}
    for board in BOARDS:
        expected = render(board, "victoriametrics-metrics-datasource")
        assert found[board.file_name].rstrip() == expected.rstrip(), board.file_name


def test_the_sidecar_finds_the_dashboards(rendering: Rendering) -> None:
    found = [
        item for item in rendering(case("everything"), NEWEST).of_kind("ConfigMap") if "dashboard" in str(item)
    ]
    boards = [item for item in found if any(name.endswith(".json") for name in item.get("data", {}))]
    assert boards
    for item in boards:
        assert item["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert item["metadata"]["annotations"]["grafana_folder"] == "Twilio"
        assert item["metadata"]["namespace"] == "monitoring"


@pytest.mark.parametrize("fixture", [case("everything"), case("sharded")], ids=str)
def test_rules_and_dashboards_use_existing_metrics(fixture: Case, rendering: Rendering) -> None:
    rendered = rendering(fixture, NEWEST)
    objects = [item for item in rendered.objects if item["kind"] in {"PrometheusRule", "GrafanaDashboard"}]
    objects += [item for item in rendered.of_kind("ConfigMap") if "grafana_dashboard" in str(item["metadata"])]
    assert len(objects) > 1
    served = {family.name for family in CATALOGUE}
    served |= {f"{name}_{part}" for name in served for part in ("bucket", "count", "sum")}
    # Names of recorded series have colons around the metric name.
    used = set(re.findall(r"(?<![\w:/-])twilio_verify_\w+(?![\w:])", str(objects)))
    assert len(used) > 30
    assert used - served == set()


@pytest.mark.external
@pytest.mark.parametrize("fixture", [case("everything"), case("sharded")], ids=str)
def test_promtool_lints_the_rules(fixture: Case, rendering: Rendering, program: Program, tmp_path: Path) -> None:
    check(program("promtool", install="apt-get install prometheus"), rendering(fixture, NEWEST), tmp_path)


@pytest.mark.external
@pytest.mark.parametrize("fixture", [case("everything"), case("sharded")], ids=str)
def test_a_newer_promtool_lints_the_rules(
    fixture: Case, rendering: Rendering, newer_program: Program, tmp_path: Path
) -> None:
    check(newer_program("PROMTOOL3"), rendering(fixture, NEWEST), tmp_path)


REGRESSIONS = """
rule_files: [rules.yaml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: twilio_verify_factor_last_verified_timestamp_seconds{factor="owned", team="payments"}
        values: 9x30
      - series: twilio_verify_factor_verified{factor="owned", team="payments"}
        values: 0x30
      - series: twilio_verify_factor_last_verified_timestamp_seconds{factor="other"}
        values: 9x30
      - series: twilio_verify_factor_verified{factor="other"}
        values: 0x30
      - series: twilio_verify_factor_verified{factor="new", team="payments"}
        values: 0x90
    promql_expr_test:
      - expr: count by (factor, team, severity) (ALERTS{alertname=~".*Regressed", alertstate="firing"})
        eval_time: 20m
        exp_samples:
          - {labels: '{factor="owned", team="payments", severity="critical"}', value: 1}
          - {labels: '{factor="other", team="identity", severity="critical"}', value: 1}
      - expr: count by (factor, team, severity) (ALERTS{alertname=~".*FactorUnverified", alertstate="firing"})
        eval_time: 80m
        exp_samples:
          - {labels: '{factor="new", team="helpdesk", severity="warning"}', value: 1}
"""


@pytest.mark.external
def test_alert_labels_do_not_override_a_factors_labels(
    rendering: Rendering, program: Program, tmp_path: Path
) -> None:
    promtool = program("promtool", install="apt-get install prometheus")
    spec = rendering(case("everything"), NEWEST).one("PrometheusRule")["spec"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    (tmp_path / "test.yaml").write_text(REGRESSIONS, encoding="utf-8")
    done = subprocess.run(
        [promtool, "test", "rules", "test.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_alert_label_overrides_the_severity(helm: Helm) -> None:
    labels = "rules.alertLabels.severity=none,rules.alertLabels.tier=1"
    rendered = helm.template(case("sharded").values, NEWEST, "--set-string", labels)
    for rule in alerts(groups_of(rendered)).values():
        assert rule["labels"] == {
            "severity": "none",
            "tier": "{{ with $labels.tier }}{{ . }}{{ else }}1{{ end }}",
        }


def check(promtool: str, rendered: Rendered, folder: Path) -> None:
    rules = folder / "rules.yaml"
    rules.write_text(yaml.safe_dump(rendered.one("PrometheusRule")["spec"]), encoding="utf-8")
    done = subprocess.run(
        [promtool, "check", "rules", "--lint=all", "--lint-fatal", rules],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_notes_list_the_remaining_steps(helm: Helm) -> None:
    notes = notes_of(helm, "smallest")
    assert "Prometheus does not scrape the exporter yet. Set monitor.type" in notes
    assert "There are no alert rules yet. Set rules.enabled=true" in notes
    assert "send severity=critical to your pager" in notes
    assert "PrometheusRule" not in notes

    notes = notes_of(helm, "sharded")
    assert "in 3 shards" in notes
    assert "The PodMonitor has no labels (monitor.labels)." in notes
    assert "The PrometheusRule has no labels (rules.labels)." in notes
    assert "does not have the API monitoring.coreos.com/v1" in notes
    assert "rules.runbookBase is not set" in notes
    assert "rules.dashboardBase is not set" in notes
    assert "does not scrape the exporter yet" not in notes

    notes = notes_of(helm, "development")
    assert "The secret of account main is in the values" in notes
    assert "made-up-secret" not in notes

    notes = notes_of(helm, "self-service")
    assert "With watchlist.sidecar" not in notes
    assert "Watch what a Secret lists in watchlist files, in payments, ops:" in notes
    assert "kubectl --namespace NAMESPACE label secret NAME verify-factor-exporter/watchlist=true" in notes
    for kind in ("emptyDir", "none"):
        notes = notes_of(helm, "self-service", "--set", f"state.type={kind}")
        assert "With watchlist.sidecar, any team's invalid file would keep a new pod from starting." in notes


def test_notes_say_what_claims_need(helm: Helm) -> None:
    needed = "state.storageClassName is not set, so the cluster needs a default StorageClass"
    assert needed in notes_of(helm, "sharded")
    assert needed not in notes_of(helm, "sharded", "--set", "state.storageClassName=fast")
    assert needed not in notes_of(helm, "sharded", "--set", "state.type=emptyDir")
    assert needed in notes_of(helm, "self-service")
    assert needed not in notes_of(helm, "self-service", "--set", "state.existingClaim=mine")
    assert needed not in notes_of(helm, "smallest")


def test_notes_say_how_the_removal_of_shards_goes_on(helm: Helm) -> None:
    notes = notes_of(helm, "sharded", "--set", "sharding.shards=2,updateStrategy.type=OnDelete")
    assert "in 2 shards" in notes
    assert (
        "Shards are being removed: delete the pods verify-factor-exporter-0 to verify-factor-exporter-1 one after "
        "the other, wait for each to be ready, then set replicaCount=2 and remove sharding.shards and "
        "updateStrategy."
    ) in notes
    assert "Shards are being removed" not in notes_of(helm, "sharded")


def notes_of(helm: Helm, name: str, *flags: str) -> str:
    return helm.notes(case(name).values, *flags)
