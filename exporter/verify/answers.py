"""What a response of the Verify API means: the one place that interprets HTTP status codes, bodies and headers.

Pure functions that never raise, except :func:`parse_json`. :func:`interpret` is for Fetch Factor (a 404 means
``not_found``), :func:`interpret_page` for List Factors and :func:`interpret_entity_page` for List Entities (a 404
is a failure), :func:`interpret_service` for Fetch Service. A 401, 403 or 404 counts only if its body is a Twilio
error: proxies and gateways send these statuses, too.
"""

from __future__ import annotations

import json
import math
import re
from codecs import BOM_UTF8
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from exporter.verify.outcome import (
    INTERMEDIARY_CODES,
    NOTIFICATION_PLATFORMS,
    OTHER,
    Answer,
    EntityPage,
    FactorPage,
    Failure,
    ListedEntity,
    ListedFactor,
    Reason,
    ServiceAnswer,
    Status,
)
from exporter.watched import canonical_sid, is_sid

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE_SIZE = 20
MAX_PAGES = 50
RETRY_AFTER_CAP_SECONDS = 300.0
RETRY_AFTER_FLOOR_SECONDS = 1.0

# The API's statuses; "not_found" is the exporter's own word for a 404.
_STATUSES = {"verified": Status.VERIFIED, "unverified": Status.UNVERIFIED}
_FACTOR, _ENTITY, _SERVICE = ("YF",), ("YE",), ("VA",)
_PUSH, _PASSKEYS = "push", "passkeys"
_FACTOR_TYPE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
_LONGEST_HOST = 128  # in characters; names longer than this don't fit into the history
_SECONDS = re.compile(r"[0-9]+")
_MOST_DIGITS = 18
_LONGEST_DATE = 64
_DAY_OF_THE_WEEK = len("Wednesday,")
_DECIMAL = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")
_COUNT = re.compile(r"[1-9][0-9]{0,5}")
_PAGE_NUMBER = re.compile(r"[0-9]{1,9}")
_LINK_CHARACTERS = 8192
_LINK_PARAMETERS = 16
_LONGEST_IDENTITY = 255
_ERROR_BODY_BYTES = 65536
_ERROR_CODES = range(10_000, 1_000_000)
# Service, entity or factor; factor; entity. Source: https://www.twilio.com/docs/api/errors
_NOT_FOUND_CODES = frozenset((20404, 60390, 60392))
_NO_SUCH_SERVICE = 20404
# The fields, apart from an integer "code", by which a Twilio error is recognized: the classic format, RFC 9457, and
# Twilio's API standards 1.0. Each has the HTTP status in its body.
_ERROR_FORMATS = (("status", ("message",)), ("status", ("type", "title")), ("httpStatusCode", ("message",)))
_DUPLICATE_KEY = Failure(Reason.DECODE, "HTTP 200, but a key occurs twice in the body")
_LAST_SECOND = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()  # the last one that datetime supports
_UNREADABLE_DATE = (ValueError, TypeError, IndexError, OverflowError)


# Fetch Factor


def interpret(code: int, body: bytes, factor_sid: str) -> Answer | Failure:
    """Return what a response to Fetch Factor says about the factor ``factor_sid``.

    The HTTP status decides, if Twilio sent it; only the body of a 200 is read for a status.
    """
    if code == 200:
        return _interpret_factor(body, factor_sid)
    if is_not_found(code, twilio_error(code, body)):
        return Answer(Status.NOT_FOUND)
    return _failure(code, body)


