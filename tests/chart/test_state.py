"""What is known survives: where the state is, and what happens to the old pod before the new one is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from exporter.config.sharding import Shard, ShardError, shard_of
from helm.generate import HERE
from tests.support.chart.api_server import api_server
from tests.support.chart.cases import VALID, Case, case
from tests.support.chart.kubelet import arguments
from tests.support.chart.rendering import NAMESPACE, NEWEST, RELEASE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chart.conftest import Rendering
    from tests.support.chart.rendering import Helm, Manifest, Rendered

SMALLEST = case("smallest").values
SHARDED = "sharding.enabled=true,replicaCount=3"
CLAIM = "state.type=persistentVolumeClaim"


def rendered(helm: Helm, *settings: str) -> Rendered:
    return helm.template(SMALLEST, NEWEST, *[word for each in settings for word in ("--set", each)])


def refusal(helm: Helm, *settings: str, flags: tuple[str, ...] = ()) -> list[str]:
    """Return the errors in these values."""
    words = [word for each in settings for word in ("--set", each)]
    done = helm.try_template(SMALLEST, NEWEST, *flags, *words)
    assert done.returncode != 0, done.stdout
    lines = done.stderr.partition("\n\nUse --debug")[0].splitlines()
    return [
        line.rpartition("yaml:1:4): ")[2].removeprefix("- ") for line in lines if "errors in the values" not in line
    ]


def state_volume(workload: Manifest) -> dict[str, Any] | None:
    """Return where the mounted state is: a volume of the pod, or a claim of the StatefulSet."""
    spec = workload["spec"]
    pod = spec["template"]["spec"]
    mounted = [place["mountPath"] for place in pod["containers"][0]["volumeMounts"] if place["name"] == "state"]
    found = [volume for volume in pod["volumes"] if volume["name"] == "state"]
    found += [claim for claim in spec.get("volumeClaimTemplates", []) if claim["metadata"]["name"] == "state"]
    assert (mounted, len(found)) in (([], 0), (["/var/lib/verify-factor-exporter"], 1))
    return found[0] if found else None


@pytest.mark.parametrize("fixture", VALID, ids=str)
def test_no_rollout_takes_the_old_pod_before_the_state_is_safe(fixture: Case, rendering: Rendering) -> None:
    """The state is on a claim, which the next pod gets, or the old pod stays until the new one is ready."""
    workload = rendering(fixture, NEWEST).workload
    volume = state_volume(workload) or {}
    if "spec" in volume or "persistentVolumeClaim" in volume:
        assert workload["spec"].get("strategy", {"type": "Recreate"}) == {"type": "Recreate"}
    else:
        rolling = {"maxSurge": 1, "maxUnavailable": 0}
        assert workload["spec"]["strategy"] == {"type": "RollingUpdate", "rollingUpdate": rolling}


def test_every_shard_has_a_claim_by_default(helm: Helm) -> None:
    release = rendered(helm, SHARDED)
    assert release.workload["spec"]["volumeClaimTemplates"] == [
        {
            "metadata": {"name": "state"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "256Mi"}}},
        }
    ]
    assert release.workload["spec"]["persistentVolumeClaimRetentionPolicy"] == {
        "whenDeleted": "Retain",
        "whenScaled": "Retain",
    }
    assert 'file = "/var/lib/verify-factor-exporter/state.jsonl"' in release.config
    assert release.of_kind("PersistentVolumeClaim") == []


def test_one_pod_has_an_empty_dir_by_default(helm: Helm) -> None:
    assert state_volume(rendered(helm).workload) == {"name": "state", "emptyDir": {"sizeLimit": "256Mi"}}


@pytest.mark.parametrize("kind", ["none", "emptyDir"])
def test_shards_without_a_claim_on_request(kind: str, helm: Helm) -> None:
    workload = rendered(helm, SHARDED, f"state.type={kind}").workload
    assert "volumeClaimTemplates" not in workload["spec"]
    assert "persistentVolumeClaimRetentionPolicy" not in workload["spec"]


def test_the_claims_of_removed_shards_are_deleted_on_request(helm: Helm) -> None:
    release = rendered(helm, SHARDED, "state.retentionPolicy.whenScaled=Delete")
    policy = release.workload["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert policy == {"whenDeleted": "Retain", "whenScaled": "Delete"}


RECREATE = {"type": "Recreate"}


@pytest.mark.parametrize(
    ("setting", "strategy"),
    [
        (CLAIM, RECREATE),
        (f"{CLAIM},strategy.type=Recreate", RECREATE),
        ("strategy.type=Recreate", RECREATE),
        ("hostNetwork=true", RECREATE),
        (
            "hostNetwork=true,strategy.type=RollingUpdate",
            {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        ),
        (
            "strategy.rollingUpdate.maxSurge=0,strategy.rollingUpdate.maxUnavailable=1",
            {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        ),
        (
            "strategy.rollingUpdate.maxSurge=100%",
            {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0}},
        ),
    ],
)
def test_the_strategy_is_complete(setting: str, strategy: dict[str, Any], helm: Helm) -> None:
    assert rendered(helm, setting).workload["spec"]["strategy"] == strategy


_LOCKED = (
    "strategy.type: RollingUpdate can't work with state.type=persistentVolumeClaim: the new pod would wait for the "
    "state file, which the old pod locks until the new one is ready; set strategy.type=Recreate, or "
    "state.type=emptyDir"
)
REFUSED = {
    f"{CLAIM},strategy.type=RollingUpdate": _LOCKED,
    f"{CLAIM},state.existingClaim=mine,strategy.rollingUpdate.maxSurge=1": _LOCKED,
    "updateStrategy.type=RollingUpdate": "updateStrategy: has no effect without sharding.enabled; set strategy "
    "instead",
    f"{SHARDED},strategy.type=Recreate": "strategy: has no effect with sharding.enabled; set updateStrategy "
    "instead",
    "strategy.type=Recreate,strategy.rollingUpdate.maxSurge=1": "strategy.rollingUpdate: is not allowed with "
    "strategy.type=Recreate; remove either of them",
    "strategy.rollingUpdate.maxSurge=0": "strategy.rollingUpdate: maxSurge and maxUnavailable (by default 0) are "
    "both 0, so no pod could be replaced; set maxSurge=1",
    "state.storageClassName=fast": "state.storageClassName: has no effect with this state.type; set "
    "state.type=persistentVolumeClaim or remove it",
    f"{CLAIM},state.existingClaim=mine,state.storageClassName=fast": "state.storageClassName: has no effect on "
    "state.existingClaim; remove either of them",
    f"{CLAIM},state.retentionPolicy.whenDeleted=Delete": "state.retentionPolicy.whenDeleted: has an effect on the "
    "claims of shards only; remove it, or set sharding.enabled=true and state.type=persistentVolumeClaim",
    "sharding.shards=1": "sharding.shards: has no effect without sharding.enabled; set that to true, or remove it",
    f"{SHARDED},sharding.shards=4": "sharding.shards: is 4, more than the 3 pods of replicaCount, so the other "
    "shards would not be watched; set replicaCount=4, or remove it",
    f"{SHARDED},sharding.shards=2,updateStrategy.type=RollingUpdate": "sharding.shards: is 2, less than the 3 pods "
    "of replicaCount, and a restarted pod without a shard can't start; while scaling down, set "
    'updateStrategy.type=OnDelete ("Remove shards" in docs/kubernetes.md), otherwise remove it',
}


@pytest.mark.parametrize(("setting", "error"), REFUSED.items(), ids=REFUSED)
def test_what_can_not_work_is_refused(setting: str, error: str, helm: Helm) -> None:
    assert refusal(helm, setting) == [error]


def test_the_number_of_shards_belongs_to_the_pod_and_not_to_the_config_map(helm: Helm) -> None:
    """A container of an old revision restarts with the old number: else nobody would watch what it gives away."""
    release = rendered(helm, SHARDED)
    assert "shard" not in release.config
    assert arguments(release.workload["spec"]["template"])[-1] == "--shard=auto/3"


def test_removing_shards_changes_first_the_number_and_then_the_pods(helm: Helm) -> None:
    """As documented in docs/kubernetes.md: no step but the deletion of a pod restarts one."""
    before, after = rendered(helm, SHARDED), rendered(helm, "sharding.enabled=true,replicaCount=2")
    between = rendered(helm, SHARDED, "sharding.shards=2,updateStrategy.type=OnDelete")
    spec = between.workload["spec"]
    assert (spec["replicas"], spec["updateStrategy"]) == (3, {"type": "OnDelete"})
    assert spec["template"] == after.workload["spec"]["template"] != before.workload["spec"]["template"]
    shards = [
        shard_of(arguments(spec["template"])[-1].removeprefix("--shard="), {"POD_NAME": f"{RELEASE}-{pod}"}, "")
        for pod in range(2)
    ]
    assert shards == [Shard(0, 2), Shard(1, 2)]


def test_a_pod_beyond_the_shards_says_so_as_documented() -> None:
    with pytest.raises(ShardError) as refused:
        shard_of("auto/3", {"POD_NAME": f"{RELEASE}-3"}, "")
    page = (HERE.parent / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    assert f'\n--shard: "auto/3" {refused.value}; {refused.value.hint}\n' in page


# Changes of the claims of an existing StatefulSet


@pytest.fixture(scope="module")
def cluster(helm: Helm) -> Iterator[str]:
    """Return the address of an API server in which the release is installed with shards."""
    with api_server(installed(rendered(helm, SHARDED))) as address:
        yield address


def installed(release: Rendered) -> Manifest:
    owner = {"meta.helm.sh/release-name": RELEASE, "meta.helm.sh/release-namespace": NAMESPACE}
    workload = release.workload
    return workload | {"metadata": workload["metadata"] | {"annotations": owner}}


def against(address: str) -> tuple[str, ...]:
    return ("--dry-run=server", "--kube-apiserver", address, "--disable-openapi-validation")


@pytest.mark.parametrize(
    ("setting", "key", "new", "old"),
    [
        ("state.type=emptyDir", "type", "emptyDir", "persistentVolumeClaim"),
        ("state.type=none", "type", "none", "persistentVolumeClaim"),
        ("state.size=1Gi", "size", "1Gi", "256Mi"),
        ("state.storageClassName=fast", "storageClassName", '"fast"', '""'),
    ],
)
def test_a_change_that_kubernetes_does_not_allow_is_refused(
    setting: str, key: str, new: str, old: str, helm: Helm, cluster: str
) -> None:
    (error,) = refusal(helm, SHARDED, setting, flags=against(cluster))
    assert error == (
        f"state.{key}: is {new}, but {old} in the existing StatefulSet, whose volumeClaimTemplates can't be "
        f'changed; set state.{key}={old}, or replace the StatefulSet as described in "Change the storage of '
        f'shards" in docs/kubernetes.md, beginning with: kubectl --namespace {NAMESPACE} delete statefulset '
        f"{RELEASE} --cascade=orphan"
    )


def test_all_changes_are_refused_at_once(helm: Helm, cluster: str) -> None:
    found = refusal(helm, SHARDED, "state.size=1Gi,state.storageClassName=fast", flags=against(cluster))
    assert [line.partition(": ")[0] for line in found] == ["state.size", "state.storageClassName"]


@pytest.mark.parametrize("kind", ["emptyDir", "none"])
def test_the_default_is_refused_where_shards_have_no_claims(kind: str, helm: Helm) -> None:
    with api_server(installed(rendered(helm, SHARDED, f"state.type={kind}"))) as address:
        (error,) = refusal(helm, SHARDED, flags=against(address))
        assert error.startswith(f"state.type: is persistentVolumeClaim, but {kind} in the existing StatefulSet, ")
        other = {"none": "emptyDir", "emptyDir": "none"}[kind]
        for allowed in (kind, other):
            arguments_ = (*against(address), "--set", SHARDED, "--set", f"state.type={allowed}")
            assert helm.template(SMALLEST, NEWEST, *arguments_).workload


@pytest.mark.parametrize(
    "setting",
    ["state.size=256Mi", "state.size=262144Ki", "replicaCount=5", "state.retentionPolicy.whenScaled=Delete"],
)
def test_what_kubernetes_allows_is_not_refused(setting: str, helm: Helm, cluster: str) -> None:
    assert helm.template(SMALLEST, NEWEST, *against(cluster), "--set", SHARDED, "--set", setting).workload


def test_helm_3_refuses_the_same(helm_3: Helm, cluster: str) -> None:
    (error,) = refusal(helm_3, SHARDED, "state.type=emptyDir", flags=against(cluster))
    assert error.startswith("state.type: is emptyDir, but persistentVolumeClaim in the existing StatefulSet")


def test_nothing_is_compared_without_a_cluster_or_an_existing_release(helm: Helm) -> None:
    assert rendered(helm, SHARDED, "state.type=emptyDir").workload
    with api_server() as address:
        assert helm.template(SMALLEST, NEWEST, *against(address), "--set", SHARDED).workload
