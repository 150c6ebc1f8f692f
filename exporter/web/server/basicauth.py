"""Basic authentication: passwords against bcrypt hashes, in a thread, with a cache of results."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import secrets
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING

import bcrypt

from exporter.config.webconfig import COSTLY, cost_of
from exporter.web.server.checks import Checks, Lane
from exporter.web.server.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MOST_KEPT = 128
_LONGEST_PASSWORD_BYTES = 72  # bcrypt ignores the rest, as do crypt_blowfish, htpasswd and Go
_USUAL_COST = 10
# An unknown user's password is compared with this: a salt and a digest of no password.
_UNKNOWN_USER_HASH = "wvcz1qmZcGJlUCqsnWZBeOGVVhGE0mOCIUOuKfBxZSYXXeUFHbZbi"


class BusyError(Exception):
    """Too many passwords are waiting to be checked."""


class BasicAuth:
    """Checks users and passwords; an unknown user takes as long as most known ones.

    bcrypt is slow on purpose (about 50 ms at cost 10), so that checks wait for one another: checks.py has their
    order. Cache keys are digests under a secret of this process. Good and bad results are cached apart, so that
    guesses evict no good one.
    """

    def __init__(
        self, limits: Limits | None = None, check: Callable[[bytes, bytes], bool] = bcrypt.checkpw
    ) -> None:
        self._check = check
        self._checks = Checks(limits or Limits())
        self._users: Mapping[str, str] = {}
        self._secret = secrets.token_bytes(32)
        self._kept: dict[bool, OrderedDict[bytes, None]] = {True: OrderedDict(), False: OrderedDict()}
        self._in_flight: dict[bytes, asyncio.Future[bool | None]] = {}
        self._unknown_user = ""

    @property
    def open_to_all(self) -> bool:
        """Whether no password is required."""
        return not self._users

    def use(self, users: Mapping[str, str]) -> None:
        """Accept these users from now on: bcrypt hashes by name."""
        self._users = users
        costs = Counter(min(cost_of(hashed), COSTLY) for hashed in users.values())
        usual = max(costs, key=lambda cost: (costs[cost], cost), default=_USUAL_COST)
        self._unknown_user = f"$2b${usual:02d}${_UNKNOWN_USER_HASH}"

    async def allows(self, authorization: str | None, peer: str = "") -> bool:
        """Return whether an Authorization header of the client at an address is valid; raises BusyError."""
        given = credentials(authorization)
        if given is None:
            return False
        name, password = given
        known = self._users.get(name)
        hashed = known or self._unknown_user
        message = b"".join(
            len(part).to_bytes(8, "big") + part for part in (name.encode(), hashed.encode(), password)
        )
        key = hmac.digest(self._secret, message, "sha256")
        for answer, kept in self._kept.items():
            if key in kept:
                kept.move_to_end(key)
                return answer
        in_flight = self._in_flight.get(key)
        if in_flight is None:
            lane, user = Lane.UNKNOWN, ""
            if known is not None:
                lane, user = Lane.COSTLY if cost_of(known) > COSTLY else Lane.KNOWN, name
            in_flight = self._checks.add(lane, (user, peer), lambda: self._same(hashed.encode(), password, known))
            self._in_flight[key] = in_flight
            in_flight.add_done_callback(lambda done: self._keep(key, done))
        found = await asyncio.shield(in_flight)
        if found is None:
            raise BusyError
        return found

    def _keep(self, key: bytes, done: asyncio.Future[bool | None]) -> None:
        del self._in_flight[key]
        if done.cancelled() or done.exception() is not None or (answer := done.result()) is None:
            return
        kept = self._kept[answer]
        kept[key] = None
        if len(kept) > MOST_KEPT:
            kept.popitem(last=False)

    def _same(self, hashed: bytes, password: bytes, known: str | None) -> bool:
        try:
            return self._check(password[:_LONGEST_PASSWORD_BYTES], hashed) and known is not None
        except ValueError:  # a password with a NUL, which bcrypt rejects
            return False


def credentials(authorization: str | None) -> tuple[str, bytes] | None:
    """Return name and password of an Authorization header, ``None`` if it isn't basic authentication."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (name.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None
