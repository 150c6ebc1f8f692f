"""A node on this machine: containerd, the kubelet, kube-proxy and CoreDNS in namespaces of their own.

Mounts, processes and the network are private to the namespaces, so all of them end with their first process. What
outlives that is a control group, which ``left_groups`` removes.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from tools.cluster.control_plane import NODE_ADDRESS
from tools.cluster.processes import log_end, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tools.cluster.control_plane import ControlPlane
    from tools.cluster.programs import Programs

POD_NETWORK = "10.244.0.0/24"
PAUSE_IMAGE = "localhost/pause:1"
_DOMAIN = "cluster.local"
_GROUPS = Path("/sys/fs/cgroup")
_HIDDEN = ("/run", "/var/lib", "/var/log")  # programs create folders below these, whatever their settings
_START_SECONDS = 180.0
# The kubelet sets them, and they are the whole machine's.
_SETTINGS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)


def refusal() -> str:
    """Return why this machine can't run a node, or nothing if it can."""
    if os.geteuid() != 0:
        return "a node needs root"
    done = subprocess.run([*_UNSHARE, "true"], capture_output=True, text=True, check=False)
    return done.stderr.strip()


_UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", "--ipc", "--uts", "--mount-proc")


def within(command: Sequence[str]) -> tuple[str, ...]:
    """Return the command that runs a command in new namespaces; a shell reaps orphans there."""
    return (*_UNSHARE, "sh", "-c", '"$@"; exit $?', "sh", *command)


@contextlib.contextmanager
def kept_settings() -> Iterator[None]:
    """Restore the machine's settings that a kubelet changes."""
    paths = [path for name in _SETTINGS if (path := Path("/proc/sys", name)).exists()]
    before = {path: path.read_text() for path in paths}
    try:
        yield
    finally:
        for path, text in before.items():
            if path.read_text() != text:
                path.write_text(text)


@contextlib.contextmanager
def control_group(name: str) -> Iterator[str]:
    """Create a control group in every hierarchy for the duration of the block, and remove all below it."""
    hierarchies = sorted(path.parent for path in _GROUPS.glob("*/cgroup.procs")) or [_GROUPS]
    if _GROUPS.joinpath("cgroup.controllers").exists():
        hierarchies = [_GROUPS]
    groups = [hierarchy / name for hierarchy in hierarchies]
    try:
        for group in groups:
            group.mkdir()
            for setting in ("cpuset.cpus", "cpuset.mems"):  # empty in a new group of version 1, which can't be used
                if (parent := group.parent / setting).exists():
                    (group / setting).write_text(parent.read_text())
            if (group / "cgroup.controllers").exists():
                wanted = (group / "cgroup.controllers").read_text().split()
                (group / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in wanted))
        yield f"/{name}"
    finally:
        for group in groups:
            for path, _, _ in os.walk(group, topdown=False):
                wait_until(lambda: _removed(Path(path)), 30, f"{path} is empty")  # noqa: B023  called at once


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


@contextlib.contextmanager
def node(
    programs: Programs, plane: ControlPlane, images: Sequence[Path], group: str, kubectl: Sequence[str]
) -> Iterator[None]:
    """Run a node for the duration of the block, which starts when it is ready; within namespaces only."""
    folder = plane.folder
    logs = folder / "logs"
    socket = folder / "containerd.sock"
    _write_settings(programs, plane, socket, group)
    path = {"PATH": programs.path}
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            running(
                "containerd", [programs.find("containerd"), "--config", f"{folder}/containerd.toml"], logs, path
            )
        )
        ctr = (programs.find("ctr"), "--address", str(socket), "--namespace", "k8s.io")
        wait_until(
            lambda: _succeeds([*ctr, "version"]),
            _START_SECONDS,
            "containerd answers",
            lambda: log_end(logs, "containerd"),
        )
        for image in images:
            subprocess.run([*ctr, "images", "import", str(image)], check=True, stdout=subprocess.DEVNULL)
        for name, arguments in {
            "coredns": ["-conf", f"{folder}/Corefile"],
            "kube-proxy": [f"--config={folder}/proxy.yaml", "--hostname-override=node"],
            "kubelet": [
                f"--config={folder}/kubelet.yaml",
                f"--kubeconfig={folder}/kubelet.kubeconfig",
                f"--root-dir={folder}/kubelet",
                *("--hostname-override=node", f"--node-ip={NODE_ADDRESS}"),
            ],
        }.items():
            stack.enter_context(running(name, [programs.find(name), *arguments], logs, path))
        ready = [*kubectl, "wait", "--for=condition=Ready", "node/node", "--timeout=1s"]
        wait_until(lambda: _succeeds(ready), _START_SECONDS, "the node is ready", lambda: log_end(logs, "kubelet"))
        yield


