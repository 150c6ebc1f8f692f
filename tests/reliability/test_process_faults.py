"""The table of process faults names tests and metrics that exist."""

from __future__ import annotations

import ast

from exporter.exposition.catalogue import FACTOR_FAMILIES, OWN_FAMILIES
from tests.support.proofs.process_faults import PROCESS_ROWS, process_table
from tests.support.proofs.reliability_page import ROOT, section


def test_each_row_has_a_test() -> None:
    for row in PROCESS_ROWS:
        path, _, name = row.test.partition("::")
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in names, row.test


def test_each_metric_is_one_of_the_catalogue_or_of_the_process() -> None:
    known = {family.name for family in (*FACTOR_FAMILIES, *OWN_FAMILIES)}
    named = {row.metric for row in PROCESS_ROWS if row.metric}
    assert {metric for metric in named if metric not in known and not metric.startswith("process_")} == set()


def test_the_table_is_what_the_generator_writes() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert section(text, "process-faults") == process_table(), "run: python -m tests.reliability"
