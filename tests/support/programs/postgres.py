"""A PostgreSQL of Debian's packages with a database of its own; it listens on a socket only."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.processes import PATIENCE_SECONDS, output_of, spawned
from tests.support.running_exporter import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from tests.support.fixtures import Program

INSTALL = "apt-get install postgresql"
OWNER = "postgres"
_UNPRIVILEGED = "nobody"  # PostgreSQL refuses to run as root
_FAST = ("fsync=off", "full_page_writes=off", "shared_buffers=1MB", "max_connections=20", "autovacuum=off")


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server; ``variables`` lead psql and psycopg to it, as its superuser."""

    psql: str
    variables: Mapping[str, str]

    async def run(self, sql: str, *flags: str, user: str = OWNER) -> str:
        """Run SQL with psql; return its output."""
        status, out, err = await self.try_to(sql, *flags, user=user)
        assert status == 0, err
        return out

    async def try_to(self, sql: str, *flags: str, user: str = OWNER) -> tuple[int, str, str]:
        """Run SQL with psql, which ends at the first error; return its exit status and what it wrote."""
        status, out, err = await output_of(
            *(self.psql, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *flags),
            input_bytes=sql.encode(),
            env=os.environ | self.variables | {"PGUSER": user},
        )
        return status, out.decode(), err.decode()


@contextlib.asynccontextmanager
async def postgres(program: Program) -> AsyncIterator[Postgres]:
    """Create a database cluster and run a server on it until the end of the block."""
    initdb, server, psql = (program(_binary(name), install=INSTALL) for name in ("initdb", "postgres", "psql"))
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # pytest's own folders are closed to other users
    options: dict[str, Any] = {"cwd": folder, "env": {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}}
    if os.geteuid() == 0:
        user = pwd.getpwnam(_UNPRIVILEGED)
        os.chown(folder, user.pw_uid, user.pw_gid)
        options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": ()}
    marks = {name: value for name, value in os.environ.items() if name.startswith("VERIFY_TESTS_")}
    options["env"] |= marks  # so that a process that stays is found
    try:
        data, log = folder / "data", folder / "log"
        status, out, err = await output_of(
            *(initdb, "--pgdata", str(data), "--username", OWNER, "--auth", "trust", "--no-sync"), **options
        )
        assert status == 0, (out + err).decode()
        settings = (*_FAST, "listen_addresses=", f"unix_socket_directories={folder}")
        command = (server, "-D", str(data), *(f"-c{setting}" for setting in settings))
        with log.open("wb") as stream:
            async with spawned(*command, stdout=stream, stderr=stream, **options) as started:
                found = Postgres(psql, {"PGHOST": str(folder), "PGUSER": OWNER, "PGDATABASE": "postgres"})

                async def answers() -> bool:
                    assert started.returncode is None, log.read_text()
                    return (await found.try_to("SELECT 1"))[0] == 0

                try:
                    await until(answers, bool)
                    yield found
                finally:
                    await _stop(started)
    finally:
        shutil.rmtree(folder)


async def _stop(started: asyncio.subprocess.Process) -> None:
    """Disconnect all clients and wait for the end; a killed server would leave shared memory behind."""
    with contextlib.suppress(ProcessLookupError):
        started.send_signal(signal.SIGINT)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await started.wait()


def _binary(name: str) -> str:
    """Return where Debian has a program of PostgreSQL, which is not on the path; its name if it isn't there."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    return str(found[-1]) if found else name
