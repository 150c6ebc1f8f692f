"""What a reload may not do: weaken what protects the exporter, or empty the watchlist.

A truncated file is often valid, and says less than the complete one. What such a file could do by mistake therefore
needs a restart.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from exporter.config.errors import ErrorDetail, UnmatchedPattern, quote
from exporter.config.files import WATCHLIST_SUFFIXES, shown_path
from exporter.config.kinds import IdentityLabel
from exporter.config.last_good import ALLOW_EMPTY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.config.loader import Config

_RESTART = "restart the exporter to apply this, or undo the change"
_BLANK = "restore the file, or restart the exporter"
_BLANK_IN_LAST_GOOD = f"{_BLANK} with watchlist.allow_empty = true"
_UNMATCHED = "restore the files, or correct the pattern"
_CLIENT_AUTH = (ssl.CERT_NONE, ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED)
_IDENTITY = (IdentityLabel.NONE, IdentityLabel.HMAC, IdentityLabel.PLAIN)


def reload_errors(old: Config, new: Config) -> list[ErrorDetail]:
    """Return why a running exporter must not replace its configuration ``old`` by ``new``; empty if it may."""
    return [*_blank_files(old, new), *_less_protection(old, new), *_open_paths(old, new), *_emptied(old, new)]


def _blank_files(old: Config, new: Config) -> Iterator[ErrorDetail]:
    for path, version in new.files.items():
        before = old.files.get(path)
        if version.blank and (before is None or not before.blank):
            lists = path != new.path and path.suffix.lower() in WATCHLIST_SUFFIXES
            hint = _BLANK_IN_LAST_GOOD if lists and new.settings.state.file is not None else _BLANK
            yield ErrorDetail(shown_path(path), "is empty", hint)


def _less_protection(old: Config, new: Config) -> Iterator[ErrorDetail]:
    file = new.settings.web.config_file
    place = "web.config_file" if file is None else shown_path(file)
    before, after = old.web, new.web
    if before.tls is not None and after.tls is None:
        yield ErrorDetail(place, "would turn off TLS", _RESTART)
    elif before.tls is not None and after.tls is not None:
        modes = _CLIENT_AUTH.index(before.tls.verify_mode), _CLIENT_AUTH.index(after.tls.verify_mode)
        if modes[1] < modes[0]:
            yield ErrorDetail(place, "would no longer require or verify client certificates", _RESTART)
        elif before.client_names is not None and after.client_names is None:
            yield ErrorDetail(place, "would accept client certificates with any name", _RESTART)
        elif before.own_authorities and not after.own_authorities:
            problem = "would accept client certificates from every authority that this system trusts"
            yield ErrorDetail(place, problem, _RESTART)
        if after.tls.minimum_version < before.tls.minimum_version:
            yield ErrorDetail(place, "would accept TLS 1.2 again", _RESTART)
        for name in sorted(before.chosen - after.chosen):
            yield ErrorDetail(place, f"would replace the {name} by the default", _RESTART)
    if before.users and not after.users:
        yield ErrorDetail(place, "would turn off basic authentication", _RESTART)
    for header in sorted(before.headers.keys() - after.headers.keys()):
        yield ErrorDetail(place, f"would no longer send the header {header}", _RESTART)
    if before.rate and not after.rate:
        yield ErrorDetail(place, "would turn off the rate limit", _RESTART)
    if (after.rate and after.rate.burst < 1) and not (before.rate and before.rate.burst < 1):
        yield ErrorDetail(place, "would refuse every request, because its rate limit has no burst", _RESTART)


def _open_paths(old: Config, new: Config) -> Iterator[ErrorDetail]:
    before, after = old.settings, new.settings
    for name in ("enable_lifecycle", "enable_probe"):
        if getattr(after.web, name) and not getattr(before.web, name):
            yield ErrorDetail(f"web.{name}", "is off and can't be turned on by a reload", _RESTART)
    shown = after.metrics.identity
    if _IDENTITY.index(shown) > _IDENTITY.index(before.metrics.identity):
        problem = f"can't be changed from {quote(before.metrics.identity)} to {quote(shown)} by a reload"
        yield ErrorDetail("metrics.identity", problem, _RESTART)


def _emptied(old: Config, new: Config) -> Iterator[ErrorDetail]:
    if new.settings.watchlist.allow_empty:
        return
    for source in new.http:
        listed = old.source_entries.get(source.name, 0)
        if listed and new.source_entries.get(source.name) == 0 and new.answers[source.name].saved is None:
            yield ErrorDetail(source.place, f"no longer lists anything; it has {_entries(listed)}", ALLOW_EMPTY)
    left = [account for account in new.settings.accounts if account in old.listed and account not in new.listed]
    if left or (old.listed and not new.listed):
        for warning in new.warnings:
            if isinstance(warning, UnmatchedPattern) and warning not in old.warnings:
                yield ErrorDetail(warning.place, warning.text, _UNMATCHED)
    if old.listed and not new.listed:
        total = sum(old.listed.values())
        lost = "its only entry" if total == 1 else f"all its {total} entries"
        yield ErrorDetail("watchlist", f"would lose {lost}", ALLOW_EMPTY)
        return
    for account in left:
        problem = (
            f"would leave the account {quote(account)} without entries; it has {_entries(old.listed[account])}"
        )
        yield ErrorDetail("watchlist", problem, ALLOW_EMPTY)


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"
