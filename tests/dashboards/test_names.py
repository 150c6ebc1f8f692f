"""Whatever characters a name has, a selection matches exactly that name in every query, annotation and variable."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import promql_parser
import pytest

from tests.support.dashboards.files import VARIABLE, board, boards, events, targets, variables
from tests.support.dashboards.interpolation import interpolated, with_label, without_backquotes
from tests.support.promql import matchers, selectors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.dashboards.interpolation import Selection

OVERVIEW, FACTOR = "twilio-verify-overview", "twilio-verify-factor"
NAMES = (
    "C++ builder",
    "a.b|c",
    'say "hi"',
    "payments.oncall",
    "payments-oncall",
    "paymentsXoncall",
    "it's (1) [x] {2} ^$ *? a/b",
    "100% 日本",
    ".+",
)
# On the Overview, label filters rule out the format that is right for backslashes; on Factor, backquotes are.
ALSO = {OVERVIEW: ("a`b",), FACTOR: ("CORP\\service", "odd \\ (日本)")}
LABELS = {"job": "job", "instance": "instance", "account": "account", "service": "service_sid", "factor": "factor"}
# Several values of each variable, and for each a value that it would match as a regular expression.
VALUES = {
    "job": ("verify/exporter (a)", "verify.exporter"),
    "instance": ("10.0.0.1:10069", "10.0.0.2:10069", "10a0.0.1:10069"),
    "account": ("main", "main-2"),
    "service": (f"VA{'0' * 32}", f"VA{'1' * 32}"),
}
every_toggle = pytest.mark.parametrize("special", [False, True])


def queries(of: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each query of a dashboard with its place: of panels, annotations and variables."""
    yield from ((str(target), target.expression) for target in targets(of))
    yield from ((f"{of['uid']}: {event['name']}", event["expr"]) for event in events(of))
    for name, variable in variables(of).items():
        if variable["type"] == "query":
            yield (
                f"{of['uid']}: {name}",
                variable["query"]["query"].removeprefix("label_values(").rpartition(",")[0],
            )


def matched(expression: str, label: str, values: tuple[str, ...]) -> Iterator[set[str]]:
    """Yield for each selector that narrows a label which of these values it matches."""
    for selector in selectors(promql_parser.parse(without_backquotes(expression))):
        every = matchers(selector).get(label, [])
        # A label that must not be empty is no selection.
        conditions = [one for one in every if one[0] != "MatchOp.NotRe" and one != ("MatchOp.NotEqual", "")]
        if conditions:
            yield {one for one in values if all(_matches(op, text, one) for op, text in conditions)}


def _matches(operator: str, text: str, value: str) -> bool:
    if operator == "MatchOp.Equal":
        return text == value
    assert operator == "MatchOp.Re", operator
    return re.fullmatch(text, value) is not None


@every_toggle
@pytest.mark.parametrize("uid", [OVERVIEW, FACTOR])
def test_exactly_the_selected_factor_is_matched(uid: str, special: bool) -> None:
    of, names, seen = board(uid), NAMES + ALSO[uid], 0
    for name in names:
        for place, query in queries(of):
            expression = interpolated(query, variables(of), {"factor": name}, special=special)
            for found in matched(expression, "factor", names):
                assert found == {name}, f"{place}: {expression}"
                seen += 1
    assert seen > 20 * len(names)


@every_toggle
def test_exactly_the_selected_values_are_matched(special: bool) -> None:
    seen: set[tuple[str, str]] = set()
    for of in boards():
        factor = {} if variables(of).get("factor", {}).get("includeAll", True) else {"factor": NAMES[0]}
        for name, values in VALUES.items():
            for choice in (list(values[:1]), list(values[:2])):
                for place, query in queries(of):
                    chosen: dict[str, Selection] = {**factor, name: choice}
                    expression = interpolated(query, variables(of), chosen, special=special)
                    for found in matched(expression, LABELS[name], values):
                        assert found == set(choice), f"{place}: {expression}"
                        seen.add((of["uid"], name))
    assert seen == {(of["uid"], name) for of in boards() for name in VALUES}


@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
def test_label_filters_keep_every_selection(old: bool) -> None:
    for of in boards():
        if "filters" not in variables(of):
            continue
        for choice in ({}, *({"factor": name} for name in NAMES if not (old and '"' in name))):
            for place, query in queries(of):
                expression = with_label(interpolated(query, variables(of), choice), "team", "payments", old=old)
                for label in LABELS.values():
                    for found in matched(expression, label, NAMES):
                        expected = set(choice.values()) if label == "factor" and choice else set(NAMES)
                        assert found == expected, f"{place}: {expression}"


def test_exact_formats_are_used_without_label_filters_only() -> None:
    assert "filters" in variables(board(OVERVIEW))
    for of in boards():
        formats = {found["format"] for _, query in queries(of) for found in VARIABLE.finditer(query)}
        assert formats <= ({None, "doublequote"} if "filters" in variables(of) else {None, "regex"}), of["uid"]


def test_other_formats_do_not_match_every_name() -> None:
    factor = {"factor": {"type": "query", "multi": False}}
    several = {"factor": {"type": "query", "multi": True, "includeAll": True}}
    (found,) = matched(interpolated('up{factor=~"$factor"}', factor, {"factor": "a.b|c"}), "factor", NAMES)
    assert found == set()
    with pytest.raises(ValueError, match="invalid promql query"):
        promql_parser.parse(interpolated('up{factor=~"$factor"}', several, {"factor": 'say "hi"'}))
    exact = interpolated("up{factor=~`${factor:regex}`}", factor, {"factor": "C++ builder"})
    assert list(matched(exact, "factor", NAMES)) == [{"C++ builder"}]
    with pytest.raises(ValueError, match="escape"):
        promql_parser.parse(with_label(exact, "team", "payments"))
    of_all = {"job": {"type": "query", "includeAll": True, "allValue": ".+"}}
    everything = interpolated("up{job=~`$job`}", of_all, {})
    assert with_label(everything, "team", "payments", old=True) == 'up{job=~"`.+`", team="payments"}'
