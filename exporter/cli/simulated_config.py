"""The configuration of an exporter that looks at a simulator; written by ``simulate`` and ``demo``."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from exporter.simulator import SeededFactor, Simulator

_CONFIG = """\
# Written by `verify-factor-exporter simulate`: its made-up account and factors, looked at often.
# Good for as long as that simulator runs.

[polling]
interval = "10s"
unverified_interval = "5s"
not_found_interval = "15s"

[accounts.main]
account_sid = {account_sid}
username = {username}
password = {password}
base_url = {base_url}
"""

_FACTOR = """
[[factors]]
name = {name}
service_sid = {service_sid}
identity = {identity}
factor_sid = {factor_sid}
labels = {{ {labels} }}
"""


def write_config(path: Path, simulator: Simulator, seeded: Iterable[SeededFactor]) -> None:
    """Write the configuration of a running simulator, readable by its owner alone; raises OSError."""
    text = _CONFIG.format(
        account_sid=_quoted(simulator.account_sid),
        username=_quoted(simulator.username),
        password=_quoted(simulator.password),
        base_url=_quoted(simulator.base_url),
    )
    for name, factor, labels in seeded:
        text += _FACTOR.format(
            name=_quoted(name),
            service_sid=_quoted(factor.service_sid),
            identity=_quoted(factor.identity),
            factor_sid=_quoted(factor.sid),
            labels=", ".join(f"{label} = {_quoted(value)}" for label, value in labels.items()),
        )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)


def _quoted(text: str) -> str:
    """Return a TOML basic string; JSON's escapes are TOML's."""
    return json.dumps(text, ensure_ascii=True)
