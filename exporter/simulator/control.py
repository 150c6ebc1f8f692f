"""The endpoints below /simulator/, to inspect and change a running simulator from outside."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from exporter.simulator.answers import SimulatedResponse, json_answer
from exporter.simulator.factors import FactorStatus, FactorType, SimulatedEntity, SimulatedFactor, SimulatedService
from exporter.simulator.faults import FaultError
from exporter.simulator.faultspec import as_document, fault_from_mapping

if TYPE_CHECKING:
    from exporter.simulator.calls import CallCounts
    from exporter.simulator.credentials import Credentials
    from exporter.simulator.faults import FaultSet
    from exporter.simulator.oauth import OAuthApp
    from exporter.simulator.world import SimulatedApi

INDEX = """\
Simulator of the Twilio Verify API (all data is generated; no Twilio account is needed)

API (HTTP basic authentication, or an access token)
  GET    /v2/Services/{ServiceSid}
  GET    /v2/Services/{ServiceSid}/Entities
  GET    /v2/Services/{ServiceSid}/Entities/{Identity}/Factors
  GET    /v2/Services/{ServiceSid}/Entities/{Identity}/Factors/{Sid}
  POST   /v2/token                   issue an access token (OAuth 2.0 client credentials)

Controls (no authentication)
  GET    /simulator/factors          list all factors, including deleted ones
  POST   /simulator/factors          add a factor; optional: service_sid, identity, factor_sid, factor_type,
                                     status, friendly_name, notification_platform
  PUT    /simulator/factors/{Sid}    {"status": "verified"} or {"status": "unverified"}
  DELETE /simulator/factors/{Sid}    delete it (the API returns 404); PUT restores it
  POST   /simulator/factors/{Sid}/approvals   a challenge is approved; for verified passkeys factors
  GET    /simulator/entities         list all entities, including deleted ones
  POST   /simulator/entities         add an entity without factors; optional: service_sid, identity
  DELETE /simulator/entities/{Sid}   delete it (the API returns 404 for it and its factors); PUT restores it
  GET    /simulator/services         list all services, including deleted ones
  DELETE /simulator/services/{Sid}   delete it (the API returns 404 for it and its factors); PUT restores it
  GET    /simulator/faults           list the active faults
  POST   /simulator/faults           inject a fault: {"kind": "status", "status": 429, "retry_after": 5, "times": 3}
  DELETE /simulator/faults           remove all faults
  DELETE /simulator/faults/{id}      remove one fault
  PUT    /simulator/password         {"password": "..."}, effective immediately
  GET    /simulator/oauth            show the OAuth app: token_url, client_id, client_secret, expires_in
  PUT    /simulator/oauth            change it: {"client_secret": "...", "expires_in": 60}, effective immediately
  DELETE /simulator/tokens           revoke all access tokens
  GET    /simulator/calls            API request counts, and the latest requests
