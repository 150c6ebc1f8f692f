"""Text that YAML reads as a number, a boolean, null or a date stays text in every rendered object."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.chart import custom_resources, kubernetes_schema
from tests.support.chart.cases import VALID, Case, case
from tests.support.chart.rendering import NAMESPACE, NEWEST, OLDEST, RELEASE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.chart.rendering import Helm, Manifest, Rendered

NAMES = [
    "123", "007", "1e3", "0x10", "0o17", "0b1", "1-2", "2024-01-01",
    "true", "false", "yes", "no", "on", "off", "y", "n", "null",
]  # fmt: skip
OVERRIDES = ["123", "1e3", "2024-01-01", "true", "null"]
# Release, namespace and overrides: whatever an installation may name.
INSTALLATIONS: list[dict[str, str]] = [
    *({"release": name} for name in ("123", "1e3", "true", "null", "0x10", "yes", "1-2", "2024-01-01")),
    {"namespace": "1234"},
    {"namespaceOverride": "1234"},
    {"nameOverride": "123"},
    {"fullnameOverride": "123"},
    {"release": "1e3", "namespace": "0x10", "nameOverride": "true"},
]
UNCHECKED = "--skip-schema-validation"
# What only annotations and environment variables may contain.
TEXTS = [
    *NAMES, "", " ", "~", "-0", "+1", "0.5", "1_000", "12e03", ".inf", "1:30", "2024-01-01T00:00:00Z",
]  # fmt: skip


def everywhere(name: str) -> dict[str, Any]:
    """Return values that use a name for everything that is text in Kubernetes."""
    own = {"example.com/own": name}
    objects = {"namespace": name, "labels": own, "annotations": own}
    store = {"secretStoreRef": {"name": name}, "remoteRef": {"key": name, "property": name}, "refreshInterval": "0"}
    accounts = {name: {"password": name}, f"{name}-vault": {"externalSecret": store}}
    return {
        "accounts": {
            account: {"account_sid": f"AC{number:032}", "credentials": credentials}
            for number, (account, credentials) in enumerate(accounts.items(), 2)
        },
        "config": {"metrics": {"identity": "hmac"}},
        "identityKey": {"existingSecret": name, "key": name},
        "watchlist": {
            "services": [{"name": name, "service_sid": f"VA{2:032}", "account": name}],
            "http": [
                {
                    "name": name,
                    "url": "https://example.com",
                    "credentials": {"existingSecret": {"name": name, "key": name}},
                }
            ],
            "existingSecrets": [name],
            "sidecar": {
                "enabled": True,
                "image": {"tag": name},
                "label": f"example.com/{name}",
                "labelValue": name,
                "searchNamespaces": [name],
                "extraEnv": [{"name": "NUMBER", "value": name}],
            },
        },
        "image": {"tag": name, "digest": ""},
        "imagePullSecrets": [{"name": name}],
        "commonLabels": {"example.com/common": name},
        "commonAnnotations": {"example.com/common": name},
        "state": {"type": "persistentVolumeClaim", "size": "268435456", "storageClassName": name},
        "podLabels": own,
        "podAnnotations": own,
        "nodeSelector": own,
        "tolerations": [{"key": name, "operator": "Equal", "value": name}],
        "priorityClassName": name,
        "runtimeClassName": name,
        "serviceAccount": {"name": name, "annotations": own},
        "extraArgs": [name],
        "extraEnv": [{"name": "NUMBER", "value": name}],
        "dnsConfig": {"options": [{"name": "ndots", "value": name}]},
        "service": {"labels": own, "annotations": own},
        "proxy": {"noProxy": name},
        "customCA": {"existingConfigMap": name, "key": name},
        "web": {"config": {"existingSecret": name, "key": name}},
        "networkPolicy": {"enabled": True},
        "podDisruptionBudget": {"enabled": True},
        "monitor": objects | {"job": name, "interval": "0", "scrapeTimeout": "0", "scrapeClass": name},
        "rules": objects
        | {
            "enabled": True,
            "alertLabels": {"team": name},
            "alerts": {"TwilioVerifyDataStale": {"severity": name, "for": "0", "labels": own, "annotations": own}},
        },
        "dashboards": objects | {"folder": name, "folderAnnotation": "example.com/folder"},
    }


def overrides(name: str) -> dict[str, str]:
    """Return the values that replace names of objects."""
    return {"nameOverride": name, "fullnameOverride": name, "namespaceOverride": name}


def faults(rendered: Rendered, *versions: str) -> list[str]:
    """Return the fields whose type Kubernetes would refuse, and the ones that are null."""
    found = []
    for item in rendered.objects:
        place = f"{item['kind']}/{item['metadata']['name']}"
        found += [f"{place}{path}: {value!r}" for path, value in _odd(item, "")]
        if item["kind"] in custom_resources.MODELS:
            found += [] if custom_resources.round_trip(item) == item else [f"{place}: is not as its model"]
        elif not item["metadata"]["name"].endswith(("-extra", "-text")):  # the user's own
            for version in versions or (NEWEST,):
                found += [f"{place}.{error}" for error in kubernetes_schema.errors(item, version)]
    return found


def _odd(value: object, path: str) -> Iterator[tuple[str, object]]:
    """Yield keys that aren't text, and leaves that are neither text nor a whole number nor a boolean."""
    if isinstance(value, dict):
        for key, below in value.items():
            if not isinstance(key, str):
                yield f"{path}.{key}", key
            yield from _odd(below, f"{path}.{key}")
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _odd(below, f"{path}[{index}]")
    elif not isinstance(value, str | int):
        yield path, value


