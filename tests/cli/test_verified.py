"""``healthcheck --verified``: what exporters prove together, what isn't proved, and how it reaches them."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from exporter.cli import healthcheck
from exporter.cli.access import Access
from exporter.cli.healthcheck import CheckResult
from exporter.cli.verified import Proof, add_up, check_verified, summary
from tests.support.https_exporter import MUTUAL, PAIR
from tests.support.passwords import HASHED, PASSWORD
from tests.support.running_exporter import LeapingClock
from tests.support.served_exporter import VERIFIED, ServedExporter, entries, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.support.commands import Ran

    CallBeside = Callable[..., Awaitable[Ran]]

GOOD = "account main passes: credentials accepted, 4 of 5 factors found, 1 not found\n"
SHARD = "shard 0/1: 5 of 5 listed factors\n"
NOT_KNOWN = "which is no answer of an exporter that knows /-/verified"
ADD = "add the URL of every shard"
LOCKED = (
    "HTTP 401: it requires a password, so nothing was checked; name files with --username-file and --password-file "
    "(in the Helm chart, tests.basicAuth)"
)
USERS = f"basic_auth_users:\n  reader: {HASHED}\n"


@contextlib.asynccontextmanager
async def answering(*verified: tuple[int, str], ready: tuple[int, str] = (200, "ready\n")) -> AsyncIterator[str]:
    """Answer ``/-/verified`` with these in turn, the last one for good, and ``/-/ready``; gives the URL."""
    waiting = list(verified)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        status, text = ready
        if request.startswith(b"GET /-/verified "):
            status, text = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        else:
            assert request.startswith(b"GET /-/ready ")
        body = text.encode()
        writer.write(
            b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (status, len(body)) + body
        )
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def shard(ordinal: int, shards: int, listed: int, total: int, **found: int) -> Proof:
    return Proof((), found=found or {"main": listed}, shard=(ordinal, shards), listed=listed, total=total)


@pytest.mark.parametrize(
    ("proofs", "problems"),
    [
        ([shard(0, 1, 5, 5)], []),
        ([shard(1, 3, 0, 9, main=0), shard(0, 3, 4, 9), shard(2, 3, 5, 9)], []),
        ([shard(0, 2, 3, 5), shard(0, 2, 3, 5)], [
            "shard 0/2 responded 2 times; give each shard's own URL once",
            "no response of shard 1/2; add the URL of every shard",
        ]),
        ([shard(0, 1, 5, 5), shard(0, 1, 5, 5)], ["shard 0/1 responded 2 times; give each shard's own URL once"]),
        ([shard(1, 3, 5, 5)], ["no response of shard 0/3, 2/3; add the URL of every shard"]),
        ([shard(0, 100, 5, 5)], [
            f"no response of shard {', '.join(f'{one}/100' for one in range(1, 11))}, 99 in all; {ADD}"
        ]),
        ([shard(0, 2, 5, 5), shard(1, 3, 0, 5)], ["the exporters disagree about the number of shards: 2 or 3"]),
        ([shard(0, 2, 5, 9), shard(1, 2, 4, 8)], [
            "the exporters disagree about the number of listed factors: 8 or 9"
        ]),
        ([shard(0, 2, 5, 9), shard(1, 2, 3, 9)], ["the shards have 8 of 9 listed factors"]),
        ([shard(0, 2, 5, 9), shard(1, 2, 5, 9)], ["the shards have 10 of 9 listed factors"]),
        ([shard(0, 2, 0, 0, main=3), shard(1, 2, 0, 0, main=0)], []),
        ([shard(0, 2, 0, 0, main=0), shard(1, 2, 0, 0, main=0)], ["no factor is found by any account"]),
    ],
)  # fmt: skip
def test_shards_add_up(proofs: list[Proof], problems: list[str]) -> None:
    assert add_up(proofs) == problems


def test_the_summary_claims_no_account_without_a_found_factor() -> None:
    assert summary([shard(0, 1, 1, 1, main=1)]) == ["verified: 1 factor found, of 1 account, in 1 shard"]
    assert summary([shard(0, 2, 2, 5, main=2, second=0, idle=0), shard(1, 2, 3, 5, main=0, second=3, idle=0)]) == [
        "without a factor that was found: account idle",
        "verified: 5 factors found, of 2 accounts, in 2 shards",
    ]


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (200, ""),
        (200, "healthy\n"),
        (200, GOOD),
        (200, SHARD),
        (200, GOOD + "something else\n" + SHARD),
        (200, GOOD + SHARD + "something else\n"),
        (200, SHARD + GOOD),
        (200, GOOD.replace("main", "\x1b[31m") + SHARD),
        (200, GOOD.replace("found,", "föund,") + SHARD),
        (404, "404: Not Found"),
        (404, GOOD + SHARD),
        (500, GOOD + SHARD),
        (302, ""),
    ],
)
async def test_an_answer_of_something_else_proves_nothing(status: int, text: str) -> None:
    async with answering((status, text)) as url:
        proof = await asyncio.to_thread(check_verified, url, Access())

    assert proof == Proof((f"HTTP {status}, {NOT_KNOWN}",))


@pytest.mark.parametrize(
    ("status", "text"),
    [(503, GOOD + SHARD), (200, GOOD.replace("passes", "fails").replace("4 of", "0 of") + SHARD)],
)
async def test_a_status_that_contradicts_the_lines_is_a_problem(status: int, text: str) -> None:
    async with answering((status, text)) as url:
        proof = await asyncio.to_thread(check_verified, url, Access())

    assert proof.problems[-1] == f"HTTP {status} contradicts the lines of the response"


@pytest.mark.parametrize(
    ("ready", "problem"),
    [
        ((503, "not ready: first fetches are in progress\n"), "not ready: first fetches are in progress"),
        ((503, "not ready: \x1b[31m"), "/-/ready: HTTP 503"),
        ((404, "404: Not Found"), "/-/ready: HTTP 404"),
    ],
)
async def test_an_exporter_that_is_not_ready_is_not_verified(
    call_beside: CallBeside, ready: tuple[int, str], problem: str
) -> None:
    async with answering((200, GOOD + SHARD), ready=ready) as url:
        ran = await call_beside("healthcheck", "--verified", "--url", url)

    assert ran.status == 1
    assert ran.err == f"not verified: {url}: {problem}\n"
    assert "\nverified" not in ran.out


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait almost no time between two checks."""
    monkeypatch.setattr(healthcheck, "_REPEAT_SECONDS", 0.01)


