"""A board that does everything wrong that the checks look for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.rendering.checks import FAULTY
from tests.support.rendering.situations import Situation

if TYPE_CHECKING:
    from collections.abc import Mapping

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_EXISTS, _SINCE = "twilio_verify_factor_exists", "twilio_verify_factor_status_since_timestamp_seconds"
_PIXELS_OF_LEGEND = {"showLegend": True, "displayMode": "table", "placement": "bottom", "calcs": []}
_CODES = " or ".join(
    f'label_replace(vector({code}), "code", "{code}", "", "")' for code in (200, 404, 429, 500, 503)
)

# What each check must find, by situation.
FAULTS: Mapping[Situation, Mapping[str, str]] = {
    Situation.HEALTHY: {
        "no_error": "Broken: Panel status",
        "empty_cells_are_empty": "Factors: a cell says 'No factors'",
        "known_zeros_are_said": "Failures: 'No data'",
        "the_selected_factor_is_shown": "Status: ['not watched'] for 'C++ builder'",
        "legends_are_complete": "Codes: the legend is cut off",
        "legend_colours_differ": "Codes: 200, 404, 429, 500, 503 are all rgb(255, 0, 0)",
    },
    Situation.FACTOR_LOST: {"the_cause_is_first": "Factors: the first row is ['a.b|c'"},
    Situation.API_DOWN: {"the_cause_is_first": "Alerts: the first row is ['TwilioVerifyFetchErrorBudgetBurn'"},
    Situation.EXPORTER_DEAD: {"unknown_is_no_claim": "Last verified: 'never' in rgb(204, 204, 220)"},
    Situation.MANY: {"the_cause_is_first": "Factors: the first row is ['billing-admin-totp'"},
}


def faulty() -> dict[str, Any]:
    """Return the board's JSON."""
    panels = [
        _panel("Broken", "timeseries", ["sum("]),
        _panel("Factors", "table", [_EXISTS, _SINCE], "No factors", sort="factor"),
        _panel("Alerts", "table", ["ALERTS"], sort="alertname", descending=True),
        _panel("Status over time", "state-timeline", [_EXISTS]),
        _panel("Failures", "timeseries", ["increase(twilio_verify_fetch_failures_total[$__rate_interval]) > 0"]),
        _panel("Codes", "timeseries", [_CODES], colour={"mode": "fixed", "fixedColor": "#ff0000"}),
        _panel("Last verified", "stat", ["twilio_verify_factor_last_verified_timestamp_seconds > 1e12"], "never"),
        _panel("Status", "stat", ['twilio_verify_factor_verified{factor=~"$factor"}'], "not watched"),
    ]
    for number, panel in enumerate(panels):
        panel |= {"id": number + 1, "gridPos": {"x": 12 * (number % 2), "y": 6 * (number // 2), "w": 12, "h": 6}}
    return {
        "uid": FAULTY,
        "title": "Faulty",
        "time": {"from": "now-1h", "to": "now"},
        "graphTooltip": 0,
        "links": [],
        "annotations": {"list": []},
        "templating": {
            "list": [
                {"type": "datasource", "name": "datasource", "query": "prometheus"},
                {
                    "type": "query",
                    "name": "factor",
                    "datasource": _SOURCE,
                    "query": {"query": f"label_values({_EXISTS}, factor)", "refId": "A"},
                    "refresh": 2,
                },
            ]
        },
        "panels": panels,
    }


def _panel(
    title: str,
    kind: str,
    queries: list[str],
    none: str | None = None,
    *,
    sort: str = "",
    descending: bool = False,
    colour: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    form = "table" if kind == "table" else "time_series"
    legend = "{{code}}" if colour else ""
    return {
        "title": title,
        "type": kind,
        "datasource": _SOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": _SOURCE,
                "expr": query,
                "format": form,
                "instant": kind in {"table", "stat"},
                "legendFormat": legend,
            }
            for number, query in enumerate(queries)
        ],
        "options": {
            "showHeader": True,
            "sortBy": [{"displayName": sort, "desc": descending}] if sort else [],
            "legend": _PIXELS_OF_LEGEND,
            "reduceOptions": {"calcs": ["lastNotNull"]},
            "textMode": "value",
            "graphMode": "none",
        },
        "fieldConfig": {
            "defaults": {
                **({"noValue": none} if none else {}),
                "color": colour or {"mode": "thresholds"},
                "thresholds": {"mode": "absolute", "steps": [{"value": None, "color": "green"}]},
            },
            "overrides": [],
        },
        "transformations": [
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True, "__name__": True},
                    "indexByName": {"alertname": 0, "factor": 1},
                    "renameByName": {},
                },
            },
        ]
        if kind == "table"
        else [],
    }
