"""What the pages on Kubernetes install: commands without a checkout, the Secret, and manifests for GitOps tools."""

from __future__ import annotations

import base64
import copy
import json
import os
import re
import shlex
import subprocess
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from exporter import __version__
from helm.generate import CHART, HERE
from tests.support.chart import custom_resources, kubernetes_schema, pod_security
from tests.support.chart.delivery import delivery
from tests.support.chart.registry import served
from tests.support.chart.rendering import NEWEST, Rendered
from tools.release.files import PROJECT
from tools.release.repository import NAME, account

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.chart.rendering import Helm

DOCS = HERE.parent / "docs"
PAGES = [HERE.parent / "README.md", DOCS / "kubernetes.md", *sorted((DOCS / "kubernetes").glob("*.md"))]
MANIFESTS = sorted((DOCS / "examples" / "kubernetes").iterdir())
REGISTRY = f"ghcr.io/{account()}"
URL = f"oci://{REGISTRY}/charts/{NAME}"
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
SECRET = 'it\'s "$HOME" \\n'


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def scripts(path: Path) -> list[str]:
    """Return the shell commands of a page, with continued lines joined."""
    blocks = re.findall(r"(?ms)^ *```(?:sh|bash)\n(.*?)^ *```$", path.read_text(encoding="utf-8"))
    return [re.sub(r"\\\n\s*", "", block) for block in blocks]


def commands() -> list[tuple[Path, list[str]]]:
    """Return the Helm commands with the address of the chart, up to a pipe."""
    return [
        (path, shlex.split(line.partition("|")[0]))
        for path in PAGES
        for script in scripts(path)
        for line in map(str.strip, script.splitlines())
        if line.startswith("helm ") and "oci://" in line
    ]


