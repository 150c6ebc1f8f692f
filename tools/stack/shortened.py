"""The example files with shorter waits and other addresses, for trying them on one machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from exporter.config.values import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The waits of alerts and notifications. Query ranges stay unchanged, because they need enough samples.
_RULE_WAITS = ("for", "keep_firing_for")
_ROUTE_WAITS = ("group_wait", "group_interval", "repeat_interval")
_SHORTEST_MILLISECONDS = 100
_FIRST_WAIT = "group_wait"
_OUTLASTS_A_QUERY_SECONDS = 60.0
SHORTEST_GROUP_SECONDS = 1


def shortened_rules(text: str, times: float) -> str:
    """Return a rules file with the waits of alerts divided by ``times`` and groups evaluated every second."""
    rules: dict[str, Any] = yaml.safe_load(text)
    for group in rules["groups"]:
        group["interval"] = f"{SHORTEST_GROUP_SECONDS}s"
        for rule in group["rules"]:
            _shorten(rule, _RULE_WAITS, times)
    return _text(rules)


def shortened_routes(text: str, times: float, *, outlast_queries: bool = False) -> str:
    """Return an Alertmanager configuration with the waits of notifications divided by ``times``.

    A group_wait of minutes exists to outlast the range of a query, and ranges are not shortened: with
    ``outlast_queries`` it stays unchanged. That is unnecessary if the problem is older than the oldest sample.
    """
    config: dict[str, Any] = yaml.safe_load(text)
    for route in _routes(config["route"]):
        stays = outlast_queries and parse_duration(route.get(_FIRST_WAIT, "0s")) > _OUTLASTS_A_QUERY_SECONDS
        _shorten(route, tuple(key for key in _ROUTE_WAITS if not (stays and key == _FIRST_WAIT)), times)
    return _text(config)


def receivers_at(text: str, folder: Path, url: str) -> str:
    """Return an Alertmanager configuration whose receivers are webhooks at ``url``, with their names as paths.

    ``folder`` is the folder of the original file, for its templates.
    """
    config: dict[str, Any] = yaml.safe_load(text)
    config["templates"] = [str(folder / name) for name in config.get("templates", ())]
    config["receivers"] = [
        {
            "name": receiver["name"],
            "webhook_configs": [{"url": f"{url}/{receiver['name']}", "send_resolved": True}],
        }
        for receiver in config["receivers"]
    ]
    return _text(config)


def scraping(text: str, *, targets: dict[str, list[str]], alertmanager: str, rules: Path, every: str) -> str:
    """Return a Prometheus configuration that scrapes these targets, by job, with the settings of its only job.

    ``alertmanager`` is host:port, ``rules`` the rules file, ``every`` the scrape and evaluation interval.
    """
    config: dict[str, Any] = yaml.safe_load(text)
    (original,) = config["scrape_configs"]
    config["global"] |= {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every}
    config["rule_files"] = [str(rules)]
    (alertmanagers,) = config["alerting"]["alertmanagers"]
    alertmanagers["static_configs"] = [{"targets": [alertmanager]}]
    config["scrape_configs"] = [
        original | {"job_name": job, "static_configs": [{"targets": addresses}]}
        for job, addresses in targets.items()
    ]
    return _text(config)


def job_of(text: str) -> str:
    """Return the name of the only job in a Prometheus configuration."""
    (original,) = yaml.safe_load(text)["scrape_configs"]
    name: str = original["job_name"]
    return name


def _routes(route: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield route
    for child in route.get("routes", ()):
        yield from _routes(child)


def _shorten(holder: dict[str, Any], keys: tuple[str, ...], times: float) -> None:
    for key in keys:
        if key in holder:
            seconds = parse_duration(holder[key])
            if seconds:
                holder[key] = f"{max(_SHORTEST_MILLISECONDS, round(seconds * 1000 / times))}ms"


def _text(data: object) -> str:
    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=1000)
    return text
