"""Basic authentication: passwords against bcrypt hashes, one at a time in a thread, with a cache of results."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import secrets
from collections import OrderedDict
from typing import TYPE_CHECKING

import bcrypt

from exporter.threads import in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MOST_WAITING = 16
MOST_KEPT = 128
_LONGEST_PASSWORD_BYTES = 72  # bcrypt ignores the rest, as do crypt_blowfish, htpasswd and Go
_LEAST_COST = 10
# An unknown user's password is compared with this: a salt and a digest of no password.
_UNKNOWN_USER_HASH = "wvcz1qmZcGJlUCqsnWZBeOGVVhGE0mOCIUOuKfBxZSYXXeUFHbZbi"


class BusyError(Exception):
    """Too many passwords are waiting to be checked."""


class BasicAuth:
    """Checks users and passwords; an unknown user takes as long as a known one.

    bcrypt is slow on purpose (about 50 ms at cost 10): it runs outside the event loop, for one password at a time.
    Cache keys are digests under a secret of this process. Good and bad results are cached apart, so that guesses
    evict no good one.
    """

    def __init__(self, check: Callable[[bytes, bytes], bool] = bcrypt.checkpw) -> None:
        self._check = check
        self._users: Mapping[str, str] = {}
        self._secret = secrets.token_bytes(32)
        self._kept: dict[bool, OrderedDict[bytes, None]] = {True: OrderedDict(), False: OrderedDict()}
        self._in_flight: dict[bytes, asyncio.Task[bool]] = {}
        self._lock = asyncio.Lock()
        self._unknown_user = ""

    @property
    def open_to_all(self) -> bool:
        """Whether no password is required."""
        return not self._users

    def use(self, users: Mapping[str, str]) -> None:
        """Accept these users from now on: bcrypt hashes by name."""
        self._users = users
        cost = max((int(hashed[4:6]) for hashed in users.values()), default=_LEAST_COST)
        self._unknown_user = f"$2b${cost:02d}${_UNKNOWN_USER_HASH}"

    async def allows(self, authorization: str | None) -> bool:
        """Return whether an Authorization header is valid; raises BusyError."""
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
        task = self._in_flight.get(key)
        if task is None:
            if len(self._in_flight) >= MOST_WAITING:
                raise BusyError
            task = asyncio.get_running_loop().create_task(
                self._compare(key, hashed.encode(), password, known=known is not None)
            )
            self._in_flight[key] = task
        return await asyncio.shield(task)

    async def _compare(self, key: bytes, hashed: bytes, password: bytes, *, known: bool) -> bool:
        try:
            async with self._lock:
                same = await in_daemon_thread(lambda: self._same(hashed, password), name="bcrypt")
        finally:
            del self._in_flight[key]
        answer = same and known
        kept = self._kept[answer]
        kept[key] = None
        if len(kept) > MOST_KEPT:
            kept.popitem(last=False)
        return answer

    def _same(self, hashed: bytes, password: bytes) -> bool:
        try:
            return self._check(password[:_LONGEST_PASSWORD_BYTES], hashed)
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
