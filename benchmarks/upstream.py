"""The upstream of the benchmarks: nginx on loopback that answers like the Verify API, over TLS.

Its answers have the size and the headers of real ones. It needs a fraction of the CPU time of any exporter.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trustme

from benchmarks.process import APART, end, found, wait_for_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ACCOUNT_SID, SERVICE_SID = "AC" + "0" * 32, "VA" + "5e" * 16
USERNAME, PASSWORD = "SK" + "0" * 32, "not-a-secret"

_BODY = (
    '{"sid":"$3","account_sid":"'
    + ACCOUNT_SID
    + '","service_sid":"$1","entity_sid":"YE00000000000000000000000000000000","identity":"$2",'
    '"date_created":"2026-01-05T10:00:00Z","date_updated":"2026-02-05T10:00:00Z","friendly_name":"on-call",'
    '"status":"verified","factor_type":"push","config":{"sdk_version":"1.0","app_id":"com.example.app",'
    '"notification_platform":"fcm","notification_token":"'
    + "n" * 120
    + '"},"metadata":null,"url":"https://verify.twilio.com/v2/Services/$1/Entities/$2/Factors/$3"}'
)

_CONFIG = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 4096; }}
http {{
  log_format arrivals "$msec $factor_sid";
  access_log {log};
  keepalive_timeout 600s;
  keepalive_requests 100000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} ssl backlog=4096;
    ssl_certificate {folder}/server.pem;
    ssl_certificate_key {folder}/server.key;
    default_type application/json;
    location ~ ^/v2/Services/([^/]+)/Entities/([^/]+)/Factors/(?<factor_sid>[^/]+)$ {{
      add_header Twilio-Request-Id RQ00000000000000000000000000000000;
      add_header Twilio-Request-Duration 0.050;
      add_header Twilio-Concurrent-Requests 1;
      return 200 '{body}';
    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Upstream:
    """The port of the upstream, the CA file that clients need, and its process ID."""

    port: int
    ca_file: Path
    pid: int

    @property
    def base_url(self) -> str:
        """The base URL for clients."""
        return f"https://localhost:{self.port}"


@contextlib.contextmanager
def upstream(folder: Path, *, arrivals: Path | None = None) -> Iterator[Upstream]:
    """Run nginx until the end of the block; it logs time and factor SID of every request to ``arrivals``."""
    nginx = found("nginx", install="apt-get install nginx-light")
    authority, port = trustme.CA(), free_port()
    log = "off" if arrivals is None else f"{arrivals} arrivals buffer=256k flush=2s"
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    ca_file, config = folder / "ca.pem", folder / "nginx.conf"
    authority.cert_pem.write_to_path(str(ca_file))
    (folder / "server.pem").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(folder / "server.key"))
    config.write_text(_CONFIG.format(folder=folder, port=port, body=_BODY, log=log), encoding="utf-8")
    process = subprocess.Popen(
        (nginx, "-e", str(folder / "error.log"), "-c", str(config)), stdin=subprocess.DEVNULL, **APART
    )
    try:
        wait_for_port(port, process)
        yield Upstream(port, ca_file, process.pid)
    finally:
        end(process)


def free_port() -> int:
    """Return an unused port on loopback."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port