STARTING = "account main fails: credentials not confirmed yet, 0 of 5 factors found, 5 without a current answer\n"


async def test_it_waits_until_factors_are_found(call_beside: CallBeside, soon: None) -> None:
    starting, good = (503, STARTING + SHARD), (200, GOOD + SHARD)
    async with answering((404, "not yet"), starting, starting, good) as url:
        once = await call_beside("healthcheck", "--verified", "--url", url)
        ran = await call_beside("healthcheck", "--verified", "--wait=10m", "--url", url)

    assert once.status == 1
    assert ran.status == 0
    assert ran.err == f"waiting: not verified: {url}: {STARTING}"
    assert ran.out == f"{url}: {GOOD}{url}: {SHARD}verified: 4 factors found, of 1 account, in 1 shard\n"


async def test_waiting_ends_with_what_is_wrong(call_beside: CallBeside) -> None:
    async with answering((503, STARTING + SHARD)) as url:
        ran = await call_beside("healthcheck", "--verified", "--wait=1s", "--url", url)

    assert (ran.status, ran.out) == (1, f"{url}: {SHARD}")
    assert ran.err == f"waiting: not verified: {url}: {STARTING}not verified: {url}: {STARTING}"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (
            (503, "account main fails: credentials refused; correct them\nshard 1/2: 3 of 5 listed factors\n"),
            "account main fails: credentials refused; correct them",
        ),
        (
            (401, "401: Unauthorized"),
            LOCKED,
        ),
        ((403, "403: Forbidden"), "HTTP 403: refused; a proxy may be in front of it"),
    ],
)
async def test_waiting_is_useless_while_something_is_refused(
    call_beside: CallBeside, monkeypatch: pytest.MonkeyPatch, answer: tuple[int, str], problem: str
) -> None:
    monkeypatch.setattr(healthcheck, "_REFUSED_SECONDS", 0.0)
    first = 503, f"{STARTING}shard 0/2: 2 of 5 listed factors\n"
    async with answering(first) as starting, answering(answer) as url:
        ran = await call_beside("healthcheck", "--verified", "--wait=999h", "--url", starting, "--url", url)
        proofs = [await asyncio.to_thread(check_verified, one, Access()) for one in (starting, url)]

    assert ran.status == 1
    assert ran.err == f"not verified: {starting}: {STARTING}not verified: {url}: {problem}\n"
    assert "\nverified" not in ran.out
    assert [proof.refused for proof in proofs] == [False, True]


