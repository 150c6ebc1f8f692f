"""The packaged chart: metadata, reproducible bytes, and templates that Helm 3 supports."""

from __future__ import annotations

import base64
import gzip
import json
import re
import tarfile
from typing import TYPE_CHECKING

import yaml

import exporter
from helm.generate import CHART
from tests.support.chart.cases import case
from tools.release.files import PROJECT
from tools.release.repository import repository

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.chart.rendering import Helm

LARGEST_SECRET_BYTES = 1_048_576
FILES = f"{repository()}/blob/main/"
METADATA = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))

# Functions of text/template, Sprig 3.2 and Helm that Helm 3.8 already has. Check others before adding them.
HELM_3 = {
    "add", "and", "append", "b64enc", "base", "compact", "concat", "contains", "default", "dict", "dig", "div",
    "empty", "eq", "fail", "first", "fromJson", "fromYaml", "get", "gt", "has", "hasKey", "hasPrefix", "include",
    "index", "int", "int64", "join", "keys", "kindIs", "last", "le", "len", "list", "lookup", "lower", "lt", "max",
    "merge", "min", "mul", "mulf", "ne", "nindent", "not", "omit", "or", "printf", "quote", "regexFind",
    "regexFindAll", "regexMatch", "regexReplaceAll", "regexReplaceAllLiteral", "replace", "semverCompare", "set",
    "sha256sum", "sortAlpha", "splitList", "sub", "ternary", "toJson", "toString", "toYaml", "tpl", "trim",
    "trimPrefix", "trimSuffix", "trunc", "uniq", "until", "upper",
}  # fmt: skip
KEYWORDS = {"define", "if", "else", "end", "range", "with", "nil", "true", "false"}
ACTION = re.compile(r'\{\{-?((?:/\*.*?\*/|"(?:\\.|[^"\\])*"|.)*?)-?\}\}', re.DOTALL)
NO_FUNCTION = re.compile(r'/\*.*?\*/|"(?:\\.|[^"\\])*"|[.$][\w.$]*|\b\d+\b', re.DOTALL)


def test_templates_use_only_functions_of_helm_3() -> None:
    used = set()
    for path in (CHART / "templates").rglob("*"):
        if path.is_file():
            for action in ACTION.findall(path.read_text(encoding="utf-8")):
                used |= set(re.findall(r"[A-Za-z]\w*", NO_FUNCTION.sub(" ", action)))
    assert used - KEYWORDS <= HELM_3
    assert used >= HELM_3, "remove functions that are no longer used"


def test_chart_and_exporter_have_the_same_version() -> None:
    assert METADATA["apiVersion"] == "v2"
    assert METADATA["appVersion"] == METADATA["version"] == exporter.__version__
    assert METADATA["kubeVersion"] == ">=1.25.0-0"
    annotations = METADATA["annotations"]
    assert annotations["artifacthub.io/license"] == "Apache-2.0"
    for name in ("images", "links", "changes"):
        assert yaml.safe_load(annotations[f"artifacthub.io/{name}"])
    images = [item["image"] for item in yaml.safe_load(annotations["artifacthub.io/images"])]
    sidecar = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))["watchlist"]["sidecar"]["image"]
    assert images == [
        f"verify-factor-exporter:{exporter.__version__}",
        f"{sidecar['registry']}/{sidecar['repository']}:{sidecar['tag']}",
    ]
    assert {change["kind"] for change in yaml.safe_load(annotations["artifacthub.io/changes"])} <= {
        "added", "changed", "deprecated", "removed", "fixed", "security"
    }  # fmt: skip


def test_packages_are_reproducible(helm: Helm, tmp_path: Path) -> None:
    packages = []
    for name in ("first", "second"):
        done = helm.run("package", CHART, "--destination", tmp_path / name, SOURCE_DATE_EPOCH="1700000000")
        assert done.returncode == 0, done.stderr
        (package,) = (tmp_path / name).iterdir()
        packages.append(package)
    assert packages[0].read_bytes() == packages[1].read_bytes()
    with tarfile.open(packages[0]) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    files = {str(path.relative_to(CHART)) for path in CHART.rglob("*") if path.is_file()}
    assert packed == {name for name in files if not name.startswith("ci/")}


def test_a_release_fits_into_its_secret(helm: Helm) -> None:
    def part(path: Path) -> dict[str, str]:
        return {"name": str(path.relative_to(CHART)), "data": base64.b64encode(path.read_bytes()).decode()}

    # What Helm stores for each revision: the chart with its values and schema, and the rendered objects.
    values = case("everything").values
    release = {
        "chart": {
            "templates": [part(path) for path in (CHART / "templates").rglob("*") if path.is_file()],
            "files": [
                part(path) for path in [*(CHART / "files").rglob("*"), CHART / "README.md"] if path.is_file()
            ],
            "schema": part(CHART / "values.schema.json")["data"],
            "values": yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8")),
        },
        "config": yaml.safe_load(values.read_text(encoding="utf-8")),
        "manifest": helm.template(values).text,
    }
    stored = base64.b64encode(gzip.compress(json.dumps(release).encode()))
    assert len(stored) < LARGEST_SECRET_BYTES / 2


def test_the_package_renders_like_the_folder(helm: Helm, tmp_path: Path) -> None:
    done = helm.run("package", CHART, "--destination", tmp_path)
    assert done.returncode == 0, done.stderr
    values = case("everything").values
    assert helm.template(values, chart=next(tmp_path.iterdir())).text == helm.template(values).text


def test_links_of_the_readme_lead_somewhere_outside_of_the_repository() -> None:
    """Registries of charts show the README by itself."""
    links = re.findall(r"\]\(([^)]+)\)", (CHART / "README.md").read_text(encoding="utf-8"))
    own = [link.removeprefix(FILES).partition("#") for link in links if link.startswith(FILES)]
    assert [link for link in links if not link.startswith("https://")] == []
    assert len(own) > 1
    for name, _, anchor in own:
        headings = re.findall(r"(?m)^#+ (.+)$", (PROJECT / name).read_text(encoding="utf-8"))
        assert not anchor or anchor in {heading.lower().replace(" ", "-") for heading in headings}
