"""The addresses of the repository and of its site."""

from __future__ import annotations


def repository() -> str:
    """Return the address of the repository."""
    return "https://github.com/OWNER/verify-factor-exporter"


def pages_of(address: str) -> str:
    """Return where GitHub Pages shows the site of the repository at this address."""
    owner, name = address.rstrip("/").rsplit("/", 2)[1:]
    return f"https://{owner.lower()}.github.io/{name}/"
