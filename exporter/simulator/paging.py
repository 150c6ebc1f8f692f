"""Paging of lists: parses the parameters, selects a page and builds its links."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs, urlencode

from exporter.simulator.sids import FACTOR, canonical, is_sid

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000
_AFTER, _BEFORE = "PA", "PB"  # a token is one of these plus the first or last SID of the page that links it


class PagingError(ValueError):
    """An invalid paging parameter, with Twilio's error code for it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Paging(NamedTuple):
    """The paging parameters of one request."""

    size: int
    number: int
    token: str


class SimulatedPage(NamedTuple):
    """One page: its SIDs, and the query strings of itself and its neighbours."""

    sids: Sequence[str]
    size: int
    number: int
    query: str
    first_query: str
    previous_query: str | None
    next_query: str | None


def read_paging(query: str, max_size: int = MAX_PAGE_SIZE, listed: str = FACTOR) -> Paging:
    """Read PageSize, Page and PageToken from a query; ``listed`` is the prefix of the SIDs that are listed.

    Raises ``PagingError`` with the codes of https://www.twilio.com/docs/api/errors/20007, …/60373,
    …/60374 and …/60306.
    """
    values = {name: given[-1] for name, given in parse_qs(query, keep_blank_values=True).items()}
    size = _integer(values.get("PageSize", str(min(DEFAULT_PAGE_SIZE, max_size))))
    if size is None or size < 1:
        raise PagingError(60373, "Invalid page size")
    if size > max_size:
        raise PagingError(20007, f"Page size too large, the maximum is {max_size}")
    number = _integer(values.get("Page", "0"))
    if number is None or number < 0:
        raise PagingError(60306, "Invalid parameter: Page")
    token = values.get("PageToken", "")
    if token and not (token[:2] in (_AFTER, _BEFORE) and is_sid(token[2:], listed)):
        raise PagingError(60374, "Invalid page token")
    return Paging(size, number, token)


def page_of(listed: Sequence[str], gone: frozenset[str], paging: Paging) -> SimulatedPage:
    """Return one page of an ordered list of SIDs, without those in ``gone``.

    A token stays valid when the factor it names is deleted. Raises ``PagingError`` for a token of another list.
    """
    start, stop = 0, len(listed)
    if paging.token:
        edge = canonical(paging.token[2:])
        if edge not in listed:
            raise PagingError(60374, "Invalid page token")
        place = listed.index(edge)
        start, stop = (place + 1, stop) if paging.token.startswith(_AFTER) else (0, place)
    alive = [sid for sid in listed[start:stop] if sid not in gone]
    backwards = paging.token.startswith(_BEFORE)
    cut = alive[-paging.size :] if backwards else alive[: paging.size]

    first = {"PageSize": paging.size, "Page": 0}
    here: dict[str, object] = {"PageSize": paging.size, "Page": paging.number}
    if paging.token:
        here["PageToken"] = paging.token
    previous_query = next_query = None
    if cut and any(sid not in gone for sid in listed[: listed.index(cut[0])]):
        number = max(paging.number - 1, 0)
        previous_query = urlencode({"PageSize": paging.size, "Page": number, "PageToken": f"{_BEFORE}{cut[0]}"})
    if cut and any(sid not in gone for sid in listed[listed.index(cut[-1]) + 1 :]):
        next_query = urlencode(
            {"PageSize": paging.size, "Page": paging.number + 1, "PageToken": f"{_AFTER}{cut[-1]}"}
        )
    return SimulatedPage(
        cut, paging.size, paging.number, urlencode(here), urlencode(first), previous_query, next_query
    )


def _integer(text: str) -> int | None:
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 19 else None
