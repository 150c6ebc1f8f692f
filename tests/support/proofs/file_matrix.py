"""Damaged files as data: what becomes of a file while the exporter runs, and what a reload must make of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.protected_exporter import OTHER_CONFIGS, OTHER_WEB_CONFIGS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.damaged_files import Step

WATCHLIST, CSV, PASSWORD, WEB_CONFIG = "watchlist file", "watchlist file in CSV", "password file", "web config file"
NAMES = {
    "config.toml": "configuration file",
    "w-a.toml": WATCHLIST,
    "w-b.csv": CSV,
    "main.password": PASSWORD,
    "web.yml": WEB_CONFIG,
    "server.crt": "certificate",
    "server.key": "key",
    "ca.crt": "client authority",
}
PEM = ("server.crt", "server.key", "ca.crt")


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file, what happens to it, and words of the error that refuses the reload; without them it is applied.

    ``effect`` is what a reload that is applied does. ``metric`` names the gauge that must stay 1.
    """

    file: str
    happens: str
    step: Step
    error: str = ""
    effect: str = ""

    @property
    def name(self) -> str:
        """The name of the row: no other has it."""
        return f"{self.file}: {self.happens}"


def _damages() -> Iterator[FileRow]:
    everywhere = {
        "unreadable": ("can't be read (I/O error)", "cannot be read (Input/output error)"),
        "pipe": ("a pipe in its place", "is not a regular file"),
        "directory": ("a directory in its place", "is a directory"),
        "loop": ("a symlink loop in its place", "cannot be read (Too many levels of symbolic links)"),
    }
    for file, name in NAMES.items():
        yield FileRow(name, "empty", ("cut", file, 0), _empty(file))
        yield FileRow(name, "only a comment is left", ("comment", file, 0), _comment(file))
        if file != "main.password":  # a part of a password is a password
            yield FileRow(name, "cut off in the middle", ("cut", file, _middle(file)), _cut(file))
        yield FileRow(name, "missing", ("remove", file, 0), _missing(file))
        for how, (happens, error) in everywhere.items():
            yield FileRow(name, happens, (how, file, 0), error)


def _empty(file: str) -> str:
    if file in PEM:
        return "is empty; PEM begins with"
    return {
        "w-b.csv": "is empty; the first line must name the columns",
        "main.password": "is empty; enter the secret",
    }.get(file, "is empty; restore the file, or restart the exporter")


def _comment(file: str) -> str:
    if file in PEM:
        return "is not in PEM format"
    return {
        "w-b.csv": "is not a header",
        "main.password": "has white space at its beginning or end",
    }.get(file, _empty(file))


def _middle(file: str) -> int:
    return {"config.toml": 295, "w-a.toml": 268, "web.yml": 134}.get(file, 150)


def _cut(file: str) -> str:
    return {
        "config.toml": 'expected "=" after a key',
        "w-a.toml": "unterminated string",
        "w-b.csv": "is missing; the row has",
        "web.yml": "does not exist",
        "ca.crt": "contains no readable certificate",
    }.get(file, "certificate and key can't be loaded")


def _missing(file: str) -> str:
    return {
        "w-a.toml": 'would leave the account "main" without entries',
        "w-b.csv": 'would leave the account "other" without entries',
    }.get(file, "does not exist")


def _valid() -> Iterator[FileRow]:
    """Files that are valid, and say less or something else."""
    authorities = "would accept client certificates from every authority that this system trusts"
    less = (
        ("TLS and users are gone", "would turn off TLS"),
        ("client certificates and users are gone", "would turn off basic authentication"),
        ("TLS is gone", "would turn off TLS"),
        ("client certificates are gone", "would no longer require or verify client certificates"),
        ("users and names of clients are gone", "would accept client certificates with any name"),
        ("names of clients are gone", "would accept client certificates with any name"),
        ("client certificates are optional", "would no longer require or verify client certificates"),
        ("the client authority is gone", authorities),
        ("a user is added", ""),
    )
    assert len(less) == len(OTHER_WEB_CONFIGS)
    for number, (happens, error) in enumerate(less):
        yield FileRow(WEB_CONFIG, happens, ("replace", "web.yml", number), error, "" if error else "applied")
    opened = (
        ("`web.config_file` is gone", "would turn off TLS"),
        ("turns on `web.enable_lifecycle`", "web.enable_lifecycle: is off and can't be turned on by a reload"),
        ("turns on `web.enable_probe`", "web.enable_probe: is off and can't be turned on by a reload"),
        ("`metrics.identity` becomes `plain`", "metrics.identity: can't be changed from"),
        ("another shard", ""),
        ("a pattern of `watchlist.files` is gone", 'would leave the account "other" without entries'),
        ("`watchlist.files` is empty", "would lose all its 4 entries"),
    )
    assert len(opened) == len(OTHER_CONFIGS)
    for number, (happens, error) in enumerate(opened):
        effect = "" if error else "applied, and the running shard stays until a restart"
        yield FileRow(NAMES["config.toml"], happens, ("replace", "config.toml", number), error, effect)
    emptied = 'would leave the account "main" without entries'
    yield FileRow(WATCHLIST, "valid and without entries", ("replace", "w-a.toml", 0), emptied)
    yield FileRow(WATCHLIST, "entries of another file", ("replace", "w-a.toml", 2), "lists the same factor as")
    yield FileRow(
        CSV, "a header alone", ("replace", "w-b.csv", 0), 'would leave the account "other" without entries'
    )
    yield FileRow(CSV, "cut off between two entries", ("replace", "w-b.csv", 1), "", "applied: a factor less")
    yield FileRow("certificate", "replaced before its key", ("replace", "server.crt", 0), "certificate and key")
    yield FileRow("key", "replaced before its certificate", ("replace", "server.key", 0), "certificate and key")


FILE_ROWS = (*_damages(), *_valid())


def file_table() -> str:
    """Return a table of all rows, which the tests verify."""
    return "\n".join(
        (
            f"{len(FILE_ROWS)} ways for a file to be wrong while the exporter runs.",
            "",
            "| file | what happens to it | reload | logged error |",
            "|---|---|---|---|",
            *map(_line, FILE_ROWS),
        )
    )


def _line(row: FileRow) -> str:
    error = f"…{row.error}…" if row.error else "–"
    return f"| {row.file} | {row.happens} | {row.effect or 'refused'} | {error} |"
