"""The type of data source that the dashboards query: Prometheus, or a plugin that speaks its language."""

from __future__ import annotations

from typing import Any

from grafana.boards.variables import SOURCE

PROMETHEUS = "prometheus"


def with_source_of(tree: Any, plugin: str) -> Any:
    """Return a dashboard whose variable selects data sources of this plugin id, and whose references name it."""
    match tree:
        case {"type": "datasource", "query": _, **rest}:
            return {**rest, "type": "datasource", "query": plugin}
        case {"uid": SOURCE.uid, **rest}:
            return {**rest, "uid": SOURCE.uid, "type": plugin}
        case dict():
            return {key: with_source_of(value, plugin) for key, value in tree.items()}
        case list():
            return [with_source_of(value, plugin) for value in tree]
    return tree
