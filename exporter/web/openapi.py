"""The OpenAPI description of every path except the pages, from the same parameters that the handlers read.

The meaning of every field and status code is here; docs/api.md is generated from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from exporter import __version__
from exporter.config import LogLevel
from exporter.polling.pause import PauseReason
from exporter.polling.probe import FRESH_SECONDS
from exporter.polling.record import STATUSES
from exporter.polling.status_history import KEPT_SECONDS
from exporter.verify.outcome import Reason, Status
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
    "The HTTP interface of the exporter, without its pages. Factors and accounts are reported as known from "
    "polling; only `/probe` sends requests to the Verify API. An error response is plain text that says what is "
    "wrong and what to do. `/probe` and `/api/v1` respond with 400 to unknown, repeated and malformed parameters; "
    "the other paths take no parameters and ignore them. Every path that supports GET supports HEAD; other methods "
    "get 405. The web configuration file can require a user name and a password on all paths except `/-/healthy` "
    "and `/-/ready`."
)
_TIME = "seconds since the epoch"

FACTOR_FIELDS: Mapping[str, str] = {
    "account": "Name of the account.",
    "service_sid": "SID of the Verify service.",
    "factor": "The factor's name.",
    "factor_sid": "The factor's SID.",
    "factor_type": "The factor's type as the API reports it, such as `push`; empty until the first answer.",
    "labels": "The labels from the watchlist.",
    "status": "The last known status; `unknown` before the first answer, and when the last answer is too old.",
    "paused": "Whether the watchlist pauses the factor: it is listed, but not polled.",
    "up": "Whether the last fetch got a definite answer; null before the first fetch.",
    "interval_seconds": "The interval in effect.",
    "last_success_seconds": f"When the last definite answer was received, in {_TIME}.",
    "last_verified_seconds": f"When the API last reported the factor as verified, in {_TIME}.",
    "last_fetch_seconds": f"When the last fetch ended, in {_TIME}.",
    "last_fetch_duration_seconds": "How long the last fetch took, including retries and backoff.",
    "last_fetch_attempts": "How many requests the last fetch sent.",
    "last_fetch_http_status": "The HTTP status of the last fetch's response; null if it got none.",
    "last_fetch_twilio_code": "The code of the Twilio error in that response; null if it was none.",
    "last_fetch_request_id": "Twilio's ID of the last request of the last fetch.",
    "last_change_seconds": f"When the status last changed, in {_TIME}; null, as are the next fields, if it has not "
    "changed since the exporter's start.",
    "last_change_from": "The status before that change.",
    "last_change_to": "The status after that change.",
    "last_change_http_status": "The HTTP status of the response that changed it.",
    "last_change_twilio_code": "The code of the Twilio error in that response; null if it was none.",
    "last_change_request_id": "Twilio's ID of the request that changed it.",
    "failures": "Failed fetches, as counted in the metrics.",
    "last_failure": "Why the last fetch failed, as text; null if it did not fail.",
    "last_failure_reason": "Why the last fetch failed, as one of a closed list.",
    "hint": "What to do about the failure.",
}
_UNOBSERVED = (
    "`unknown` stands for what was not observed: before the first answer, when the last answer was too old, and "
    "while the factor was paused or not watched, or the exporter did not run"
)
HISTORY_FIELDS: Mapping[str, dict[str, Any]] = {
    "status_history_since_seconds": {
        "description": f"Since when the status history is complete, in {_TIME}: at most {KEPT_SECONDS / 86_400:g} "
        "days, and over restarts if there is a state file.",
        "type": "number",
    },
    "status_history": {
        "description": f"The changes of the status since then, newest first: `seconds` ({_TIME}), `from` and `to`. "
        f"{_UNOBSERVED}; `from` is null in the oldest one if that status had begun before.",
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "seconds": {"type": "number"},
                "from": {"enum": [*map(str, STATUSES), None]},
                "to": {"enum": [*map(str, STATUSES)]},
            },
            "required": ["seconds", "from", "to"],
            "additionalProperties": False,
        },
    },
}
ACCOUNT_FIELDS: Mapping[str, str] = {
    "account": "Name of the account.",
    "credentials_valid": "Whether the API accepts the credentials; null before the first response.",
    "paused": "Whether polling of the account is paused.",
    "paused_for": "Why it is paused.",
    "paused_until_seconds": f"When a pause because of a rate limit ends, in {_TIME}.",
    "probe_at_seconds": f"When refused credentials are probed again, in {_TIME}.",
    "factors": "How many of its factors are polled.",
    "queue_length": "How many of them are due and queued.",
    "in_flight": "Requests in flight.",
    "concurrency_limit": "How many requests may be in flight now; a rate limit lowers it.",
    "max_concurrency": "The configured maximum of `concurrency_limit`.",
    "requests_per_second": "The configured rate limit.",
    "demand_requests_per_second": "Requests per second that the unstretched intervals need.",
    "budget_requests_per_second": "Requests per second that the rate limit and the concurrency allow.",
    "stretch": "The factor by which the account's intervals are lengthened; 1 if it is within its budget.",
    "latency_seconds": "Mean duration of recent requests; null until measured.",
    "client_rotations": "How often the account's HTTP client was replaced because requests were stuck.",
    "service_exists": "Whether a service of which factors are missing exists, by its SID, as the API last "
    "answered; services of which that is not known are left out.",
}
_CLOSED_LISTS: Mapping[str, list[str]] = {
    "status": [str(status) for status in STATUSES],
    "last_change_from": [str(status) for status in Status],
    "last_change_to": [str(status) for status in Status],
    "last_failure_reason": [str(reason) for reason in Reason],
    "paused_for": [str(reason) for reason in PauseReason],
}


def describe(telemetry_path: str) -> dict[str, Any]:
    """Return the description of an exporter whose metrics are at this path."""
    factor = _schema(FactorView, FACTOR_FIELDS)
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
                "Factor": factor,
                "FactorWithHistory": _object(factor["properties"] | dict(HISTORY_FIELDS)),
                "Account": _schema(AccountView, ACCOUNT_FIELDS),
            },
        },
    }


def _paths(telemetry_path: str) -> dict[str, dict[str, dict[str, Any]]]:
    factor_path = [
        _in_path("account", "Name of the account.", ACCOUNT_PATTERN),
        _in_path("service_sid", "SID of the service, in upper or lower case.", SERVICE_SID_PATTERN),
        _in_path("factor", "The factor's name, percent-encoded."),
    ]
    listed = _object(
        {
            "total": {"type": "integer", "minimum": 0, "description": "How many factors match, on all pages."},
            "factors": {"type": "array", "items": _reference("Factor"), "maxItems": api.MOST_FACTORS},
        }
    )
    accounts = _object({"accounts": {"type": "array", "items": _reference("Account")}})
    exposition = {TEXT: _ANY_TEXT, OPENMETRICS: _ANY_TEXT}
    return {
        telemetry_path: {
            "get": _operation(
                "metrics",
                "All metrics",
                "`Accept` selects OpenMetrics 1.0 or the text format 0.0.4; `Accept-Encoding` enables gzip. "
                "All values are of the same moment.",
                {200: ("The metrics.", exposition)},
            )
        },
        "/probe": {
            "get": _operation(
                "probe",
                "Fetch one watched factor now, and return its metrics",
                "The fetch counts against the account's budget. If a fetch of the factor is in flight, the probe "
                f"waits for that one; if the last answer is younger than {FRESH_SECONDS:g} s, nothing is fetched. "
                "A failed fetch returns 200 with the last known values and `twilio_verify_factor_up` 0. A factor "
                "that the watchlist pauses is not fetched and has its info metric only.",
                {
                    200: ("The factor's metrics after the fetch.", exposition),
                    400: ("A parameter is invalid, or several factors have the name: the response lists them.",),
                    403: ("`web.enable_probe` is false, the request is cross-site, or its host is not allowed.",),
                    404: ("No such factor is watched.",),
                    503: ("The account is paused, too many probes are waiting, or the exporter is stopping.",),
                    504: ("The fetch did not end before the client's timeout. It goes on.",),
                },
                probe.PARAMETERS,
            )
        },
        "/api/v1/factors": {
            "get": _operation(
                "factors",
                "The watched factors, problems first",
                "",
                {
                    200: (
                        "One page of the matching factors. The order may change between two requests.",
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
                    200: ("The factor.", {JSON: _reference("FactorWithHistory")}),
                    400: _MALFORMED,
                    404: ("No such factor is watched.",),
                },
                factor_path,
            )
        },
        "/api/v1/accounts": {
            "get": _operation(
                "accounts",
                "Budget, use and pause of every account",
                "",
                {200: ("All accounts.", {JSON: accounts}), 400: _MALFORMED},
            )
        },
        "/api/v1/openapi.json": {
            "get": _operation(
                "openapi",
                "This OpenAPI description",
                "",
                {200: ("An OpenAPI 3.1 document.", {JSON: {"type": "object"}}), 400: _MALFORMED},
            )
        },
        "/config": {
            "get": _operation(
                "config",
                "The applied configuration",
                "TOML, including flags and environment variables; secrets and identities are `[redacted]`.",
                {200: ("The configuration.", {TEXT: _ANY_TEXT})},
            )
        },
        "/-/healthy": {
            "get": _operation(
                "healthy",
                "Whether the scheduler runs",
                "Independent of the Verify API. Never requires credentials.",
                {200: ("The scheduler ran within the last 15 s.",), 503: ("It did not.",)},
            )
        },
        "/-/ready": {
            "get": _operation(
                "ready",
                "Whether the first fetches have ended",
                "Never requires credentials.",
                {
                    200: ("They have, or `polling.interval` has passed since the start.",),
                    503: ("They have not, the exporter is stopping, or it runs on the last good watchlist.",),
                },
            )
        },
        "/-/verified": {
            "get": _operation(
                "verified",
                "Whether the credentials of every account work",
                "For tests of an installation (`healthcheck --verified`, `helm test`), never for probes: it "
                "depends on the Verify API. One line per account: whether it passes, and how many of its unpaused "
                "factors the API knows, by fetches of this process. The last line is the shard, with the number "
                "of listed factors that belong to it, and of all.",
                {
                    200: ("Each account with unpaused factors has its credentials accepted and one factor found.",),
                    503: ("The response says which account fails, and why.",),
                },
            )
        },
        "/-/reload": {
            "post": _operation(
                "reload",
                "Reload the configuration",
                "",
                {
                    200: (
                        "Applied; the response counts the factors that were added, removed, changed and restored.",
                    ),
                    403: _LIFECYCLE_DISABLED,
                    500: ("Refused; the old configuration stays applied, and the response lists every error.",),
                    503: ("The exporter is stopping.",),
                },
            )
        },
        "/-/log-level": {
            "put": {
                **_operation(
                    "log_level",
                    "Set the log level",
                    "It applies until the level in the configuration changes, or until a restart.",
                    {
                        200: ("The level is set.",),
                        400: ("The level is invalid; the response lists the valid ones.",),
                        403: _LIFECYCLE_DISABLED,
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
_MALFORMED = ("A parameter is unknown, repeated or malformed.",)
_LIFECYCLE_DISABLED = ("`web.enable_lifecycle` is false, the request is cross-site, or its host is not allowed.",)
_BUSY = "Too many requests at once."
_ON_EVERY_PATH: Mapping[int, str] = {
    401: "The web configuration file lists users, and the request lacks a valid user name and password.",
    413: "The request body is too large.",
    429: "The request exceeds the rate limit in the web configuration file.",
    503: _BUSY,
}
_NEVER_AUTHENTICATED = ("/-/healthy", "/-/ready")


def _path(path: str, operations: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the operations of a path with the responses of every path, and with HEAD beside GET."""
    if path not in _NEVER_AUTHENTICATED:
        for operation in operations.values():
            responses = operation["responses"]
            for code, meaning in _ON_EVERY_PATH.items():
                if str(code) in responses:
                    responses[str(code)]["description"] += f" {meaning}"
                else:
                    responses[str(code)] = {"description": meaning, "content": {TEXT: {"schema": _ANY_TEXT}}}
            operation["responses"] = dict(sorted(responses.items()))
    if (get := operations.get("get")) is None:
        return operations
    bodiless = {code: {"description": found["description"]} for code, found in get["responses"].items()}
    summary = f"Headers only: {get['summary'][0].lower()}{get['summary'][1:]}"
    head = {**get, "operationId": f"{get['operationId']}_head", "summary": summary, "responses": bodiless}
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
            "description": response[0],
            "content": {kind: {"schema": schema} for kind, schema in _content(response).items()},
        }
        for code, response in responses.items()
    }
    return operation


def _content(response: tuple[str] | tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return response[1] if len(response) == 2 else {TEXT: _ANY_TEXT}


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
    """Return the schema of a view's ``as_json``; a field without a meaning has an empty description."""
    described = TypeAdapter(kind).json_schema(mode="serialization")["properties"]
    properties: dict[str, Any] = {}
    for name, schema in described.items():
        shape = {key: value for key, value in schema.items() if key != "title"}
        if name in _CLOSED_LISTS:
            nullable = {"type": "null"} in shape.get("anyOf", ())
            shape = {"enum": [*_CLOSED_LISTS[name], *([None] if nullable else [])]}
        properties[name] = {"description": meanings.get(name, ""), **shape}
    return _object(properties)
