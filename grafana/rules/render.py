"""Rules as the YAML that Prometheus reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from grafana.rules.exporters import exporter_group, watchdog_group
from grafana.rules.factors import group as factor_group
from grafana.rules.model import Alert
from grafana.rules.services import account_group, service_group

if TYPE_CHECKING:
    from collections.abc import Iterable

    from grafana.rules.model import Group, Recording, Settings

RULES = "verify-factor-exporter.rules.yaml"
WATCHDOG = "watchdog.rules.yaml"

_CONVENTIONS = """\
# Written by `python -m grafana.rules`: change grafana/rules/*.py and run it again.
#
# What a site sets stands here as plain text, the same at each place: replace it, or give it to the generator.
#   the labels that name a process and not what it watches   {dropped}
#   the job of the exporter's targets                        {job}
#   where the runbooks are                                   {runbooks}/
#   where Grafana is                                         {dashboards}/
# Every alert has a name of its own (but for the prefix TwilioVerify, that of its page in docs/runbooks/), the label
# severity (critical, warning, none), and the annotations summary, description, runbook_url and dashboard_url.
# Rules name no other labels of targets, so that those that a site adds (namespace, cluster) reach the alert.
# Needs Prometheus 2.42 or newer, and an evaluation interval of 2 minutes or less.
"""
_WATCHDOG = """\
# Written by `python -m grafana.rules`: change grafana/rules/*.py and run it again.
#
# By choice: an alert that always fires, for a dead man's switch outside.
"""


def groups(settings: Settings) -> tuple[Group, ...]:
    """Return every group but the watchdog's."""
    return factor_group(settings), service_group(settings), account_group(settings), exporter_group(settings)


def files(settings: Settings) -> dict[str, str]:
    """Return the text of each file of rules by its name."""
    head = _CONVENTIONS.format(
        dropped=", ".join(settings.dropped),
        job=settings.of_job,
        runbooks=settings.runbooks,
        dashboards=settings.dashboards,
    )
    return {
        RULES: head + document(groups(settings), settings),
        WATCHDOG: _WATCHDOG + document((watchdog_group(settings),), settings),
    }


def document(of: Iterable[Group], settings: Settings) -> str:
    """Return groups as the content of a file of rules."""
    content = {
        "groups": [{"name": group.name, "rules": [_rule(rule, settings) for rule in group.rules]} for group in of]
    }
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1 << 16)


def _rule(rule: Recording | Alert, settings: Settings) -> dict[str, Any]:
    if not isinstance(rule, Alert):
        return {"record": rule.record, "expr": rule.expr}
    content: dict[str, Any] = {"alert": rule.full_name, "expr": rule.expr}
    if rule.pending:
        content["for"] = rule.pending
    if rule.keep_firing:
        content["keep_firing_for"] = rule.keep_firing
    content["labels"] = {"severity": str(rule.severity)}
    content["annotations"] = {
        "summary": rule.summary,
        "description": rule.description,
        "runbook_url": f"{settings.runbooks}/{rule.full_name}.md",
        "dashboard_url": _dashboard_url(rule, settings),
    }
    return content


def _dashboard_url(alert: Alert, settings: Settings) -> str:
    variables = [f"var-{name}={{{{ $labels.{label} | urlquery }}}}" for name, label in alert.variables.items()]
    url = f"{settings.dashboards}/d/{alert.dashboard}"
    return f"{url}?{'&'.join(variables)}" if variables else url


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and lists indented."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
