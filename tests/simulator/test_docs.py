"""docs/simulator.md says what there is: each kind, field, flag, control and action."""

from __future__ import annotations

import argparse
import dataclasses
import re
from pathlib import Path

import pytest

from exporter.cli import simulate
from exporter.simulator import Action, Fault, FaultKind
from exporter.simulator.control import INDEX

PAGE = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text()


def flags() -> list[str]:
    parser = argparse.ArgumentParser(add_help=False)
    simulate.add_arguments(parser)
    return re.findall(r"^\s+(--[a-z-]+)", parser.format_help(), re.MULTILINE)


@pytest.mark.parametrize(
    "name", [*FaultKind, *Action, *(field.name for field in dataclasses.fields(Fault) if field.name != "kind")]
)
def test_each_kind_action_and_field_is_told(name: str) -> None:
    assert re.search(rf"`{name}\b", PAGE)


@pytest.mark.parametrize("flag", flags())
def test_each_flag_is_told(flag: str) -> None:
    assert f"`{flag}" in PAGE


@pytest.mark.parametrize("request_", re.findall(r"^  ([A-Z]+ +/\S+)", INDEX, re.MULTILINE))
def test_each_request_is_told(request_: str) -> None:
    assert f"`{' '.join(request_.split())}`" in PAGE
