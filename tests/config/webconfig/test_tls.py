"""TLS as the web config file asks for it, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from typing import TYPE_CHECKING

import aiohttp
import pytest

from exporter.config import tls
from exporter.config.files import UnreadableError
from tests.support.config_files import write_config
from tests.support.https_exporter import MUTUAL, PAIR, behind, client_context, get, handshake
from tests.support.processes import PATIENCE_SECONDS
from tests.support.running_exporter import running, until
from tests.support.served_exporter import ACCOUNT_SID

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.support.certificates import Certificates
    from tests.support.commands import Ran

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize(("version", "spoken"), [(TLS12, "TLSv1.2"), (TLS13, "TLSv1.3")])
async def test_both_versions_are_spoken(folder: Path, version: ssl.TLSVersion, spoken: str) -> None:
    async with behind(folder, PAIR) as served:
        assert re.fullmatch(r"https://127\.0\.0\.1:[0-9]+", served.url)
        context = client_context(folder, version=version)
        assert (await get(f"{served.url}/-/healthy", context))[0] == 200
        assert (await get(f"{served.url}/metrics", context))[0] == 200
        context.set_alpn_protocols(["h2", "http/1.1"])
        agreed = await handshake(served.url, context)
        assert agreed.version() == spoken
        assert agreed.selected_alpn_protocol() == "http/1.1"


@pytest.mark.parametrize(("field", "version"), [("min_version: TLS13", TLS12), ("max_version: TLS12", TLS13)])
async def test_a_version_that_is_not_offered(folder: Path, field: str, version: ssl.TLSVersion) -> None:
    async with behind(folder, f"{PAIR}  {field}\n") as served:
        with pytest.raises(OSError):  # by an alert of TLS, or closed
            await handshake(served.url, client_context(folder, version=version))


async def test_only_the_listed_cipher_suites_are_offered(folder: Path) -> None:
    suite = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
    async with behind(folder, f"{PAIR}  cipher_suites: [{suite}]\n") as served:
        context = client_context(folder, version=TLS12)
        cipher = (await handshake(served.url, context)).cipher()
        assert cipher is not None
        assert cipher[0] == tls.CIPHERS[suite]
        context.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
        with pytest.raises(OSError):  # by an alert of TLS, or closed
            await handshake(served.url, context)


async def test_suites_of_tls13_alone_leave_no_older_version(folder: Path) -> None:
    text = f"{PAIR}  cipher_suites: [TLS_AES_128_GCM_SHA256]\nhttp_server_config:\n  http2: false\n"
    async with behind(folder, text) as served:
        assert (await handshake(served.url, client_context(folder))).version() == "TLSv1.3"
        with pytest.raises(OSError):  # by an alert of TLS, or closed
            await handshake(served.url, client_context(folder, version=TLS12))


async def answer_with(url: str, context: ssl.SSLContext) -> int | None:
    """Return the status of the metrics, None where the connection is refused."""
    try:
        return (await get(f"{url}/metrics", context))[0]
    except aiohttp.ClientError:
        return None


@pytest.mark.parametrize("version", [TLS12, TLS13])
async def test_only_who_shows_a_certificate_of_the_authority_comes_in(
    folder: Path, version: ssl.TLSVersion
) -> None:
    async with behind(folder, MUTUAL) as served:
        for pair, status in {"client": 200, "guest": 200, "stranger": None, "": None}.items():
            assert await answer_with(served.url, client_context(folder, pair, version)) == status, pair


@pytest.mark.parametrize("version", [TLS12, TLS13])
@pytest.mark.parametrize("name", ["prometheus.example", "2001:DB8:0::7"])
async def test_only_who_has_an_allowed_name_comes_in(folder: Path, version: ssl.TLSVersion, name: str) -> None:
    text = f'{MUTUAL}  client_allowed_sans: [nobody.example, "{name}"]\n'
    async with behind(folder, text) as served:
        for pair, status in {"client": 200, "guest": None, "stranger": None, "": None}.items():
            assert await answer_with(served.url, client_context(folder, pair, version)) == status, pair
        assert len(served.daemon.server.connections) == 0


async def test_a_certificate_is_verified_where_one_is_given(folder: Path) -> None:
    text = MUTUAL.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven")
    async with behind(folder, text) as served:
        for pair, status in {"client": 200, "stranger": None, "": 200}.items():
            assert await answer_with(served.url, client_context(folder, pair)) == status, pair


async def test_a_client_s_own_certificate_may_be_the_authority(folder: Path) -> None:
    async with behind(folder, MUTUAL.replace("ca.crt", "client.crt")) as served:
        assert await answer_with(served.url, client_context(folder, "client")) == 200
        assert await answer_with(served.url, client_context(folder, "guest")) is None


def test_the_names_of_a_certificate() -> None:
    names = (
        ("DNS", "a.example"),
        ("IP Address", "2001:DB8:0:0:0:0:0:7\n"),
        ("IP Address", "odd"),
        ("email", "ops@example.org"),
        ("URI", "spiffe://example/a"),
        ("DirName", ((("commonName", "a"),),)),
    )
    assert tls.names_of({"subjectAltName": names}) == {
        "a.example", "2001:db8::7", "odd", "ops@example.org", "spiffe://example/a",
    }  # fmt: skip
    assert not tls.is_allowed({}, {"a.example"})
    assert not tls.is_allowed(None, {"a.example"})


def test_a_certificate_that_openssl_finds_too_weak(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        error = ssl.SSLError(1, "ee key too small")
        error.reason = "EE_KEY_TOO_SMALL"
        raise error

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", refuse)
    with pytest.raises(UnreadableError, match="are too weak for this system's OpenSSL"):
        tls.load_pair(context, b"", b"")


def test_where_the_system_has_no_files_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.memfd_create")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_pair(context, (folder / "server.crt").read_bytes(), (folder / "server.key").read_bytes())


# Change


async def test_a_new_certificate_is_shown_to_new_connections(folder: Path, certificates: Certificates) -> None:
    async with behind(folder, PAIR) as served:
        context = client_context(folder)
        before = (await handshake(served.url, context)).getpeercert(binary_form=True)
        kept = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))
        async with kept, kept.get(f"{served.url}/metrics") as answer:
            assert answer.status == 200
            (folder / "server.crt").write_bytes((certificates.folder / "other.crt").read_bytes())
            (folder / "server.key").write_bytes((certificates.folder / "other.key").read_bytes())
            for _ in range(2):  # two reads have to agree
                await served.daemon.reloader.reload_if_changed()
            after = (await handshake(served.url, context)).getpeercert(binary_form=True)
            assert after != before
            async with kept.get(f"{served.url}/metrics") as again:
                assert again.status == 200


async def test_an_invalid_new_file_is_not_applied(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with behind(folder, PAIR) as served:
        context = client_context(folder)
        (folder / "web.yml").write_text("tls_config: {}\n")
        for _ in range(5):
            await served.daemon.reloader.reload_if_changed()
        assert (await get(f"{served.url}/metrics", context))[0] == 200
        found = [record for record in caplog.records if record.getMessage() == "configuration error"]
        logged = [record.__dict__["fields"]["error"] for record in found]
        assert logged == [f'{folder}/web.yml:1:1: tls_config: unknown field; did you mean "tls_server_config"?']
        status, text = await get(f"{served.url}/metrics", context)
        assert "twilio_verify_exporter_config_last_reload_successful 0.0" in text
        (folder / "web.yml").write_text(PAIR)
        for _ in range(2):
            await served.daemon.reloader.reload_if_changed()
        status, text = await get(f"{served.url}/metrics", context)
        assert (status, "twilio_verify_exporter_config_last_reload_successful 1.0" in text) == (200, True)


async def test_half_a_new_pair_leaves_the_old_one_in_force(folder: Path, certificates: Certificates) -> None:
    async with behind(folder, PAIR) as served:
        context = client_context(folder)
        before = (await handshake(served.url, context)).getpeercert(binary_form=True)
        (folder / "server.crt").write_bytes((certificates.folder / "other.crt").read_bytes())
        for _ in range(3):
            await served.daemon.reloader.reload_if_changed()
        assert (await handshake(served.url, context)).getpeercert(binary_form=True) == before
        (folder / "server.key").write_bytes((certificates.folder / "other.key").read_bytes())
        for _ in range(2):
            await served.daemon.reloader.reload_if_changed()
        assert (await handshake(served.url, context)).getpeercert(binary_form=True) != before


async def test_tls_may_come_and_go_by_a_reload(folder: Path) -> None:
    async with behind(folder, "") as served:
        plain = served.url
        assert plain.startswith("http://")
        assert (await get(f"{plain}/metrics"))[0] == 200
        (folder / "web.yml").write_text(PAIR)
        await served.daemon.reload()
        [secure] = served.daemon.server.addresses
        assert secure == plain.replace("http", "https")
        assert (await get(f"{secure}/metrics", client_context(folder)))[0] == 200


# Health


async def test_health_has_an_address_of_its_own(folder: Path, call_beside: Callable[..., Awaitable[Ran]]) -> None:
    (folder / "web.yml").write_text(MUTUAL)
    account = {"account_sid": ACCOUNT_SID, "password": "made-up", "base_url": "http://127.0.0.1:1"}
    web = {"config_file": "web.yml", "health_listen_address": "127.0.0.1:0"}
    config = write_config(folder / "config.toml", {"main": account}, web=web)
    async with running(config) as site:
        [health] = site.daemon.health_server.addresses
        assert health.startswith("http://127.0.0.1:")
        assert site.url.startswith("https://127.0.0.1:")

        async def healthy() -> tuple[int, str]:
            return await get(f"{health}/-/healthy")

        await until(healthy, lambda answer: answer == (200, "healthy\n"))
        assert (await get(f"{health}/-/ready"))[0] in (200, 503)
        for path in ("/", "/metrics", "/api/v1/factors", "/-/reload", "/config"):
            assert (await get(health + path))[0] == 404, path
        config.write_text(
            config.read_text()
            .replace('"127.0.0.1:0"', f'"{health.removeprefix("http://")}"', 2)
            .replace(
                f'listen_address = "{health.removeprefix("http://")}"\nconfig', 'listen_address = ":1"\nconfig'
            )
        )
        ran = await call_beside("healthcheck", "--config.file", str(config))
        assert (ran.status, ran.out) == (0, "healthy\n")
        ran = await call_beside("healthcheck", "--url", site.url)
        assert (ran.status, ran.out) == (1, "")
        assert ran.err.startswith(f"{site.url}: its certificate is not trusted (")
        without = (
            config.read_text()
            .replace("health_listen_address", "# health_listen_address")
            .replace('":1"', f'"{site.url.removeprefix("https://")}"')
        )
        config.write_text(without)
        ran = await call_beside("healthcheck", "--config.file", str(config))
        assert ran.status == 1
        assert ran.err == (
            f"{site.url}: it closed the connection; if it requires client certificates, "
            "set web.health_listen_address\n"
        )


async def test_healthcheck_asks_with_tls_where_the_configuration_says_so(
    folder: Path, call_beside: Callable[..., Awaitable[Ran]]
) -> None:
    async with behind(folder, PAIR) as served:
        path = folder / "config.toml"
        path.write_text(path.read_text().replace("127.0.0.1:0", served.url.removeprefix("https://")))
        ran = await call_beside("healthcheck", "--config.file", str(path))
        assert (ran.status, ran.out, ran.err) == (0, "healthy\n", "")


async def test_many_handshakes_that_never_end_are_ended(folder: Path) -> None:
    async with behind(folder, PAIR) as served:
        host, _, port = served.url.removeprefix("https://").rpartition(":")
        silent = [await asyncio.open_connection(host, int(port)) for _ in range(20)]
        assert (await get(f"{served.url}/metrics", client_context(folder)))[0] == 200
        await served.daemon.server.stop()
        async with asyncio.timeout(PATIENCE_SECONDS):
            for reader, writer in silent:
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
                writer.close()
