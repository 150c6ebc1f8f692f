"""Unknown keys are refused at any depth, all at once, with their path and what was probably meant."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml

from helm import keys, kubernetes
from helm.generate import CHART, HERE
from tests.support.chart.cases import VALID, Case, case
from tests.support.chart.rendering import NEWEST

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.chart.rendering import Helm

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
KNOWN: dict[str, Any] = json.loads((CHART / "files" / "keys.json").read_text(encoding="utf-8"))
GUESSES: dict[str, str] = yaml.safe_load((HERE / "guesses.yaml").read_text(encoding="utf-8"))

TYPOS = """
replicaCuont: 1
Sharding: {}
resources: {limit: {memory: 1Gi}, request: {cpu: 1}}
podSecurityContext: {runAsNonroot: true, seccompProfile: {typ: RuntimeDefault}}
securityContext: {readOnlyRootFileSystem: true, capabilities: {dorp: [ALL]}}
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms: [{matchExpression: []}]
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - {weight: 1, podAffinityTerm: {topologyKey: a, labelSelector: {matchLabel: {}}}}
tolerations: [{key: a, opertor: Exists}]
topologySpreadConstraints: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: DoNotSchedule, labelSelectr: {}}]
hostAliases: [{ip: 192.0.2.1, hostname: [a]}]
dnsConfig: {nameserver: [192.0.2.1]}
sharding: {enabled: true}
updateStrategy: {rollingUpdate: {partitions: 1}}
startupProbe: {failureTreshold: 3}
livenessProbe: {timeoutSecond: 3}
extraEnv:
  - {name: A, vale: a}
  - {name: B, valueFrom: {secretRef: {name: a, key: b}}}
  - {name: C, valueFrom: {secretKeyRef: {name: a, key: b, optionl: true}}}
extraVolumes: [{name: a, secret: {secretname: a}}, {name: b, emptydir: {}}]
extraVolumeMounts: [{name: a, mountPath: /a, readonly: true}]
initContainers: [{name: a, image: a, volumeMount: []}]
extraContainers: [{name: b, image: b, ports: [{containerPort: 1, nam: a}]}]
networkPolicy: {ingress: {from: [{namespaceSelecter: {}}]}, egress: {extra: [{prots: []}]}}
web: {config: {existingSecret: a, tls: true}}
monitor: {intervall: 1m, relabelings: [{sourceLabel: [a]}], tlsConfig: {insecureSkipVerfy: true}}
rules:
  alerts: {TwilioVerifyDataStal: {}, TwilioVerifyFactorRegressed: {severty: none}}
  extraGroups: [{name: a, rules: [{expr: a, anotations: {}}]}]
