"""The dashboard files: generated, and valid for Grafana in ids, grid, links, variables and colours."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from exporter.exposition.catalogue import QUEUE_LENGTH
from exporter.polling.record import STATUSES
from exporter.web.views import STATE_LABELS
from grafana.boards import __main__ as generator
from grafana.boards import board as assembly
from grafana.boards.__main__ import BOARDS
from grafana.boards.board import Board, Line, Section, render
from grafana.boards.health import exporters_up
from grafana.boards.promql import quantile
from grafana.boards.states import STATES
from grafana.jsonnet.__main__ import FOLDER as MIXIN
from tests.support.dashboards.files import (
    FOLDER,
    GLOBALS,
    PATHS,
    VARIABLE,
    board,
    boards,
    panels,
    strings,
    variables,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

UIDS = ("twilio-verify-exporter", "twilio-verify-factor", "twilio-verify-overview")
GENERATE = "run: python -m grafana.boards"
ROOT = Path(__file__).parents[2]
every_board = pytest.mark.parametrize("uid", UIDS)


def test_the_files_are_up_to_date() -> None:
    assert {path.name: path.read_text(encoding="utf-8") for path in PATHS} == {
        item.file_name: render(item) for item in BOARDS
    }, GENERATE


def test_the_copies_of_the_mixin_are_up_to_date() -> None:
    copies = {path.name: path.read_text(encoding="utf-8") for path in (MIXIN / "dashboards").iterdir()}
    assert copies == {path.name: path.read_text(encoding="utf-8") for path in PATHS}, (
        "run: python -m grafana.jsonnet"
    )


def test_the_generator_writes_to_a_given_folder(tmp_path: Path) -> None:
    generator.main(["--output", str(tmp_path / "new")])
    written = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "new").iterdir()}
    assert written == {path.name: path.read_text(encoding="utf-8") for path in PATHS}


def test_the_output_is_deterministic() -> None:
    assert [render(item) for item in BOARDS] == [render(item) for item in BOARDS]


def test_uids_never_change() -> None:
    assert tuple(sorted(item["uid"] for item in boards())) == UIDS
    assert [path.stem for path in PATHS] == list(UIDS)
    assert all(re.fullmatch(r"[a-z0-9-]{1,40}", uid) for uid in UIDS)
    assert len({item["title"] for item in boards()}) == len(UIDS)


@every_board
def test_grafana_10_to_13_can_load_it(uid: str) -> None:
    tree = board(uid)
    assert tree["id"] is None
    assert tree["schemaVersion"] <= 41
    assert "version" not in tree
    assert "__inputs" not in tree
    assert tree["editable"] is False
    assert {panel["type"] for panel in panels(tree)} <= {"stat", "timeseries", "table", "heatmap", "state-timeline"}
    assert "python -m grafana.boards" in tree["description"]


def through_the_models(tree: object) -> object:
    """Return a dashboard after a round trip through Grafana's models."""
    register_default_plugins()
    return json.loads(JSONEncoder().encode(Dashboard.from_json(json.loads(json.dumps(tree)))))


@every_board
def test_grafanas_models_know_every_field(uid: str) -> None:
    tree = dict(board(uid))
    # The models lack annotation texts and times, and null ids: see grafana/boards/variables.py.
    assert tree.pop("annotations")["list"]
    assert tree.pop("id") is None
    assert lost(tree, through_the_models(tree)) == []


def test_unknown_fields_are_detected() -> None:
    tree = {key: value for key, value in json.loads(json.dumps(board(UIDS[0]))).items() if key != "annotations"}
    panel = next(item for item in tree["panels"] if item["type"] == "timeseries")
    panel["options"]["made_up"] = 1
    panel["fieldConfig"]["defaults"]["custom"]["made_up"] = 2
    panel["targets"][0]["made_up"] = 3
    tree["templating"]["list"][0]["made_up"] = 4
    assert {line.rpartition(".")[2] for line in lost(tree, through_the_models(tree))} == {
        f"made_up: {number} became None" for number in (1, 2, 3, 4)
    }


def lost(tree: object, known: object, place: str = "") -> list[str]:
    """Return the values of a tree that the other one lacks."""
    if isinstance(tree, dict) and isinstance(known, dict):
        return [line for key, value in tree.items() for line in lost(value, known.get(key), f"{place}.{key}")]
    if isinstance(tree, list) and isinstance(known, list) and len(tree) == len(known):
        return [
            line
            for number, (one, other) in enumerate(zip(tree, known, strict=True))
            for line in lost(one, other, f"{place}[{number}]")
        ]
    return [] if tree == known else [f"{place}: {tree!r} became {known!r}"]


def test_lost_values_are_reported() -> None:
    assert lost({"a": [{"b": 1, "c": 2}]}, {"a": [{"b": 1}]}) == [".a[0].c: 2 became None"]


@every_board
def test_panel_ids_and_titles_are_unique(uid: str) -> None:
    tree = board(uid)
    every = [*panels(tree), *(item for item in tree["panels"] if item["type"] == "row")]
    assert [n for n, count in Counter(panel["id"] for panel in every).items() if count > 1] == []
    assert [t for t, count in Counter(panel["title"] for panel in every).items() if count > 1] == []
    assert all(0 < panel["id"] < 2**31 for panel in every)


