"""What the ``--help`` of a command says below its flags: examples, exit statuses and environment variables."""

from __future__ import annotations

import shutil
import textwrap
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CONFIGURATION = {
    "VERIFY_EXPORTER_*": "every key outside of [[...]] tables, over the configuration file, for example "
    "VERIFY_EXPORTER_POLLING__INTERVAL=2m; docs/configuration.md lists them",
    "POD_NAME": "the name of the pod, for the shard auto (default: the host name)",
}
"""The variables of every command that loads the configuration."""

REQUESTS = {
    "HTTPS_PROXY, HTTP_PROXY, NO_PROXY": "the proxy for requests to Twilio, unless proxy_url is set",
    "SSL_CERT_FILE, SSL_CERT_DIR": "the trusted certificate authorities, unless ca_file is set",
}
"""The variables of every command that sends requests to Twilio."""

_NARROWEST = 40
_WIDEST = 100
_NO_VARIABLES: Mapping[str, str] = {}


class Help(NamedTuple):
    """What a command's module says in ``HELP``.

    ``examples`` are command lines without the program's name, each with what it does; ``exit_statuses`` are the
    command's own, besides those that all commands have in common; ``variables`` are names, with their meaning.
    """

    examples: Mapping[str, str]
    exit_statuses: Mapping[int, str]
    variables: Mapping[str, str] = _NO_VARIABLES


def epilog(program: str, help_: Help, exit_statuses: Mapping[int, str]) -> str:
    """Return the text below the flags, wrapped to the width of the terminal; ``exit_statuses`` are all of them."""
    width = max(_NARROWEST, min(shutil.get_terminal_size().columns - 2, _WIDEST))
    return "\n".join(_lines(program, help_, exit_statuses, width))


def _lines(program: str, help_: Help, exit_statuses: Mapping[int, str], width: int) -> Iterator[str]:
    yield "examples:"
    for words, meaning in help_.examples.items():
        yield f"  {program} {words}"
        yield from _wrapped(meaning, 6, width)
    yield ""
    yield "exit statuses:"
    for status, meaning in exit_statuses.items():
        first, *others = _wrapped(meaning, 8, width)
        yield f"  {status:<6}{first.lstrip()}"
        yield from others
    if help_.variables:
        yield ""
        yield "environment variables:"
        for names, meaning in help_.variables.items():
            yield f"  {names}"
            yield from _wrapped(meaning, 8, width)


def _wrapped(text: str, indent: int, width: int) -> list[str]:
    spaces = " " * indent
    return textwrap.wrap(text, width, initial_indent=spaces, subsequent_indent=spaces, break_on_hyphens=False)