accounts: {main: {usrname: a, credentials: {existingSecrets: {name: a}}}}
watchlist: {sidecar: {searchNamespace: [a]}, factors: [{lables: {}}]}
config: {polling: {intervall: 5m}, web: {alowed_hosts: [a]}}
service: {anotations: {}}
"""
ANSWERS = """
Sharding: unknown key; did you mean sharding?
accounts.main.credentials.existingSecrets: unknown key; did you mean existingSecret?
accounts.main.usrname: unknown key; did you mean username?
affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpression: unknown key; did you mean matchExpressions?
affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.labelSelector.matchLabel: unknown key; did you mean matchLabels?
config.polling.intervall: unknown key; did you mean interval?
config.web.alowed_hosts: unknown key; did you mean allowed_hosts?
dnsConfig.nameserver: unknown key; did you mean nameservers?
extraContainers[0].ports[0].nam: unknown key; did you mean name?
extraEnv[0].vale: unknown key; did you mean value?
extraEnv[1].valueFrom.secretRef: unknown key; did you mean secretKeyRef?
extraEnv[2].valueFrom.secretKeyRef.optionl: unknown key; did you mean optional?
extraVolumeMounts[0].readonly: unknown key; did you mean readOnly?
extraVolumes[0].secret.secretname: unknown key; did you mean secretName?
extraVolumes[1].emptydir: unknown key; did you mean emptyDir?
hostAliases[0].hostname: unknown key; did you mean hostnames?
initContainers[0].volumeMount: unknown key; did you mean volumeMounts?
livenessProbe.timeoutSecond: unknown key; did you mean timeoutSeconds?
monitor.intervall: unknown key; did you mean interval?
monitor.relabelings[0].sourceLabel: unknown key; did you mean sourceLabels?
monitor.tlsConfig.insecureSkipVerfy: unknown key; did you mean insecureSkipVerify?
networkPolicy.egress.extra[0].prots: unknown key; did you mean ports?
networkPolicy.ingress.from[0].namespaceSelecter: unknown key; did you mean namespaceSelector?
podSecurityContext.runAsNonroot: unknown key; did you mean runAsNonRoot?
podSecurityContext.seccompProfile.typ: unknown key; did you mean type?
replicaCuont: unknown key; did you mean replicaCount?
resources.limit: unknown key; did you mean limits?
resources.request: unknown key; did you mean requests?
rules.alerts.TwilioVerifyDataStal: unknown key; did you mean TwilioVerifyDataStale?
rules.alerts.TwilioVerifyFactorRegressed.severty: unknown key; did you mean severity?
rules.extraGroups[0].rules[0].anotations: unknown key; did you mean annotations?
securityContext.capabilities.dorp: unknown key; did you mean drop?
securityContext.readOnlyRootFileSystem: unknown key; did you mean readOnlyRootFilesystem?
service.anotations: unknown key; did you mean annotations?
startupProbe.failureTreshold: unknown key; did you mean failureThreshold?
tolerations[0].opertor: unknown key; did you mean operator?
topologySpreadConstraints[0].labelSelectr: unknown key; did you mean labelSelector?
updateStrategy.rollingUpdate.partitions: unknown key; did you mean partition?
watchlist.factors[0].lables: unknown key; did you mean labels?
watchlist.sidecar.searchNamespace: unknown key; did you mean searchNamespaces?
"""  # noqa: E501 - lines of Helm's message
FACTOR = {
    "name": "a",
    "service_sid": f"VA{1:032}",
    "identity": "00000000-0000-4000-8000-000000000000",
    "factor_sid": f"YF{1:032}",
}


def typos() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(TYPOS)
    values["watchlist"]["factors"][0] |= FACTOR
    return values


def answers(helm: Helm, values: dict[str, Any], folder: Path) -> list[str]:
    """Return the lines of the message with which the values are refused."""
    more = folder / "more.yaml"
    more.write_text(json.dumps(values), encoding="utf-8")
    done = helm.try_template(case("smallest").values, NEWEST, "--values", str(more))
    assert done.returncode != 0
    assert done.stdout == ""
    return re.findall(r"(?m)^- (.*)$", done.stderr) or [done.stderr.partition(": ")[2]]


@pytest.mark.parametrize("program", ["helm", "helm_3"])
def test_every_typo_is_reported_at_once_with_the_nearest_key(
    program: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    expected = ANSWERS.strip().splitlines()
    assert len(expected) >= 30
    assert answers(request.getfixturevalue(program), typos(), tmp_path) == expected


def test_typos_are_reported_together_with_other_errors(helm: Helm, tmp_path: Path) -> None:
    values = {"replicas": 3, "replicaCount": 3, "web": {"port": 10070}}
    replicas, count, port = answers(helm, values, tmp_path)
    assert replicas == "replicas: unknown key; set `replicaCount`"
    assert count.startswith("replicaCount: is 3 without sharding")
    assert port == "web.healthPort: is the same as web.port (10070); choose another port"


def test_the_message_in_the_documentation_is_helms(helm: Helm, tmp_path: Path) -> None:
    page = (HERE.parent / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    expected = re.findall(r"(?m)^- (.*)$", page.partition("errors in the values:")[2].partition("```")[0])
    values = {"resources": {"limit": {}}, "serviceMonitor": {"enabled": True}, "replicaCount": 2}
    assert answers(helm, values, tmp_path) == expected


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ({"factors": []}, "factors: unknown key; did you mean watchlist.factors?"),
        (
            {"affinity": {"nodeAffinity": {"requiredDuringScheduling": {}}}},
            "unknown key; did you mean requiredDuringSchedulingIgnoredDuringExecution?",
        ),
        (
            {"state": {"backup": True}},
            "state.backup: unknown key; the keys here are existingClaim, retentionPolicy, size, storageClassName",
        ),
        (
            {"rules": {"enabled": True, "alerts": {"TwilioVerifyWatchdog": {"severity": "none"}}}},
            "rules.alerts.TwilioVerifyWatchdog: has no effect without rules.watchdog; set that to true",
        ),
        ({"quux": True}, "quux: unknown key; the README of the chart lists all keys"),
    ],
)
def test_what_is_near_to_nothing_has_an_answer_too(
    values: dict[str, Any], answer: str, helm: Helm, tmp_path: Path
) -> None:
    (found,) = answers(helm, values, tmp_path)
    assert answer in found


def test_names_of_other_charts_are_answered_with_this_charts_key(helm: Helm, tmp_path: Path) -> None:
    guessed: dict[str, Any] = {}
    of_the_chart = {
        path: answer for path, answer in GUESSES.items() if path.split(".")[0] not in KNOWN["definitions"]
    }
    for path in of_the_chart:
        *parents, name = path.split(".")
        place = guessed
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = {"enabled": True}
    expected = sorted(f"{path}: unknown key; {answer}" for path, answer in of_the_chart.items())
    assert len(expected) > 100
    assert sorted(answers(helm, guessed, tmp_path)) == expected


def test_names_of_other_charts_are_answered_within_lists(helm: Helm, tmp_path: Path) -> None:
    values = {"extraEnv": [{"name": "A", "secretKeyRef": {}}], "accounts": {"main": {"password": "made-up-secret"}}}
    assert answers(helm, values, tmp_path) == [
        "accounts.main.password: unknown key; set `credentials.existingSecret`",
        "extraEnv[0].secretKeyRef: unknown key; belongs below valueFrom",
    ]


def known(path: str) -> bool:
    """Return whether a key exists, below the values or below a definition."""
    first, *names = path.split(".")
    below_definition = names and first in KNOWN["definitions"]
    return _has(KNOWN["values"], [first, *names]) or bool(
        below_definition and _has(KNOWN["definitions"][first], names)
    )


def _has(node: Any, names: list[str]) -> bool:
    for name in names:
        while isinstance(node, str):
            node = KNOWN["definitions"][node]
        if not isinstance(node, dict) or name not in node:
            return False
        node = node[name]
    return True


def test_guesses_are_unknown_keys_and_their_answers_name_existing_ones() -> None:
    assert [path for path in GUESSES if known(path)] == []
    parents = {path.rpartition(".")[0] for path in GUESSES if "." in path}
    assert [path for path in sorted(parents) if not known(path) and path not in KNOWN["definitions"]] == []
    elsewhere = {"run", "condition", "enabled"}  # a command, a key of Chart.yaml, a key of every alert
    within = ("account", "http", "factor", "service", "alert")
    named = {name for answer in GUESSES.values() for name in re.findall(r"`([^`]+)`", answer)} - elsewhere
    assert len(named) > 50
    assert [
        name for name in sorted(named) if not known(name) and not any(known(f"{item}.{name}") for item in within)
    ] == []


@pytest.mark.parametrize("fixture", VALID, ids=str)
def test_a_values_file_by_itself_is_validated_strictly(fixture: Case) -> None:
    validator = jsonschema.Draft7Validator(SCHEMA)
    values = yaml.safe_load(fixture.values.read_text(encoding="utf-8"))
    assert [error.message for error in validator.iter_errors(values)] == []


def test_typos_in_a_values_file_by_itself_are_refused_by_the_schema() -> None:
    found = "\n".join(error.message for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(typos()))
    wanted = [line.partition(":")[0].rpartition(".")[2] for line in ANSWERS.strip().splitlines()]
    assert [name for name in wanted if f"'{name}'" not in found] == []


def test_the_fields_of_kubernetes_are_closed_and_complete() -> None:
    assert kubernetes.VERSION == NEWEST
    definitions = KNOWN["definitions"]
    assert definitions["Toleration"].keys() == {"effect", "key", "operator", "tolerationSeconds", "value"}
    assert "Quantity" not in definitions
    assert definitions["ResourceRequirements"] == {"claims": ["ResourceClaim"], "limits": True, "requests": True}
    references = set(re.findall(r'"\$ref": "#/definitions/([^"]+)"', json.dumps(SCHEMA)))
    assert references <= SCHEMA["definitions"].keys()


def test_a_typo_is_refused_by_the_template_even_without_the_schema(helm: Helm, tmp_path: Path) -> None:
    more = tmp_path / "more.yaml"
    more.write_text("resources: {limit: {memory: 1Gi}}")
    flags = ("--skip-schema-validation", "--values", str(more))
    done = helm.try_template(case("smallest").values, NEWEST, *flags)
    assert "resources.limit: unknown key; did you mean limits?" in done.stderr


def test_places_are_keys_of_the_chart() -> None:
    assert KNOWN["places"]["factors"] == ["watchlist.factors"]
    assert all(known(place) for places in KNOWN["places"].values() for place in places)
    assert keys.paths({"a": {"b": True}, "c": "d"}) == ["a", "a.b", "c"]
