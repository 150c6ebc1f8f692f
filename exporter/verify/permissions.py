"""The permissions of a restricted API key, by operation.

The names come from third-party material: they look like those in Twilio's example of a policy, but Twilio publishes
no list of them, and they were not tried on a live account. The one for List Entities is inferred from the others.
Apart from the client, because ``check --live`` and docs/security.md name them and send nothing.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from exporter.verify.outcome import Operation

if TYPE_CHECKING:
    from collections.abc import Mapping

PERMISSIONS: Mapping[Operation, str] = MappingProxyType(
    {
        Operation.FETCH: "/twilio/verify/factor/read",
        Operation.LIST: "/twilio/verify/factor/list",
        Operation.LIST_ENTITIES: "/twilio/verify/entity/list",
        Operation.SERVICE: "/twilio/verify/service/read",
    }
)

OPTIONAL_PERMISSIONS = frozenset({PERMISSIONS[Operation.SERVICE]})
"""Those without which the exporter only can't tell a deleted service from deleted factors."""


def needed_permissions(*, entities: bool, services: bool) -> tuple[str, ...]:
    """Return the permissions that an account's key needs, the optional ones last.

    ``entities`` and ``services`` are whether the account has entries of ``[[entities]]`` and ``[[services]]``. The
    factors that they find are fetched, too.
    """
    operations = {Operation.FETCH, Operation.SERVICE}
    if entities or services:
        operations.add(Operation.LIST)
    if services:
        operations.add(Operation.LIST_ENTITIES)
    return tuple(name for operation, name in PERMISSIONS.items() if operation in operations)
