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


def test_every_operation_with_credentials_has_its_own_permission() -> None:
    assert PERMISSIONS.keys() == set(Operation) - {Operation.TOKEN}
    assert len(set(PERMISSIONS.values())) == len(PERMISSIONS)


@pytest.mark.parametrize(
    ("entities", "services", "operations"),
    [
        (False, False, [Operation.FETCH, Operation.SERVICE]),
        (True, False, [Operation.FETCH, Operation.LIST, Operation.SERVICE]),
        (False, True, [Operation.FETCH, Operation.LIST, Operation.LIST_ENTITIES, Operation.SERVICE]),
        (True, True, [Operation.FETCH, Operation.LIST, Operation.LIST_ENTITIES, Operation.SERVICE]),
    ],
)
def test_only_what_the_configuration_needs(entities: bool, services: bool, operations: list[Operation]) -> None:
    needed = needed_permissions(entities=entities, services=services)
    assert needed == tuple(PERMISSIONS[operation] for operation in operations)


def test_only_fetch_service_is_optional() -> None:
    assert {PERMISSIONS[Operation.SERVICE]} == OPTIONAL_PERMISSIONS


def names_on(page: Path) -> set[str]:
    return set(re.findall(r"/twilio/[\w/]+", page.read_text(encoding="utf-8")))


def test_the_pages_name_every_permission_and_no_other() -> None:
    assert names_on(SECURITY) == set(PERMISSIONS.values())
    assert names_on(OPERATIONS) <= set(PERMISSIONS.values())


def test_the_policy_on_the_page_is_the_one_that_everything_needs() -> None:
    [policy] = re.findall(r"^Policy=(.*)$", SECURITY.read_text(encoding="utf-8"), re.MULTILINE)

    assert json.loads(policy) == {"allow": list(needed_permissions(entities=True, services=True))}
