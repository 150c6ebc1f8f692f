"""docs/compatibility.md has a good result for what the classifiers claim, and for the versions that are locked.

``make interpreters`` writes that page, so it doesn't run this file.
"""

from __future__ import annotations

import re
import tomllib

from tools.compatibility.page import INTERPRETERS, PAGE, PROJECT, SCRAPERS, rows
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