def _interpret_factor(body: bytes, factor_sid: str) -> Answer | Failure:
    payload = _resource(body)
    if isinstance(payload, Failure):
        return payload
    if _is_another(payload, factor_sid, _FACTOR):
        return Failure(Reason.DECODE, "HTTP 200, but the body is another factor's")
    status = _STATUSES.get(_text(payload.get("status")))
    if status is None:
        return Failure(Reason.UNKNOWN_STATUS, "HTTP 200, but no status that this version knows")
    factor_type = _matching(payload.get("factor_type"), _FACTOR_TYPE)
    return Answer(
        status=status,
        created_seconds=parse_timestamp(payload.get("date_created")),
        updated_seconds=parse_timestamp(payload.get("date_updated")),
        factor_type=factor_type,
        entity_sid=_sid(payload.get("entity_sid"), _ENTITY),
        approved_seconds=_approved_seconds(payload) if factor_type == _PASSKEYS else None,
        notification_platform=_notification_platform(payload) if factor_type == _PUSH else "",
    )


def _approved_seconds(payload: dict[str, Any]) -> float | None:
    """Return when a passkeys factor last approved a challenge.

    Of other types, metadata is what the device wrote. Source: https://www.twilio.com/docs/verify/api/factor
    """
    metadata = payload.get("metadata")
    return parse_timestamp(metadata.get("date_last_approved")) if isinstance(metadata, dict) else None


def _notification_platform(payload: dict[str, Any]) -> str:
    """Return how notifications reach the device of a push factor; a device may have set any value."""
    config = payload.get("config")
    platform = config.get("notification_platform") if isinstance(config, dict) else None
    return (
        NOTIFICATION_PLATFORMS[NOTIFICATION_PLATFORMS.index(platform)]
        if platform in NOTIFICATION_PLATFORMS
        else OTHER
    )


def _resource(body: bytes) -> dict[str, Any] | Failure:
    """Return the JSON object in the body of a 200, or why there is none."""
    try:
        payload = parse_json(body)
    except DuplicateKeyError:
        return _DUPLICATE_KEY
    except (ValueError, RecursionError):
        return Failure(Reason.DECODE, "HTTP 200, but the body is not JSON")
    return (
        payload
        if isinstance(payload, dict)
        else Failure(Reason.DECODE, "HTTP 200, but the body is not a JSON object")
    )


def _is_another(payload: dict[str, Any], requested_sid: str, prefixes: tuple[str, ...]) -> bool:
    """Return whether a resource has another SID than the requested one; a missing or invalid SID is not judged."""
    sid = payload.get("sid")
    if sid == requested_sid:
        return False
    return isinstance(sid, str) and is_sid(sid, prefixes) and sid.lower() != requested_sid.lower()


# Fetch Service


def interpret_service(code: int, body: bytes, service_sid: str) -> ServiceAnswer | Failure:
    """Return whether the service ``service_sid`` exists according to a response to Fetch Service.

    A refusal (401, 403) says nothing about the service: the API key may lack the permission to read it.
    """
    if code == 404 and twilio_error(code, body) == _NO_SUCH_SERVICE:
        return ServiceAnswer(exists=False)
    if code != 200:
        return _failure(code, body)
    payload = _resource(body)
    if isinstance(payload, Failure):
        return payload
    if _is_another(payload, service_sid, _SERVICE):
        return Failure(Reason.DECODE, "HTTP 200, but the body is another service's")
    return ServiceAnswer(exists=True)


# List Factors and List Entities


def interpret_page(code: int, body: bytes) -> FactorPage | Failure:
    """Return the page of factors in a response to List Factors, or why there is none.

    A 404 is a failure here: an unknown service or entity says nothing about any factor.
    """
    page = _page(code, body, "factors", "no such service or entity", {"PageSize": str(PAGE_SIZE)})
    if isinstance(page, Failure):
        return page
    entries, query = page
    factors = tuple(
        ListedFactor(sid, _matching(entry.get("factor_type"), _FACTOR_TYPE))
        for entry in entries
        if (sid := _listed_sid(entry, _FACTOR))
    )
    if len(factors) < len(entries):
        return Failure(Reason.DECODE, "HTTP 200, but a listed factor has no valid SID")
    return FactorPage(factors, query)


