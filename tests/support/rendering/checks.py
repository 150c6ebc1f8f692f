"""What must hold of a board in a situation; each check returns what is wrong."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.support.rendering.situations import LOST, Situation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.support.rendering.boards import Panel, ShownBoard

    Check = Callable[[ShownBoard, Situation], Iterator[str]]

OVERVIEW, FACTOR, FAULTY = "twilio-verify-overview", "twilio-verify-factor", "faulty"
GREYS = 24  # a colour is grey if its channels differ by at most this
_NOTHING_SAID = {"", "no data"}
# The factor that the Factor board is opened for: names with a meaning in regular expressions or strings.
_SELECTED = {
    Situation.HEALTHY: "C++ builder",
    Situation.FACTOR_LOST: LOST,
    Situation.API_DOWN: "a.b|c",
    Situation.EXPORTER_DEAD: 'say "hi"',
}
_STATUS = {
    Situation.HEALTHY: "✓ verified",
    Situation.FACTOR_LOST: "∅ not found",
    Situation.API_DOWN: "? unknown",
}


def variables_of(uid: str, situation: Situation) -> dict[str, str]:
    """Return the variables that a board is opened with."""
    return {"factor": _SELECTED[situation]} if uid in {FACTOR, FAULTY} and situation in _SELECTED else {}


def no_error(board: ShownBoard, _situation: Situation) -> Iterator[str]:
    """Nothing fails: the page, a query, a panel."""
    yield from board.errors
    yield from (f"{query['error']}: {query['expr']}" for query in board.queries if query.get("error"))
    yield from (
        f"{panel.title}: {panel.error or panel.state}"
        for panel in board.panels
        if panel.error or panel.state != "Done"
    )


def empty_cells_are_empty(board: ShownBoard, _situation: Situation) -> Iterator[str]:
    """What a panel says without data is in none of its cells and links."""
    messages = _messages(board.json)
    for panel in board.panels:
        said = messages.get(panel.title, set())
        cells = {cell for row in panel.rows for cell in row} | {link["text"] for link in panel.links}
        yield from (f"{panel.title}: a cell says {cell!r}" for cell in sorted(cells & said))


def known_zeros_are_said(board: ShownBoard, situation: Situation) -> Iterator[str]:
    """While all is well, every panel says what there is none of."""
    if situation is Situation.HEALTHY:
        for panel in board.panels:
            said = [panel.empty] if panel.empty is not None else [value["text"] for value in panel.values]
            yield from (f"{panel.title}: {text!r}" for text in said if text.lower() in _NOTHING_SAID)


def the_cause_is_first(board: ShownBoard, situation: Situation) -> Iterator[str]:
    """The first row names the cause: the API when it is down, the factor that is lost."""
    if board.uid not in {OVERVIEW, FAULTY}:
        return
    match situation:
        case Situation.FACTOR_LOST:
            for title in ("Alerts", "Factors"):
                yield from _first_row(board.panel(title), LOST)
            (first, *_) = board.panel("Status over time").lanes or [""]
            if LOST not in first:
                yield f"Status over time: {first!r} is first"
        case Situation.API_DOWN:
            yield from _first_row(board.panel("Alerts"), "TwilioVerifyAPIDown")
        case Situation.EXPORTER_DEAD:
            yield from _first_row(board.panel("Alerts"), "TwilioVerifyExporterDown")
        case Situation.MANY:
            yield from _first_row(board.panel("Factors"), "∅ not found")


def the_selected_factor_is_shown(board: ShownBoard, situation: Situation) -> Iterator[str]:
    """The Factor board shows the status of its factor, whatever characters its name has."""
    if board.uid in {FACTOR, FAULTY} and situation in _STATUS:
        texts = [value["text"] for value in board.panel("Status").values]
        if texts != [_STATUS[situation]]:
            yield f"Status: {texts} for {_SELECTED[situation]!r}"


def legends_are_complete(board: ShownBoard, _situation: Situation) -> Iterator[str]:
    """A legend shows all its entries."""
    yield from (f"{panel.title}: the legend is cut off" for panel in board.panels if panel.legend["clipped"])


def legend_colours_differ(board: ShownBoard, _situation: Situation) -> Iterator[str]:
    """No two entries of a legend have one colour."""
    for panel in board.panels:
        entries = panel.legend["entries"]
        for colour, count in Counter(entry["colour"] for entry in entries).items():
            if count > 1:
                labels = ", ".join(entry["label"] for entry in entries if entry["colour"] == colour)
                yield f"{panel.title}: {labels} are all {colour}"


def unknown_is_no_claim(board: ShownBoard, situation: Situation) -> Iterator[str]:
    """Without an exporter, a panel without data says that this is unknown, and is grey."""
    if situation is Situation.EXPORTER_DEAD:
        for panel in board.panels:
            if panel.kind == "stat" and not panel.values:
                yield f"{panel.title}: nothing is shown"
            if panel.kind == "stat" and not panel.frames:
                for value in panel.values:
                    if "unknown" not in value["text"].lower() or not _grey(value["colour"]):
                        yield f"{panel.title}: {value['text']!r} in {value['colour']}"


def _first_row(panel: Panel, text: str) -> Iterator[str]:
    first = panel.rows[0] if panel.rows else [panel.empty or ""]
    if text not in first:
        yield f"{panel.title}: the first row is {first}"


def _messages(board: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return what each panel says without data."""
    panels = [panel for row in board["panels"] for panel in (row, *row.get("panels", ()))]
    return {
        panel["title"]: {
            said for of in _defaults_and_overrides(panel.get("fieldConfig", {})) if (said := of.get("noValue"))
        }
        for panel in panels
    }


def _defaults_and_overrides(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield config.get("defaults", {})
    for override in config.get("overrides", ()):
        yield {of["id"]: of["value"] for of in override["properties"]}


def _grey(colour: str) -> bool:
    channels = [float(part) for part in colour[colour.index("(") + 1 : -1].split(",")][:3]
    return max(channels) - min(channels) <= GREYS


CHECKS: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        no_error,
        empty_cells_are_empty,
        known_zeros_are_said,
        the_cause_is_first,
        the_selected_factor_is_shown,
        legends_are_complete,
        legend_colours_differ,
        unknown_is_no_claim,
    )
}
