"""The permissions of a restricted API key: one per operation, and only those that are needed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from exporter.verify.outcome import Operation
from exporter.verify.permissions import OPTIONAL_PERMISSIONS, PERMISSIONS, needed_permissions

ROOT = Path(__file__).parents[2]
SECURITY, OPERATIONS = ROOT / "docs" / "security.md", ROOT / "docs" / "operations.md"


def test_every_operation_has_its_own_permission() -> None:
    assert PERMISSIONS.keys() == set(Operation)
    assert len(set(PERMISSIONS.values())) == len(PERMISSIONS)


@pytest.mark.parametrize(
    ("entities", "services", "listings"),
    [
        (False, False, []),
        (True, False, [Operation.LIST]),
        (False, True, [Operation.LIST, Operation.LIST_ENTITIES]),
        (True, True, [Operation.LIST, Operation.LIST_ENTITIES]),
    ],
)
def test_only_what_the_configuration_needs(entities: bool, services: bool, listings: list[Operation]) -> None:
    operations = [Operation.FETCH, *listings, Operation.SERVICE]
    needed = needed_permissions(entities=entities, services=services)
    assert needed == tuple(PERMISSIONS[operation] for operation in operations)


def test_only_fetch_service_is_optional() -> None:
    assert {PERMISSIONS[Operation.SERVICE]} == OPTIONAL_PERMISSIONS


def test_the_pages_name_every_permission_and_no_other() -> None:
    for page in (SECURITY, OPERATIONS):
        named = re.findall(r"/twilio/[\w/]+", page.read_text(encoding="utf-8"))
        assert set(named) == set(PERMISSIONS.values()), page.name


def test_the_policy_on_the_page_is_the_one_that_everything_needs() -> None:
    [policy] = re.findall(r"^Policy=(.*)$", SECURITY.read_text(encoding="utf-8"), re.MULTILINE)

    assert json.loads(policy) == {"allow": list(needed_permissions(entities=True, services=True))}