def interpret_entity_page(code: int, body: bytes) -> EntityPage | Failure:
    """Return the page of entities in a response to List Entities, or why there is none.

    A 404 is a failure here: an unknown service says nothing about any factor. Only an identity that a path could
    not carry makes an entity unusable: Twilio limited identities later than it introduced them.
    """
    page = _page(code, body, "entities", "no such service", {})
    if isinstance(page, Failure):
        return page
    entries, query = page
    entities: list[ListedEntity] = []
    unusable: list[str] = []
    for entry in entries:
        sid = _listed_sid(entry, _ENTITY)
        if not sid:
            return Failure(Reason.DECODE, "HTTP 200, but a listed entity has no valid SID")
        if _is_identity(identity := entry.get("identity")):
            entities.append(ListedEntity(sid, identity))
        else:
            unusable.append(sid)
    return EntityPage(tuple(entities), query, tuple(unusable))


def _page(
    code: int, body: bytes, array: str, missing: str, defaults: Mapping[str, str]
) -> tuple[list[Any], str | None] | Failure:
    """Return the entries of a page, which are its ``array``, and the query of the next page.

    ``missing`` says what does not exist if the response is a 404; ``defaults`` are paging parameters.
    """
    if code != 200:
        if is_not_found(code, twilio_error(code, body)):
            return Failure(Reason.BAD_REQUEST, f"{describe_error(code, body)}: {missing}")
        return _failure(code, body)
    try:
        document = parse_json(body)
    except DuplicateKeyError:
        return _DUPLICATE_KEY
    except (ValueError, RecursionError):
        return Failure(Reason.DECODE, "HTTP 200, but the body is not JSON")
    listed = document.get(array) if isinstance(document, dict) else None
    if not isinstance(listed, list):
        return Failure(Reason.DECODE, f"HTTP 200, but the body is not a list of {array}")
    meta = document.get("meta")
    following = meta.get("next_page_url") if isinstance(meta, dict) else None
    if following is None:
        return listed, None
    query = next_page_query(following, defaults)
    if query is None:
        return Failure(Reason.DECODE, "HTTP 200, but the link to the next page has no valid paging parameters")
    return listed, query


def _listed_sid(entry: Any, prefixes: tuple[str, ...]) -> str:
    """Return the SID of a listed factor or entity, or an empty string."""
    sid = entry.get("sid") if isinstance(entry, dict) else None
    return canonical_sid(sid) if isinstance(sid, str) and is_sid(sid, prefixes) else ""


def _is_identity(value: Any) -> bool:
    """Return whether a listed identity can be a segment of a path: printable, and none that paths resolve."""
    if not isinstance(value, str) or value in {".", ".."}:
        return False
    return 0 < len(value) <= _LONGEST_IDENTITY and value.isprintable()


def next_page_query(link: Any, defaults: Mapping[str, str]) -> str | None:
    """Return the paging parameters of a link to the next page as a query string, ``None`` if it has no valid ones.

    ``defaults`` are used where the link has none.

    Everything else in the link is ignored. The API writes links for its public host, and may write the identity in
    lower case, so behind a gateway, or for an identity with capitals, they lead elsewhere.
    """
    if not isinstance(link, str) or len(link) > _LINK_CHARACTERS:
        return None
    try:
        parameters: list[tuple[str, str]] = parse_qsl(
            urlsplit(link).query, errors="strict", max_num_fields=_LINK_PARAMETERS
        )
    except ValueError:
        return None
    given = dict(parameters)
    kept = {name: given[name] for name in ("PageSize", "Page", "PageToken") if name in given}
    if kept.keys() <= {"PageSize"}:
        return None
    if not all(_PAGE_NUMBER.fullmatch(kept[name]) for name in kept.keys() - {"PageToken"}):
        return None
    return urlencode(dict(defaults) | kept)


# Failures, for all of them


def _failure(code: int, body: bytes) -> Failure:
    """Return the failure that a response other than a 200 means."""
    if code in INTERMEDIARY_CODES and twilio_error(code, body) is None:
        return Failure(Reason.DECODE, f"HTTP {code}, but the body is not a Twilio error")
    return Failure(reason_of_code(code), describe_error(code, body))