def prepare_namespaces() -> None:
    """Hide the folders that programs write to, and give the network an address that is not loopback."""
    for place in _HIDDEN:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    for command in (
        ("link", "set", "lo", "up"),
        ("link", "add", "node0", "type", "bridge"),
        ("address", "add", f"{NODE_ADDRESS}/32", "dev", "node0"),
        ("link", "set", "node0", "up"),
        ("route", "add", "default", "dev", "node0"),
    ):
        subprocess.run(["ip", *command], check=True)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _write_settings(programs: Programs, plane: ControlPlane, socket: Path, group: str) -> None:
    folder = plane.folder
    network = folder / "network"
    network.mkdir()
    runtime = 'plugins."io.containerd.grpc.v1.cri"'
    (folder / "containerd.toml").write_text(
        f"""version = 2
root = "{folder}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.{'", "io.containerd.snapshotter.v1.'.join(_SNAPSHOTTERS)}"]
[grpc]
address = "{socket}"
[{runtime}]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = true
[{runtime}.cni]
bin_dir = "{programs.plugins}"
conf_dir = "{network}"
[{runtime}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""
    )
    plugins = [
        {
            "type": "ptp",
            "ipam": {
                "type": "host-local",
                "dataDir": "/run/network",
                "ranges": [[{"subnet": POD_NETWORK}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
    ]
    (network / "10-pods.conflist").write_text(
        json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": plugins})
    )
    (folder / "Corefile").write_text(
        f""".:53 {{
  bind {NODE_ADDRESS}
  errors
  kubernetes {_DOMAIN} {{
    kubeconfig {plane.kubeconfig("admin")}
    ttl 5
  }}
}}
"""
    )
    (folder / "kubelet.yaml").write_text(
        yaml.safe_dump(
            {
                "apiVersion": "kubelet.config.k8s.io/v1beta1",
                "kind": "KubeletConfiguration",
                "failCgroupV1": False,
                "failSwapOn": False,
                "cgroupDriver": "cgroupfs",
                "cgroupRoot": group,
                "containerRuntimeEndpoint": f"unix://{socket}",
                "clusterDNS": [NODE_ADDRESS],
                "clusterDomain": _DOMAIN,
                "resolvConf": "",
                "oomScoreAdj": 0,
                "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
                "authorization": {"mode": "AlwaysAllow"},
                "evictionHard": {"memory.available": "1Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
                "imageGCHighThresholdPercent": 100,
                "syncFrequency": "10s",
                "volumePluginDir": str(folder / "volume-plugins"),
                "podLogsDir": str(folder / "pods"),
            }
        )
    )
    (folder / "proxy.yaml").write_text(
        yaml.safe_dump(
            {
                "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
                "kind": "KubeProxyConfiguration",
                "clientConnection": {"kubeconfig": str(plane.kubeconfig("proxy"))},
                "mode": "iptables",
                "clusterCIDR": POD_NETWORK,
                "conntrack": {"maxPerCore": 0},
            }
        )
    )


_SNAPSHOTTERS = ("aufs", "btrfs", "devmapper", "zfs")


def _succeeds(command: Sequence[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
