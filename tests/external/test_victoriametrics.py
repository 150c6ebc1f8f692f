"""VictoriaMetrics understands the queries of the dashboards, except for those that docs/dashboards.md names."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.external.test_prometheus import free_port
from tests.support.dashboards.files import boards, events, filled, targets, variables
from tests.support.processes import PATIENCE_SECONDS, spawned
from tests.support.running_exporter import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.fixtures import Program

pytestmark = pytest.mark.external

PAGE = (Path(__file__).parents[2] / "docs" / "dashboards.md").read_text(encoding="utf-8")


@pytest.fixture
async def api(program: Program, tmp_path: Path) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """Run an empty VictoriaMetrics; return a client and the address of its API."""
    binary = program("victoria-metrics", install="apt-get install victoria-metrics")
    address = f"127.0.0.1:{free_port()}"
    flags = (
        f"-storageDataPath={tmp_path / 'data'}",
        f"-httpListenAddr={address}",
        "-memory.allowedBytes=100000000",
    )
    with (tmp_path / "log").open("wb") as log:
        async with (
            spawned(binary, *flags, stop=signal.SIGTERM, stdout=asyncio.subprocess.DEVNULL, stderr=log),
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PATIENCE_SECONDS)) as client,
        ):

            async def listens() -> bool:
                try:
                    async with client.get(f"http://{address}/health") as answer:
                        return answer.status == 200
                except aiohttp.ClientConnectionError:
                    return False

            await until(listens, bool)
            yield client, f"http://{address}/api/v1"


async def test_it_understands_every_query_but_the_documented_ones(api: tuple[aiohttp.ClientSession, str]) -> None:
    client, url = api
    refused: dict[str, str] = {}
    asked = [(target.panel["title"], target.expression) for target in targets()]
    asked += [(item["name"], item["expr"]) for board in boards() for item in events(board)]
    for title, expression in asked:
        async with client.get(f"{url}/query", params={"query": filled(expression)}) as answer:
            if answer.status != 200:
                refused[title] = (await answer.json())["error"]
    assert len(asked) > 100
    (documented,) = re.findall(r"VictoriaMetrics has no function `(\w+)`, so \*([^*]+)\* shows an error", PAGE)
    assert refused.keys() == {documented[1]}
    assert f'unknown func "{documented[0]}"' in refused[documented[1]]


async def test_it_understands_the_series_of_every_variable(api: tuple[aiohttp.ClientSession, str]) -> None:
    client, url = api
    asked = 0
    for board in boards():
        for item in variables(board).values():
            if item["type"] == "query":
                found = re.fullmatch(r"label_values\((.+), *(\w+)\)", item["query"]["query"])
                assert found is not None, item["name"]
                series, label = filled(found[1]), found[2]
                async with client.get(f"{url}/label/{label}/values", params={"match[]": series}) as answer:
                    assert answer.status == 200, await answer.text()
                asked += 1
    assert asked > 10
