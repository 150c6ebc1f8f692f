"""Evaluation of the mixin with several configurations at once, which costs little more than with one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

from grafana.rules.render import files
from tests.support.jsonnet import evaluated

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from grafana.rules.model import Settings

    Groups = list[dict[str, Any]]

NAME = "verify-factor-exporter-mixin/mixin.libsonnet"
RULES, DASHBOARDS = (
    "{ alerts: mixin.prometheusAlerts.groups, rules: mixin.prometheusRules.groups }",
    "mixin.grafanaDashboards",
)


def with_each(configurations: Mapping[str, str], part: str, vendor: Path) -> dict[str, Any]:
    """Return a part of the mixin for each configuration, given as jsonnet; raises JsonnetError."""
    lines = "".join(f"{json.dumps(name)}: part({given}),\n" for name, given in configurations.items())
    found: dict[str, Any] = evaluated(
        f"local part(given) = local mixin = (import '{NAME}') {{ _config+:: given }}; {part};\n{{\n{lines}}}",
        vendor,
    )
    return found


def of_file(name: str, settings: Settings) -> Groups:
    """Return the groups of a rules file as generated with these settings."""
    return list(yaml.safe_load(files(settings)[name])["groups"])


def divided(whole: Groups) -> dict[str, Groups]:
    """Return groups as the mixin has them: alerts and recording rules apart."""
    found: dict[str, Groups] = {"alerts": [], "rules": []}
    for group in whole:
        for kind, field, suffix in (("alerts", "alert", ""), ("rules", "record", ".rules")):
            rules = [rule for rule in group["rules"] if field in rule]
            if rules:
                found[kind].append({"name": group["name"] + suffix, "rules": rules})
    return found