"""

_FACTOR_FIELDS = (
    "service_sid",
    "identity",
    "factor_sid",
    "factor_type",
    "status",
    "friendly_name",
    "notification_platform",
)
_ENTITY_FIELDS = ("service_sid", "identity")
_SETTABLE = (FactorStatus.VERIFIED, FactorStatus.UNVERIFIED)


class _RefusedError(Exception):
    """A refused control request; ``field`` is the invalid JSON field, if any."""

    def __init__(self, message: str, *, status: int = 400, field: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.field = field


class Controls:
    """Answers the control endpoints; ``now`` is a Unix time in seconds."""

    def __init__(
        self, world: SimulatedApi, faults: FaultSet, credentials: Credentials, oauth: OAuthApp, calls: CallCounts
    ) -> None:
        self._world = world
        self._faults = faults
        self._credentials = credentials
        self._oauth = oauth
        self._calls = calls

    def answer(self, method: str, path: str, body: bytes, base_url: str, now: float) -> SimulatedResponse:
        """Return the response to a control request; errors are ``{"error": …, "field": …}``."""
        try:
            return self._routed(method, path, body, base_url, now)
        except _RefusedError as refused:
            document: dict[str, object] = {"error": str(refused)}
            if refused.field is not None:
                document["field"] = refused.field
            return json_answer(document, refused.status)

    def _routed(self, method: str, path: str, body: bytes, base_url: str, now: float) -> SimulatedResponse:
        match path.removeprefix("/").split("/"):
            case [""]:
                return self._index(method)
            case ["simulator", "factors", *rest]:
                return self._factors_table(method, rest, body, base_url, now)
            case ["simulator", "entities", *rest]:
                return self._entities_table(method, rest, body, base_url, now)
            case ["simulator", "services", *rest]:
                return self._services_table(method, rest, base_url)
            case ["simulator", "faults", *rest]:
                return self._faults_table(method, rest, body)
            case ["simulator", "password"]:
                return self._password(method, body)
            case ["simulator", "oauth"]:
                return self._app(method, body, base_url)
            case ["simulator", "tokens"]:
                _only(method, "DELETE")
                return json_answer({"revoked": self._oauth.revoke()})
            case ["simulator", "calls"]:
                return self._counts(method)
            case _:
                raise _RefusedError(f"no such endpoint: {path}; GET / lists all endpoints", status=404)

    def _index(self, method: str) -> SimulatedResponse:
        _only(method, "GET")
        return SimulatedResponse(200, INDEX.encode(), "text/plain; charset=utf-8")

    def _factors_table(
        self, method: str, rest: list[str], body: bytes, base_url: str, now: float
    ) -> SimulatedResponse:
        match rest:
            case []:
                _only(method, "GET", "POST")
                if method == "GET":
                    factors = self._world.factors.values()
                    return json_answer({"factors": [factor.document(base_url) for factor in factors]})
                return json_answer(self._new_factor(body, now).document(base_url), 201)
            case [sid]:
                _only(method, "PUT", "DELETE")
                status = FactorStatus.DELETED if method == "DELETE" else _settable_status(body)
                try:
                    changed = self._world.set_status(sid, status, now=now)
                except LookupError as missing:
                    raise _RefusedError(str(missing.args[0]), status=404) from None
                return json_answer(changed.document(base_url))
            case [sid, "approvals"]:
                _only(method, "POST")
                try:
                    return json_answer(self._world.approve(sid, now=now).document(base_url))
                except LookupError as missing:
                    raise _RefusedError(str(missing.args[0]), status=404) from None
                except ValueError as refused:
                    raise _RefusedError(str(refused), status=409) from None
            case _:
                raise _RefusedError("the path of a factor is /simulator/factors/{Sid}", status=404)

    def _new_factor(self, body: bytes, now: float) -> SimulatedFactor:
        given = _strings(body, _FACTOR_FIELDS)
        for name, accepted in (("factor_type", tuple(FactorType)), ("status", _SETTABLE)):
            if name in given and given[name] not in accepted:
                raise _RefusedError(f'{name}: "{given[name]}" must be one of {", ".join(accepted)}', field=name)
        try:
            return self._world.add_factor(now=now, **given)  # type: ignore[arg-type]  # all are strings
        except ValueError as refused:
            field, _, _ = str(refused).partition(":")
            status = 409 if "exists already" in str(refused) else 400
            raise _RefusedError(str(refused), status=status, field=field) from None

    def _entities_table(
        self, method: str, rest: list[str], body: bytes, base_url: str, now: float
    ) -> SimulatedResponse:
        match rest:
            case []:
                _only(method, "GET", "POST")
                if method == "GET":
                    entities = self._world.entities.values()
                    return json_answer({"entities": [_deletable(entity, base_url) for entity in entities]})
                given = _strings(body, _ENTITY_FIELDS)
                try:
                    added = self._world.add_entity(now=now, **given)
                except ValueError as refused:
                    raise _RefusedError(str(refused), field=str(refused).partition(":")[0]) from None
                return json_answer(_deletable(added, base_url), 201)
            case [sid]:
                _only(method, "PUT", "DELETE")
                try:
                    changed = self._world.set_entity(sid, deleted=method == "DELETE")
                except LookupError as missing:
                    raise _RefusedError(str(missing.args[0]), status=404) from None
                return json_answer(_deletable(changed, base_url))
            case _:
                raise _RefusedError("the path of an entity is /simulator/entities/{Sid}", status=404)

    def _services_table(self, method: str, rest: list[str], base_url: str) -> SimulatedResponse:
        match rest:
            case []:
                _only(method, "GET")
                services = self._world.services.values()
                return json_answer({"services": [_deletable(service, base_url) for service in services]})
            case [sid]:
                _only(method, "PUT", "DELETE")
                try:
                    changed = self._world.set_service(sid, deleted=method == "DELETE")
                except LookupError as missing:
                    raise _RefusedError(str(missing.args[0]), status=404) from None
                return json_answer(_deletable(changed, base_url))
            case _:
                raise _RefusedError("the path of a service is /simulator/services/{Sid}", status=404)

    def _faults_table(self, method: str, rest: list[str], body: bytes) -> SimulatedResponse:
        match rest:
            case []:
                _only(method, "GET", "POST", "DELETE")
                if method == "GET":
                    return json_answer({"faults": [self._fault(id_) for id_, _ in self._faults]})
                if method == "DELETE":
                    self._faults.clear()
                    return json_answer({"faults": []})
                try:
                    id_ = self._faults.add(fault_from_mapping(_json_object(body)))
                except FaultError as refused:
                    raise _RefusedError(str(refused), field=refused.field) from None
                return json_answer(self._fault(id_), 201)
            case [text]:
                _only(method, "DELETE")
                try:
                    self._faults.remove(int(text))
                except (ValueError, LookupError):
                    raise _RefusedError(f'no active fault has the id "{text}"', status=404) from None
                return json_answer({"removed": int(text)})
            case _:
                raise _RefusedError("the path of a fault is /simulator/faults/{id}", status=404)

    def _fault(self, id_: int) -> dict[str, object]:
        fault = dict(self._faults)[id_]
        return {"id": id_, **as_document(fault), "left": self._faults.left(id_)}

    def _password(self, method: str, body: bytes) -> SimulatedResponse:
        _only(method, "PUT")
        password = _json_object(body, ("password",)).get("password")
        try:
            self._credentials.password = password if isinstance(password, str) else ""
        except ValueError as refused:
            raise _RefusedError(str(refused), field="password") from None
        return json_answer({"password": password})

    def _app(self, method: str, body: bytes, base_url: str) -> SimulatedResponse:
        _only(method, "GET", "PUT")
        app = self._oauth
        if method == "PUT":
            values = _json_object(body, ("client_secret", "expires_in"))
            seconds = values.get("expires_in", app.expires_in)
            if isinstance(seconds, bool) or not isinstance(seconds, int | float | None):
                raise _RefusedError("expires_in: must be a number of seconds, or null", field="expires_in")
            secret = values.get("client_secret", app.client_secret)
            try:
                app.client_secret = secret if isinstance(secret, str) else ""
            except ValueError as refused:
                raise _RefusedError(str(refused), field="client_secret") from None
            app.expires_in = seconds
        return json_answer(
            {
                "token_url": f"{base_url}/v2/token",
                "client_id": app.client_id,
                "client_secret": app.client_secret,
                "expires_in": app.expires_in,
            }
        )

    def _counts(self, method: str) -> SimulatedResponse:
        _only(method, "GET")
        calls = self._calls
        return json_answer(
            {
                "total": calls.total,
                "by_operation": calls.by_operation(),
                "by_factor": dict(calls.by_factor),
                "in_flight": calls.in_flight,
                "max_in_flight": calls.max_in_flight,
                "log": [call._asdict() for call in calls.log],
            }
        )


def _deletable(of: SimulatedEntity | SimulatedService, base_url: str) -> dict[str, object]:
    return {**of.document(base_url), "deleted": of.deleted}


def _only(method: str, *accepted: str) -> None:
    if method not in accepted:
        raise _RefusedError(f"{method} is not allowed here; use {', '.join(accepted)}", status=405)


def _json_object(body: bytes, fields: tuple[str, ...] | None = None) -> dict[str, object]:
    try:
        values = json.loads(body or b"{}")
    except (ValueError, RecursionError) as unreadable:
        raise _RefusedError(f"the body is not JSON: {unreadable}") from None
    if not isinstance(values, dict):
        raise _RefusedError("the body is not a JSON object")
    for name in values:
        if fields is not None and name not in fields:
            raise _RefusedError(f"{name}: unknown field; accepted fields: {', '.join(fields)}", field=name)
    return values


def _strings(body: bytes, fields: tuple[str, ...]) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, value in _json_object(body, fields).items():
        if not isinstance(value, str):
            raise _RefusedError(f"{name}: {value!r} is not a string", field=name)
        given[name] = value
    return given


def _settable_status(body: bytes) -> FactorStatus:
    status = _json_object(body, ("status",)).get("status")
    if status not in _SETTABLE:
        raise _RefusedError(f"status: {status!r} must be one of {', '.join(_SETTABLE)}", field="status")
    return FactorStatus(str(status))
