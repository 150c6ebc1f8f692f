"""What the clients of the API and of the token endpoint share: their name, and how attempts fail."""

from __future__ import annotations

import logging
import platform
from typing import TYPE_CHECKING

from exporter import __version__
from exporter.verify.answers import parse_redirect_host
from exporter.verify.outcome import Failure, Reason, from_proxy, redirected

if TYPE_CHECKING:
    from exporter.verify.transport import AttemptError, Reply

log = logging.getLogger(__name__)

USER_AGENT = (
    f"verify-factor-exporter/{__version__} ({platform.system()} {platform.machine()}) "
    f"Python/{platform.python_version()}"
)


def with_peer(failure: Failure, answer: Reply, host: str, proxy: str, identity: str = "") -> Failure:
    """Return the failure with the host that a redirect leads to, or with the proxy that refused the request.

    ``host`` is that of the request, ``identity`` what the redirect may repeat of its path.
    """
    code = answer.code
    if 300 <= code < 400:
        target = parse_redirect_host(answer.headers.get("location", ""), host, identity)
        return Failure(failure.reason, redirected(failure.detail, target))
    return Failure(failure.reason, from_proxy(failure.detail, proxy)) if code == 407 else failure


def log_if_internal(error: AttemptError) -> None:
    """Log an unexpected error by its class and place."""
    if error.reason is Reason.INTERNAL:
        cause = error.__cause__ or error
        values = {"error": type(cause).__name__, "place": _place_of(cause)}
        log.error("unexpected error in a request", extra={"fields": values})


def _place_of(error: BaseException) -> str:
    """Return the file and line where an error was raised; its message may contain the request's path."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "unknown"
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
