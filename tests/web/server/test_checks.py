"""The order of password checks: guesses don't keep a right password out. Checks are counted, not timed."""

from __future__ import annotations

import asyncio
import secrets
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from exporter.web.server import checks
from exporter.web.server.basicauth import BasicAuth, BusyError
from exporter.web.server.limits import Limits
from tests.support.https_exporter import behind, get
from tests.support.passwords import HASHED, PASSWORD, header
from tests.support.running_exporter import becomes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLOOD = 200
RIGHT = PASSWORD.encode()


class Held:
    """A bcrypt check that records every password, and waits until the test lets it go on."""

    def __init__(self) -> None:
        self.checked: list[bytes] = []
        self.costs: list[bytes] = []
        self.most_at_once = self._at_once = 0
        self._go = threading.Event()

    def __call__(self, password: bytes, hashed: bytes) -> bool:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        self.checked.append(password)
        self.costs.append(hashed[4:6])
        self._go.wait()
        self._at_once -= 1
        return password == RIGHT

    def release(self) -> None:
        self._go.set()


@pytest.fixture
def held() -> Iterator[Held]:
    made = Held()
    yield made
    made.release()


def doors(held: Held, limits: Limits | None = None, **users: str) -> BasicAuth:
    made = BasicAuth(limits, held)
    made.use(users or {"prometheus": HASHED})
    return made


async def flood(auth: BasicAuth, user: str, peer: str, count: int = FLOOD) -> list[asyncio.Task[bool]]:
    """Send guesses, and return once all wait or are refused."""
    passwords = [f"{user} {peer} {secrets.token_hex(8)}" for _ in range(count)]
    guesses = [asyncio.create_task(auth.allows(header(user, password), peer)) for password in passwords]
    await asyncio.sleep(0)
    return guesses


async def answers(tasks: list[asyncio.Task[bool]]) -> list[bool | None]:
    """Return what became of each: None if it was refused without a check."""
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, bool | BusyError) for one in found)
    return [one if isinstance(one, bool) else None for one in found]


@pytest.mark.parametrize(
    ("user", "peer"),
    [
        ("nobody", "192.0.2.1"),  # behind the same proxy, even
        ("nobody", "192.0.2.66"),
        ("prometheus", "192.0.2.66"),
        ("another", "192.0.2.1"),
    ],
)
async def test_a_right_password_waits_for_few_guesses(held: Held, user: str, peer: str) -> None:
    auth = doors(held, prometheus=HASHED, another=HASHED)
    guesses = await flood(auth, user, peer)
    first = asyncio.create_task(auth.allows(header("prometheus", PASSWORD), "192.0.2.1"))
    await asyncio.sleep(0)
    held.release()
    assert await first
    assert held.checked.index(RIGHT) <= 2
    found = await answers(guesses)
    assert True not in found
    assert found.count(False) + 1 == len(held.checked)
    assert held.most_at_once == 1


async def test_guesses_that_failed_before_wait_longer(held: Held) -> None:
    held.release()
    auth = doors(held)
    await answers(await flood(auth, "prometheus", "192.0.2.66", 20))
    held._go.clear()
    guesses = await flood(auth, "prometheus", "192.0.2.66", 1)
    await becomes(lambda: len(held.checked) == 21)
    guesses += await flood(auth, "prometheus", "192.0.2.66", 10)
    guesses += [(await flood(auth, "prometheus", f"192.0.2.{number}", 1))[0] for number in (7, 8)]
    held.release()
    await answers(guesses)
    assert [password.split()[1] for password in held.checked[20:24]] == [
        b"192.0.2.66",  # nothing else waited
        b"192.0.2.7",
        b"192.0.2.8",
        b"192.0.2.66",
    ]


async def test_a_right_password_ends_the_failures_of_its_client(held: Held) -> None:
    held.release()
    auth = doors(held)
    await answers(await flood(auth, "prometheus", "192.0.2.1", 3))
    assert await auth.allows(header("prometheus", PASSWORD), "192.0.2.1")
    assert not auth._checks._failures
    assert not auth._checks._unsettled


