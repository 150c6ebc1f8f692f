"""The OpenAPI description of every path but the pages; the parameters are those that the handlers read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from exporter import __version__
from exporter.config import LogLevel
from exporter.polling.probe import FRESH_SECONDS
from exporter.polling.record import STATUSES
from exporter.verify.outcome import Reason
from exporter.web import api, probe
from exporter.web.negotiation import OPENMETRICS_CONTENT_TYPE
from exporter.web.parameters import ACCOUNT_PATTERN, SERVICE_SID_PATTERN, Parameter
from exporter.web.views import AccountView, FactorView

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TEXT = "text/plain"
JSON = "application/json"
OPENMETRICS = OPENMETRICS_CONTENT_TYPE.partition(";")[0]

_INTRODUCTION = (
    "What the exporter answers beside its pages. Factors and accounts are shown as they are known from polling; "
    "only `/probe` asks the Verify API. An error answer is a line of plain text that names the place and the hint. "
    "`/probe` and `/api/v1` refuse with 400 a parameter that is unknown, given twice or malformed; the other paths "
    "have none and look at none. Every path that takes GET takes HEAD too; other methods are refused with 405. The "
    "web configuration file may ask for a user name and a password everywhere but at `/-/healthy` and `/-/ready`."
)
_TIME = "seconds since the epoch"

FACTOR_FIELDS: Mapping[str, str] = {
    "account": "Name of the account.",
    "service_sid": "SID of the Verify service.",
    "factor": "The factor's name.",
    "factor_sid": "The factor's SID.",
    "factor_type": "What kind of factor the API said it is; empty until a fetch told it.",
    "labels": "The user's own labels.",
    "status": "What may be claimed now; `unknown` where it was never learnt, or not for too long.",
    "paused": "Whether the watchlist pauses it: it is listed and not fetched.",
    "up": "Whether the last fetch got a definite answer; null before the first one.",
    "interval_seconds": "The interval in force.",
    "last_success_seconds": f"When the last definite answer came, in {_TIME}.",
    "last_verified_seconds": f"When the API last said verified, in {_TIME}.",
    "last_fetch_seconds": f"When the last fetch ended, in {_TIME}.",
    "last_fetch_duration_seconds": "How long it took, retries and the pauses between them included.",
    "last_fetch_attempts": "How many requests it made.",
    "last_fetch_request_id": "Twilio's name for its last request.",
    "failures": "Fetches without a definite answer, as in the counter of the metrics.",
    "last_failure": "Why the last fetch failed, in words; null where it did not.",
    "last_failure_reason": "The same as one of a closed list of reasons.",
    "hint": "What to do about it.",
}
ACCOUNT_FIELDS: Mapping[str, str] = {
    "account": "Name of the account.",
    "credentials_valid": "Whether the credentials are good; null before the first answer.",
    "paused": "Whether nothing of the account is fetched for now.",
    "paused_for": "Why it is paused.",
    "paused_until_seconds": f"When a pause for a rate limit ends, in {_TIME}.",
    "probe_at_seconds": f"When refused credentials are tried again, in {_TIME}.",
    "factors": "How many of its factors are polled.",
    "queue_length": "How many of them are due and wait for a slot.",
    "in_flight": "Requests under way.",
    "concurrency_limit": "Requests that may be under way now; a rate limit lowers it.",
    "max_concurrency": "Requests that may ever be under way.",
    "requests_per_second": "Requests that may begin in a second.",
    "demand_requests_per_second": "Requests a second that the unstretched intervals ask.",
    "budget_requests_per_second": "Requests a second that the account can make.",
    "stretch": "By how much its intervals are stretched; 1 is not at all.",
    "latency_seconds": "Mean duration of the latest requests; null until it is measured.",
    "client_rotations": "How often its HTTP client was replaced because it was jammed.",
}
_CLOSED_LISTS: Mapping[str, list[str]] = {
    "status": [str(status) for status in STATUSES],
    "last_failure_reason": [str(reason) for reason in Reason],
    "paused_for": ["credentials", "rate_limited"],
}


def describe(telemetry_path: str) -> dict[str, Any]:
    """Return the description of an exporter whose metrics are at this path."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "verify-factor-exporter",
            "version": __version__,
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": {path: _path(path, operations) for path, operations in _paths(telemetry_path).items()},
        "components": {
            "schemas": {
                "Factor": _schema(FactorView, FACTOR_FIELDS),
                "Account": _schema(AccountView, ACCOUNT_FIELDS),
            },
        },
    }


