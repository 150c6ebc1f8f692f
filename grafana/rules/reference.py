"""The generated tables of docs/alerts.md."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from grafana.rules.render import groups, optional_groups

if TYPE_CHECKING:
    from collections.abc import Iterator

    from grafana.rules.model import Settings

_WRITTEN = re.compile(r"(<!-- written by python -m grafana\.rules -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str, settings: Settings) -> str:
    """Return the page with its two tables, alerts and recorded series, filled in."""
    tables = iter(("\n".join(_alerts(settings)), "\n".join(_recordings(settings))))
    return _WRITTEN.sub(lambda match: f"{match[1]}{next(tables)}\n{match[2]}", page)


def _alerts(settings: Settings) -> Iterator[str]:
    yield "| alert | severity | condition | for |"
    yield "|---|---|---|---|"
    for group in (*groups(settings), *optional_groups(settings)):
        for alert in group.alerts:
            page = f"[{alert.full_name}](runbooks/{alert.full_name}.md)"
            yield f"| {page} | {alert.severity} | {alert.when} | {alert.pending or 'immediately'} |"


def _recordings(settings: Settings) -> Iterator[str]:
    yield "| series | meaning |"
    yield "|---|---|"
    for group in groups(settings):
        for recording in group.recordings:
            yield f"| `{recording.record}` | {recording.meaning} |"
