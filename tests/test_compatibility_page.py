"""docs/compatibility.md has a good result for what the classifiers claim, and for the versions that are locked.

``make interpreters`` writes that page, so it doesn't run this file.
"""

from __future__ import annotations

import re
import tomllib

from helm.generate import CHART
from tests.support.chart.cases import VALID
from tools.compatibility.page import CLUSTER, FIXTURES, INTERPRETERS, PAGE, PROJECT, SCRAPERS, VALUES, rows
from tools.compatibility.scrapers import COLLECTOR, SOURCES, VICTORIAMETRICS, module_version


def project() -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def test_the_classifiers_are_the_interpreters_that_every_test_passed_on() -> None:
    classifiers = project()["classifiers"]
    assert isinstance(classifiers, list)
    claimed = {found[1] for line in classifiers if (found := re.search(r"Python :: (3\.\d+)$", line))}
    table = rows(PAGE.read_text(encoding="utf-8"), INTERPRETERS)
    passed: dict[str, bool] = {}
    for version, _, passing, failed, _ in table:
        minor = ".".join(version.split(".")[:2])
        passed[minor] = passed.get(minor, True) and failed == "0" and passing.isdigit()
    assert passed == {minor: minor in claimed for minor in passed}
    assert f">={min(claimed, key=lambda minor: int(minor.split('.')[1]))}" == project()["requires-python"]


def test_every_scraper_of_the_table_got_every_sample() -> None:
    table = rows(PAGE.read_text(encoding="utf-8"), SCRAPERS)
    assert len(table) > 10
    assert [row for row in table if int(row[3]) < 200 or row[3] != row[4]] == []


def test_the_table_has_the_versions_that_are_locked() -> None:
    versions = {(row[0], row[1]) for row in rows(PAGE.read_text(encoding="utf-8"), SCRAPERS)}
    for name, folder, module in (
        ("VictoriaMetrics vmagent", "victoriametrics", VICTORIAMETRICS),
        ("OpenTelemetry Collector, prometheusreceiver", "otelcol", COLLECTOR),
    ):
        assert (name, module_version(SOURCES / folder / "go.mod", module)) in versions


def test_every_values_file_went_through_every_step_on_a_cluster() -> None:
    table = {row[0].strip("`"): row[1:] for row in rows(PAGE.read_text(encoding="utf-8"), VALUES)}
    files = {path.name.removesuffix("-values.yaml") for path in (CHART / "ci").iterdir()}
    assert {"minimal", "shards"} <= set(table) <= files
    assert {name: row for name, row in table.items() if int(row[0]) < 1 or set(row[1:]) != {"yes"}} == {}


def test_every_fixture_was_kept_as_rendered_on_a_cluster() -> None:
    table = {row[0].strip("`"): row[1:] for row in rows(PAGE.read_text(encoding="utf-8"), FIXTURES)}
    assert len(table) > 10
    assert set(table) <= {str(case) for case in VALID}
    assert {name: row for name, row in table.items() if row[2:] != ("yes", "yes")} == {}
    assert [name for name, row in table.items() if len(set(row[1].split(" of "))) > 1] == []


def test_the_cluster_is_described() -> None:
    versions = {row[0]: row[1] for row in rows(PAGE.read_text(encoding="utf-8"), CLUSTER)}
    assert versions.keys() >= {"Kubernetes", "containerd", "etcd", "Helm", "Helm 3", "CoreDNS"}
