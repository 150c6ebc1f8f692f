"""Requests of ``healthcheck`` to an exporter: with a password, and with TLS; standard library only, for probes."""

from __future__ import annotations

import errno
import http.client
import ssl
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

_NO_URL = "not a URL such as http://127.0.0.1:10069"
_CERTIFICATE_HINT = (
    "set SSL_CERT_FILE to its authority, or --server-name to a name in it (in the Helm chart, tests.tlsConfig)"
)


class Access(NamedTuple):
    """How to connect: the header for basic authentication, a TLS client certificate, and what to verify."""

    verify: bool = True
    authorization: str = ""
    server_name: str = ""
    cert_file: str | None = None
    key_file: str | None = None
    timeout_seconds: float = 5.0

    def __repr__(self) -> str:
        return f"Access(verify={self.verify}, ...)"  # not the password


class NoAnswerError(Exception):
    """No answer came; the text says why, and ``final`` whether none will."""

    def __init__(self, why: str, *, final: bool = False) -> None:
        super().__init__(why)
        self.final = final


class ClosedError(NoAnswerError):
    """The connection was closed, for want of a client certificate if that is ``certain``, else perhaps."""

    def __init__(self, *, certain: bool = False) -> None:
        why = "it requires a client certificate" if certain else "it closed the connection"
        super().__init__(why, final=certain)

    def with_hint(self, hint: str) -> str:
        """Return what is wrong, and a hint for the case that a certificate is required."""
        return f"{self}; {hint}" if self.final else f"{self}; if it requires client certificates, {hint}"


class _TLSConnection(http.client.HTTPConnection):
    """A connection with TLS, which may verify another name than the host's."""

    default_port = http.client.HTTPS_PORT

    def __init__(self, host: str, port: int | None, *, timeout: float, context: ssl.SSLContext, name: str) -> None:
        super().__init__(host, port, timeout=timeout)
        self._tls = context
        self._name = name

    def connect(self) -> None:
        """Connect, and agree on TLS."""
        super().connect()
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)


def get(url: str, path: str, access: Access, *, longest: int) -> tuple[int, str]:
    """Return the status and the text of a path, at most ``longest`` bytes of it; raises NoAnswerError."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise NoAnswerError(_NO_URL, final=True)
        connection = _connection(parts, access)
    except ValueError:
        raise NoAnswerError(_NO_URL, final=True) from None
    try:
        headers = {"Authorization": access.authorization} if access.authorization else {}
        connection.request("GET", f"{parts.path.rstrip('/')}{path}", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(longest).decode("ascii", "replace").strip()
    except TimeoutError:
        raise NoAnswerError(f"no answer within {access.timeout_seconds:g} s") from None
    except ssl.SSLError as error:
        if "CERTIFICATE_REQUIRED" in (error.reason or ""):
            raise ClosedError(certain=True) from None
        raise NoAnswerError(_tls_problem(error)) from None
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        if parts.scheme == "https" and isinstance(error, ConnectionError) and error.errno != errno.ECONNREFUSED:
            raise ClosedError from None
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise NoAnswerError(f"no exporter responds there ({reason})") from None
    finally:
        connection.close()


def _connection(parts: SplitResult, access: Access) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, parts.port, timeout=access.timeout_seconds)
    context = ssl.create_default_context()
    if not access.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if access.cert_file:
        try:
            context.load_cert_chain(access.cert_file, access.key_file, password=lambda: "")
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise NoAnswerError(f"{access.cert_file}: is no usable certificate with its key", final=True) from error
    name = access.server_name or host
    return _TLSConnection(host, parts.port, timeout=access.timeout_seconds, context=context, name=name)


def _tls_problem(error: ssl.SSLError) -> str:
    reason = error.reason or type(error).__name__
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message.rstrip(".")
        return f"its certificate is not trusted ({why}); {_CERTIFICATE_HINT}"
    return f"no exporter responds there with TLS ({reason.lower().replace('_', ' ')})"
