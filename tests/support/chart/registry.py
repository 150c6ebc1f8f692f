"""A registry on loopback with one packaged chart, as far as Helm needs it to pull."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.cncf.helm.config.v1+json"
CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
Content = dict[str, tuple[str, bytes]]


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _described(kind: str, content: bytes) -> dict[str, str | int]:
    return {"mediaType": kind, "digest": _digest(content), "size": len(content)}


def _content(name: str, version: str, package: bytes) -> Content:
    """Return what is served by path: https://github.com/opencontainers/distribution-spec/blob/main/spec.md."""
    config = json.dumps({"apiVersion": "v2", "name": name.rpartition("/")[2], "version": version}).encode()
    layers = [_described(CHART, package)]
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": _described(CONFIG, config), "layers": layers}
    manifest = json.dumps(document).encode()
    return {
        f"/v2/{name}/manifests/{version}": (MANIFEST, manifest),
        f"/v2/{name}/manifests/{_digest(manifest)}": (MANIFEST, manifest),
        f"/v2/{name}/blobs/{_digest(config)}": ("application/octet-stream", config),
        f"/v2/{name}/blobs/{_digest(package)}": ("application/octet-stream", package),
    }


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, content: Content, *connection: object) -> None:
        self._content = content
        super().__init__(*connection)  # type: ignore[arg-type]  # socketserver passes them on

    def do_HEAD(self) -> None:
        """Answer with the headers."""
        kind, content = self._content.get(self.path, ("", b""))
        self.send_response(200 if content else 404)
        if content:
            self.send_header("Content-Type", kind)
            self.send_header("Docker-Content-Digest", _digest(content))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()

    def do_GET(self) -> None:
        """Answer with the content."""
        self.do_HEAD()
        self.wfile.write(self._content.get(self.path, ("", b""))[1])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name in the standard library
        """Log nothing."""


@contextmanager
def served(name: str, version: str, package: Path) -> Iterator[str]:
    """Serve a packaged chart by plain HTTP, and yield host and port."""
    handler = partial(_Handler, _content(name, version, package.read_bytes()))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
