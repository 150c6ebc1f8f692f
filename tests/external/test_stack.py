"""``make stack``, as a person uses it: start, try what it prints, see the page, Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.processes import PATIENCE_SECONDS, spawned
from tests.support.running_exporter import becomes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from multidict import CIMultiDictProxy

    from tests.support.fixtures import Program

pytestmark = pytest.mark.external

ROOT = Path(__file__).parents[2]
FREE_PORTS = ("--exporter", "0", "--prometheus", "0", "--alertmanager", "0")


@dataclass(slots=True)
class Stack:
    process: asyncio.subprocess.Process
    text: str = ""
    reading: asyncio.Task[None] | None = field(default=None)

    async def read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.text += line.decode()

    async def says(self, pattern: str) -> re.Match[str]:
        """Wait until the output has something that matches."""
        await becomes(lambda: re.search(pattern, self.text) or self.process.returncode is not None)
        found = re.search(pattern, self.text)
        assert found, self.text
        return found

    async def ended(self) -> int:
        """Wait for the end and return the exit status."""
        assert self.reading is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.reading
            return await self.process.wait()


@contextlib.asynccontextmanager
async def started(*flags: str, environ: Mapping[str, str] | None = None) -> AsyncIterator[Stack]:
    async with spawned(
        *(sys.executable, "-m", "tools.stack", *flags),
        stop=signal.SIGTERM,
        cwd=ROOT,
        env={**os.environ, **(environ or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    ) as process:
        stack = Stack(process)
        stack.reading = asyncio.create_task(stack.read())
        yield stack


async def curl(session: aiohttp.ClientSession, line: str) -> int:
    """Do what a printed line of curl does, and return the status of the answer."""
    words = shlex.split(line)
    assert words[0] == "curl"
    method, url = words[words.index("-X") + 1], words[-1]
    body = words[words.index("-d") + 1] if "-d" in words else None
    async with session.request(method, url, data=body) as answer:
        return answer.status


@contextlib.asynccontextmanager
async def topic() -> AsyncIterator[tuple[str, list[tuple[CIMultiDictProxy[str], str]]]]:
    """Stand for ntfy: yield the URL of a topic, and the headers and texts that are pushed to it."""
    pushed: list[tuple[CIMultiDictProxy[str], str]] = []

    async def take(request: web.Request) -> web.Response:
        pushed.append((request.headers, await request.text()))
        return web.json_response({"event": "message"})

    app = web.Application()
    app.router.add_post("/topic", take)
    async with TestServer(app) as server:
        yield str(server.make_url("/topic")), pushed


async def test_the_page_of_a_factor_is_printed_in_the_terminal_and_pushed(program: Program) -> None:
    program("prometheus", install="apt-get install prometheus")
    program("prometheus-alertmanager", install="apt-get install prometheus-alertmanager")
    async with (
        topic() as (url, pushed),
        started("--times", "60", "--push", url, *FREE_PORTS) as stack,
        aiohttp.ClientSession() as session,
    ):
        await stack.says("Press Ctrl-C to stop")
        addresses = re.findall(r"^[a-z ]+  (http://127\.0\.0\.1:\S+)$", stack.text, re.MULTILINE)
        for address in addresses:
            async with session.get(address) as answer:
                assert answer.status == 200, address
        unverify, verify, outage, recovery = (
            line.strip() for line in re.findall(r"^  curl .*", stack.text, re.MULTILINE)
        )
        assert await curl(session, unverify) == 200
        await stack.says(r"payments-pager: critical TwilioVerifyFactorRegressed payments-oncall-push")
        assert await curl(session, verify) == 200
        await stack.says(r"payments-pager: resolved TwilioVerifyFactorRegressed payments-oncall-push")
        assert await curl(session, outage) == 201
        assert await curl(session, recovery) == 200

        stack.process.send_signal(signal.SIGINT)
        assert await stack.ended() == 0, stack.text

    assert len(addresses) == 5
    titles = [headers["Title"] for headers, _ in pushed]
    regressed = titles.index("critical TwilioVerifyFactorRegressed payments-oncall-push")
    assert "resolved TwilioVerifyFactorRegressed payments-oncall-push" in titles[regressed:]
    headers, text = pushed[regressed]
    assert headers["Priority"] == "urgent"
    assert headers["Click"].endswith("/docs/runbooks/TwilioVerifyFactorRegressed.md")
    assert "payments-oncall-push" in text
    assert "Traceback" not in stack.text
    assert stack.text.endswith("stopped\n")
    for address in addresses:
        with pytest.raises(OSError):
            await asyncio.open_connection(urlsplit(address).hostname, urlsplit(address).port)


async def test_what_is_missing_is_named_with_its_install_line(tmp_path: Path) -> None:
    async with started(environ={"PATH": str(tmp_path)}) as stack:
        assert await stack.ended() == 1

    assert stack.text == (
        "stack: prometheus is not installed: RUNLEVEL=1 apt-get install --no-install-recommends prometheus\n"
        "       prometheus-alertmanager is not installed: "
        "RUNLEVEL=1 apt-get install --no-install-recommends prometheus-alertmanager\n"
    )


async def test_a_part_that_ends_ends_it_all(program: Program, tmp_path: Path) -> None:
    program("prometheus", install="apt-get install prometheus")
    broken = tmp_path / "prometheus-alertmanager"
    broken.write_text("#!/bin/sh\necho no room on the disk\nexit 3\n")
    broken.chmod(0o755)
    async with started(*FREE_PORTS, environ={"PATH": f"{tmp_path}:{os.environ['PATH']}"}) as stack:
        assert await stack.ended() == 1

    assert "stack: alertmanager ended with status 3:\nno room on the disk\n" in stack.text
    assert "Traceback" not in stack.text