def _paths(telemetry_path: str) -> dict[str, dict[str, dict[str, Any]]]:
    factor_path = [
        _in_path("account", "Name of the account.", ACCOUNT_PATTERN),
        _in_path("service_sid", "SID of the service, upper and lower case alike.", SERVICE_SID_PATTERN),
        _in_path("factor", "The factor's name, percent-encoded."),
    ]
    listed = _object(
        {
            "total": {"type": "integer", "minimum": 0, "description": "How many factors fit, on all pages."},
            "factors": {"type": "array", "items": _reference("Factor"), "maxItems": api.MOST_FACTORS},
        }
    )
    accounts = _object({"accounts": {"type": "array", "items": _reference("Account")}})
    exposition = {TEXT: _ANY_TEXT, OPENMETRICS: _ANY_TEXT}
    return {
        telemetry_path: {
            "get": _operation(
                "metrics",
                "Every metric, as of one moment",
                "The format follows `Accept`: OpenMetrics 1.0, or the text format 0.0.4; compressed with gzip "
                "where `Accept-Encoding` allows it.",
                {200: ("The metrics.", exposition)},
            )
        },
        "/probe": {
            "get": _operation(
                "probe",
                "Fetch one watched factor now, and answer its metrics",
                "Takes part in the account's budget, joins a fetch of the factor that is under way, and makes none "
                f"where an answer is younger than {FRESH_SECONDS:g} s. A fetch that fails answers with 200 "
                "and what is known: `twilio_verify_factor_up` is 0. A factor that the watchlist pauses isn't "
                "fetched, and has its info metric only.",
                {
                    200: ("The factor's metrics after the fetch.", exposition),
                    400: ("A parameter can't be used, or several factors have the name: the answer lists them.",),
                    403: ("`web.enable_probe` is false, or a page of another site asks.",),
                    404: ("No such factor is watched.",),
                    503: ("The account is paused, too many probes wait, or the exporter is stopping.",),
                    504: ("No outcome came in the client's time. The fetch goes on.",),
                },
                probe.PARAMETERS,
            )
        },
        "/api/v1/factors": {
            "get": _operation(
                "factors",
                "The watched factors, what is wrong first",
                "",
                {
                    200: (
                        "One page of those that fit; of many thousands some may have changed since.",
                        {JSON: listed},
                    ),
                    400: _MALFORMED,
                },
                api.FACTORS_PARAMETERS,
            )
        },
        "/api/v1/factors/{account}/{service_sid}/{factor}": {
            "get": _operation(
                "factor",
                "One watched factor",
                "",
                {
                    200: ("The factor.", {JSON: _reference("Factor")}),
                    400: _MALFORMED,
                    404: ("No such factor is watched.",),
                },
                factor_path,
            )
        },
        "/api/v1/accounts": {
            "get": _operation(
                "accounts",
                "What each account may spend, spends, and is held by",
                "",
                {200: ("Every account.", {JSON: accounts}), 400: _MALFORMED},
            )
        },
        "/api/v1/openapi.json": {
            "get": _operation(
                "openapi",
                "This description",
                "",
                {200: ("An OpenAPI 3.1 document.", {JSON: {"type": "object"}}), 400: _MALFORMED},
            )
        },
        "/config": {
            "get": _operation(
                "config",
                "The configuration in force",
                "As TOML, flags and environment included; secrets and identities are shown as `[redacted]`.",
                {200: ("The configuration.", {TEXT: _ANY_TEXT})},
            )
        },
        "/-/healthy": {
            "get": _operation(
                "healthy",
                "Whether the scheduler ticks",
                "Never tied to the health of the Verify API. Needs no credentials.",
                {200: ("The last tick is at most 15 s old.",), 503: ("It is older.",)},
            )
        },
        "/-/ready": {
            "get": _operation(
                "ready",
                "Whether the first looks are done",
                "Needs no credentials.",
                {200: ("They are, or `polling.interval` has passed.",), 503: ("They aren't, or it is stopping.",)},
            )
        },
        "/-/reload": {
            "post": _operation(
                "reload",
                "Read the configuration anew",
                "",
                {
                    200: ("It is in force: how many factors were added, removed and changed.",),
                    403: _LIFECYCLE_CLOSED,
                    500: ("It was refused, the one before stays in force: every fault with its place.",),
                    503: ("The exporter is stopping.",),
                },
            )
        },
        "/-/log-level": {
            "put": {
                **_operation(
                    "log_level",
                    "Log from this level on",
                    "It lasts until the configuration's own level changes, or a restart.",
                    {
                        200: ("It does.",),
                        400: ("There is no such level; the answer names them.",),
                        403: _LIFECYCLE_CLOSED,
                    },
                ),
                "requestBody": {
                    "required": True,
                    "content": {TEXT: {"schema": {"type": "string", "enum": [str(level) for level in LogLevel]}}},
                },
            }
        },
    }


