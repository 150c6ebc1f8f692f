"""``/-/verified``: whether the credentials of accounts work and factors are found, for tests of installations.

Apart from health.py because it is authenticated and depends on the Verify API.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from exporter.polling.pause import PauseReason
from exporter.verify.outcome import Status

if TYPE_CHECKING:
    from exporter.polling.record import FactorRecord
    from exporter.web.exporter_view import ExporterView
    from exporter.web.views import AccountView

PATH = "/-/verified"
_BATCH = 1000
_FOUND = frozenset((Status.VERIFIED, Status.UNVERIFIED))


class _Fetched:
    """How the last fetches of an account's unpaused factors ended."""

    def __init__(self) -> None:
        self.factors = self.found = self.not_found = self.failed = 0

    def add(self, record: FactorRecord, since: float | None) -> None:
        """Count a factor; a fetch that ended before ``since`` (steady seconds) was not with these credentials."""
        self.factors += 1
        # A status from the state file proves nothing: only fetches of this process have a time.
        if record.last_seconds is None or (since is not None and record.last_steady < since):
            return
        if not record.up:
            self.failed += 1
        elif record.status in _FOUND:
            self.found += 1
        elif record.status is Status.NOT_FOUND:
            self.not_found += 1

    @property
    def answered(self) -> int:
        """How many factors the API answered for."""
        return self.found + self.not_found

    def __str__(self) -> str:
        rest = self.factors - self.answered - self.failed
        others = {"not found": self.not_found, "failed": self.failed, "without a current answer": rest}
        counts = [f"{self.found} of {self.factors} factors found"]
        return ", ".join([*counts, *(f"{count} {name}" for name, count in others.items() if count)])


class Verified:
    """The handler of one exporter."""

    def __init__(self, exporter: ExporterView) -> None:
        self._exporter = exporter

    async def answer(self, _request: web.Request) -> web.Response:
        """Return 200 if every account with an unpaused factor here has good credentials and a found one, else 503.

        Another account fails if its credentials were refused, or if no listing of it was answered. One line per
        account, and one with the shard and its share of the factors that the watchlist lists.
        """
        exporter = self._exporter
        exporter.withdraw_stale()
        views = exporter.account_views()
        since = {view.account: exporter.credentials_changed_steady(view.account) for view in views}
        fetched = {view.account: _Fetched() for view in views}
        for number, record in enumerate(list(exporter.ledger)):
            if number % _BATCH == 0:
                await asyncio.sleep(0)  # other tasks may run meanwhile
            account = record.watched.key.account
            if not record.watched.paused and account in fetched:
                fetched[account].add(record, since[account])
        config = exporter.config
        listings = {of.key.account for of in config.entities} | {of.key.account for of in config.services}
        passed, lines = True, []
        for view in views:
            good, text = _judged(
                view, fetched[view.account], lists=view.account in listings, changed=since[view.account] is not None
            )
            passed = passed and good
            lines.append(f"account {view.account} {'passes' if good else 'fails'}: {text}\n")
        ordinal, shards = config.shard
        lines.append(f"shard {ordinal}/{shards}: {len(config.factors)} of {config.total_factors} listed factors\n")
        return web.Response(
            status=200 if passed else 503, text="".join(lines), headers={"Cache-Control": "no-store"}
        )


def _judged(view: AccountView, fetched: _Fetched, *, lists: bool, changed: bool) -> tuple[bool, str]:
    """Return whether an account passes, and why; ``changed`` tells that its credentials did, since the start."""
    if view.credentials_valid is False:
        return False, "credentials refused; correct them or their permissions"
    confirmed = view.credentials_valid is True and (not changed or not fetched.factors or fetched.answered > 0)
    credentials = "credentials accepted" if confirmed else "credentials not confirmed yet"
    if view.paused_for is PauseReason.RATE_LIMITED:
        credentials += ", paused by HTTP 429"
    if fetched.factors:
        return confirmed and fetched.found > 0, f"{credentials}, {fetched}"
    if confirmed or lists:
        return confirmed, f"{credentials}, no unpaused factor here"
    return True, "no unpaused factor here, so its credentials were not used"
