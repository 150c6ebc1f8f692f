"""Trying the chart with a values file: install, test, upgrade, reload, roll back, and install with a wrong key."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import bcrypt
import trustme
import yaml

from tools.cluster.objects import drift, incarnations, not_ready, refused_pods, restarts
from tools.cluster.processes import ClusterError, wait_until
from tools.cluster.releases import documents
from tools.cluster.substitute import run_test
from tools.cluster.world import overlay, watchlist_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tools.cluster.objects import Manifest
    from tools.cluster.releases import Client, Output
    from tools.cluster.world import Account

RELEASE = "trial"
GOOD = "yes"
_READY_SECONDS = 300
_TEST_SECONDS = 300
_WRONG_KEY_SECONDS = 240  # a refused key fails the test after two minutes: the kubelet may deliver another one
_REFUSED = "credentials refused"
_RELOADED = "configuration reloaded"
_WEB_CONFIG = """\
tls_server_config: {{cert_file: tls.crt, key_file: tls.key}}
basic_auth_users:
  {reader}: {hashed}
"""
_READER, _PASSWORD = "reader", "correct horse"


@dataclass(frozen=True, slots=True)
class Versions:
    """The chart to try, the packaged one that it is upgraded from, and the values files of either."""

    new: Path
    old: Path
    old_values: Path

    def values_of_old(self, values: Path) -> Path:
        """Return the old chart's own values file of this name, or the new one if it has none."""
        own = self.old_values / values.name
        return own if own.is_file() else values


@dataclass(slots=True)
class Trial:
    """The steps of one values file with their results: ``yes``, or what went wrong."""

    name: str
    pods: int = 0
    results: dict[str, str] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether all steps that were done went well."""
        return all(text == GOOD for text in self.results.values())

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Do a step; what it raises as ``ClusterError`` is its result."""
        began = time.monotonic()
        try:
            yield
        except ClusterError as error:
            self.results[name] = str(error)
        else:
            self.results.setdefault(name, GOOD)
        print(f"{self.name}: {name}: {self.results[name]} ({time.monotonic() - began:.0f} s)", flush=True)


