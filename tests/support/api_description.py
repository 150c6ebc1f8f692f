"""Checks every answer that a test gets against the API's description."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator

from exporter.web.openapi import describe

if TYPE_CHECKING:
    from collections.abc import Mapping

UNDESCRIBED = 500  # a test may cause an internal error on purpose


class Description:
    """The description of an exporter's API, and what contradicts it."""

    def __init__(self, telemetry_path: str = "/metrics") -> None:
        self.document = describe(telemetry_path)
        self._paths = {
            re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))): operations
            for path, operations in self.document["paths"].items()
        }

    def operation(self, method: str, path: str) -> Mapping[str, Any] | None:
        """Return the description of a request, ``None`` for a path that is not described."""
        for pattern, operations in self._paths.items():
            if pattern.fullmatch(path):
                found: Mapping[str, Any] = operations.get(method.lower(), {"responses": {"405": {}}})
                return found
        return None

    def contradiction(self, method: str, path: str, status: int, content_type: str, body: bytes) -> str | None:
        """Return how an answer differs from its description, ``None`` if it doesn't."""
        operation = self.operation(method, path.partition("?")[0])
        if operation is None:
            return None
        described = operation["responses"].get(str(status))
        if described is None:
            return None if status == UNDESCRIBED else f"{method} {path} answers {status}"
        content = described.get("content", {})
        if not content:
            return f"{method} {path} answers a body" if body and status != 405 else None
        kind = content_type.partition(";")[0]
        if kind not in content:
            return f"{method} {path} answers {status} as {content_type}"
        if kind != "application/json":
            return None
        schema = {**content[kind]["schema"], "components": self.document["components"]}
        errors = [error.message for error in Draft202012Validator(schema).iter_errors(json.loads(body))]
        return f"{method} {path}: {'; '.join(errors)}" if errors else None
