"""The OpenAPI description is complete, valid, and matches every response in these tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from exporter.verify.outcome import Failure, Reason
from exporter.web.openapi import ACCOUNT_FIELDS, FACTOR_FIELDS, HISTORY_FIELDS, describe
from tests.support.api_description import Description
from tests.support.served_exporter import NOT_FOUND, SERVICE_SID, UNVERIFIED, VERIFIED, entries, serving
from tools.reference.api import render

if TYPE_CHECKING:
    from pathlib import Path

PAGES = ("/", "/factors/", "/static/")  # HTML and its files


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, op) for path, methods in document["paths"].items() for method, op in methods.items()]


async def test_every_path_of_the_server_is_described_with_its_methods(tmp_path: Path) -> None:
    async with serving(tmp_path, web={"telemetry_path": "/all/metrics"}) as running:
        document = json.loads((await running.request("/api/v1/openapi.json")).text)
        router = running.daemon.server._runner.app.router
        served = {
            (resource.canonical, route.method.lower())
            for resource in router.resources()
            for route in resource
            if resource.canonical != "/" and not resource.canonical.startswith(PAGES[1:])
        }
    assert {(path, method) for path, method, _ in operations(document)} == served
    assert "/all/metrics" in document["paths"]


def test_the_description_is_sound() -> None:
    document = describe("/metrics")
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for _, _, operation in operations(document):
        assert operation["summary"]
        for parameter in operation.get("parameters", ()):
            assert parameter["description"]
            Draft202012Validator.check_schema(parameter["schema"])
        for response in operation["responses"].values():
            assert response["description"]


@pytest.mark.parametrize(
    ("schema", "meanings"),
    [
        ("Factor", FACTOR_FIELDS),
        ("FactorWithHistory", {**FACTOR_FIELDS, **HISTORY_FIELDS}),
        ("Account", ACCOUNT_FIELDS),
    ],
)
def test_every_field_has_a_meaning_and_no_meaning_is_left_over(schema: str, meanings: dict[str, str]) -> None:
    properties = describe("/metrics")["components"]["schemas"][schema]["properties"]
    assert list(properties) == list(meanings)
    assert all(shape["description"] for shape in properties.values())


async def test_responses_of_every_kind_are_as_described(tmp_path: Path) -> None:
    watched = [*entries("a", "b", "c", "d", "e", labels={"team": "x"}), *entries("f", account="other", paused=True)]
    async with serving(tmp_path, watched, accounts=("main", "other")) as running:
        running.apply("a", VERIFIED)
        running.apply("b", UNVERIFIED)
        running.apply("c", NOT_FOUND)
        for reason in Reason:
            running.apply("d", Failure(reason))
            assert (await running.request("/api/v1/factors")).status == 200
        for refused in (False, True):
            if refused:
                account = running.daemon.engine.poller.accounts["main"]
                account._refusals.guard.pause(running.daemon.engine.clock.steady())
                running.daemon.engine.poller.accounts["other"].throttle.paused_until = (
                    running.daemon.engine.clock.steady() + 60
                )
            assert (await running.request("/api/v1/accounts")).status == 200
        for name in "abcdef":
            account_name = "other" if name == "f" else "main"
            assert (await running.request(f"/api/v1/factors/{account_name}/{SERVICE_SID}/{name}")).status == 200
        assert (await running.request(f"/api/v1/factors/main/{SERVICE_SID}/f")).status == 404
        assert (await running.request("/api/v1/accounts?x=1")).text == (
            "x: unknown parameter; /api/v1/accounts accepts none\n"
        )


@pytest.mark.parametrize(
    ("method", "path", "status", "kind", "body", "problem"),
    [
        ("GET", "/api/v1/accounts", 200, "application/json", b'{"accounts": []}', None),
        ("GET", "/api/v1/accounts?x", 200, "application/json; charset=utf-8", b'{"accounts": []}', None),
        ("GET", "/api/v1/accounts", 200, "application/json", b"{}", "'accounts' is a required property"),
        ("GET", "/api/v1/accounts", 200, "application/json", b'{"accounts": [{}]}', "'paused' is a required"),
        ("GET", "/api/v1/accounts", 200, "text/plain", b"", "answers 200 as text/plain"),
        ("GET", "/api/v1/accounts", 404, "text/plain", b"", "answers 404"),
        ("HEAD", "/api/v1/accounts", 200, "application/json", b"x", "answers a body"),
        ("POST", "/api/v1/accounts", 200, "text/plain", b"", "POST /api/v1/accounts answers 200"),
        ("POST", "/api/v1/accounts", 405, "text/plain", b"405", None),
        ("GET", "/nowhere", 404, "text/plain", b"", None),
        ("GET", "/api/v1/factors/main/VA1/x", 500, "text/plain", b"", None),
    ],
)
def test_what_contradicts_the_description_is_found(
    method: str, path: str, status: int, kind: str, body: bytes, problem: str | None
) -> None:
    found = Description().contradiction(method, path, status, kind, body)
    assert found is None if problem is None else problem in (found or "")


def test_the_documentation_is_up_to_date(pytestconfig: pytest.Config) -> None:
    page = pytestconfig.rootpath / "docs" / "api.md"
    assert page.read_text(encoding="utf-8") == render(), "regenerate it: python -m tools.reference.api"