async def test_it_waits_for_credentials_that_are_being_corrected(call_beside: CallBeside, soon: None) -> None:
    refused, good = (503, "account main fails: credentials refused; correct them\n" + SHARD), (200, GOOD + SHARD)
    async with answering(refused, refused, (401, "401: Unauthorized"), refused, good) as url:
        ran = await call_beside("healthcheck", "--verified", "--wait=10m", "--url", url)

    assert ran.status == 0
    assert ran.err.startswith(f"waiting: not verified: {url}: account main fails: credentials refused; ")


@pytest.mark.parametrize(
    ("refused", "seconds"),
    [
        ([True], 120),
        ([True, True, False, True], 124),
        ([False], 480),
        ([True] * 59 + [False, True], 238),
    ],
)
def test_a_refusal_ends_the_wait_after_two_minutes_without_a_break(
    monkeypatch: pytest.MonkeyPatch, refused: list[bool], seconds: float
) -> None:
    now, waiting = 0.0, list(refused)

    def sleep(for_seconds: float) -> None:
        nonlocal now
        now += for_seconds

    def check() -> CheckResult:
        return CheckResult([], ["no"], refused=waiting.pop(0) if len(waiting) > 1 else waiting[0])

    monkeypatch.setattr(healthcheck, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))

    assert healthcheck._repeat(check, 480.0) == 1
    assert now == seconds


async def test_it_waits_for_health_too(call_beside: CallBeside, soon: None, tmp_path: Path) -> None:
    clock = LeapingClock()
    async with serving(tmp_path, clock=clock) as served:
        clock.leap(16)

        async def recover() -> None:
            await asyncio.sleep(0.05)
            served.daemon.engine.poller.dispatch()

        ran, _ = await asyncio.gather(call_beside("healthcheck", "--wait=10m", "--url", served.url), recover())

    assert (ran.status, ran.out) == (0, "healthy\n")