def twilio_error(code: int, body: bytes) -> int | None:
    """Return Twilio's error code from the body of a response with this HTTP status, ``None`` if there is none.

    The body must be an error in one of Twilio's three formats. Source: https://www.twilio.com/docs/usage/twilios-response
    """
    payload = _error_document(body)
    number = error_number(payload)
    if number is None or number not in _ERROR_CODES:  # a range compares None with every one of its numbers
        return None
    for status, texts in _ERROR_FORMATS:
        if payload.get(status) == code and all(isinstance(payload.get(text), str) for text in texts):
            return number
    return None


def _error_document(body: bytes) -> dict[str, Any]:
    """Return the JSON object in the body of an error response; empty if there is none, or it is too large."""
    if len(body) > _ERROR_BODY_BYTES:
        return {}
    try:
        payload = parse_json(body)
    except (ValueError, RecursionError):
        return {}
    return payload if isinstance(payload, dict) else {}


def error_number(payload: dict[str, Any]) -> int | None:
    """Return the code in the document of a Twilio error, ``None`` if there is none."""
    number = payload.get("code")
    return number if isinstance(number, int) and not isinstance(number, bool) else None


def is_not_found(code: int | None, twilio_code: int | None) -> bool:
    """Return whether an HTTP status and Twilio's error code say that a service, entity or factor doesn't exist."""
    return code == 404 and twilio_code in _NOT_FOUND_CODES


def reason_of_code(code: int) -> Reason:
    """Return the reason of a failure with this HTTP status, which is not 200."""
    match code:
        case 401:
            return Reason.AUTH
        case 403:
            return Reason.FORBIDDEN
        case 429:
            return Reason.RATE_LIMITED
    if 200 <= code < 300:
        return Reason.DECODE
    return Reason.SERVER_ERROR if code >= 500 else Reason.BAD_REQUEST


def describe_error(code: int, body: bytes) -> str:
    """Return an error response in words: HTTP status and Twilio's error code.

    The API's own message is left out: it repeats the request's path, which contains the identity.
    """
    number = error_number(_error_document(body))
    if number is not None and 0 < number < 1_000_000:
        return f"HTTP {code}, Twilio error {number}"
    return f"HTTP {code}"


# Bodies


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


