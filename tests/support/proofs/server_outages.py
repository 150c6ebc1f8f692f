"""Outages of a whole server: it stops, returns with another certificate, or accepts connections in silence."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.proofs.fault_matrix import Outage

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.simulator import Simulator

NAME = "verify.simulated.test"
_LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class Certificates:
    """A certificate authority, and the valid and invalid certificates of the servers."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.ca_file))
        self._self_signed = folder / "self-signed.pem"
        self._self_signed.write_bytes(_self_signed())

    def context(self, outage: Outage | None = None) -> ssl.SSLContext:
        """Return the TLS context of a server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if outage is Outage.SELF_SIGNED:
            context.load_cert_chain(self._self_signed)
            return context
        names = ["another.test"] if outage is Outage.WRONG_HOST else ["localhost", NAME]
        ended = datetime.now(UTC) - timedelta(hours=1) if outage is Outage.EXPIRED else None
        self.ca.issue_cert(*names, not_before=_LONG_AGO, not_after=ended).configure_cert(context)
        return context


def _self_signed() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    day = timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, _LONG_AGO, datetime.now(UTC) + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return plain + certificate.public_bytes(pem)


@dataclass
class Server:
    """A simulator for one outage, or ``None`` for faults; it keeps its port."""

    outage: Outage | None
    certificates: Certificates
    simulator: Simulator
    port: int = 0
    _sockets: list[socket.socket] = field(default_factory=list)
    _listener: asyncio.Server | None = None
    name_fails: bool = False

    @property
    def base_url(self) -> str:
        host = NAME if self.outage is Outage.NO_NAME else "localhost"
        return f"https://{host}:{self.port}"

    async def start(self) -> None:
        """Serve without an outage."""
        await self.simulator.start(host="127.0.0.1", port=self.port, ssl_context=self.certificates.context())
        self.port = int(self.simulator.base_url.rpartition(":")[2])

    async def begin_outage(self) -> None:
        """Begin the outage."""
        if self.outage is Outage.ROTATED:
            self.simulator.password = "rotated-" + self.simulator.password
            self.simulator.oauth.client_secret = "rotated-" + self.simulator.oauth.client_secret
            return
        await self.simulator.stop()
        match self.outage:
            case Outage.REFUSED:
                pass
            case Outage.UNREACHABLE:
                self._fill_a_backlog()
            case Outage.NO_NAME:
                self.name_fails = True
                await self.start()
            case Outage.SILENT:
                self._listener = await asyncio.start_server(_never_answer, "127.0.0.1", self.port)
            case Outage.PLAIN:
                await self.simulator.start(host="127.0.0.1", port=self.port)
            case _:
                context = self.certificates.context(self.outage)
                await self.simulator.start(host="127.0.0.1", port=self.port, ssl_context=context)

    async def recover(self) -> None:
        """End the outage."""
        self.simulator.faults.clear()
        if self.outage in (Outage.ROTATED, None):
            return  # the exporter reads the new password
        self.name_fails = False
        for opened in self._sockets:
            opened.close()
        if self._listener is not None:
            self._listener.close()
        await self.simulator.stop()
        await self.start()

    def _fill_a_backlog(self) -> None:
        """Listen, accept nobody, and let so many wait that the system drops who comes next."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(0)
        self._sockets.append(listener)
        for _ in range(3):
            waiting = socket.socket()
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(("127.0.0.1", self.port))
            self._sockets.append(waiting)

    async def stop(self) -> None:
        for opened in self._sockets:
            opened.close()
        if self._listener is not None:
            self._listener.close()
        await self.simulator.stop()


async def _never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while await reader.read(65536):
            pass
    writer.close()