@every_board
def test_panels_fill_the_grid_without_overlap(uid: str) -> None:
    every = board(uid)["panels"]
    assert filled_lines(every) == range(max(panel["gridPos"]["y"] for panel in every) + every[-1]["gridPos"]["h"])
    for row in every:
        if row.get("panels"):
            assert row["collapsed"]
            assert filled_lines(row["panels"]).start == row["gridPos"]["y"] + 1


def filled_lines(some: list[Any]) -> range:
    """Return the lines of the grid that panels fill without overlap."""
    taken: Counter[tuple[int, int]] = Counter()
    for panel in some:
        place = panel["gridPos"]
        taken.update(
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        )
    lines = range(min(y for _, y in taken), max(y for _, y in taken) + 1)
    assert set(taken) == {(x, y) for x in range(24) for y in lines}
    assert set(taken.values()) == {1}
    return lines


def test_panels_must_divide_the_width() -> None:
    line = Line(4, (exporters_up(),) * 5)
    with pytest.raises(ValueError, match=r"^new: 'Why\?': 24 columns are not divisible by 5 panels$"):
        render(Board("new", "New", "", (), (Section("Why?", (line,)),)))


def test_quantiles_need_a_histogram() -> None:
    with pytest.raises(ValueError, match="queue_length is a gauge; quantiles need a histogram"):
        quantile(0.5, QUEUE_LENGTH)


# Variables


@every_board
def test_variables_are_defined_and_used(uid: str) -> None:
    tree = board(uid)
    used = {
        found["braced"] or found["plain"] for text in strings(tree) for found in VARIABLE.finditer(text)
    } - GLOBALS.keys()
    used = {name for name in used if not name.startswith("__")}
    assert used == set(variables(tree)) - {"filters"}


def test_each_dashboard_has_its_variables() -> None:
    common = ["datasource", "job", "instance", "account", "service"]
    assert {tree["uid"]: list(variables(tree)) for tree in boards()} == {
        "twilio-verify-exporter": common,
        "twilio-verify-factor": [*common, "factor"],
        "twilio-verify-overview": [*common, "factor", "recorded", "rows", "filters"],
    }
    of_all, of_one = (variables(board(f"twilio-verify-{name}"))["factor"] for name in ("overview", "factor"))
    assert (of_all["multi"], of_all["includeAll"], of_all["allValue"]) == (False, True, '~".+"')
    assert (of_one["multi"], of_one["includeAll"]) == (False, False)
    assert variables(board("twilio-verify-overview"))["filters"]["type"] == "adhoc"


@every_board
def test_no_site_specific_selection_is_saved(uid: str) -> None:
    chosen = {
        name: item["current"]["value"]
        for name, item in variables(board(uid)).items()
        if item.get("current", {}).get("value") is not None
    }
    assert {name: value for name, value in chosen.items() if value not in (["$__all"], "$__all")} in (
        {},
        {"rows": "100"},
    )


@every_board
def test_annotations_have_a_title_and_a_text(uid: str) -> None:
    for item in board(uid)["annotations"]["list"]:
        assert item["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert item["titleFormat"]
        assert item["textFormat"]


# No meaning by colour alone, and no personal data


def mappings(panel: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the value mappings of a panel and of its columns."""
    config = panel["fieldConfig"]
    found = list(config["defaults"].get("mappings", []))
    for override in config["overrides"]:
        found += [item for rule in override["properties"] if rule["id"] == "mappings" for item in rule["value"]]
    return found


def results(panel: Mapping[str, Any]) -> list[Mapping[str, str]]:
    """Return the texts and colours for the values of a panel, and for no value."""
    return [
        result
        for mapping in mappings(panel)
        for result in (
            [mapping["options"]["result"]] if mapping["type"] == "special" else mapping["options"].values()
        )
    ]


def test_every_colour_comes_with_a_word_or_a_number() -> None:
    for tree in boards():
        for panel in panels(tree):
            assert all(result["text"] for result in results(panel)), panel["title"]
            if panel["type"] == "state-timeline":
                assert mappings(panel), panel["title"]
                assert panel["options"]["showValue"] == "auto"
                assert panel["options"]["legend"]["showLegend"]
            if panel["type"] == "stat":
                assert panel["options"]["textMode"] in {"value", "auto", "name"}, panel["title"]


def test_a_text_has_the_same_colour_everywhere() -> None:
    seen: dict[str, set[str]] = {}
    for tree in boards():
        for panel in panels(tree):
            for result in results(panel):
                seen.setdefault(result["text"], set()).add(result["color"])
    assert {word: colours for word, colours in seen.items() if len(colours) > 1} == {}


def test_status_texts_are_those_of_the_status_page() -> None:
    assert {state.text for state in STATES} == {
        f"{STATE_LABELS[status].mark} {STATE_LABELS[status].text}" for status in STATUSES
    }


def test_no_personal_data_is_shown() -> None:
    for tree in boards():
        for panel in panels(tree):
            if any("factor_info" in query["expr"] for query in panel["targets"]):
                summed = all("max by" in query["expr"] for query in panel["targets"] if "_info" in query["expr"])
                assert summed or panel["transformations"][1]["options"]["excludeByName"]["identity"]
        shown = json.dumps({**tree, "description": ""})
        assert re.findall(r"friendly_name|notification_token|\{\{identity\}\}|by \([^)]*identity", shown) == []


def test_tag_and_uids_are_public_constants() -> None:
    assert {assembly.OVERVIEW, assembly.FACTOR, assembly.EXPORTER} == set(UIDS)
    assert all(assembly.TAG in tree["tags"] for tree in boards())
    assert FOLDER.name == "dashboards"
