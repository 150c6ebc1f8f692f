"""Reading the dashboard files, and filling in Grafana's variables in their queries."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import promql_parser

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FOLDER = Path(__file__).parents[3] / "grafana" / "dashboards"
PATHS = tuple(sorted(FOLDER.glob("*.json")))
VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w+)(?:\.[\w.]+)?(?::(?P<format>\w+))?\}|(?P<plain>\w+))")

# Grafana's built-in variables.
GLOBALS = {
    "__rate_interval": "5m",
    "__interval": "1m",
    "__interval_ms": "60000",
    "__range": "1h",
    "__from": "1",
    "__to": "2",
}


@dataclass(frozen=True, slots=True)
class Target:
    """A query of a panel."""

    board: str
    panel: Mapping[str, Any]
    query: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.board}: {self.panel['title']}: {self.query['refId']}"

    @property
    def expression(self) -> str:
        return str(self.query["expr"])

    @property
    def place(self) -> tuple[str, str, str]:
        return self.board, self.panel["title"], self.query["refId"]


@cache
def boards() -> tuple[Mapping[str, Any], ...]:
    """Return all dashboards."""
    return tuple(json.loads(path.read_text(encoding="utf-8")) for path in PATHS)


def board(uid: str) -> Mapping[str, Any]:
    """Return a dashboard by its uid."""
    (found,) = (item for item in boards() if item["uid"] == uid)
    return found


def panels(of: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the panels of a dashboard, without rows; those of collapsed rows are below the row."""
    return [panel for item in of["panels"] for panel in (item, *item.get("panels", ())) if panel["type"] != "row"]


def targets(of: Mapping[str, Any] | None = None) -> Iterator[Target]:
    """Yield the queries of all panels, or of one dashboard."""
    for item in boards() if of is None else (of,):
        for panel in panels(item):
            for query in panel["targets"]:
                yield Target(item["uid"], panel, query)


def variables(of: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the variables of a dashboard by name."""
    return {item["name"]: item for item in of["templating"]["list"]}


def events(of: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the annotations of a dashboard."""
    return list(of["annotations"]["list"])


def filled(text: str, values: Mapping[str, str] | None = None) -> str:
    """Return a query with its variables filled in, every selection at All; KeyError for an unknown variable."""
    # Without the rules, Grafana has no option for the jobs whose states are recorded.
    known = (
        GLOBALS
        | {"rows": "100", "recorded": "()"}
        | dict.fromkeys(("job", "instance", "account", "service", "factor"), ".+")
    )
    known |= dict(values or {})

    def value(found: re.Match[str]) -> str:
        name = found["braced"] or found["plain"]
        # Where one factor or All can be selected, All is the rest of a matcher: see grafana/boards/promql.py.
        return f'~"{known[name]}"' if found["format"] == "doublequote" else known[name]

    return VARIABLE.sub(value, text)


def parsed(expression: str) -> Any:
    """Parse an expression with its variables filled in; ValueError if it can't be parsed."""
    return promql_parser.parse(filled(expression))


def strings(tree: object) -> Iterator[str]:
    """Yield every string in a JSON tree, including keys."""
    match tree:
        case str():
            yield tree
        case dict():
            for key, value in tree.items():
                yield key
                yield from strings(value)
        case list():
            for value in tree:
                yield from strings(value)