_ANY_TEXT: dict[str, Any] = {"type": "string"}
_MALFORMED = ("A parameter can't be used: which, why, and what it may be.",)
_LIFECYCLE_CLOSED = ("`web.enable_lifecycle` is false, or a page of another site asks.",)
_BUSY = "Too many requests are answered at this moment."
_AT_THE_GATE: Mapping[int, str] = {
    401: "The web configuration file lists users, and the request names none of them with its password.",
    413: "The request's body is too large.",
    429: "The web configuration file bounds the rate of requests, and this one is beyond it.",
    503: _BUSY,
}
_OPEN_TO_ALL = ("/-/healthy", "/-/ready")


def _path(path: str, operations: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the operations of a path with what holds for all; whatever takes GET takes HEAD too."""
    if path not in _OPEN_TO_ALL:
        for operation in operations.values():
            told = operation["responses"]
            for code, meaning in _AT_THE_GATE.items():
                if str(code) in told:
                    told[str(code)]["description"] += f" {meaning}"
                else:
                    told[str(code)] = {"description": meaning, "content": {TEXT: {"schema": _ANY_TEXT}}}
            operation["responses"] = dict(sorted(told.items()))
    if (get := operations.get("get")) is None:
        return operations
    responses = {code: {"description": told["description"]} for code, told in get["responses"].items()}
    summary = f"The headers of the answer to GET: {get['summary'][0].lower()}{get['summary'][1:]}"
    head = {**get, "operationId": f"{get['operationId']}_head", "summary": summary, "responses": responses}
    return {**operations, "head": head}


def _operation(
    name: str,
    summary: str,
    description: str,
    responses: Mapping[int, tuple[str] | tuple[str, dict[str, Any]]],
    takes: Iterable[Parameter] = (),
) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": name, "summary": summary}
    if description:
        operation["description"] = description
    if parameters_taken := [_parameter(parameter) for parameter in takes]:
        operation["parameters"] = parameters_taken
    operation["responses"] = {
        str(code): {
            "description": told[0],
            "content": {kind: {"schema": schema} for kind, schema in _content(told).items()},
        }
        for code, told in responses.items()
    }
    return operation


def _content(told: tuple[str] | tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return told[1] if len(told) == 2 else {TEXT: _ANY_TEXT}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.meaning,
        "required": parameter.required,
        "schema": dict(parameter.schema),
        **({"example": parameter.example} if parameter.example else {}),
    }


def _in_path(name: str, meaning: str, pattern: str = "") -> Parameter:
    schema = {"type": "string", "minLength": 1} | ({"pattern": pattern} if pattern else {})
    return Parameter(name, meaning, schema, required=True, place="path")


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _schema(kind: type, meanings: Mapping[str, str]) -> dict[str, Any]:
    """Return the schema of what ``as_json`` of a view gives; a field without a meaning is left undescribed."""
    told = TypeAdapter(kind).json_schema(mode="serialization")["properties"]
    properties: dict[str, Any] = {}
    for name, schema in told.items():
        shape = {key: value for key, value in schema.items() if key != "title"}
        if name in _CLOSED_LISTS:
            nullable = {"type": "null"} in shape.get("anyOf", ())
            shape = {"enum": [*_CLOSED_LISTS[name], *([None] if nullable else [])]}
        properties[name] = {"description": meanings.get(name, ""), **shape}
    return _object(properties)