async def test_every_url_must_be_healthy(call_beside: CallBeside, tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        ran = await call_beside("healthcheck", "--url", served.url, "--url", "nonsense")

    assert (ran.status, ran.out) == (1, "")
    assert ran.err == "nonsense: not a URL such as http://127.0.0.1:10069\n"


async def test_without_a_url_it_reads_the_address_of_the_pages(call_beside: CallBeside, tmp_path: Path) -> None:
    async with answering((200, GOOD + SHARD)) as url:
        path = tmp_path / "config.toml"
        address = url.removeprefix("http://")
        path.write_text(f'[web]\nlisten_address = "{address}"\nhealth_listen_address = "127.0.0.1:1"\n')
        ran = await call_beside("healthcheck", "--verified", "--config.file", str(path))

    assert (ran.status, ran.err) == (0, "")


# Passwords and TLS


def secrets(folder: Path, password: str = PASSWORD) -> tuple[str, ...]:
    (folder / "user").write_text("reader\n", encoding="utf-8")
    (folder / "password").write_text(f"{password}\r\n", encoding="utf-8")
    return "--username-file", str(folder / "user"), "--password-file", str(folder / "password")


@contextlib.asynccontextmanager
async def good(folder: Path, web_config: str) -> AsyncIterator[ServedExporter]:
    """Serve an exporter that has found its factor, with this web configuration."""
    (folder / "web.yml").write_text(web_config, encoding="utf-8")
    async with serving(folder, entries("one"), web={"config_file": "web.yml"}) as served:
        served.daemon.engine.poller.accounts["main"]._refusals.guard.heard(200)
        served.apply("one", VERIFIED)
        served.daemon.readiness._was_ready = True
        yield served


async def test_a_password_is_sent_and_never_shown(call_beside: CallBeside, folder: Path) -> None:
    async with good(folder, USERS) as served:
        words = ("healthcheck", "--verified", "--url", served.url)
        without = await call_beside(*words)
        wrong = await call_beside(*words, *secrets(folder, "not this one"))
        right = await call_beside(*words, *secrets(folder))

    assert without.status == wrong.status == 1
    assert without.err == f"not verified: {served.url}: {LOCKED}\n"
    assert wrong.err == f"not verified: {served.url}: HTTP 401: it refuses the user name or the password\n"
    assert (right.status, right.err) == (0, "")
    assert right.out.endswith("verified: 1 factor found, of 1 account, in 1 shard\n")
    assert "not this one" not in wrong.err + wrong.out
    assert PASSWORD not in repr(Access(authorization=PASSWORD))


async def test_tls_is_verified_by_the_name_that_is_given(
    call_beside: CallBeside, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with good(folder, PAIR.replace("server.", "guest.") + USERS) as served:  # for guest.example only
        words = ("healthcheck", "--verified", "--url", served.url, *secrets(folder))
        unknown = await call_beside(*words)
        skipped = await call_beside(*words, "--insecure-skip-verify")
        monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.crt"))
        other_name = await call_beside(*words)
        named = await call_beside(*words, "--server-name", "guest.example")
        healthy = await call_beside("healthcheck", "--url", served.url, "--server-name=guest.example")
        wrongly = await call_beside(*words, "--server-name", "other.example")

    start = f"not verified: {served.url}: its certificate is not trusted ("
    assert [ran.status for ran in (unknown, skipped, other_name, named, healthy, wrongly)] == [1, 0, 1, 0, 0, 1]
    assert all(ran.err.startswith(start) for ran in (unknown, other_name, wrongly))
    assert "); set SSL_CERT_FILE to its authority, or --server-name to a name in it" in unknown.err


async def test_a_password_is_not_sent_to_an_exporter_with_an_unknown_certificate(
    call_beside: CallBeside, folder: Path
) -> None:
    async with good(folder, PAIR + USERS) as served:
        path = folder / "config.toml"
        path.write_text(path.read_text().replace("127.0.0.1:0", served.url.removeprefix("https://")))
        words = ("healthcheck", "--verified", "--config.file", str(path))
        without = await call_beside(*words)
        refused = await call_beside(*words, *secrets(folder))
        skipped = await call_beside(*words, *secrets(folder), "--insecure-skip-verify")

    assert "HTTP 401" in without.err
    assert refused.err.startswith(f"not verified: {served.url}: its certificate is not trusted (")
    assert skipped.status == 0


async def test_a_client_certificate_is_shown(
    call_beside: CallBeside, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.crt"))
    async with good(folder, MUTUAL) as served:
        words = ("healthcheck", "--verified", "--wait=1s", "--url", served.url)
        key = "--key-file", str(folder / "client.key")
        without = await call_beside(*words)
        encrypted = await call_beside(
            *words, "--cert-file", str(folder / "server.crt"), "--key-file", str(folder / "encrypted.key")
        )
        broken = await call_beside(*words, "--cert-file", str(folder / "broken.crt"), *key)
        shown = await call_beside(*words, "--cert-file", str(folder / "client.crt"), *key)

    hint = "name one with --cert-file and --key-file (in the Helm chart, tests.tlsConfig)"
    assert without.status == 1
    assert hint in without.err
    for ran, name in ((encrypted, "server"), (broken, "broken")):
        assert ran.status == 1
        assert (
            ran.err == f"not verified: {served.url}: {folder}/{name}.crt: is no usable certificate with its key\n"
        )
    assert (shown.status, shown.err) == (0, "")


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--password-file", "p"), "--password-file has no effect without --username-file; add it"),
        (("--username-file", "u"), "--username-file has no effect without --password-file; add it"),
        (("--key-file", "k"), "--key-file has no effect without --cert-file; add it"),
    ],
)
def test_a_flag_without_its_other_is_bad_usage(
    call: Callable[..., Ran], flags: tuple[str, str], problem: str
) -> None:
    ran = call("healthcheck", *flags)

    assert (ran.status, ran.out) == (64, "")
    assert ran.err == f"verify-factor-exporter healthcheck: {problem}\n"


@pytest.mark.parametrize("text", ["", "5", "m", "1h30m", "-5s", "5 m", "1d", "0.5s"])
def test_a_duration_that_is_none_is_bad_usage(call: Callable[..., Ran], text: str) -> None:
    ran = call("healthcheck", f"--wait={text}")

    assert (ran.status, ran.out) == (64, "")
    assert f'"{text}" is not a duration such as "90s" or "5m"' in ran.err


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff", b"two\nlines", b"pass\x00word"])
def test_a_password_file_has_one_line(call: Callable[..., Ran], tmp_path: Path, content: bytes) -> None:
    words = secrets(tmp_path)
    (tmp_path / "password").write_bytes(content)
    ran = call("healthcheck", "--url", "http://127.0.0.1:1", *words)

    assert (ran.status, ran.out) == (1, "")
    assert ran.err == f"{tmp_path}/password: must have one line of printable text\n"


@pytest.mark.parametrize("flag", ["--username-file", "--password-file", "--cert-file", "--key-file"])
def test_a_file_that_is_missing_is_named(call: Callable[..., Ran], tmp_path: Path, flag: str) -> None:
    files = {"--cert-file": str(tmp_path / "user"), "--key-file": str(tmp_path / "user")}
    words = dict(zip(*[iter(secrets(tmp_path))] * 2, strict=True)) | files | {flag: f"{tmp_path}/typo"}
    ran = call("healthcheck", "--url", "https://127.0.0.1:1", *(word for pair in words.items() for word in pair))

    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith(f"{tmp_path}/typo: can't be read")
