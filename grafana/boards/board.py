"""A board put together: rows of panels on a grid, variables, events, links to its sisters; then written as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard

from grafana.boards.panels import panel_id
from grafana.boards.variables import changes_of_services, events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from grafana.boards.panels import AnyPanel
    from grafana.boards.variables import Variable

# For ever: bookmarks, alerts and provisioned folders know the boards by these.
OVERVIEW, FACTOR, EXPORTER = "twilio-verify-overview", "twilio-verify-factor", "twilio-verify-exporter"

COLUMNS = 24
TAG = "twilio-verify"
_MADE_BY = "Made by `python -m grafana.boards`; change that package instead."
_REFRESH = "1m"


class Line(NamedTuple):
    """Panels side by side, as wide and as high as each other; the height in rows of some 38 pixels."""

    height: int
    panels: tuple[AnyPanel, ...]


class Section(NamedTuple):
    """A question, and the panels that answer it."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard."""

    uid: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    sections: tuple[Section, ...]
    changes: dict[str, Any] = field(default_factory=changes_of_services)

    @property
    def file_name(self) -> str:
        return f"{self.uid}.json"


def render(board: Board) -> str:
    """Return the file of a board: keys sorted, and the same for the same board."""
    tree: dict[str, Any] = json.loads(JSONEncoder().encode(_dashboard(board).build()))
    tree["id"] = None
    tree["annotations"] = {"list": events(board.changes)}
    return json.dumps(tree, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _dashboard(board: Board) -> build.Dashboard:
    built = (
        build.Dashboard(board.title)
        .uid(board.uid)
        .description(f"{board.description}\n\n{_MADE_BY}")
        .tags(["prometheus", "twilio", TAG])
        .timezone("browser")
        .readonly()
        .refresh(_REFRESH)
        .time("now-6h", "now")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .variables(list(board.variables))
        .link(
            build.DashboardLink("Twilio Verify")
            .type(dashboard.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
            .icon("external link")
        )
    )
    for builder in _placed(board):
        if isinstance(builder, build.Row):
            built.with_row(builder)
        else:
            built.with_panel(builder)
    return built


def _placed(board: Board) -> Iterator[build.Row | AnyPanel]:
    """Yield rows and panels from the top; ValueError for a line whose panels don't divide the width."""
    top = 0
    for section in board.sections:
        place = dashboard.GridPos(h=1, w=COLUMNS, x=0, y=top)
        yield build.Row(section.title).id(panel_id(section.title)).grid_pos(place)
        top += 1
        for height, panels in section.lines:
            width, rest = divmod(COLUMNS, len(panels))
            if rest:
                raise ValueError(f"{board.uid}: {section.title!r}: {COLUMNS} columns don't divide by {len(panels)}")
            for number, panel in enumerate(panels):
                yield panel.grid_pos(dashboard.GridPos(h=height, w=width, x=number * width, y=top))
            top += height
