"""Basic authentication: which passwords are accepted, what a check costs, and what is cached."""

from __future__ import annotations

import asyncio
import base64
import threading
from typing import TYPE_CHECKING

import aiohttp
import bcrypt
import pytest

from exporter.web.health import HEALTH_PATHS
from exporter.web.server.basicauth import MOST_KEPT, BasicAuth, BusyError, credentials
from tests.support.https_exporter import PAIR, behind, client_context, get
from tests.support.passwords import HASHED, PASSWORD, header

if TYPE_CHECKING:
    from pathlib import Path


class Counted:
    """A bcrypt check that records the hashes it is called with."""

    def __init__(self) -> None:
        self.checked: list[bytes] = []
        self.threads: set[str] = set()
        self.at_once = self.most_at_once = 0

    def __call__(self, password: bytes, hashed: bytes) -> bool:
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        self.threads.add(threading.current_thread().name)
        self.checked.append(hashed)
        same = bcrypt.checkpw(password, hashed)
        self.at_once -= 1
        return same


def auth(check: Counted, **users: str) -> BasicAuth:
    made = BasicAuth(check=check)
    made.use(users or {"prometheus": HASHED})
    return made


async def test_only_the_right_password_of_a_known_user_is_accepted() -> None:
    doors = auth(Counted())
    assert await doors.allows(header("prometheus", PASSWORD))
    for refused in (
        header("prometheus", "wrong"),
        header("prometheus", ""),
        header("Prometheus", PASSWORD),
        header("", PASSWORD),
        header("nobody", PASSWORD),
        header("prometheus", PASSWORD + "\0"),
        f"Bearer {HASHED}",
        "Basic",
        "Basic !",
        "",
        None,
    ):
        assert not await doors.allows(refused), refused


def test_parsing_the_authorization_header() -> None:
    assert credentials("basic  YTpiOmM= ") == ("a", b"b:c")
    assert credentials(f"Basic {base64.b64encode(b'no colon').decode()}") is None
    assert credentials("Basic /zp4") is None  # the name is not UTF-8


@pytest.mark.parametrize(
    ("costs", "expected"),
    [((4,), 4), ((4, 6), 6), ((4, 4, 6), 4), ((18, 4, 4), 4), ((18,), 12), ((18, 31, 10), 12), ((), 10)],
)
async def test_an_unknown_user_takes_as_long_as_most_known_ones(costs: tuple[int, ...], expected: int) -> None:
    checked: list[bytes] = []

    def check(_password: bytes, hashed: bytes) -> bool:
        checked.append(hashed)
        return True

    doors = BasicAuth(check=check)
    doors.use({f"user {number}": HASHED.replace("$04$", f"${cost:02}$") for number, cost in enumerate(costs)})
    assert not await doors.allows(header("nobody", "x"))
    assert not await doors.allows(header("nobody", "x"))  # not even from the cache
    [stranger] = checked
    assert stranger[:7] == f"$2b${expected:02}$".encode()
    assert len(stranger) == len(HASHED)


async def test_every_result_is_computed_once_and_outside_the_event_loop() -> None:
    check = Counted()
    doors = auth(check)
    answers = await asyncio.gather(*(doors.allows(header("prometheus", PASSWORD)) for _ in range(50)))
    assert all(answers)
    assert await doors.allows(header("prometheus", PASSWORD))
    assert not await doors.allows(header("nobody", PASSWORD))
    assert not await doors.allows(header("nobody", PASSWORD))
    assert len(check.checked) == 2
    assert check.threads == {"bcrypt"}


async def test_guesses_evict_no_good_result() -> None:
    check = Counted()
    doors = auth(check)
    assert await doors.allows(header("prometheus", PASSWORD))
    for number in range(MOST_KEPT + 10):
        assert not await doors.allows(header("prometheus", f"guess {number}"))
    checked = len(check.checked)
    assert await doors.allows(header("prometheus", PASSWORD))
    assert not await doors.allows(header("prometheus", f"guess {MOST_KEPT}"))
    assert len(check.checked) == checked
    assert not await doors.allows(header("prometheus", "guess 0"))  # the oldest is evicted
    assert len(check.checked) == checked + 1
    assert sum(map(len, doors._kept.values())) <= 2 * MOST_KEPT


async def test_a_cached_result_belongs_to_its_hash() -> None:
    doors = auth(Counted())
    assert await doors.allows(header("prometheus", PASSWORD))
    doors.use({"prometheus": bcrypt.hashpw(b"another", bcrypt.gensalt(4)).decode()})
    assert not await doors.allows(header("prometheus", PASSWORD))
    assert await doors.allows(header("prometheus", "another"))
    doors.use({})
    assert doors.open_to_all


async def test_only_the_first_72_bytes_of_a_password_count() -> None:
    doors = auth(Counted(), a=bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode())
    assert await doors.allows(header("a", "x" * 100))
    assert not await doors.allows(header("a", "x" * 71))


async def test_a_cancelled_caller_does_not_cancel_the_check_for_others() -> None:
    doors = auth(Counted())
    leaving = asyncio.create_task(doors.allows(header("prometheus", PASSWORD)))
    staying = asyncio.create_task(doors.allows(header("prometheus", PASSWORD)))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying


# Over HTTP


async def test_every_path_except_health_requires_the_password(folder: Path) -> None:
    text = f"{PAIR}basic_auth_users:\n  prometheus: {HASHED}\n"
    async with behind(folder, text, enable_lifecycle=True) as running:
        context = client_context(folder)
        for path in ("/", "/metrics", "/api/v1/factors", "/nowhere", "/-/healthy/", "/-/reload"):
            assert await get(running.url + path, context) == (
                401,
                "a valid user name and password are required\n",
            ), path
            given = header("prometheus", PASSWORD)
            assert (await get(running.url + path, context, Authorization=given))[0] != 401, path
        for path in HEALTH_PATHS:
            assert (await get(running.url + path, context))[0] in (200, 503)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
            for method in ("POST", "DELETE"):
                async with session.request(method, f"{running.url}/-/healthy") as answer:
                    assert answer.status == 401
                    assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")


async def test_users_are_reloaded(folder: Path) -> None:
    async with behind(folder, f"basic_auth_users:\n  a: {HASHED}\n") as running:
        assert (await get(f"{running.url}/metrics", Authorization=header("a", PASSWORD)))[0] == 200
        (folder / "web.yml").write_text(f"basic_auth_users:\n  b: {HASHED}\n")
        await running.daemon.reload()
        assert (await get(f"{running.url}/metrics", Authorization=header("a", PASSWORD)))[0] == 401
        assert (await get(f"{running.url}/metrics", Authorization=header("b", PASSWORD)))[0] == 200


async def test_too_many_guesses_at_once_get_503(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def busy(*_given: object) -> bool:
        raise BusyError

    async with behind(folder, f"basic_auth_users:\n  a: {HASHED}\n") as running:
        monkeypatch.setattr(BasicAuth, "allows", busy)
        answer = await running.request("/metrics")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert await get(f"{running.url}/metrics") == (
            503,
            "too many passwords are waiting to be checked; try again\n",
        )
        assert (await get(f"{running.url}/-/healthy"))[0] in (200, 503)
    assert "password checks refused at the limit" in caplog.messages