async def test_from_one_client_a_right_password_waits_at_most_for_those_before_it(held: Held) -> None:
    auth = doors(held)
    guesses = await flood(auth, "prometheus", "192.0.2.1", Limits().passwords - 1)
    first = asyncio.create_task(auth.allows(header("prometheus", PASSWORD), "192.0.2.1"))
    await asyncio.sleep(0)
    held.release()
    assert await first
    assert held.checked.index(RIGHT) == Limits().passwords - 1
    assert await answers(guesses) == [False] * len(guesses)


async def test_when_too_many_wait_the_client_with_the_most_gives_way(held: Held) -> None:
    auth = doors(held, replace(Limits(), passwords=4, guesses=2))
    guesses = await flood(auth, "prometheus", "192.0.2.66", 7)  # 1 is checked, 4 wait
    await becomes(lambda: len(held.checked) == 1)
    others = [(await flood(auth, "prometheus", f"192.0.2.{number}", 1))[0] for number in range(3)]
    late = await flood(auth, "prometheus", "192.0.2.66", 1)
    unknown = await flood(auth, "nobody", "192.0.2.66", 4)
    await becomes(lambda: sum(task.done() for task in (*guesses, *others, *late, *unknown)) == 8)
    held.release()
    assert (await answers(guesses)).count(False) == 2
    assert await answers(others) == [False] * 3
    assert await answers(late) == [None]
    assert (await answers(unknown)).count(False) == 2
    assert len(held.checked) == 1 + 4 + 2


async def test_a_costly_hash_delays_only_its_own_user(held: Held) -> None:
    auth = doors(held, slow=HASHED.replace("$04$", "$18$"), prometheus=HASHED)
    guesses = await flood(auth, "slow", "192.0.2.1", 3)
    await becomes(lambda: held.costs == [b"18"])
    first = asyncio.create_task(auth.allows(header("prometheus", PASSWORD), "192.0.2.1"))
    await becomes(lambda: len(held.costs) == 2)  # while the costly check goes on
    held.release()
    assert await first
    assert await answers(guesses) == [False] * 3
    assert held.most_at_once == 2


async def test_an_error_of_a_check_reaches_its_request_alone() -> None:
    def check(password: bytes, _hashed: bytes) -> bool:
        if password == b"boom":
            raise RuntimeError("no more threads")
        return True

    auth = BasicAuth(check=check)
    auth.use({"prometheus": HASHED})
    broken = asyncio.create_task(auth.allows(header("prometheus", "boom")))
    sound = asyncio.create_task(auth.allows(header("prometheus", PASSWORD)))
    with pytest.raises(RuntimeError, match="no more threads"):
        await broken
    assert await sound
    assert await auth.allows(header("prometheus", "another"))


async def test_what_is_remembered_of_clients_is_bounded(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "MOST_REMEMBERED", 3)
    held.release()
    auth = doors(held)
    for number in (*range(4), 1, 5):
        await answers(await flood(auth, "prometheus", f"192.0.2.{number}", 1))
        held.checked.clear()
        auth._kept[False].clear()
    assert dict(auth._checks._failures) == {
        ("prometheus", "192.0.2.3"): 1,
        ("prometheus", "192.0.2.1"): 2,
        ("prometheus", "192.0.2.5"): 1,
    }


async def test_over_http_the_first_scrape_after_a_start_passes_a_flood_of_guesses(folder: Path, held: Held) -> None:
    async with behind(folder, f"basic_auth_users:\n  prometheus: {HASHED}\n") as running:
        gate = running.daemon.server._gate
        gate._auth._check = held
        url = f"{running.url}/metrics"
        guesses = [
            asyncio.create_task(get(url, Authorization=header("nobody", f"guess {number}")))
            for number in range(FLOOD)
        ]
        most = 1 + Limits().guesses  # one is checked, and these wait
        await becomes(lambda: sum(task.done() for task in guesses) == FLOOD - most)
        assert len(held.checked) == 1
        scrape = asyncio.create_task(get(url, Authorization=header("prometheus", PASSWORD)))
        await becomes(lambda: gate._auth._checks._unsettled["prometheus", "127.0.0.1"])
        held.release()
        assert (await scrape)[0] == 200
        assert held.checked.index(RIGHT) <= 2
        statuses = [status for status, _ in await asyncio.gather(*guesses)]
        assert (statuses.count(401), statuses.count(503)) == (most, FLOOD - most)
        assert (await get(url, Authorization=header("prometheus", PASSWORD)))[0] == 200
