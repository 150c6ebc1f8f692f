"""How Grafana fills in the variables of a query for Prometheus, and adds label filters to it.

The formats are those of formatRegistry.ts in Grafana Scenes; escaping and label filters those of escaping.ts,
add_label_to_query.ts and querybuilder/parsing.ts in Grafana's Prometheus data source, versions 10 to 13.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.support.dashboards.files import GLOBALS, VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Selection = str | list[str]

_STRING = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|`[^`]*`"
_SELECTOR = re.compile(rf"\{{((?:{_STRING}|[^{{}}\"'`])*)\}}")
_MATCHER = re.compile(rf"(\w+) *(=~|!~|!=|=) *({_STRING})")


def interpolated(
    text: str, variables: Mapping[str, Mapping[str, Any]], chosen: Mapping[str, Selection], *, special: bool = False
) -> str:
    """Return a text with the values of its variables; those that aren't chosen are All, or Grafana's own.

    ``special`` is Grafana's feature toggle prometheusSpecialCharsInLabelValues.
    """

    def value(found: re.Match[str]) -> str:
        name, form = found["braced"] or found["plain"], found["format"]
        if name in GLOBALS:
            return GLOBALS[name]
        variable = variables[name]
        if name in chosen:
            return _formatted(chosen[name], form, variable, special=special)
        if variable["type"] == "custom":
            return str(variable["current"]["value"])
        assert variable.get("includeAll"), f"{name}: nothing is chosen"
        # The value of All is not formatted.
        return str(variable["allValue"]) if "allValue" in variable else "()"

    return VARIABLE.sub(value, text)


def _formatted(value: Selection, form: str | None, variable: Mapping[str, Any], *, special: bool) -> str:
    match form:
        case "regex":
            return _alternatives(value, _regex)
        case "doublequote":
            values = [value] if isinstance(value, str) else value
            return ",".join('"{}"'.format(one.replace('"', '\\"')) for one in values)
        case None if variable.get("multi") or variable.get("includeAll"):
            return _alternatives(value, lambda one: _regex_in_quotes(one, special=special))
        case None if isinstance(value, str):
            return _in_quotes(value, special=special)
    raise AssertionError(f"format {form} of {value} is not implemented")


def _alternatives(value: Selection, escaped: Callable[[str], str]) -> str:
    if isinstance(value, str):
        return escaped(value)
    values = [escaped(one) for one in value]
    return values[0] if len(values) == 1 else f"({'|'.join(values)})"


def _regex(value: str) -> str:
    return re.sub(r"[\\^$*+?.()|\[\]{}/]", r"\\\g<0>", value)


def _regex_in_quotes(value: str, *, special: bool) -> str:
    escaped = value.replace("\\", "\\\\\\\\")
    if special:
        escaped = escaped.replace('"', '\\\\\\"')
    return re.sub(r"[$^*{}\[\]+?.()|]", r"\\\\\g<0>", escaped)


def _in_quotes(value: str, *, special: bool) -> str:
    escaped = value.replace("\\", "\\\\")
    return escaped.replace('"', '\\"') if special else escaped.replace("'", "\\\\'")


def with_label(expression: str, label: str, value: str, *, old: bool = False) -> str:
    """Return an expression with a label filter: Grafana writes all matchers again, in double quotes.

    ``old`` is how Grafana did that before version 11.2.
    """

    def literal(text: str) -> str:
        return text.replace('"', "") if old else re.sub("^[\"'`]|[\"'`]$", "", text)

    def selector(found: re.Match[str]) -> str:
        matchers = [f'{name}{operator}"{literal(text)}"' for name, operator, text in _MATCHER.findall(found[1])]
        return "{" + ", ".join((*matchers, f'{label}="{value}"')) + "}"

    return _SELECTOR.sub(selector, expression)


def without_backquotes(expression: str) -> str:
    """Return an expression with its strings in backquotes written in double quotes, for promql_parser.

    In Prometheus, a backslash in backquotes is a backslash; that parser takes it for an escape.
    """

    def string(found: re.Match[str]) -> str:
        text = found[0]
        if not text.startswith("`"):
            return text
        return '"{}"'.format(text[1:-1].replace("\\", "\\\\").replace('"', '\\"'))

    return re.sub(_STRING, string, expression)