def render(
    helm: Helm,
    folder: Path,
    fixture: str,
    values: dict[str, Any],
    release: str = RELEASE,
    namespace: str = NAMESPACE,
) -> Rendered:
    """Render a fixture with more values."""
    more = folder / "more.yaml"
    more.write_text(json.dumps(values), encoding="utf-8")
    return helm.template(case(fixture).values, NEWEST, "--values", str(more), release=release, namespace=namespace)


def chart_objects(rendered: Rendered) -> list[Manifest]:
    """Return the objects that the chart itself defines."""
    return [item for item in rendered.objects if not item["metadata"]["name"].endswith(("-extra", "-text"))]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_release_and_a_namespace_may_have_such_a_name(name: str, helm: Helm, tmp_path: Path) -> None:
    rendered = render(helm, tmp_path, "everything", everywhere(name), release=name, namespace=name)
    assert faults(rendered) == []
    for item in chart_objects(rendered):
        metadata = item["metadata"]
        assert metadata["namespace"] == name
        assert metadata["labels"]["app.kubernetes.io/instance"] == name
        assert metadata["labels"]["example.com/common"] == name
        assert metadata["annotations"]["example.com/common"] == name
    pod = rendered.workload["spec"]["template"]
    assert pod["metadata"]["labels"].items() >= rendered.workload["spec"]["selector"]["matchLabels"].items()
    assert rendered.one("Service")["spec"]["selector"]["app.kubernetes.io/instance"] == name
    assert pod["spec"]["serviceAccountName"] == rendered.one("ServiceAccount")["metadata"]["name"] == name
    assert pod["spec"]["nodeSelector"]["example.com/own"] == name
    assert [pod["spec"][key] for key in ("priorityClassName", "runtimeClassName")] == [name, name]
    assert pod["spec"]["containers"][0]["image"].endswith(f":{name}")
    (secret,) = (item for item in rendered.of_kind("Secret") if item["metadata"]["name"].endswith("-credentials"))
    assert list(secret["data"]) == [name]


@pytest.mark.parametrize("fixture", ["sharded", "scrape-config"])
@pytest.mark.parametrize("name", OVERRIDES)
def test_the_chart_and_its_objects_may_have_such_a_name(
    name: str, fixture: str, helm: Helm, tmp_path: Path
) -> None:
    rendered = render(helm, tmp_path, fixture, everywhere(name) | overrides(name))
    assert faults(rendered) == []
    assert rendered.workload["metadata"]["name"] == name
    for item in rendered.objects:
        assert item["metadata"]["namespace"] == name
        assert item["metadata"]["name"].startswith(name)
        assert item["metadata"]["labels"]["app.kubernetes.io/name"].removesuffix("-test") == name


