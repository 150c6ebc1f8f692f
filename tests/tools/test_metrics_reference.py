"""docs/metrics.md: generated, complete, and true for a real ledger."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.exposition.catalogue import CATALOGUE, FACTOR_FAMILIES, FACTOR_PREFIX
from exporter.exposition.factors import FactorSamples
from exporter.polling.clock import Moment
from exporter.polling.ledger import Ledger, LedgerPolicy
from exporter.verify.outcome import Answer, Failure, Outcome, Reason, Status
from tests.support.factor_cases import watched_factor
from tools.reference.metrics import render

if TYPE_CHECKING:
    from exporter.polling.record import FactorRecord

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_the_page_is_what_the_generator_writes() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run: python -m tools.reference.metrics > docs/metrics.md"


def test_the_generator_runs_as_a_module(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(RuntimeWarning, match="found in sys.modules"):
        runpy.run_module("tools.reference.metrics", run_name="__main__")
    assert capsys.readouterr().out == render()


def test_the_page_names_its_generator_on_top() -> None:
    assert "python -m tools.reference.metrics" in render().splitlines()[0]


def test_every_family_has_one_row_in_one_group() -> None:
    rows = {
        cells(line)[0]: cells(line)[1:] for line in render().splitlines() if line.startswith("| `twilio_verify_")
    }
    assert list(rows) == [f"`{family.name}`" for family in CATALOGUE]
    for family in CATALOGUE:
        kind, labels, meaning = rows[f"`{family.name}`"]
        assert kind == family.kind
        assert labels == (", ".join(f"`{label}`" for label in family.labels) or "–")
        assert meaning.startswith(family.help)
        for bound in family.buckets:
            assert re.search(rf"Buckets: .*\b{bound:g}\b", meaning)


def test_every_label_and_every_reason_is_explained() -> None:
    explained = render().partition("## Labels")[2]
    plain = {"version", "revision", "python_version", "sha256", "shard"}
    for label in {label for family in CATALOGUE for label in family.labels} - plain:
        assert re.search(rf"^\| [^|]*`{label}`", explained, re.MULTILINE), label
    rows = [cells(line)[0] for line in explained.partition("## Reasons")[2].splitlines() if line.startswith("| `")]
    assert rows == ["`reason`", *(f"`{reason}`" for reason in Reason)]


def test_tables_are_whole() -> None:
    for table in re.findall(r"(?:^\|.*\|\n)+", render(), re.MULTILINE):
        assert len({len(cells(row)) for row in table.splitlines()}) == 1


# The table of states, compared with a ledger


def answered(status: Status) -> Answer:
    return Answer(status, 1.0, 2.0, "passkeys", approved_seconds=3.0)


def record_after(*results: Answer | Failure, withdraw: bool = False) -> FactorRecord:
    """Return the record of a factor after fetches with these results, at 1, 2, … seconds."""
    ledger = Ledger(LedgerPolicy())
    record = ledger.watch(watched_factor())
    for number, result in enumerate(results, start=1):
        ledger.apply(record.watched.key, Outcome(result, 0.5), Moment(float(number), float(number)))
    if withdraw:
        assert ledger.expire(1e9) == [record.watched.key]
    return record


VERIFIED, UNVERIFIED, FAILED = answered(Status.VERIFIED), answered(Status.UNVERIFIED), Failure(Reason.TIMEOUT)


@pytest.mark.parametrize(
    ("state", "before", "after"),
    [
        ("not fetched yet", None, record_after()),
        ("answered: verified", record_after(UNVERIFIED), record_after(UNVERIFIED, VERIFIED)),
        ("answered: unverified", record_after(VERIFIED), record_after(VERIFIED, UNVERIFIED)),
        ("answered: 404", record_after(VERIFIED), record_after(VERIFIED, Answer(Status.NOT_FOUND))),
        ("failed, last answer not stale", record_after(VERIFIED), record_after(VERIFIED, FAILED)),
        (
            "failed, last answer not stale",
            record_after(UNVERIFIED, VERIFIED),
            record_after(UNVERIFIED, VERIFIED, FAILED),
        ),
        ("stale", record_after(VERIFIED), record_after(VERIFIED, withdraw=True)),
        ("stale", record_after(UNVERIFIED, VERIFIED), record_after(UNVERIFIED, VERIFIED, withdraw=True)),
        ("stale", record_after(VERIFIED, FAILED), record_after(VERIFIED, FAILED, withdraw=True)),
    ],
)
def test_the_table_of_states_is_true(state: str, before: FactorRecord | None, after: FactorRecord) -> None:
    lines = render().splitlines()
    (head,) = (cells(line) for line in lines if line.startswith("| state |"))
    (row,) = (cells(line) for line in lines if line.startswith(f"| {state} |"))
    names = [family.name for family in FACTOR_FAMILIES]
    values = dict(zip(names, FactorSamples().values(after), strict=True))
    values_before = dict(zip(names, FactorSamples().values(before), strict=True)) if before else {}
    for name, cell in zip(head[1:], row[1:], strict=True):
        family = FACTOR_PREFIX + name.strip("`")
        assert family in {known.name for known in FACTOR_FAMILIES}
        value, value_before = values[family], values_before.get(family)
        match cell:
            case "–":
                assert value is None, family
            case "unchanged":
                assert value == value_before, family
            case "+1":
                assert value_before is not None
                assert value == value_before + 1, family
            case "time of the answer" | "time of the change":
                assert value == 2.0, family
            case "from the API" | "set":
                assert value is not None, family
            case _:
                assert value == float(cell), family
