"""Runs what ``check --live`` finds out by requests: the watchlist URLs, and the diagnosis of every account.

Apart from the command because modules that send requests take long to import.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from exporter.cli.diagnosis import diagnose
from exporter.cli.findings import Finding, Severity, Subject, from_config, refused
from exporter.cli.table import counted
from exporter.config import ConfigError
from exporter.daemon.parts import Confidential
from exporter.daemon.url_sources import with_first_answers
from exporter.logs.output import configure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.config import Config


def live(config: Config) -> list[Finding]:
    """Send the requests of ``--live``; return what they mean."""
    confidential = Confidential(config)
    configure(level="error", style="logfmt", redact=confidential.redactor)
    return asyncio.run(_live(config, confidential))


async def _live(config: Config, confidential: Confidential) -> list[Finding]:
    try:
        complete = await with_first_answers(config)
    except ConfigError as error:
        return refused(error)
    confidential.add(complete)
    new = [warning for warning in complete.warnings if warning not in config.warnings]
    return [*from_config(Severity.WARNING, new), *_loaded(complete), *await diagnose(complete)]


def _loaded(config: Config) -> Iterator[Finding]:
    """Yield what the URL sources of a configuration list, or why they can't be used."""
    for source in config.http:
        errors = config.refused.get(source.name, ())
        for error in errors:
            place = f'{error.place} of "{error.name}"' if error.name else error.place
            yield Finding(
                severity=Severity.ERROR,
                subject=Subject.WATCHLIST,
                place=place,
                seen=error.problem,
                hint=error.hint,
                factor=error.name if ": factors[" in error.place else "",
                name=source.name,
            )
        if not errors:
            seen = f"{counted(config.source_entries.get(source.name, 0), 'entry')} listed"
            yield Finding(
                severity=Severity.OK, subject=Subject.WATCHLIST, place=source.place, seen=seen, name=source.name
            )
