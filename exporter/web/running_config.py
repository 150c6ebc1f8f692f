"""``/config``: the applied configuration as TOML, flags and environment included; unlisted keys are redacted."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web

from exporter.config.last_good import FILES
from exporter.config.tree import HTTP, Key, Table, settings_tree
from exporter.config.values import format_duration
from exporter.config.watchlist import source_place
from exporter.logs.output import REDACTED
from exporter.web.formatting import format_iso

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exporter.config import Config, HttpSource
    from exporter.watched import WatchedEntity, WatchedFactor, WatchedService
    from exporter.web.exporter_view import ExporterView

MOST_ENTRIES = 1000

SHOWN = frozenset(
    {
        "web.listen_address",
        "web.telemetry_path",
        "web.health_listen_address",
        "web.config_file",
        "web.enable_lifecycle",
        "web.enable_probe",
        "web.allowed_hosts",
        "web.external_links",
        "log.level",
        "log.format",
        "polling.interval",
        "polling.unverified_interval",
        "polling.unverified_window",
        "polling.not_found_interval",
        "polling.discovery_interval",
        "polling.forget_after",
        "polling.timeout",
        "polling.max_attempts",
        "polling.stale_after",
        "polling.shutdown_timeout",
        "accounts.NAME.password_file",
        "accounts.NAME.oauth.client_secret_file",
        "accounts.NAME.oauth.token_url",
        "accounts.NAME.base_url",
        "accounts.NAME.max_concurrency",
        "accounts.NAME.requests_per_second",
        "accounts.NAME.ca_file",
        "factors[].name",
        "factors[].account",
        "factors[].service_sid",
        "factors[].factor_sid",
        "factors[].interval",
        "factors[].paused",
        "factors[].labels",
        "entities[].name",
        "entities[].account",
        "entities[].service_sid",
        "entities[].labels",
        "services[].name",
        "services[].account",
        "services[].service_sid",
        "services[].factor_types",
        "services[].max_entities",
        "services[].labels",
        "watchlist.files",
        "watchlist.http[].name",
        "watchlist.http[].url",
        "watchlist.http[].refresh_interval",
        "watchlist.http[].timeout",
        "watchlist.http[].bearer_token_file",
        "watchlist.http[].password_file",
        "watchlist.http[].ca_file",
        "watchlist.allow_empty",
        "metrics.identity",
        "metrics.identity_key_file",
        "metrics.factor_families",
        "state.file",
        "sharding.shard",
    }
)
"""The keys that are shown; any other key is redacted, so that a new one is hidden until it is listed."""


class RunningConfig:
    """The handler of one exporter."""

    def __init__(self, exporter: ExporterView) -> None:
        self._exporter = exporter

    async def answer(self, _request: web.Request) -> web.Response:
        """Return the applied configuration."""
        exporter = self._exporter
        text = (
            "\n".join(lines(exporter.config, exporter.config_loaded_seconds, refused=exporter.config_refused))
            + "\n"
        )
        # SHOWN decides which keys are shown; a shown value, such as a name, passes the log's redaction as well.
        return web.Response(text=exporter.redact(text), headers={"Cache-Control": "no-store"})


def lines(config: Config, loaded_seconds: float, *, refused: bool = False) -> Iterator[str]:
    """Yield the lines of the document."""
    yield f"# Applied {format_iso(loaded_seconds)}; sha256 of its files: {config.sha256}."
    if refused:
        yield "# The last reload was refused; the log lists the errors."
    shard = config.shard
    yield (
        f"# Shard {shard.ordinal}/{shard.shards}; listed factors: {len(config.factors)}, "
        f"entities: {len(config.entities)}, services: {len(config.services)}."
    )
    if config.fallback is not None:
        saved = format_iso(config.fallback.saved_seconds)
        names = ("watchlist.files" if name == FILES else source_place(name) for name in config.fallback.sources)
        yield f"# Running on the last good watchlist, saved {saved}: {' and '.join(names)} can't be used."
    for source in config.http:
        count = config.source_entries.get(source.name)
        yield f"# {source.place}: {'not loaded' if count is None else f'{count} entries'}."
    tree = settings_tree()
    for name, node in tree.below.items():
        if not isinstance(node, Table) or node.is_array:
            continue
        value = getattr(config.settings, name)
        if node.each is None:
            yield from _table(f"[{name}]", node, partial(getattr, value))
        else:
            for chosen, entry in value.items():
                yield from _table(f"[{name}.{chosen}]", node.each, partial(getattr, entry))
    for source in config.http:
        yield from _table("[[watchlist.http]]", _each(tree, *HTTP), _source(source).get)
    yield from _entries("factors", tree, config.factors, _factor)
    yield from _entries("entities", tree, config.entities, _entity)
    yield from _entries("services", tree, config.services, _service)


def _entries(
    name: str, tree: Table, watched: tuple[Any, ...], values: Callable[[Any], dict[str, Any]]
) -> Iterator[str]:
    """Yield the entries of the configuration file and of the watchlist files."""
    each = _each(tree, name)
    for entry in watched[:MOST_ENTRIES]:
        yield from _table(f"[[{name}]]", each, values(entry).get)
    if len(watched) > MOST_ENTRIES:
        yield ""
        yield f"# and {len(watched) - MOST_ENTRIES} more; see /api/v1/factors for all watched factors"


def _each(tree: Table, *path: str) -> Table:
    """Return the tables of the array at a path."""
    node: Key | Table = tree
    for name in path:
        if isinstance(node, Table):
            node = node.below[name]
    if not isinstance(node, Table) or node.each is None:
        raise TypeError(f"{'.'.join(path)} is not an array of tables")
    return node.each


def _source(source: HttpSource) -> dict[str, Any]:
    """Return the values of a source; the query of its URL may be a signature."""
    url, mark, _query = source.url.partition("?")
    return dict(source.entry or ()) | {"url": f"{url}?{REDACTED}" if mark else url}


def _factor(watched: WatchedFactor) -> dict[str, Any]:
    return {
        "name": watched.name,
        "account": watched.key.account,
        "service_sid": watched.key.service_sid,
        "identity": watched.identity,
        "factor_sid": watched.key.factor_sid,
        "interval": watched.interval_seconds,
        "paused": watched.paused,
        "labels": dict(watched.labels),
    }


def _entity(watched: WatchedEntity) -> dict[str, Any]:
    return {
        "name": watched.name,
        "account": watched.key.account,
        "service_sid": watched.key.service_sid,
        "identity": watched.key.identity,
        "labels": dict(watched.labels),
    }


def _service(watched: WatchedService) -> dict[str, Any]:
    return {
        "name": watched.name,
        "account": watched.key.account,
        "service_sid": watched.key.service_sid,
        "factor_types": watched.factor_types,
        "max_entities": watched.max_entities,
        "labels": dict(watched.labels),
    }


def _table(heading: str, table: Table, value_of: Callable[[str], Any]) -> Iterator[str]:
    yield ""
    yield heading
    for name, node in table.below.items():
        if isinstance(node, Table):
            continue
        value = value_of(name)
        if value is None:
            yield f"# {name} is not set"
        elif node.dotted in SHOWN:
            yield f"{name} = {_toml(node, value)}"
        else:
            yield f"{name} = {_quoted(REDACTED)}"
    for name, node in table.below.items():
        if isinstance(node, Table) and not node.is_array and (below := value_of(name)) is not None:
            yield from _table(f"{heading.removesuffix(']')}.{name}]", node, partial(getattr, below))


def _toml(key: Key, value: Any) -> str:
    """Return a value in TOML, always on one line."""
    match value:
        case bool():
            return str(value).lower()
        case float() if key.kind.title == "duration":
            return _quoted(format_duration(value))
        case int():
            return str(value)
        case float():
            return repr(value)
        case dict():
            pairs = (f"{_quoted(str(name))} = {_quoted(str(of))}" for name, of in value.items())
            return f"{{ {', '.join(pairs)} }}" if value else "{}"
        case list() | tuple():
            return f"[{', '.join(_quoted(str(item)) for item in value)}]"
    return _quoted(str(value))


def _quoted(text: str) -> str:
    return f'"{"".join(map(_written, text))}"'


def _written(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    number = ord(character)
    if 0xD800 <= number <= 0xDFFF:  # half of a surrogate pair, which TOML can't express
        return "\ufffd"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"
