"""Mutants of the rules; a mutant that passes all cases shows an untested part of its rule."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import promql_parser as promql

from grafana.rules.model import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

_AGGREGATIONS = {"max": "min", "min": "max", "sum": "avg", "avg": "sum", "count": "max"}
_OPERATORS = {
    "==": ("!=",),
    "!=": ("==", "<", ">"),
    ">": ("<", ">="),
    "<": (">", "<="),
    ">=": ("<", ">"),
    "and": ("unless",),
    "unless": ("and",),
    "or": ("and",),
    "/": ("*",),
    "*": ("/",),
    "-": ("+",),
    "+": ("-",),
}
_FUNCTIONS = {
    "last_over_time": "min_over_time",
    "max_over_time": "last_over_time",
    "increase": "delta",
    "rate": "delta",
    "changes": "count_over_time",
    "count_over_time": "sum_over_time",
    "histogram_count": "histogram_sum",
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """A rule with one deliberate mistake."""

    rule_name: str
    what: str
    rule: dict[str, Any]


def mutants(rule: dict[str, Any]) -> Iterator[Mutant]:
    """Yield every mutant of a rule, given as in a rules file."""
    name = rule.get("alert") or rule["record"]
    whole = promql.parse(rule["expr"])
    for what, expr in _expressions(whole):
        yield Mutant(name, what, rule | {"expr": expr})
    for key in ("for", "keep_firing_for"):
        if key in rule:
            without = {field: value for field, value in rule.items() if field != key}
            yield Mutant(name, f"no {key}", without)
            minutes = int(promql.parse_duration(rule[key]).total_seconds() // 60)
            # The end of keep_firing_for may differ by a minute between major versions of Prometheus.
            step = 1 if key == "for" else 2
            for other in (minutes - step, minutes + step):
                yield Mutant(name, f"{key}: {other}m", rule | {key: f"{other}m"})
    if "alert" in rule:
        yield Mutant(name, "another severity", rule | {"labels": {"severity": "other"}})
        for annotation, text in rule["annotations"].items():
            for other in (text + ".", text.replace("{{", "{{/* */}}{{ 1 }}{{", 1)):
                if other != text:
                    changed = copy.deepcopy(rule)
                    changed["annotations"][annotation] = other
                    yield Mutant(name, f"{annotation}: {other}", changed)


def _expressions(node: promql.Expr) -> Iterator[tuple[str, str]]:
    """Yield each mistake with the whole expression that has it."""
    match node:
        case promql.ParenExpr():
            for what, text in _expressions(node.expr):
                yield what, f"({text})"
        case promql.NumberLiteral():
            yield from ((f"{node} → {other:g}", f"{other:.12g}") for other in _other_numbers(node.val))
        case promql.BinaryExpr():
            yield from _binary_mutants(node)
        case promql.AggregateExpr():
            yield from _aggregation_mutants(node)
        case promql.Call():
            yield from _call_mutants(node)
        case promql.MatrixSelector():
            yield from _range_mutants(node)
        case promql.SubqueryExpr():
            yield from _subquery_mutants(node)
        case promql.VectorSelector():
            yield from _selector_mutants(node)
        case _:
            raise TypeError(f"no mutants of {type(node).__name__} are known: {node}")


def _other_numbers(number: float) -> Iterator[float]:
    if number == 0:
        yield 2
    elif number < 10 and number.is_integer():
        yield from (number - 1, number + 1)
    else:
        yield from (number * 0.9, number * 1.1)


def _binary_mutants(node: promql.BinaryExpr) -> Iterator[tuple[str, str]]:
    left, right = f"({node.lhs})", f"({node.rhs})"
    operator = str(node.op)
    modifier = str(node.modifier or "").strip()
    full = f"{operator} {modifier}"
    for what, text in _expressions(node.lhs):
        yield what, f"({text}) {full} {right}"
    for what, text in _expressions(node.rhs):
        yield what, f"{left} {full} ({text})"
    for other in _OPERATORS[operator]:
        if other in (">", ">=", "<=") and other[0] == operator[0] and _extrapolated(node):
            continue
        yield f"{operator} → {other}: {node}", f"{left} {other} {modifier} {right}"
    if modifier:
        yield f"no {modifier}", f"{left} {operator} {right}"
    for side in (node.lhs, node.rhs):
        if not _scalar(side):
            yield f"only {side} of {node}", str(side)


def _extrapolated(node: promql.BinaryExpr) -> bool:
    """Return whether a value comes from a rate, so that it is never exactly at its threshold."""
    return any(word in str(node.lhs) for word in ("increase(", "rate(", ":ratio_rate"))


def _scalar(node: promql.Expr) -> bool:
    return isinstance(node, promql.NumberLiteral) or str(node) == "time()"


def _aggregation_mutants(node: promql.AggregateExpr) -> Iterator[tuple[str, str]]:
    operator, labels = str(node.op), list(node.modifier.labels if node.modifier else ())

    by = node.modifier is not None and node.modifier.type == promql.AggModifierType.By

    def text(operator: str, labels: list[str], inner: str) -> str:
        return f"{operator} {'by' if by else 'without'} ({', '.join(labels)}) ({inner})"

    for what, inner in _expressions(node.expr):
        yield what, text(operator, labels, inner)
    yield f"not aggregated: {node}", f"({node.expr})"
    if operator in _AGGREGATIONS:
        other = _AGGREGATIONS[operator]
        yield f"{operator} → {other}: {node}", text(other, labels, str(node.expr))
    for label in _kept(node, labels):
        yield (
            f"{label} is {'left out' if by else 'kept'}: {node}",
            text(operator, [each for each in labels if each != label], str(node.expr)),
        )


def _kept(node: promql.AggregateExpr, labels: list[str]) -> Iterator[str]:
    """Yield the labels to keep by mistake; of the default ones, a different one at each place."""
    default = [label for label in labels if label in Settings().dropped]
    yield from (label for label in labels if label not in default)
    if default:
        yield default[len(str(node)) % len(default)]


def _call_mutants(node: promql.Call) -> Iterator[tuple[str, str]]:
    function = node.func.name
    if not node.args or function == "vector":  # only its presence matters
        return
    arguments = [str(argument) for argument in node.args]
    for place, argument in enumerate(node.args):
        for what, inner in _expressions(argument):
            # A quantile is the same of the sum of histograms and of their average.
            if function != "histogram_quantile" or not what.startswith("sum → avg"):
                yield what, f"{function}({', '.join([*arguments[:place], inner, *arguments[place + 1 :]])})"
    if function in _FUNCTIONS:
        other = _FUNCTIONS[function]
        yield f"{function} → {other}: {node}", f"{other}({', '.join(arguments)})"
    if function in ("last_over_time", "present_over_time"):
        yield f"as it is now: {node}", str(node.args[0].vector_selector)
    if function == "absent":
        yield f"present: {node}", arguments[0]


def _range_mutants(node: promql.MatrixSelector) -> Iterator[tuple[str, str]]:
    selector, offset = node.vector_selector, node.vector_selector.offset
    now = f"{selector.name}{{{', '.join(map(str, selector.matchers.matchers))}}}"
    shift = "" if offset is None else f" offset {_duration(offset)}"
    for what, inner in _expressions(selector):
        yield what, f"{inner}[{_duration(node.range)}]{shift}"
    for other in (node.range / 2, node.range * 2):
        yield f"[{_duration(other)}] in {node}", f"{now}[{_duration(other)}]{shift}"
    for other in () if offset is None else (offset * 0.9, offset * 1.1):
        yield f"offset {_duration(other)} in {node}", f"{now}[{_duration(node.range)}] offset {_duration(other)}"


def _subquery_mutants(node: promql.SubqueryExpr) -> Iterator[tuple[str, str]]:
    def text(inner: str, range_: timedelta, step: timedelta, offset: timedelta) -> str:
        return f"{inner}[{_duration(range_)}:{_duration(step)}] offset {_duration(offset)}"

    inner, range_, step, offset = str(node.expr), node.range, node.step, node.offset
    assert isinstance(range_, timedelta)
    assert isinstance(step, timedelta)
    assert isinstance(offset, timedelta)
    for what, other_inner in _expressions(node.expr):
        yield what, text(other_inner, range_, step, offset)
    for other in (range_ / 2, range_ * 2):
        yield f"[{_duration(other)}:] in {node}", text(inner, other, step, offset)
    for other in (step / 2, step * 2):
        yield f"[:{_duration(other)}] in {node}", text(inner, range_, other, offset)
    for other in (offset * 0.9, offset * 1.1):
        yield f"offset {_duration(other)} in {node}", text(inner, range_, step, other)


def _duration(delta: timedelta) -> str:
    return f"{int(delta.total_seconds())}s"


def _selector_mutants(node: promql.VectorSelector) -> Iterator[tuple[str, str]]:
    matchers = node.matchers.matchers
    for left_out in matchers:
        kept = ", ".join(str(each) for each in matchers if each is not left_out)
        yield f"without {left_out}: {node}", f"{node.name}{{{kept}}}"
        alternatives = left_out.value.split("|")
        if len(alternatives) > 1:
            for alternative in alternatives:
                fewer = "|".join(each for each in alternatives if each != alternative)
                others = ", ".join(
                    [kept, f'{left_out.name}=~"{fewer}"'] if kept else [f'{left_out.name}=~"{fewer}"']
                )
                yield f"without {alternative}: {node}", f"{node.name}{{{others}}}"
