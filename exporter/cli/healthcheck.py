"""``healthcheck``: asks a running exporter whether it is healthy; imports little, for a probe that runs often."""

from __future__ import annotations

import http.client
import os
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

DEFAULT_URL = "http://127.0.0.1:10069"
_ADDRESS_VARIABLE = "VERIFY_EXPORTER_WEB__LISTEN_ADDRESS"
_TIMEOUT_SECONDS = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        "--config.file",
        dest="config_file",
        metavar="FILE",
        default=None,
        help="configuration file (default: config.toml, if there is one)",
    )
    parser.add_argument("--url", metavar="URL", help="address of the exporter; else from the configuration")


def run(arguments: argparse.Namespace) -> int:
    """Return 0 if the exporter says that it is healthy, else 1 after one line on standard error."""
    named = arguments.config_file
    if named is not None and not arguments.url and not os.access(named, os.R_OK):
        print(f"{named}: can't be read; correct --config.file, or name the exporter with --url", file=sys.stderr)
        return 1
    url = arguments.url or configured_url(Path(named or "config.toml"), address_variable(os.environ))
    problem = ask(url)
    if problem:
        print(f"{url}: {problem}", file=sys.stderr)
        return 1
    print("healthy")
    return 0


def address_variable(environ: Mapping[str, str]) -> str | None:
    """Return the listen address that the environment sets; upper and lower case make no difference in a name."""
    return next((environ[name] for name in sorted(environ) if name.upper() == _ADDRESS_VARIABLE), None)


def configured_url(config_file: Path, variable: str | None) -> str:
    """Return the exporter's address by the environment, else by the configuration file, else the default."""
    address: Any = variable
    if address is None:
        try:
            address = tomllib.loads(config_file.read_text(encoding="utf-8"))["web"]["listen_address"]
        except (OSError, ValueError, KeyError, TypeError):
            return DEFAULT_URL
    if isinstance(address, list):
        address = address[0] if address else None
    host, colon, port = str(address).rpartition(":")
    if not colon:
        return DEFAULT_URL
    if host in ("", "0.0.0.0"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    return f"http://{'[::1]' if host == '[::]' else host}:{port}"


def ask(url: str, timeout_seconds: float = _TIMEOUT_SECONDS) -> str:
    """Return what is wrong with the exporter at ``url``, empty if it is healthy."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return "not an address such as http://127.0.0.1:10069"
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname, parts.port, timeout=timeout_seconds)
    except ValueError:
        return "not an address such as http://127.0.0.1:10069"
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/-/healthy")
        answer = connection.getresponse()
        text = answer.read(200).decode("ascii", "replace").strip()
    except TimeoutError:
        return f"no answer within {timeout_seconds:g} s"
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        return f"no exporter answers there ({getattr(error, 'strerror', None) or type(error).__name__})"
    finally:
        connection.close()
    if answer.status == http.client.OK:
        return "" if text == "healthy" else "something other than the exporter answers there"
    return text if text.startswith("not healthy") and text.isprintable() else f"HTTP {answer.status}"