@pytest.mark.slow
@pytest.mark.parametrize("fixture", VALID, ids=str)
def test_every_installation_may_have_such_names(fixture: Case, helm: Helm) -> None:
    # The values are valid, as other tests check; to validate them would be most of the time.
    for names in INSTALLATIONS:
        set_ = [f"--set-string={key}={name}" for key, name in names.items() if key.endswith("Override")]
        release, namespace = names.get("release", RELEASE), names.get("namespace", NAMESPACE)
        # What Kubernetes' oldest version accepts, the newest one must accept, too.
        rendered = helm.template(fixture.values, OLDEST, *set_, UNCHECKED, release=release, namespace=namespace)
        assert faults(rendered, OLDEST, NEWEST) == [], names
        instance = {item["metadata"]["labels"]["app.kubernetes.io/instance"] for item in chart_objects(rendered)}
        assert instance == {release}


def test_two_names_may_make_a_date(helm: Helm, tmp_path: Path) -> None:
    accounts = {"01": {**everywhere("a")["accounts"]["a-vault"]}}
    rendered = render(helm, tmp_path, "smallest", {"accounts": accounts, "fullnameOverride": "2024-01"})
    assert faults(rendered) == []
    secret = rendered.one("ExternalSecret")
    assert secret["metadata"]["name"] == secret["spec"]["target"]["name"] == "2024-01-01"


def test_annotations_and_variables_keep_any_text(helm: Helm, tmp_path: Path) -> None:
    annotations = {f"example.com/text-{number}": text for number, text in enumerate(TEXTS)}
    variables = [{"name": f"TEXT_{number}", "value": text} for number, text in enumerate(TEXTS)]
    rendered = render(helm, tmp_path, "smallest", {"commonAnnotations": annotations, "extraEnv": variables})
    assert faults(rendered) == []
    assert all(item["metadata"]["annotations"].items() >= annotations.items() for item in rendered.objects)
    assert rendered.workload["spec"]["template"]["spec"]["containers"][0]["env"] == variables


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"nameOverride": 123}, "/nameOverride"),
        ({"fullnameOverride": True}, "/fullnameOverride"),
        ({"namespaceOverride": 1234}, "/namespaceOverride"),
        ({"image": {"tag": 1.10}}, "/image/tag"),
        ({"commonLabels": {"tier": 1}}, "/commonLabels/tier"),
        ({"podAnnotations": {"checked": True}}, "/podAnnotations/checked"),
        ({"nodeSelector": {"zone": 1}}, "/nodeSelector/zone"),
        ({"extraEnv": [{"name": "LEVEL", "value": 1}]}, "/extraEnv/0/value"),
        ({"initContainers": [{"name": "a", "env": [{"name": "A", "value": 1}]}]}, "/initContainers/0/env/0/value"),
        ({"tolerations": [{"key": "dedicated", "value": True}]}, "/tolerations/0/value"),
        ({"dnsConfig": {"options": [{"name": "ndots", "value": 1}]}}, "/dnsConfig/options/0/value"),
        ({"monitor": {"relabelings": [{"replacement": 1}]}}, "/monitor/relabelings/0/replacement"),
        ({"rules": {"extraGroups": [{"rules": [{"labels": {"a": 1}}]}]}}, "/rules/extraGroups/0/rules/0/labels/a"),
    ],
)  # fmt: skip
def test_values_without_quotes_are_refused_with_their_place(
    values: dict[str, Any], place: str, helm: Helm, tmp_path: Path
) -> None:
    more = tmp_path / "more.yaml"
    more.write_text(json.dumps(values), encoding="utf-8")
    done = helm.try_template(case("smallest").values, NEWEST, "--values", str(more))
    assert done.returncode != 0
    assert f"at '{place}': got " in done.stderr
    assert "string" in done.stderr