@pytest.fixture(scope="module")
def registry(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the packaged chart, and yield the address that replaces that of a release."""
    folder = tmp_path_factory.mktemp("package")
    done = helm.run("package", CHART, "--destination", folder)
    assert done.returncode == 0, done.stderr
    (package,) = folder.iterdir()
    name = f"{account().lower()}/charts/{NAME}"
    with served(name, __version__, package) as host:
        yield f"oci://{host}/{name}"


def rendered(helm: Helm, *words: str) -> Rendered:
    """Run a Helm command that prints objects, and return them."""
    done = helm.run(*words, "--plain-http")
    assert done.returncode == 0, done.stderr
    text = done.stdout
    if "--output" in words:  # what was pulled is printed before the document
        text = json.loads(text[text.index("{") :])["manifest"]
    return Rendered(text, tuple(filter(None, yaml.safe_load_all(text))))


def valid(release: Rendered) -> None:
    """Objects are valid, pods are restricted, and the image is that of a release."""
    for item in release.objects:
        if item["kind"] in custom_resources.MODELS:
            assert custom_resources.round_trip(item) == item
        else:
            assert kubernetes_schema.errors(item, NEWEST) == [], item["kind"]
    for pod in release.pods:
        assert pod_security.violations(pod) == []
        (container,) = pod["spec"]["containers"]
        assert container["image"] == f"{REGISTRY}/{NAME}:{__version__}"


def test_the_chart_has_one_address_which_the_release_pushes_it_to() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (*PAGES, *MANIFESTS)]
    assert {url for text in texts for url in re.findall(r"oci://ghcr\.io/[\w./-]+\w", text)} == {URL}
    workflow = (PROJECT / ".github/workflows/release.yml").read_text(encoding="utf-8")
    assert "registry=ghcr.io/${OWNER,,}\n" in workflow
    assert re.search(rf'helm push "\S+/{NAME}-\$version\.tgz" "oci://\$registry/charts"', workflow)
    assert '"docker://$registry/verify-factor-exporter:$version"' in workflow


def test_there_is_a_command_for_every_step() -> None:
    assert {words[1] for _, words in commands()} == {"install", "upgrade", "template", "diff"}
    for path, words in commands():
        assert URL in words, path
        assert words[words.index("--version") + 1] == __version__, path


@pytest.mark.parametrize(
    "words", [words for _, words in commands() if words[1] in {"install", "template"}], ids=" ".join
)
def test_commands_need_no_checkout(words: list[str], registry: str, helm: Helm, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text((CHART / "ci" / "minimal-values.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    replaced = [{URL: registry, "values.yaml": str(values)}.get(word, word) for word in words[1:]]
    nothing_installed = ["--dry-run=client", "--output", "json"] if words[1] == "install" else []
    release = rendered(helm, *replaced, *nothing_installed)
    valid(release)
    assert release.workload["metadata"]["namespace"] == "twilio"
    if "--no-hooks" in words:
        assert not release.of_kind("Pod")


def test_the_secret_is_in_no_command_line(kubectl: Path, tmp_path: Path) -> None:
    """kubectl runs as it is, but creates nothing; what is typed may contain anything but a line break."""
    (script,) = [script for path in PAGES for script in scripts(path) if "create secret generic twilio " in script]
    wrapper, seen = tmp_path / "kubectl", tmp_path / "seen"
    wrapper.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$*" >> {seen}\nexec {kubectl} "$@" --dry-run=client --output json\n'
    )
    wrapper.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-euc", f"{script}\necho \"left: ${{SECRET-}}\" >&2"],
        input=f"{SECRET}\n", env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stderr == "left: \n"
    secret = next(item for item in _json_documents(done.stdout) if item["kind"] == "Secret")
    assert base64.b64decode(secret["data"]["password"]).decode() == SECRET
    assert (secret["metadata"]["name"], secret["metadata"]["namespace"]) == ("twilio", "twilio")
    assert SECRET not in seen.read_text()
    assert len(seen.read_text().splitlines()) == 2


def _json_documents(text: str) -> Iterator[Any]:
    decoder, at = json.JSONDecoder(), 0
    while at < len(text.rstrip()):
        document, at = decoder.raw_decode(text, at)
        at += 1
        yield document


def test_there_are_manifests() -> None:
    assert [path.name for path in MANIFESTS] == ["argo-cd.yaml", "flux.yaml"]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_installs_the_release(path: Path, registry: str, helm: Helm, tmp_path: Path) -> None:
    release = delivery(documents(path))
    assert (release.name, release.namespace) == (NAME, "twilio")
    assert (release.url, release.version) == (URL, __version__)
    assert release.values == documents(CHART / "ci" / "operator-values.yaml")[0]
    assert [error.message for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(release.values)] == []

    values = tmp_path / "values.yaml"
    values.write_text(json.dumps(release.values), encoding="utf-8")
    place = ("--version", release.version, "--namespace", release.namespace, "--values", str(values))
    found = rendered(helm, "template", release.name, registry, *place)
    valid(found)
    assert found.of_kind("ServiceMonitor", "PrometheusRule")
    # Argo CD sets this label to the Application's name if it tracks by label.
    assert {item["metadata"]["labels"]["app.kubernetes.io/instance"] for item in found.objects} == {release.name}


def places(document: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every object of a document but those below the values."""
    if isinstance(document, dict) and not {"values", "valuesObject"}.intersection(path):
        yield path
        for name, below in document.items():
            yield from places(below, (*path, name))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_misspelled_field_is_found(path: Path) -> None:
    whole = documents(path)
    tried = 0
    for index, document in enumerate(whole):
        for place in places(document):
            wrong = copy.deepcopy(whole)
            below = wrong[index]
            for name in place:
                below = below[name]
            name = next(iter(below))
            below[f"{name}s"] = below.pop(name)
            with pytest.raises((ValidationError, KeyError)):
                delivery(wrong)
            tried += 1
    assert tried >= 8


def test_no_example_puts_identities_into_git() -> None:
    """Factors and entities have identities; a service needs none."""
    for path in MANIFESTS:
        assert {"factors", "entities"}.isdisjoint(delivery(documents(path)).values["watchlist"])