class DuplicateKeyError(ValueError):
    """A JSON object has a key twice, so that readers disagree about its value (RFC 8259 §4)."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) < len(pairs):
        raise DuplicateKeyError
    return built


# Python's decoder also accepts NaN and, given bytes, UTF-16 and lone surrogates; JSON has none (RFC 8259 §8.1).
_JSON = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_object)


def parse_json(body: bytes) -> Any:
    """Return a parsed JSON document.

    Raises ValueError, which is :class:`DuplicateKeyError` if a key occurs twice, or RecursionError if the document
    is nested too deeply.
    """
    return _JSON.decode(body.removeprefix(BOM_UTF8).decode())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _sid(value: Any, prefixes: tuple[str, ...]) -> str:
    return value if isinstance(value, str) and is_sid(value, prefixes) else ""


def _matching(value: Any, pattern: re.Pattern[str]) -> str:
    return value if isinstance(value, str) and pattern.fullmatch(value) else ""


def parse_timestamp(value: Any) -> float | None:
    """Return an API date in seconds since the epoch, or ``None`` if it is missing or invalid.

    Accepts ISO 8601 with ``Z``, an offset or neither (read as UTC), and RFC 2822, as in Twilio's older APIs.
    """
    if not isinstance(value, str) or len(value) > 64 or ("-" not in value[:11] and "," not in value[:5]):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except _UNREADABLE_DATE:
            return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = moment.timestamp()
    return seconds if 0 < seconds <= _LAST_SECOND else None


# Headers


def parse_retry_after(value: str | None, now_seconds: float) -> float | None:
    """Return the wait that a ``Retry-After`` header requests, limited to 1 s to 5 min; ``None`` if invalid.

    Seconds or an HTTP date (RFC 9110 §10.2.3); ``now_seconds`` is wall time.
    """
    if value is None:
        return None
    text = value.strip()
    if _DECIMAL.fullmatch(text):
        seconds = float(text)
    else:
        try:
            moment = parsedate_to_datetime(text)
        except _UNREADABLE_DATE:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = moment.timestamp() - now_seconds
    return min(max(seconds, RETRY_AFTER_FLOOR_SECONDS), RETRY_AFTER_CAP_SECONDS)


def parse_server_duration(headers: Mapping[str, str]) -> float | None:
    """Return the duration in seconds that Twilio measured (``Twilio-Request-Duration``), ``None`` if invalid."""
    text = headers.get("twilio-request-duration", "").strip()
    if not _DECIMAL.fullmatch(text):
        return None
    seconds = float(text)
    return seconds if seconds >= 0 and math.isfinite(seconds) else None


def parse_concurrent_requests(headers: Mapping[str, str]) -> int | None:
    """Return the account's number of concurrent requests that Twilio saw, ``None`` if invalid.

    ``Twilio-Concurrent-Requests`` includes the request itself, so 0 is invalid.
    """
    text = headers.get("twilio-concurrent-requests", "").strip()
    return int(text) if _COUNT.fullmatch(text) else None


def parse_request_id(headers: Mapping[str, str], identity: str = "") -> str:
    """Return the ``Twilio-Request-Id``, or an empty string if it is missing, invalid or contains the identity.

    Pages and logs show it, and anybody between here and Twilio can set the header.
    """
    request_id = _matching(headers.get("twilio-request-id", "").strip(), _REQUEST_ID)
    return "" if identity and identity.casefold() in request_id.casefold() else request_id


def parse_redirect_host(location: str, origin_host: str, identity: str = "") -> str:
    """Return the host, and the port if given, that a ``Location`` header leads to; empty if it is invalid.

    ``origin_host`` is the host of the request, to which a relative location leads. The rest of a location is left
    out, because its path contains the identity; so is a host that contains it.
    """
    if not location or "\\" in location or not (location.isascii() and location.isprintable()):
        return ""
    try:
        parts = urlsplit(location.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        return ""
    if not (parts.netloc or parts.scheme):
        return "" if ":" in parts.path.partition("/")[0] else origin_host
    if parts.scheme not in ("", "http", "https") or not host or len(host) > _LONGEST_HOST:
        return ""
    if not (_HOST_NAME.fullmatch(host) or _is_ipv6(host)) or (identity and identity.lower() in host):
        return ""
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


def _is_ipv6(host: str) -> bool:
    try:
        return IPv6Address(host).scope_id is None
    except ValueError:
        return False


def parse_age(headers: Mapping[str, str]) -> int | None:
    """Return the age of a response in seconds (``Age``, RFC 9111 §5.1), ``None`` if missing or invalid.

    Of several ages, the first is the one of the nearest cache.
    """
    given = headers.get("age")
    if given is None:
        return None
    text = given.partition(",")[0].strip()
    if not _SECONDS.fullmatch(text):
        return None
    return int(text) if len(text) <= _MOST_DIGITS else 10**_MOST_DIGITS


def parse_date(headers: Mapping[str, str]) -> float | None:
    """Return the time in seconds since the epoch at which a response was made (``Date``, RFC 9110 §6.6.1).

    ``None`` if it is missing, invalid, or given twice.
    """
    given = headers.get("date", "")
    if len(given) > _LONGEST_DATE or "," in given[_DAY_OF_THE_WEEK:]:  # two dates are joined by a comma
        return None
    return _date_seconds(given)


@lru_cache(maxsize=64)  # the responses of a second have the same date
def _date_seconds(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except _UNREADABLE_DATE:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
