"""The simulator itself: the Verify API on a real socket."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import time
from typing import TYPE_CHECKING, Self

from aiohttp import web

from exporter.simulator import sids, wire
from exporter.simulator.api import VerifyApi
from exporter.simulator.calls import CallCounts
from exporter.simulator.control import Controls
from exporter.simulator.credentials import Credentials
from exporter.simulator.factors import (
    FactorStatus,
    FactorType,
    SimulatedEntity,
    SimulatedFactor,
    SimulatedService,
)
from exporter.simulator.faults import NOTHING, FaultSet
from exporter.simulator.oauth import OAuthApp
from exporter.simulator.paging import MAX_PAGE_SIZE
from exporter.simulator.target import Endpoint, read_target
from exporter.simulator.world import SimulatedApi

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from types import TracebackType

    from aiohttp.abc import AbstractStreamWriter

    from exporter.simulator.answers import SimulatedResponse
    from exporter.simulator.script import Script
    from exporter.simulator.target import Target
    from exporter.simulator.world import ChangeCallback

_LINGER_AND_RESET = struct.pack("ii", 1, 0)
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  addresses to translate, not to bind
_TICK_SECONDS = 0.5
_LOOP_CYCLES_TO_UNWIND = 100


class Simulator:
    """A Verify API with one account, fault injection and exact request counts.

    All data is generated from ``seed``; ``clock`` returns Unix time in seconds. Every request takes
    ``latency_seconds`` plus up to ``jitter_seconds``; both can be changed at any time. ``public_url`` replaces the
    address in links, for a simulator behind another name. ``call_log_size`` limits ``calls.log``.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        clock: Callable[[], float] = time.time,
        latency_seconds: float = 0.0,
        jitter_seconds: float = 0.0,
        public_url: str | None = None,
        max_page_size: int = MAX_PAGE_SIZE,
        call_log_size: int = 1000,
    ) -> None:
        rng = _rng(seed, "world")
        self.clock = clock
        self.latency_seconds = latency_seconds
        self.jitter_seconds = jitter_seconds
        self.credentials = Credentials(
            sids.random_sid(sids.ACCOUNT, rng), sids.random_sid(sids.API_KEY, rng), f"{rng.getrandbits(128):032x}"
        )
        self.oauth = OAuthApp(self.credentials.account_sid, _rng(seed, "oauth"))
        self.world = SimulatedApi(self.credentials.account_sid, rng)
        self.world.add_service(now=clock())
        self.faults = FaultSet(_rng(seed, "faults"))
        self.calls = CallCounts(call_log_size)
        self._api = VerifyApi(self.world, self.credentials, self.oauth, max_page_size=max_page_size)
        self._controls = Controls(self.world, self.faults, self.credentials, self.oauth, self.calls)
        self._rng = _rng(seed, "calls")
        self._public_url = public_url
        self._base_url: str | None = None
        self._listener: asyncio.Server | None = None
        self._connections: _Connections | None = None
        self._ticker: asyncio.Task[None] | None = None

    @property
    def account_sid(self) -> str:
        """The account's SID, which is also accepted as the username."""
        return self.credentials.account_sid

    @property
    def username(self) -> str:
        """The SID of the account's API key."""
        return self.credentials.username

    @property
    def password(self) -> str:
        """The current password; setting it is a rotation, effective immediately."""
        return self.credentials.password

    @password.setter
    def password(self, password: str) -> None:
        self.credentials.password = password

    @property
    def token_url(self) -> str:
        """The address of the token endpoint of the app ``oauth``, as ``base_url``."""
        return f"{self.base_url}/v2/token"

    @property
    def base_url(self) -> str:
        """The address for clients, also after a stop. Raises ``RuntimeError`` before the first start."""
        if self._base_url is None:
            raise RuntimeError("the simulator has no address before it is started")
        return self._base_url

    @property
    def factors(self) -> Mapping[str, SimulatedFactor]:
        """All factors by SID, including deleted ones."""
        return self.world.factors

    @property
    def on_change(self) -> list[ChangeCallback]:
        """Callbacks with (factor, old, new, time) for every change of a status."""
        return self.world.on_change

    def add_service(self, *, service_sid: str | None = None, friendly_name: str | None = None) -> SimulatedService:
        """Add a service, or return the existing one with this SID. Raises ``ValueError``."""
        return self.world.add_service(now=self.clock(), service_sid=service_sid, friendly_name=friendly_name)

    def delete_service(self, service_sid: str) -> SimulatedService:
        """Delete a service: the API then returns 404 for it and its factors. Raises ``LookupError``."""
        return self.world.set_service(service_sid, deleted=True)

    def restore_service(self, service_sid: str) -> SimulatedService:
        """Restore a deleted service with all its factors. Raises ``LookupError`` for an unknown SID."""
        return self.world.set_service(service_sid, deleted=False)

    def add_entity(self, *, service_sid: str | None = None, identity: str | None = None) -> SimulatedEntity:
        """Add an entity without factors, or return the existing one."""
        return self.world.add_entity(now=self.clock(), service_sid=service_sid, identity=identity)

    def delete_entity(self, entity_sid: str) -> SimulatedEntity:
        """Delete an entity: the API then returns 404 for its factors. Raises ``LookupError``."""
        return self.world.set_entity(entity_sid, deleted=True)

    def restore_entity(self, entity_sid: str) -> SimulatedEntity:
        """Restore a deleted entity with its factors. Raises ``LookupError`` for an unknown SID."""
        return self.world.set_entity(entity_sid, deleted=False)

    def add_factor(
        self,
        *,
        service_sid: str | None = None,
        identity: str | None = None,
        factor_sid: str | None = None,
        factor_type: str = FactorType.TOTP,
        status: str = FactorStatus.VERIFIED,
        friendly_name: str | None = None,
        notification_platform: str | None = None,
        script: Script | None = None,
    ) -> SimulatedFactor:
        """Add a factor and start its script; missing values are generated, the service is the first one.

        Raises ``ValueError`` for a SID of the wrong form or in use, an unknown type or status.
        """
        return self.world.add_factor(
            now=self.clock(),
            service_sid=service_sid,
            identity=identity,
            factor_sid=factor_sid,
            factor_type=factor_type,
            status=status,
            friendly_name=friendly_name,
            notification_platform=notification_platform,
            script=script,
        )

    def set_status(self, factor_sid: str, status: str) -> SimulatedFactor:
        """Set a factor's status; a deleted factor is restored.

        Raises ``LookupError`` for an unknown SID, ``ValueError`` for an unknown status.
        """
        return self.world.set_status(factor_sid, status, now=self.clock())

    def delete(self, factor_sid: str) -> SimulatedFactor:
        """Delete a factor, for which the API then returns 404. Raises ``LookupError`` for an unknown SID."""
        return self.set_status(factor_sid, FactorStatus.DELETED)

    def approve(self, factor_sid: str) -> SimulatedFactor:
        """Have a verified passkeys factor approve a challenge. Raises ``LookupError`` or ``ValueError``."""
        return self.world.approve(factor_sid, now=self.clock())

    def advance(self) -> None:
        """Run the scripted steps that are due; requests and a running simulator do so, too."""
        self.world.advance(self.clock())

    async def start(
        self, host: str = "127.0.0.1", port: int = 0, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        """Start listening; port 0 selects a free port. Can be started again after a stop, also on the same port.

        Raises ``OSError`` if the address is not available, ``RuntimeError`` if the simulator is running.
        """
        if self._listener is not None:
            raise RuntimeError("the simulator is running already")
        connections = _Connections(self._serve)
        listener = await asyncio.get_running_loop().create_server(
            connections, host, port, ssl=ssl_context, backlog=1024
        )
        address, bound_port = listener.sockets[0].getsockname()[:2]
        name = _WILDCARDS.get(address, address)
        scheme = "http" if ssl_context is None else "https"
        self._base_url = self._public_url or f"{scheme}://{f'[{name}]' if ':' in name else name}:{bound_port}"
        self._api.base_url = self._base_url
        self._listener, self._connections = listener, connections
        self._ticker = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        """Close the listener and all connections immediately; a second stop has no effect."""
        if self._listener is None or self._connections is None or self._ticker is None:
            return
        listener, self._listener = self._listener, None
        connections, self._connections = self._connections, None
        ticker, self._ticker = self._ticker, None
        listener.close()
        ticker.cancel()
        await asyncio.wait([ticker])
        await connections.abort()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self.advance()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.rel_url.raw_path
        if path == "/" or path.startswith("/simulator"):
            self.advance()
            body = await request.read()
            answer = self._controls.answer(request.method, path, body, self.base_url, self.clock())
            return web.Response(
                status=answer.status, body=answer.body, headers={"Content-Type": answer.content_type}
            )
        return await self._serve_call(request, path)

    async def _serve_call(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """Answer an API request, with the faults that apply to it, and count it."""
        began = time.perf_counter()
        target = read_target(path, request.rel_url.raw_query_string)
        with self.calls.begin(target, self.clock()) as call:
            applied = self.faults.apply(target) if path.startswith("/v2/") else NOTHING
            delay = self.latency_seconds + applied.latency_seconds
            if self.jitter_seconds:
                delay += self._rng.uniform(0, self.jitter_seconds)
            if delay > 0:
                await asyncio.sleep(delay)
            now = self.clock()
            self.world.advance(now)
            answer = await self._answer(request, target, now)
            if applied.fault is not None:
                url = f"{self.base_url}{request.rel_url}"
                answer = wire.altered(applied.fault, answer, url=url, now=now)
            headers = {
                "Content-Type": answer.content_type,
                "Twilio-Request-Id": sids.random_sid(sids.REQUEST, self._rng),
                "Twilio-Concurrent-Requests": str(self.calls.in_flight),
                "Twilio-Request-Duration": f"{time.perf_counter() - began:.3f}",
                **dict(answer.headers),
            }
            if applied.fault is not None and applied.fault.kind in wire.BREAKING:
                if applied.fault.kind not in wire.WHOLE_IN_THE_END:
                    call.ended("none")
                head = wire.head_of(answer, headers)
                if await _perform(wire.acts(applied.fault, head, answer.body), request):
                    call.ended(str(answer.status))
                return _Severed()
            call.ended(str(answer.status))
            return web.Response(status=answer.status, body=answer.body or None, headers=headers)

    async def _answer(self, request: web.BaseRequest, target: Target, now: float) -> SimulatedResponse:
        """Return the normal response to a request."""
        if target.operation is Endpoint.TOKEN:
            content_type, form = request.headers.get("Content-Type", ""), await request.read()
            return self.oauth.answer(request.method, content_type, form, now)
        return self._api.answer(request.method, target, request.headers.get("Authorization", ""), now)


class _Severed(web.StreamResponse):
    """Stands for the response on a connection that a fault has closed; sends nothing."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        raise ConnectionResetError("cut by a fault")


class _Connections(web.Server):
    """aiohttp's protocol factory, with access to all open sockets."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        super().__init__(handler, handler_cancellation=True, access_log=None)
        self._open: dict[web.RequestHandler, asyncio.Transport] = {}
        self._stopped = False

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._open[handler] = transport
        if self._stopped:  # its TLS handshake ended after the stop
            transport.abort()

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        self._open.pop(handler, None)
        super().connection_lost(handler, exc)

    async def abort(self) -> None:
        """Close all connections immediately, and wait for their handlers to be cancelled."""
        self._stopped = True
        for transport in list(self._open.values()):
            transport.abort()
        for _ in range(_LOOP_CYCLES_TO_UNWIND):
            if not self.connections:
                return
            await asyncio.sleep(0)


async def _perform(acts: Iterator[wire.Act], request: web.BaseRequest) -> bool:
    """Perform a fault's acts on the connection; return ``False`` if the client is already gone."""
    transport = request.transport
    if transport is None:
        return False
    for act in acts:
        match act:
            case wire.Send(data):
                transport.write(data)
            case wire.Stall(seconds) if seconds is not None:
                await asyncio.sleep(seconds)
            case wire.Stall():
                await asyncio.get_running_loop().create_future()
            case wire.Close():
                transport.close()
            case wire.Reset():
                plug: socket.socket = transport.get_extra_info("socket")
                plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_AND_RESET)
                transport.abort()
    return True


def _rng(seed: int, purpose: str) -> random.Random:
    """Return a separate random generator per purpose, so that they don't influence each other."""
    return random.Random(f"{seed}/{purpose}")  # noqa: S311  generated values, no secrets
