"""``healthcheck``: check whether exporters are healthy, or prove their data; imports little: probes run often."""

from __future__ import annotations

import argparse
import functools
import http.client
import os
import re
import sys
import time
import tomllib
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from exporter.cli import BAD_USAGE, PROGRAM
from exporter.cli.access import Access, ClosedError, NoAnswerError, get
from exporter.cli.help import Help

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEFAULT_PORT = 10069
DEFAULT_ADDRESS = f":{DEFAULT_PORT}"
DEFAULT_URL = f"http://127.0.0.1:{DEFAULT_PORT}"
_VARIABLES = "VERIFY_EXPORTER_WEB__"
_KEYS = ("health_listen_address", "listen_address", "config_file")
_REPEAT_SECONDS = 2.0
_REFUSED_SECONDS = 120.0


HELP = Help(
    examples={
        "healthcheck": "check the exporter at the address in config.toml, or else on port 10069 of this machine",
        "healthcheck --url https://exporter.example.com:10069": "check another one",
        "healthcheck --verified --url http://shard-0:10069 --url http://shard-1:10069": "check that "
        "the credentials of every account work, that factors are found, and that the shards add up",
    },
    exit_statuses={0: "healthy; with --verified, verified", 1: "not healthy or not verified, or no answer"},
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
    parser.add_argument(
        "--url",
        metavar="URL",
        action="append",
        help="address of the exporter (default: from the configuration); repeat it for every shard",
    )
    parser.add_argument(
        "--verified",
        action="store_true",
        help="check that it is ready, that no account's credentials are refused and factors are found, and that "
        "the shards at all URLs together watch the whole watchlist; not for probes",
    )
    parser.add_argument(
        "--wait",
        metavar="DURATION",
        type=_duration,
        default=0.0,
        help='repeat the check for this long, such as "90s" or "5m", until it succeeds; while credentials are '
        "refused, for at most 2 minutes (default: check once)",
    )
    for flag, what in {
        "--username-file": "file with the user name of a user in basic_auth_users",
        "--password-file": "file with the password of this user",
        "--cert-file": "client certificate (PEM)",
        "--key-file": "key of the client certificate (PEM)",
    }.items():
        parser.add_argument(flag, metavar="FILE", default=None, help=what)
    parser.add_argument(
        "--server-name",
        metavar="NAME",
        default="",
        help="name to verify the certificates with, for every URL (default: the host of the URL)",
    )
    parser.add_argument(
        "--insecure-skip-verify", action="store_true", help="don't verify the exporter's certificate"
    )


def _duration(text: str) -> float:
    found = re.fullmatch(r"([0-9]{1,6})(s|m|h)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f'"{text}" is not a duration such as "90s" or "5m"')
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def run(arguments: argparse.Namespace) -> int:
    """Return 0 if every exporter is healthy or proves its data, 1 after a line per problem, 64 for bad usage."""
    if problem := _bad_usage(arguments):
        print(f"{PROGRAM} healthcheck: {problem}", file=sys.stderr)
        return BAD_USAGE
    named = arguments.config_file
    if named is not None and not arguments.url and not os.access(named, os.R_OK):
        print(f"{named}: can't be read; correct --config.file, or name the exporter with --url", file=sys.stderr)
        return 1
    config_file, environment = Path(named or "config.toml"), variables(os.environ)
    urls = arguments.url or [configured_url(config_file, environment, health=not arguments.verified)]
    try:
        access = _access(arguments)
    except NoAnswerError as error:
        print(error, file=sys.stderr)
        return 1
    check = functools.partial(_verified if arguments.verified else _healthy, urls, access)
    return _repeat(check, arguments.wait)


def _bad_usage(arguments: argparse.Namespace) -> str:
    for one, other in (("username", "password"), ("password", "username"), ("key", "cert")):
        if getattr(arguments, f"{one}_file") and not getattr(arguments, f"{other}_file"):
            return f"--{one}-file has no effect without --{other}-file; add it"
    return ""


def _access(arguments: argparse.Namespace) -> Access:
    """Return how to connect; raises NoAnswerError for a file that can't be read.

    The certificate need not be verified for a local address from the configuration: certificates rarely include it.
    A password is only sent to an exporter whose certificate is verified.
    """
    authorization = ""
    if arguments.username_file:
        user, password = (_secret(path) for path in (arguments.username_file, arguments.password_file))
        authorization = f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"
    for path in (arguments.cert_file, arguments.key_file):
        if path and not os.access(path, os.R_OK):
            raise NoAnswerError(f"{path}: can't be read")
    return Access(
        verify=bool(arguments.url or authorization) and not arguments.insecure_skip_verify,
        authorization=authorization,
        server_name=arguments.server_name,
        cert_file=arguments.cert_file,
        key_file=arguments.key_file,
    )


def _secret(path: str) -> str:
    try:
        text = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise NoAnswerError(f"{path}: can't be read ({error.strerror})") from None
    except ValueError:
        text = ""
    if not text or not text.isprintable():
        raise NoAnswerError(f"{path}: must have one line of printable text")
    return text


def _repeat(check: Callable[[], CheckResult], for_seconds: float) -> int:
    """Check until it succeeds or waiting is useless, for this long at most; print what was found.

    A refusal may be of old credentials: a Secret that was corrected reaches the files of a pod with a delay.
    """
    now = time.monotonic()
    give_up, refused_until, shown = now + for_seconds, now + _REFUSED_SECONDS, ""
    while True:
        checked = check()
        now = time.monotonic()
        if not checked.refused:
            refused_until = now + _REFUSED_SECONDS
        left = min(give_up, refused_until) - now
        if not checked.problems or checked.final or left <= 0:
            break
        if checked.problems[0] != shown:
            shown = checked.problems[0]
            print(f"waiting: {shown}", file=sys.stderr, flush=True)
        time.sleep(min(_REPEAT_SECONDS, left))
    for line in checked.found:
        print(line, flush=True)
    for problem in checked.problems:
        print(problem, file=sys.stderr, flush=True)
    return 1 if checked.problems else 0


class CheckResult(NamedTuple):
    """What is good and what is not, each a list of lines.

    ``final``: waiting is useless. ``refused``: credentials are refused, so that it is useless to wait for long.
    """

    found: list[str]
    problems: list[str]
    final: bool = False
    refused: bool = False


def _healthy(urls: list[str], access: Access) -> CheckResult:
    checked = [(url, check_health(url, access)) for url in urls]
    problems = [f"{url}: {problem}" for url, problem in checked if problem]
    return CheckResult([] if problems else ["healthy"], problems)


def _verified(urls: list[str], access: Access) -> CheckResult:
    from exporter.cli.verified import add_up, check_verified, summary  # noqa: PLC0415  not for probes

    proofs = [check_verified(url, access) for url in urls]
    both = list(zip(urls, proofs, strict=True))
    found = [f"{url}: {line}" for url, proof in both for line in proof.found_lines]
    problems = [f"{url}: {line}" for url, proof in both for line in proof.problems]
    if all(proof.shard for proof in proofs):
        problems += add_up(proofs)
    if not problems:
        found += summary(proofs)
    return CheckResult(
        found,
        [f"not verified: {line}" for line in problems],
        final=any(proof.final for proof in proofs),
        refused=any(proof.refused for proof in proofs),
    )


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the keys of ``[web]`` that the environment sets; names are case-insensitive."""
    found: dict[str, str] = {}
    for name in sorted(environ):
        key = name.upper().removeprefix(_VARIABLES).lower()
        if name.upper().startswith(_VARIABLES) and key in _KEYS:
            found.setdefault(key, environ[name])
    return found


def configured_url(config_file: Path, environment: Mapping[str, str], *, health: bool = True) -> str:
    """Return the exporter's URL from the environment, the configuration file or the default, in this order.

    A separate address for probes takes precedence with ``health``; it has no other paths.
    """
    try:
        table = tomllib.loads(config_file.read_text(encoding="utf-8"))["web"]
    except (OSError, ValueError, KeyError, TypeError):
        table = {}
    settings: dict[str, Any] = {**(table if isinstance(table, dict) else {}), **environment}
    if health and (address := settings.get("health_listen_address")):
        return _url("http", address)
    web_file = settings.get("config_file")
    folder = Path() if "config_file" in environment else config_file.parent
    secure = isinstance(web_file, str) and bool(web_file) and speaks_tls(folder / web_file)
    address = settings.get("listen_address", DEFAULT_ADDRESS)
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


def check_health(url: str, access: Access) -> str:
    """Return what is wrong with the exporter at ``url``, or an empty string if it is healthy."""
    try:
        status, text = get(url, "/-/healthy", access, longest=200)
    except ClosedError as problem:
        return problem.with_hint("set web.health_listen_address")
    except NoAnswerError as problem:
        return str(problem)
    if status == http.client.OK:
        return "" if text == "healthy" else "something other than the exporter responds there"
    return text if text.startswith("not healthy") and text.isprintable() else f"HTTP {status}"
