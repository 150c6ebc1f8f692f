"""``healthcheck``: check whether a running exporter is healthy; imports little, because probes run often."""

from __future__ import annotations

import errno
import http.client
import os
import ssl
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from exporter.cli.help import Help

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

DEFAULT_PORT = 10069
DEFAULT_ADDRESS = f":{DEFAULT_PORT}"
DEFAULT_URL = f"http://127.0.0.1:{DEFAULT_PORT}"
_VARIABLES = "VERIFY_EXPORTER_WEB__"
_KEYS = ("health_listen_address", "listen_address", "config_file")
_TIMEOUT_SECONDS = 5.0


HELP = Help(
    examples={
        "healthcheck": "check the exporter at the address in config.toml, or else on port 10069 of this machine",
        "healthcheck --url https://exporter.example.com:10069": "check another one",
    },
    exit_statuses={0: "healthy", 1: "not healthy, or no answer"},
    variables={
        "VERIFY_EXPORTER_WEB__LISTEN_ADDRESS, VERIFY_EXPORTER_WEB__HEALTH_LISTEN_ADDRESS, "
        "VERIFY_EXPORTER_WEB__CONFIG_FILE": "these keys, over the configuration file",
        "SSL_CERT_FILE, SSL_CERT_DIR": "the trusted certificate authorities, for --url",
    },
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        "--config.file",
        dest="config_file",
        metavar="FILE",
        default=None,
        help="configuration file (default: config.toml, if it exists)",
    )
    parser.add_argument("--url", metavar="URL", help="address of the exporter (default: from the configuration)")


def run(arguments: argparse.Namespace) -> int:
    """Return 0 if the exporter is healthy, else 1 after one line on standard error."""
    named = arguments.config_file
    if named is not None and not arguments.url and not os.access(named, os.R_OK):
        print(f"{named}: can't be read; correct --config.file, or name the exporter with --url", file=sys.stderr)
        return 1
    url = arguments.url or configured_url(Path(named or "config.toml"), variables(os.environ))
    problem = check_health(url, verify=bool(arguments.url))
    if problem:
        print(f"{url}: {problem}", file=sys.stderr)
        return 1
    print("healthy")
    return 0


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the keys of ``[web]`` that the environment sets; names are case-insensitive."""
    found: dict[str, str] = {}
    for name in sorted(environ):
        key = name.upper().removeprefix(_VARIABLES).lower()
        if name.upper().startswith(_VARIABLES) and key in _KEYS:
            found.setdefault(key, environ[name])
    return found


def configured_url(config_file: Path, environment: Mapping[str, str]) -> str:
    """Return the exporter's URL from the environment, the configuration file or the default, in this order.

    A separate address for probes takes precedence.
    """
    try:
        table = tomllib.loads(config_file.read_text(encoding="utf-8"))["web"]
    except (OSError, ValueError, KeyError, TypeError):
        table = {}
    settings: dict[str, Any] = {**(table if isinstance(table, dict) else {}), **environment}
    if health := settings.get("health_listen_address"):
        return _url("http", health)
    web_file = settings.get("config_file")
    folder = Path() if "config_file" in environment else config_file.parent
    secure = isinstance(web_file, str) and bool(web_file) and speaks_tls(folder / web_file)
    address: Any = settings.get("listen_address", DEFAULT_ADDRESS)
    if isinstance(address, list):
        address = address[0] if address else DEFAULT_ADDRESS
    return _url("https" if secure else "http", address)


def _url(scheme: str, address: object) -> str:
    host, colon, port = str(address).rpartition(":")
    if not colon:
        host, port = "", str(DEFAULT_PORT)
    if host in ("", "0.0.0.0"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    return f"{scheme}://{'[::1]' if host == '[::]' else host}:{port}"


def speaks_tls(web_file: Path) -> bool:
    """Return whether a web config file enables TLS."""
    import yaml  # noqa: PLC0415  only if there is such a file

    try:
        document = yaml.safe_load(web_file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return False
    return isinstance(document, dict) and bool(document.get("tls_server_config"))


def check_health(url: str, timeout_seconds: float = _TIMEOUT_SECONDS, *, verify: bool = True) -> str:
    """Return what is wrong with the exporter at ``url``, or an empty string if it is healthy.

    The certificate need not be verified (``verify=False``) for a local address from the configuration: certificates
    rarely include it, and the request contains no secret.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return "not a URL such as http://127.0.0.1:10069"
        connection = _connection(parts, timeout_seconds, verify=verify)
    except ValueError:
        return "not a URL such as http://127.0.0.1:10069"
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/-/healthy")
        answer = connection.getresponse()
        text = answer.read(200).decode("ascii", "replace").strip()
    except TimeoutError:
        return f"no answer within {timeout_seconds:g} s"
    except ssl.SSLError as error:
        return _tls_problem(error)
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        if parts.scheme == "https" and isinstance(error, ConnectionError) and error.errno != errno.ECONNREFUSED:
            return "it closed the connection; if it requires client certificates, set web.health_listen_address"
        return f"no exporter responds there ({getattr(error, 'strerror', None) or type(error).__name__})"
    finally:
        connection.close()
    if answer.status == http.client.OK:
        return "" if text == "healthy" else "something other than the exporter responds there"
    return text if text.startswith("not healthy") and text.isprintable() else f"HTTP {answer.status}"


def _connection(parts: SplitResult, timeout_seconds: float, *, verify: bool) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, parts.port, timeout=timeout_seconds)
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, parts.port, timeout=timeout_seconds, context=context)


def _tls_problem(error: ssl.SSLError) -> str:
    reason = error.reason or type(error).__name__
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message.rstrip('.')})"
    return f"no exporter responds there with TLS ({reason.lower().replace('_', ' ')})"
