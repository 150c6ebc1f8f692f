"""docs/performance.md has the numbers of docs/performance.json and docs/performance-history.json, and no others."""

from __future__ import annotations

import json
import re
import statistics
from typing import Any

import pytest

from benchmarks import history
from benchmarks.__main__ import Extent
from benchmarks.document import COMPARISON, NUMBERS, PAGE, PLOT, compared_to_others, render
from benchmarks.whole import BLACKBOX, OURS
from exporter import __version__

READY, LIBRARY = "scrape of the pre-rendered lines", "generate_latest"


@pytest.fixture
def numbers() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(NUMBERS.read_text(encoding="utf-8"))
    return read


def test_the_page_is_written_from_the_numbers(numbers: dict[str, Any]) -> None:
    assert PAGE.read_text(encoding="utf-8") == render(numbers, history.read()), "generate it again: make bench"
    for plot in (PLOT, history.PLOT):
        assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_history_has_one_line_per_version_and_the_numbers_of_this_one(numbers: dict[str, Any]) -> None:
    entries = history.read()
    versions = [entry["version"] for entry in entries]
    assert len(set(versions)) == len(versions)
    assert __version__ in versions, "add it: make bench"
    assert history.merged(entries, history.entry(numbers, __version__)) == entries
    text = history.HISTORY.read_text(encoding="utf-8")
    assert text == history.dump(entries)
    assert len(text.splitlines()) == len(entries) + 2


def test_each_measurement_was_of_full_size(numbers: dict[str, Any]) -> None:
    full = numbers["full"]["measured"]
    assert list(full) == ["100000"]
    curve = numbers["curve"]["measured"]
    assert set(map(int, curve)) <= set(Extent().curve_sizes)
    assert all(point["missed"] == point["failed"] == 0 for point in curve.values())
    assert full["100000"]["seconds"] >= 900
    assert full["100000"]["missed"] == full["100000"]["failed"] == 0
    whole = numbers["whole"]["measured"]
    assert min(map(len, whole["seconds"].values())) >= 5


def test_what_the_project_promises_of_its_cost_was_measured(numbers: dict[str, Any]) -> None:
    of_whole = {name: statistics.median(of) for name, of in numbers["whole"]["measured"]["seconds"].items()}
    assert of_whole[OURS] < of_whole[BLACKBOX] / 2
    for factors in ("10000", "100000"):
        of_scrape = numbers["scrape"]["measured"][factors]["seconds"]
        ours, library = (statistics.median(of_scrape[name]) for name in (READY, LIBRARY))
        assert library / ours > 60
    pages = numbers["pages"]["measured"]
    assert pages["factors"] == 100_000
    assert all(statistics.median(paints) <= 1 for paints in pages["first_paint"].values())
    full = numbers["full"]["measured"]
    assert numbers["curve"]["measured"]["10000"]["memory_mb"] <= 120
    assert full["100000"]["memory_mb"] <= 500
    assert full["100000"]["lag_p99"] < 2
    assert full["100000"]["scrape_wall_to_copy"] <= 4
    assert full["100000"]["stalls_over_50_ms"] == []


def test_the_comparison_has_the_numbers_of_this_page(numbers: dict[str, Any]) -> None:
    comparison = COMPARISON.read_text(encoding="utf-8")
    assert compared_to_others(comparison, numbers) == comparison
    page = PAGE.read_text(encoding="utf-8")
    ((ours, theirs),) = re.findall(r"\| Memory \| (\d+) MB with 10,000 factors \| (\d+) MB \|", comparison)
    assert f"Memory: {ours} MB with 10,000 factors" in page
    assert f"which keeps no state, uses {theirs} MB" in page
    blackbox, _, _ = comparison.partition("## json_exporter")
    (times,) = re.findall(r"took ([\d.]+) times the CPU time of a fetch", blackbox)
    assert f"A blackbox_exporter probe needs {times} times the CPU time" in page