class Release:
    """The release of a trial in its own namespace."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self.namespace = namespace

    def helm(self, command: str, *words: str | Path, wait: bool = True) -> None:
        """Run a command of Helm on the release and wait. Raises ``ClusterError`` with what pods lack."""
        done = self.try_helm(command, *words, *(["--wait"] if wait else []), f"--timeout={_READY_SECONDS}s")
        if not done.good:
            lacking = "; ".join([*not_ready(self.pods()), *self.events()])
            raise ClusterError(f"helm {command}: {done.reason[-400:]} {lacking}".rstrip())

    def try_helm(self, command: str, *words: str | Path) -> Output:
        """Run a command of Helm on the release."""
        return self._client.helm(command, RELEASE, *words, "--namespace", self.namespace)

    def pods(self) -> list[Manifest]:
        """Return the release's pods, without the test's."""
        found = self._client.items("pods", self.namespace, f"--selector=app.kubernetes.io/instance={RELEASE}")
        return [pod for pod in found if pod["metadata"].get("ownerReferences")]

    def events(self) -> list[str]:
        """Return why pods could not be created."""
        return refused_pods(self._client.items("events", self.namespace))

    def ready(self) -> list[Manifest]:
        """Return the pods once all are ready. Raises ``ClusterError``."""

        def all_ready() -> bool:
            pods = self.pods()
            return bool(pods) and not not_ready(pods)

        wait_until(
            all_ready,
            _READY_SECONDS,
            "all pods are ready",
            lambda: "; ".join([*not_ready(self.pods()), *self.events()]),
        )
        return self.pods()

    def test(self) -> None:
        """Run ``helm test``. Raises ``ClusterError`` with the pod's last words."""
        done = self.try_helm("test", "--timeout", f"{_TEST_SECONDS}s")
        if not done.good:
            raise ClusterError(f"helm test: {done.reason[-300:]} {self.last_words()}".rstrip())

    def passes_its_test(self) -> bool:
        """Return whether ``helm test`` succeeds."""
        return self.try_helm("test", "--timeout", f"{_TEST_SECONDS}s").good

    def fails_its_test(self) -> None:
        """Run ``helm test``, which must fail and say why. Raises ``ClusterError`` otherwise."""
        if self.try_helm("test", "--timeout", f"{_WRONG_KEY_SECONDS}s").good:
            raise ClusterError("helm test succeeds")
        if _REFUSED not in (words := self.last_words()):
            raise ClusterError(f'helm test does not say "{_REFUSED}": {words}')

    def last_words(self) -> str:
        """Return the end of the log of the test's pod."""
        done = self._client.try_kubectl(
            "logs", "--namespace", self.namespace, f"{RELEASE}-verify-factor-exporter-test", "--tail=5"
        )
        return done.reason

    def drift(self) -> list[str]:
        """Return what the API server does not keep as rendered."""
        manifest = self._manifest()
        return drift(documents(manifest), self._client.live(manifest, self.namespace), self.namespace)

    def _manifest(self) -> str:
        done = self._client.helm("get", "manifest", RELEASE, "--namespace", self.namespace)
        if not done.good:
            raise ClusterError(f"helm get manifest: {done.reason}")
        return done.out

    def workload(self) -> Manifest:
        """Return the Deployment or StatefulSet."""
        (found,) = self._client.items("deployments,statefulsets", self.namespace)
        return found

    def test_pod(self) -> Manifest:
        """Return the pod of the test as rendered. Raises ``ClusterError``."""
        hooks = documents(self._client.helm("get", "hooks", RELEASE, "--namespace", self.namespace).out)
        for hook in hooks:
            if hook["kind"] == "Pod":
                return hook
        raise ClusterError("the chart has no test")

    def files(self) -> list[Manifest]:
        """Return the ConfigMaps and Secrets of all namespaces."""
        return self._client.items("configmaps,secrets", "default", "--all-namespaces")

    def logs_contain(self, text: str) -> bool:
        """Return whether every pod's exporter has logged a text."""
        logs = (
            self._client.try_kubectl(
                "logs", "--namespace", self.namespace, pod["metadata"]["name"], "--container=exporter"
            )
            for pod in self.pods()
        )
        return all(text in log.out for log in logs)

    def uninstall(self) -> None:
        """Remove the release, and wait until its pods are gone. Raises ``ClusterError``."""
        self.helm("uninstall")
        wait_until(lambda: not self.pods(), _READY_SECONDS, "all pods are gone")

    def left(self) -> list[str]:
        """Return what an uninstalled release left, except for claims, which keep the state, and the test's pod."""
        selector = f"--selector=app.kubernetes.io/instance={RELEASE}"
        kinds = "configmaps,secrets,services,serviceaccounts,deployments,statefulsets,roles,rolebindings"
        return [
            f"{item['kind']} {item['metadata']['name']}"
            for item in self._client.items(kinds, self.namespace, selector)
        ]


class Given:
    """What must be there before the chart is installed: the Secrets that values name, and watchlists of teams."""

    def __init__(self, client: Client, namespace: str, account: Account) -> None:
        self._client = client
        self._namespace = namespace
        self._account = account

    def key(self, values: dict[str, Any], password: str | None = None) -> None:
        """Create or change the Secrets of the accounts, with the account's password by default."""
        for settings in values["accounts"].values():
            secret = settings["credentials"]["existingSecret"]
            files = {secret.get("key", "password"): password or self._account.password}
            self._client.create_secret(self._namespace, secret["name"], files)

    def create(self, values: dict[str, Any]) -> None:
        """Create everything that the values name."""
        self.key(values)
        web = values.get("web", {}).get("config", {})
        if web.get("existingSecret"):
            hashed = bcrypt.hashpw(_PASSWORD.encode(), bcrypt.gensalt(4)).decode()
            files = {"web-config.yml": _WEB_CONFIG.format(reader=_READER, hashed=hashed)}
            self._client.create_secret(self._namespace, web["existingSecret"], files)
        if web.get("tlsSecret"):
            authority = trustme.CA()
            pair = authority.issue_cert(f"{RELEASE}-verify-factor-exporter.{self._namespace}.svc")
            files = {
                "tls.crt": b"".join(part.bytes() for part in pair.cert_chain_pems).decode(),
                "tls.key": pair.private_key_pem.bytes().decode(),
                "ca.crt": authority.cert_pem.bytes().decode(),
            }
            self._client.create_secret(self._namespace, web["tlsSecret"], files)
        access = values.get("tests", {}).get("basicAuth", {})
        if access:
            files = {access["username"]["key"]: _READER, access["password"]["key"]: _PASSWORD}
            self._client.create_secret(self._namespace, access["password"]["name"], files)
        sidecar = values.get("watchlist", {}).get("sidecar", {})
        places = sidecar.get("searchNamespaces", []) if sidecar.get("enabled") else []
        for place in places:
            self._client.create_namespace(place)
        for place in places[:1]:
            files = {"list.toml": watchlist_file(self._account)}
            self._client.create_secret(place, "factors", files, {"verify-factor-exporter/watchlist": "true"})


