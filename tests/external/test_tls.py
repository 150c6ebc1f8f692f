"""curl and Prometheus against TLS 1.2 and 1.3, client certificates and passwords, while certificates change."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import ssl
from typing import TYPE_CHECKING

import pytest

from exporter.web.server.connections import Stage
from tests.external.test_prometheus import binary_of, prometheus
from tests.support.certificates import CLIENT_NAME, Certificates
from tests.support.https_exporter import MUTUAL, behind, client_context, get, handshake
from tests.support.passwords import HASHED, PASSWORD, header
from tests.support.processes import output_of
from tests.support.running_exporter import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.external.test_prometheus import Prometheus
    from tests.support.fixtures import Program
    from tests.support.served_exporter import ServedExporter

pytestmark = pytest.mark.external

USER = "prometheus"
WEB = f"{MUTUAL}  client_allowed_sans: [{CLIENT_NAME}]\nbasic_auth_users:\n  {USER}: {HASHED}\n"
ROTATIONS = 12
JOB = """
  - job_name: tls{version}
    scheme: https
    static_configs: [{{targets: ["{target}"]}}]
    basic_auth: {{username: {user}, password: "{password}"}}
    tls_config:
      ca_file: ca.crt
      cert_file: client.crt
      key_file: client.key
      min_version: TLS{version}
      max_version: TLS{version}
"""


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates.make(tmp_path)


async def curl(binary: str, folder: Path, url: str, *flags: str) -> tuple[int, str, str]:
    """Return the exit status, the answer and the conversation."""
    usual = ("--silent", "--show-error", "--verbose", "--max-time", "300", "--noproxy", "*", "--cacert", "ca.crt")
    status, out, err = await output_of(binary, *usual, *flags, url, cwd=folder)
    return status, out.decode(), err.decode()


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_curl(program: Program, certificates: Certificates, version: str) -> None:
    binary = program("curl", install="apt-get install curl")
    folder = certificates.folder
    of_version = (f"--tlsv{version}", "--tls-max", version)
    client, user = ("--cert", "client.crt", "--key", "client.key"), ("--user", f"{USER}:{PASSWORD}")
    async with behind(folder, WEB) as running:
        status, text, talk = await curl(binary, folder, f"{running.url}/metrics", *of_version, *client, *user)
        assert status == 0, talk
        assert "twilio_verify_exporter_build_info" in text
        assert re.search(rf"SSL connection using TLSv{re.escape(version)} ", talk)
        assert re.search(r"^< HTTP/1.1 200 OK", talk, re.MULTILINE)

        _, text, talk = await curl(binary, folder, f"{running.url}/metrics", *of_version, *client)
        assert (text, "< HTTP/1.1 401 Unauthorized" in talk) == (
            "a valid user name and password are required\n",
            True,
        )
        wrong = ("--user", f"{USER}:wrong")
        assert (
            "401 Unauthorized" in (await curl(binary, folder, f"{running.url}/", *of_version, *client, *wrong))[2]
        )
        assert (await curl(binary, folder, f"{running.url}/-/healthy", *of_version, *client))[0] == 0
        for pair in ("guest", "stranger", None):
            shown = ("--cert", f"{pair}.crt", "--key", f"{pair}.key") if pair else ()
            status, text, _ = await curl(binary, folder, f"{running.url}/-/healthy", *of_version, *shown)
            assert status != 0, pair
            assert text == ""
        old = ("--tlsv1.0", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0")
        assert (await curl(binary, folder, f"{running.url}/-/healthy", *old, *client))[0] != 0


@pytest.mark.parametrize("version", ["the system's", "3"])
async def test_prometheus_fails_no_scrape_while_certificates_change(
    program: Program, newer_program: Program, certificates: Certificates, version: str
) -> None:
    binary = binary_of(version, program, newer_program)
    folder = certificates.folder
    async with behind(folder, WEB) as running:
        target = running.url.removeprefix("https://")
        jobs = "".join(
            JOB.format(version=number, target=target, user=USER, password=PASSWORD) for number in ("12", "13")
        )
        # A scrape may be slow on a busy machine, and isn't what is tested: it has Prometheus' default time limit.
        text = f"global: {{scrape_interval: 10s, scrape_timeout: 10s}}\nscrape_configs:{jobs}"
        async with prometheus(binary, folder, text) as server:
            await until(functools.partial(scraped, server, 1), bool)
            load = asyncio.create_task(new_connections(running, folder))
            shown = await rotate(running, certificates, server)
            load.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await load
            await until(functools.partial(scraped, server, 6), bool)
            worst = await server.query("min_over_time(up[30m])")
        assert len(shown) == ROTATIONS + 1
        assert [float(one["value"][1]) for one in worst] == [1, 1]


async def scraped(server: Prometheus, times: int) -> bool:
    """Return whether both jobs scraped at least that often."""
    found = await server.query("count_over_time(up[30m])")
    return len(found) == 2 and all(float(one["value"][1]) >= times for one in found)


async def new_connections(running: ServedExporter, folder: Path) -> None:
    """Scrape on one new connection after the other; raises where one fails."""
    while True:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = client_context(folder, "client", version)
            answer = await get(f"{running.url}/metrics", context, Authorization=header(USER, PASSWORD))
            assert answer[0] == 200


async def rotate(running: ServedExporter, certificates: Certificates, server: Prometheus) -> set[bytes | None]:
    """Replace the server's certificate again and again; return those that a new connection was shown."""
    folder = certificates.folder
    context = client_context(folder, "client")
    shown = {(await handshake(running.url, context)).getpeercert(binary_form=True)}
    for number in range(ROTATIONS):
        certificates.issue("server", "localhost", "127.0.0.1")
        for _ in range(2):
            await running.daemon.reloader.reload_if_changed()
        shown.add((await handshake(running.url, context)).getpeercert(binary_form=True))
        for connection in list(running.daemon.server.connections):
            if connection.stage is Stage.IDLE:
                connection.abort()  # so that Prometheus connects again too
        await until(functools.partial(scraped, server, 1 + number // 3), bool)
    return shown
