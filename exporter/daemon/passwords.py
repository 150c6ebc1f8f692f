"""Password and client secret files, read again while the exporter runs.

Apart from reload.py because a changed password is applied at once and can't be refused.
"""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import TYPE_CHECKING

from exporter.logs.output import fields
from exporter.threads import in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exporter.config import PasswordSource

log = logging.getLogger(__name__)

_CHANGED = MappingProxyType({"password": "password file changed", "client secret": "client secret file changed"})
_NOT_READ = MappingProxyType(
    {
        "password": "password file not read and previous password kept",
        "client secret": "client secret file not read and previous client secret kept",
    }
)


class PasswordWatcher:
    """Reads the accounts' password files again, and logs each change and each problem once.

    ``passwords`` returns the sources that are in use, by account; ``changed`` is called with the account of a new
    password.
    """

    def __init__(
        self, passwords: Callable[[], Mapping[str, PasswordSource]], changed: Callable[[str], None]
    ) -> None:
        self._passwords = passwords
        self._changed = changed
        self._problems: dict[str, str | None] = {}

    async def reread_all(self) -> None:
        """Read every file, in a thread: one may be on a share that hangs."""
        passwords = self._passwords()
        changed = await in_daemon_thread(
            lambda: [name for name, source in passwords.items() if source.reread()], name="password-watch"
        )
        if passwords is not self._passwords():  # a reload replaced them meanwhile
            return
        for name, source in passwords.items():
            self._log(name, source, changed=name in changed)
            if name in changed:
                self._changed(name)

    def reread(self, name: str) -> bool:
        """Read one account's file at once; return whether the password changed."""
        source = self._passwords().get(name)
        if source is None:
            return False
        changed = source.reread()
        self._log(name, source, changed=changed)
        return changed

    def _log(self, name: str, source: PasswordSource, *, changed: bool) -> None:
        if changed:
            log.info(_CHANGED[source.kind], extra=fields(account=name, file=source.path))
        if source.problem != self._problems.get(name):
            self._problems[name] = source.problem
            if source.problem:
                log.error(
                    _NOT_READ[source.kind],
                    extra=fields(account=name, file=source.path, problem=source.problem),
                )
