"""A password of the web config file: plain, hashed, and as a client sends it."""

from __future__ import annotations

import base64

import bcrypt

PASSWORD = "correct horse"
HASHED = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()


def header(name: str, password: str) -> str:
    """Return the value of an Authorization header (RFC 7617)."""
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"
