"""``check``: validate the configuration and its watchlist, and with ``--live`` what Twilio says about them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.cli.config_file import add_config_arguments, load_config
from exporter.cli.diagnosis import diagnose
from exporter.cli.findings import Finding, Output, Severity, Subject, failed, write
from exporter.config import ConfigError, ErrorDetail
from exporter.daemon.parts import redactor_of
from exporter.logs.output import configure

if TYPE_CHECKING:
    import argparse

    from exporter.config import Config, ConfigWarning


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_arguments(parser)
    parser.add_argument(
        "--live",
        action="store_true",
        help="also send requests: per service one for itself and one for a factor, and one per watched entity",
    )
    parser.add_argument(
        "--output",
        choices=[*map(str, Output)],
        default=str(Output.TEXT),
        help="output format; github is for annotations in GitHub Actions (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print every error with its place, or a summary and what ``--live`` found; return the exit status."""
    summary: dict[str, object] = {"config_file": arguments.config_file, "live": arguments.live}
    try:
        config = load_config(arguments)
    except ConfigError as error:
        findings = [_from_config(Severity.ERROR, found) for found in error.errors]
    else:
        findings = [_from_config(Severity.WARNING, found) for found in config.warnings]
        findings.append(_valid(config))
        if arguments.live:
            findings += live(config)
    status = int(failed(findings))
    write(Output(arguments.output), findings, {**summary, "exit_status": status})
    return status


def live(config: Config) -> list[Finding]:
    """Send the requests of ``--live``; return what they mean."""
    configure(level="error", style="logfmt", redact=redactor_of(config))
    return asyncio.run(diagnose(config))


def _valid(config: Config) -> Finding:
    accounts = _counted(len(config.settings.accounts), "account")
    factors = _counted(len(config.factors), "factor")
    entities = f", {_counted(len(config.entities), 'entity')}" if config.entities else ""
    return Finding(
        severity=Severity.OK,
        subject=Subject.CONFIGURATION,
        place="",
        seen=f"{config.path} is valid: {accounts}, {factors}{entities}",
        file=str(config.path),
    )


def _from_config(severity: Severity, found: ErrorDetail | ConfigWarning) -> Finding:
    file = found.place.partition(": ")[0]
    return Finding(
        severity=severity,
        subject=Subject.CONFIGURATION,
        place=found.place,
        seen=found.problem if isinstance(found, ErrorDetail) else found.text,
        hint=found.hint if isinstance(found, ErrorDetail) else "",
        file=file if Path(file).is_file() else "",
    )


def _counted(number: int, noun: str) -> str:
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun.removesuffix('y')}ies" if noun.endswith("y") else f"{number} {noun}s"