def try_values(
    client: Client, versions: Versions, values: Path, account: Account, image: str, folder: Path
) -> Trial:
    """Do all steps for one values file in a namespace of its own, and remove it."""
    name = values.name.removesuffix("-values.yaml")
    trial = Trial(name)
    namespace = f"trial-{name}"
    content = yaml.safe_load(values.read_text(encoding="utf-8"))
    release, given = Release(client, namespace), Given(client, namespace, account)
    added = folder / f"{name}.yaml"

    def of(chart: Path, file: Path) -> tuple[str | Path, ...]:
        text = yaml.safe_load(file.read_text(encoding="utf-8"))
        added.write_text(yaml.safe_dump(overlay(text, account, image)))
        return (chart, "--values", file, "--values", added)

    old, new = (versions.old, versions.values_of_old(values)), (versions.new, values)
    client.create_namespace(namespace)
    given.create(content)
    with trial.step("installed"):
        given.key(content, password="wrong")
        release.helm("install", *of(*new))
        trial.pods = len(release.ready())
        _none(release.drift())
    with trial.step("a wrong key fails the test"):
        release.fails_its_test()
    with trial.step("helm test"):
        given.key(content)
        # Until the kubelet has updated the mounted file and the exporter has tried it, the old key is refused.
        wait_until(
            release.passes_its_test, _READY_SECONDS, "the test succeeds with the right key", release.last_words
        )
    with trial.step("reloaded"):
        _reload(release, lambda: release.helm("upgrade", *of(*new), "--set", "config.log.level=debug"))
    with trial.step("removed"):
        release.uninstall()
        _none(release.left())
    with trial.step("upgraded"):
        release.helm("install", *of(*old))
        release.ready()
        release.helm("upgrade", *of(*new))
        release.ready()
        release.test()
        _none(release.drift())
    with trial.step("rolled back"):
        release.helm("rollback", "1")
        release.ready()
        release.helm("upgrade", *of(*new))
        release.ready()
        _none(release.drift())
    with trial.step("removed"):
        release.uninstall()
        client.kubectl("delete", "namespace", namespace, "--timeout=180s")
    return trial


def try_without_pods(
    client: Client, versions: Versions, values: Path, account: Account, image: str, folder: Path
) -> Trial:
    """Do the steps that need no pod for one values file, and run the test pod's command against exporters here."""
    name = values.name.removesuffix("-values.yaml")
    trial = Trial(name)
    namespace = f"trial-{name}"
    content = yaml.safe_load(values.read_text(encoding="utf-8"))
    release, given = Release(client, namespace), Given(client, namespace, account)
    added = folder / f"{name}.yaml"
    added.write_text(yaml.safe_dump(overlay(content, account, image)))
    more = ("--values", values, "--values", added)
    client.create_namespace(namespace)
    given.create(content)
    with trial.step("installed"):
        release.helm("install", versions.new, *more, wait=False)
        _none(release.drift())
    with trial.step("helm test"):
        run_test(release.workload(), release.test_pod(), release.files(), folder / f"{name}-pods")
    with trial.step("removed"):
        release.uninstall()
        _none(release.left())
    with trial.step("upgraded"):
        old = versions.values_of_old(values)
        release.helm("install", versions.old, "--values", old, "--values", added, wait=False)
        release.helm("upgrade", versions.new, *more, wait=False)
        _none(release.drift())
    with trial.step("rolled back"):
        release.helm("rollback", "1", wait=False)
        _none(release.drift())
    with trial.step("removed"):
        release.uninstall()
        client.kubectl("delete", "namespace", namespace, "--timeout=180s")
    return trial


def _reload(release: Release, change: Callable[[], None]) -> None:
    before = release.ready()
    change()
    wait_until(lambda: release.logs_contain(_RELOADED), 180, f'every pod has logged "{_RELOADED}"')
    after = release.ready()
    if incarnations(before) != incarnations(after) or restarts(after) > restarts(before):
        raise ClusterError("pods were restarted")


def _none(lines: list[str]) -> None:
    if lines:
        raise ClusterError("; ".join(lines))
