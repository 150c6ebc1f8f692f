"""Basic authentication: passwords against bcrypt hashes, in a thread, one at a time, each answer kept."""

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
_LONGEST_PASSWORD_BYTES = 72  # bcrypt sees no more: crypt_blowfish, htpasswd and Go leave out what is beyond
_LEAST_COST = 10
# What an unknown user's password is compared to: salt and digest that belong to no password.
_NOBODY = "wvcz1qmZcGJlUCqsnWZBeOGVVhGE0mOCIUOuKfBxZSYXXeUFHbZbi"


class BusyError(Exception):
    """More passwords wait to be checked than are let wait."""


class BasicAuth:
    """Knows who may come in. Answers for an unknown user take as long as for a known one.

    bcrypt is slow on purpose (some 50 ms at cost 10): it runs outside the event loop, for one password at a time.
    What is kept is keyed by a digest under a secret of this process. Good and bad answers are kept apart, so that
    guesses push no good one out.
    """

    def __init__(self, check: Callable[[bytes, bytes], bool] = bcrypt.checkpw) -> None:
        self._check = check
        self._users: Mapping[str, str] = {}
        self._secret = secrets.token_bytes(32)
        self._kept: dict[bool, OrderedDict[bytes, None]] = {True: OrderedDict(), False: OrderedDict()}
        self._under_way: dict[bytes, asyncio.Task[bool]] = {}
        self._turn = asyncio.Lock()
        self._stranger = ""

    @property
    def open_to_all(self) -> bool:
        """Whether nobody needs a password."""
        return not self._users

    def use(self, users: Mapping[str, str]) -> None:
        """Let these users in from now on: bcrypt hashes by name."""
        self._users = users
        cost = max((int(hashed[4:6]) for hashed in users.values()), default=_LEAST_COST)
        self._stranger = f"$2b${cost:02d}${_NOBODY}"

    async def allows(self, authorization: str | None) -> bool:
        """Return whether an Authorization header lets its sender in; raises BusyError."""
        given = credentials(authorization)
        if given is None:
            return False
        name, password = given
        known = self._users.get(name)
        hashed = known or self._stranger
        message = b"".join(
            len(part).to_bytes(8, "big") + part for part in (name.encode(), hashed.encode(), password)
        )
        key = hmac.digest(self._secret, message, "sha256")
        for answer, kept in self._kept.items():
            if key in kept:
                kept.move_to_end(key)
                return answer
        task = self._under_way.get(key)
        if task is None:
            if len(self._under_way) >= MOST_WAITING:
                raise BusyError
            task = asyncio.get_running_loop().create_task(
                self._compare(key, hashed.encode(), password, known=known is not None)
            )
            self._under_way[key] = task
        return await asyncio.shield(task)

    async def _compare(self, key: bytes, hashed: bytes, password: bytes, *, known: bool) -> bool:
        try:
            async with self._turn:
                same = await in_daemon_thread(lambda: self._same(hashed, password), name="bcrypt")
        finally:
            del self._under_way[key]
        answer = same and known
        kept = self._kept[answer]
        kept[key] = None
        if len(kept) > MOST_KEPT:
            kept.popitem(last=False)
        return answer

    def _same(self, hashed: bytes, password: bytes) -> bool:
        try:
            return self._check(password[:_LONGEST_PASSWORD_BYTES], hashed)
        except ValueError:  # a password with a NUL, which no bcrypt hash is of
            return False


def credentials(authorization: str | None) -> tuple[str, bytes] | None:
    """Return name and password of an Authorization header, or None where it is no basic authentication."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (name.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None
