"""``check``: validate the configuration and its watchlist, and with ``--live`` the credentials of every account."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from exporter.cli.config_file import add_config_arguments, load_config
from exporter.config import Config, ConfigError
from exporter.daemon.parts import client_of, redactor_of
from exporter.logs.output import configure
from exporter.verify.outcome import HINTS, Answer, Failure, Status
from exporter.watched import WatchedEntity

if TYPE_CHECKING:
    import argparse

    from exporter.verify.outcome import Attempt
    from exporter.watched import WatchedFactor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_arguments(parser)
    parser.add_argument(
        "--live",
        action="store_true",
        help="also make one authenticated request per account, for its first factor or entity",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print every error with its place, or a summary of a valid configuration; return the exit status."""
    config = validate(arguments)
    if config is None:
        return 1
    accounts = _counted(len(config.settings.accounts), "account")
    factors = _counted(len(config.factors), "factor")
    entities = f", {_counted(len(config.entities), 'entity')}" if config.entities else ""
    sys.stdout.write(f"{config.path} is valid: {accounts}, {factors}{entities}\n")
    return int(arguments.live and not check_accounts(config))


def validate(arguments: argparse.Namespace) -> Config | None:
    """Load the configuration and print its warnings; if it has errors, print them and return None."""
    try:
        config = load_config(arguments)
    except ConfigError as error:
        for found in error.errors:
            sys.stderr.write(f"{found}\n")
        return None
    for warning in config.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    return config


def check_accounts(config: Config) -> bool:
    """Fetch the first factor or entity of every account and print the result; return whether all were found."""
    configure(level="error", style="logfmt", redact=redactor_of(config))
    first: dict[str, WatchedFactor | WatchedEntity] = {}
    for watched in config.factors:
        if not watched.paused:
            first.setdefault(watched.key.account, watched)
    for entity in config.entities:
        first.setdefault(entity.key.account, entity)
    try:
        attempts = asyncio.run(_attempts(config, first))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return False
    for name in config.settings.accounts:
        if name not in attempts:
            text = "not checked, because it has no factor or entity to fetch"
            sys.stderr.write(f"warning: {name}: {text}\n")
            continue
        attempt = attempts[name]
        milliseconds = f"{attempt.duration_seconds * 1000:.0f} ms"
        if isinstance(attempt.result, Failure):
            sys.stderr.write(f"{name}: {_failed(attempt.result)}\n")
        elif _is_missing(attempt):
            sys.stderr.write(
                f"{name}: not found: HTTP {attempt.code} in {milliseconds} for {first[name].name}; check that "
                "service_sid, identity and factor_sid are right and belong to this account, and check base_url\n"
            )
        else:
            sys.stdout.write(f"{name}: credentials work: HTTP {attempt.code} in {milliseconds}\n")
    return not any(isinstance(attempt.result, Failure) or _is_missing(attempt) for attempt in attempts.values())


def _is_missing(attempt: Attempt) -> bool:
    return isinstance(attempt.result, Answer) and attempt.result.status is Status.NOT_FOUND


async def _attempts(config: Config, first: dict[str, WatchedFactor | WatchedEntity]) -> dict[str, Attempt]:
    attempts = await asyncio.gather(*(_attempt(config, watched) for watched in first.values()))
    return dict(zip(first, attempts, strict=True))


async def _attempt(config: Config, watched: WatchedFactor | WatchedEntity) -> Attempt:
    client = client_of(config, watched.key.account)
    try:
        if isinstance(watched, WatchedEntity):
            return await client.list_factors(watched)
        return await client.fetch_factor(watched)
    finally:
        await client.aclose()


def _failed(failure: Failure) -> str:
    words = "refused" if failure.reason.refused else "failed"
    return f"{words}: {failure.detail}; {HINTS[failure.reason]}"


def _counted(number: int, noun: str) -> str:
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun.removesuffix('y')}ies" if noun.endswith("y") else f"{number} {noun}s"
