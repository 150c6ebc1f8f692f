"""What Helm needs of an API server to look objects up: discovery, and the objects that exist."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.chart.rendering import Manifest

# The kinds that the chart renders with the smallest values and with shards, by group and version.
_KINDS = {
    "v1": ("ConfigMap", "PersistentVolumeClaim", "Pod", "Secret", "Service", "ServiceAccount"),
    "apps/v1": ("Deployment", "StatefulSet"),
}


def _resources(version: str) -> dict[str, Any]:
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": version,
        "resources": [
            {"name": f"{kind.lower()}s", "namespaced": True, "kind": kind, "verbs": ["get", "list"]}
            for kind in _KINDS[version]
        ],
    }


def _documents(objects: list[Manifest]) -> dict[str, dict[str, Any]]:
    apps = {"groupVersion": "apps/v1", "version": "v1"}
    group = {"name": "apps", "versions": [apps], "preferredVersion": apps}
    found: dict[str, dict[str, Any]] = {
        "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]},
        "/api/v1": _resources("v1"),
        "/apis/apps/v1": _resources("apps/v1"),
    }
    for item in objects:
        version, metadata = item["apiVersion"], item["metadata"]
        root = "/api" if version == "v1" else "/apis"
        kind = f"{item['kind'].lower()}s"
        found[f"{root}/{version}/namespaces/{metadata['namespace']}/{kind}/{metadata['name']}"] = item
    return found


@contextlib.contextmanager
def api_server(*objects: Manifest) -> Iterator[str]:
    """Serve these objects until the end of the block; yields the address."""
    documents = _documents(list(objects))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document = documents.get(self.path.partition("?")[0])
            missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            body = json.dumps(document or missing).encode()
            self.send_response(200 if document else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
            """Write nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
