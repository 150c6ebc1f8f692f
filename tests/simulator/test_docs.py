"""docs/simulator.md documents every kind of fault, field, flag, control and action."""

from __future__ import annotations

import argparse
import dataclasses
import re
from pathlib import Path

from exporter.cli import simulate
from exporter.simulator import Action, Fault, FaultKind
from exporter.simulator.control import INDEX

PAGE = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text()


def flags() -> list[str]:
    parser = argparse.ArgumentParser(add_help=False)
    simulate.add_arguments(parser)
    return re.findall(r"^\s+(--[a-z-]+)", parser.format_help(), re.MULTILINE)


def test_every_kind_action_and_field_is_documented() -> None:
    fields = [field.name for field in dataclasses.fields(Fault) if field.name != "kind"]
    assert not [name for name in (*FaultKind, *Action, *fields) if not re.search(rf"`{name}\b", PAGE)]


def test_every_flag_is_documented() -> None:
    assert not [flag for flag in flags() if f"`{flag}" not in PAGE]


def test_every_request_is_documented() -> None:
    requests = re.findall(r"^  ([A-Z]+ +/\S+)", INDEX, re.MULTILINE)
    assert requests
    assert not [request for request in requests if f"`{' '.join(request.split())}`" not in PAGE]
