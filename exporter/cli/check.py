"""``check``: validate the configuration and its watchlist, and with ``--live`` what Twilio says about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.cli.config_file import add_config_arguments, load_config
from exporter.cli.findings import Finding, Output, Severity, Subject, failed, from_config, refused, write
from exporter.cli.help import CONFIGURATION, REQUESTS, Help
from exporter.cli.table import counted
from exporter.config import ConfigError
from exporter.config.files import shown_path
from exporter.state.watchlist import read as read_last_good
from exporter.web.formatting import format_time

if TYPE_CHECKING:
    import argparse

    from exporter.config import Config
    from exporter.config.last_good import Fallback


HELP = Help(
    examples={
        "check": "validate config.toml and its watchlist, without any request",
        "check --live": "also test credentials, services, permissions and watchlist URLs",
        "check --config.file staging.toml --output github": "annotate a pull request in GitHub Actions",
    },
    exit_statuses={0: "valid, and with --live every request succeeded", 1: "an error, or bad usage"},
    variables=CONFIGURATION | REQUESTS,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_arguments(parser)
    parser.add_argument(
        "--live",
        action="store_true",
        help="also send requests: per service for itself and one of its factors, per watched entity or service for "
        "the first page of its list, and per watchlist URL for the watchlist",
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
        config = load_config(arguments, last_good=read_last_good, fall_back=True)
    except ConfigError as error:
        findings = refused(error)
    else:
        fallback = config.fallback
        findings = [] if fallback is None else from_config(Severity.ERROR, fallback.errors)
        findings += from_config(Severity.WARNING, config.warnings)
        findings.append(_valid(config) if fallback is None else _falls_back(fallback))
        if arguments.live and fallback is None:
            from exporter.cli.live import live  # noqa: PLC0415  # what sends requests takes long to import

            findings += live(config)
    status = int(failed(findings))
    write(Output(arguments.output), findings, {**summary, "exit_status": status})
    return status


def _valid(config: Config) -> Finding:
    accounts = counted(len(config.settings.accounts), "account")
    factors = counted(len(config.factors), "factor")
    more = {"entity": config.entities, "service": config.services, "watchlist URL": config.http}
    found = "".join(f", {counted(len(entries), noun)}" for noun, entries in more.items() if entries)
    return Finding(
        severity=Severity.OK,
        subject=Subject.CONFIGURATION,
        place="",
        seen=f"{config.path} is valid: {accounts}, {factors}{found}",
        file=str(config.path),
    )


def _falls_back(fallback: Fallback) -> Finding:
    entries, saved = counted(fallback.restored, "entry"), format_time(fallback.saved_seconds)
    return Finding(
        severity=Severity.WARNING,
        subject=Subject.CONFIGURATION,
        place=shown_path(fallback.path),
        seen=f"the exporter would start on this last good watchlist ({entries}, saved {saved}), but not be ready",
        file=str(fallback.path),
    )
