"""The credentials of the simulated account; generated, so not secret."""

from __future__ import annotations

import base64
import binascii


class Credentials:
    """HTTP basic credentials: the API key SID or the account SID, with the same password.

    A new password replaces the old one immediately, as in a rotation.
    """

    def __init__(self, account_sid: str, username: str, password: str) -> None:
        self.account_sid = account_sid
        self.username = username
        self.password = password

    @property
    def password(self) -> str:
        """The current password; setting an empty or unprintable one raises ``ValueError``."""
        return self._password

    @password.setter
    def password(self, password: str) -> None:
        if not password or not password.isprintable():
            raise ValueError("password: must not be empty, and all characters must be printable")
        self._password = password
        self._pairs = {f"{name}:{password}" for name in (self.account_sid, self.username)}
        self._headers = {f"Basic {base64.b64encode(pair.encode()).decode()}" for pair in self._pairs}

    def accept(self, authorization: str) -> bool:
        """Return whether an Authorization header is valid; the scheme is case-insensitive (RFC 7617)."""
        if authorization in self._headers:
            return True
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            return base64.b64decode(token, validate=True).decode() in self._pairs
        except (binascii.Error, UnicodeDecodeError):
            return False
