"""A control plane on this machine: etcd, the API server, the controller manager and the scheduler."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trustme
import yaml

from tools.cluster.processes import log_end, running, wait_until
from tools.stack.programs import LOOPBACK, port_or_free

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tools.cluster.programs import Programs

NODE_ADDRESS = "10.88.0.1"
SERVICE_NETWORKS = "10.96.0.0/16,fd00:10:96::/112"
_START_SECONDS = 180.0  # generous, for busy machines
# User and groups of each client, as RBAC's default roles expect them.
_CLIENTS = {
    "admin": ("admin", "system:masters"),
    "controllers": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "kubelet": ("system:node:node", "system:nodes"),
    "proxy": ("system:kube-proxy", ""),
}


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A running control plane; ``folder`` has a kubeconfig for each client."""

    folder: Path
    url: str
    version: str

    def kubeconfig(self, client: str) -> Path:
        """Return the kubeconfig of a client."""
        return self.folder / f"{client}.kubeconfig"


@contextlib.contextmanager
def control_plane(programs: Programs, folder: Path, kubectl: Path, *, scheduler: bool) -> Iterator[ControlPlane]:
    """Run a control plane for the duration of the block."""
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    ask = (kubectl, "--kubeconfig", folder / "admin.kubeconfig")
    port, client, peer = port_or_free(), port_or_free(), port_or_free()
    url = f"https://{LOOPBACK}:{port}"
    _write_identities(folder, url)
    etcd = f"http://{LOOPBACK}:{client}"
    with contextlib.ExitStack() as stack:
        commands = {
            "etcd": [
                *("--data-dir", str(folder / "etcd"), "--unsafe-no-fsync"),
                *("--listen-client-urls", etcd, "--advertise-client-urls", etcd),
                *("--listen-peer-urls", f"http://{LOOPBACK}:{peer}"),
            ],
            "kube-apiserver": [
                f"--etcd-servers={etcd}",
                f"--secure-port={port}",
                f"--advertise-address={NODE_ADDRESS}",
                f"--service-cluster-ip-range={SERVICE_NETWORKS}",
                f"--cert-dir={folder}",
                f"--tls-cert-file={folder}/server.crt",
                f"--tls-private-key-file={folder}/server.key",
                f"--token-auth-file={folder}/tokens.csv",
                f"--service-account-issuer={url}",
                f"--service-account-key-file={folder}/accounts.key",
                f"--service-account-signing-key-file={folder}/accounts.key",
                "--authorization-mode=Node,RBAC",
                "--allow-privileged=true",
                "--kubelet-preferred-address-types=InternalIP",
                *([] if scheduler else ["--endpoint-reconciler-type=none"]),
            ],
            "kube-controller-manager": [
                f"--kubeconfig={folder}/controllers.kubeconfig",
                f"--service-account-private-key-file={folder}/accounts.key",
                f"--root-ca-file={folder}/ca.crt",
                "--use-service-account-credentials",
                *("--leader-elect=false", "--secure-port=0"),
            ],
            "kube-scheduler": [
                f"--kubeconfig={folder}/scheduler.kubeconfig",
                *("--leader-elect=false", "--secure-port=0"),
            ],
        }
        if not scheduler:
            del commands["kube-scheduler"]
        # The API server ends by itself if it doesn't reach etcd, and waits for it meanwhile.
        for name, arguments in commands.items():
            stack.enter_context(running(name, [programs.find(name), *arguments], logs))
            if name == "kube-apiserver":
                wait_until(
                    lambda: (
                        subprocess.run((*ask, "get", "--raw=/readyz"), capture_output=True, check=False).returncode
                        == 0
                    ),
                    _START_SECONDS,
                    "the API server is ready",
                    lambda: log_end(logs, "kube-apiserver"),
                )
        answer = subprocess.run((*ask, "version", "--output=json"), capture_output=True, text=True, check=True)
        yield ControlPlane(folder, url, json.loads(answer.stdout)["serverVersion"]["gitVersion"])


def _write_identities(folder: Path, url: str) -> None:
    """Write the authority, the server's certificate, a token and a kubeconfig for each client."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.crt"))
    server = authority.issue_cert(LOOPBACK, NODE_ADDRESS, "10.96.0.1", "kubernetes.default.svc")
    server.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.crt"))
    server.private_key_pem.write_to_path(str(folder / "server.key"))
    authority.issue_cert("accounts.invalid").private_key_pem.write_to_path(str(folder / "accounts.key"))
    lines = []
    for client, (user, group) in _CLIENTS.items():
        token = secrets.token_hex(16)
        lines.append(f'{token},{user},{client},"{group}"')
        (folder / f"{client}.kubeconfig").write_text(yaml.safe_dump(_kubeconfig(folder / "ca.crt", url, token)))
    (folder / "tokens.csv").write_text("\n".join(lines) + "\n")


def _kubeconfig(authority: Path, url: str, token: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "trial", "cluster": {"server": url, "certificate-authority": str(authority)}}],
        "users": [{"name": "client", "user": {"token": token}}],
        "contexts": [{"name": "trial", "context": {"cluster": "trial", "user": "client"}}],
        "current-context": "trial",
    }
