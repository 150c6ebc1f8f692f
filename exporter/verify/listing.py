"""From an HTTP answer to List Factors to a page of SIDs: pure, and strict where a gap would look like a loss."""

from __future__ import annotations

import re
from typing import Any

import httpx

from exporter.verify.answers import describe_error, parse_json, reason_of_code
from exporter.verify.outcome import Failure, Page, Reason
from exporter.watched import canonical_sid

PAGE_SIZE = 20
MAX_PAGES = 50

_FACTOR_SID = re.compile(r"YF[0-9a-f]{32}", re.IGNORECASE)


def interpret_page(code: int, body: bytes, asked: str) -> Page | Failure:
    """Return what an HTTP answer to List Factors says; never raises.

    ``asked`` is the address that was asked for. An entity that the API doesn't know is a failure: it says
    nothing of any factor.
    """
    if code == 404:
        return Failure(Reason.BAD_REQUEST, f"{describe_error(code, body)}: no such service or entity")
    if code != 200:
        return Failure(reason_of_code(code), describe_error(code, body))
    try:
        document = parse_json(body)
    except (ValueError, RecursionError):
        return Failure(Reason.DECODE, "HTTP 200, but the body is not JSON")
    listed = document.get("factors") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        return Failure(Reason.DECODE, "HTTP 200, but the body is not a list of factors")
    sids = tuple(_sid_of(entry) for entry in listed)
    if "" in sids:
        return Failure(Reason.DECODE, "HTTP 200, but a factor of the list has no factor SID")
    meta = document.get("meta")
    following = meta.get("next_page_url") if isinstance(meta, dict) else None
    if following is None:
        return Page(sids)
    address = _same_collection(asked, following)
    if address is None:
        return Failure(Reason.DECODE, "HTTP 200, but the next page is said to be at another address")
    return Page(sids, address)


def _sid_of(entry: Any) -> str:
    """Return the SID of a listed factor, an empty string where it has none."""
    sid = entry.get("sid") if isinstance(entry, dict) else None
    return canonical_sid(sid) if isinstance(sid, str) and _FACTOR_SID.fullmatch(sid) else ""


def _same_collection(asked: str, following: Any) -> str | None:
    """Return the next page's address where it is of the same list: credentials go nowhere else."""
    try:
        first, second = httpx.URL(asked), httpx.URL(following)
    except (httpx.InvalidURL, TypeError):
        return None
    parts = ("scheme", "host", "port", "path")
    same = all(getattr(first, part) == getattr(second, part) for part in parts)
    return str(second) if same and not second.userinfo else None
