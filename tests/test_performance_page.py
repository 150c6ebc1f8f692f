"""docs/performance.md tells the numbers of docs/performance.json, and no others."""

from __future__ import annotations

import json

import pytest

from benchmarks.document import NUMBERS, PAGE, PLOT, render


@pytest.fixture
def numbers() -> dict[str, dict[str, object]]:
    read: dict[str, dict[str, object]] = json.loads(NUMBERS.read_text(encoding="utf-8"))
    return read


def test_the_page_is_written_from_the_numbers(numbers: dict[str, dict[str, object]]) -> None:
    assert PAGE.read_text(encoding="utf-8") == render(numbers), "write it anew: make bench"
    assert PLOT.read_bytes().startswith(b"\x89PNG")


def test_each_measurement_was_of_full_size(numbers: dict[str, dict[str, object]]) -> None:
    full = numbers["full"]["measured"]
    assert isinstance(full, dict)
    assert list(full) == ["1000", "10000", "100000"]
    assert full["100000"]["seconds"] >= 900
    assert full["100000"]["missed"] == full["100000"]["failed"] == 0
    whole = numbers["whole"]["measured"]
    assert isinstance(whole, dict)
    assert min(map(len, whole["seconds"].values())) >= 5
