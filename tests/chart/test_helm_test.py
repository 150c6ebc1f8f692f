"""``helm test``: the command of the rendered test pod, against exporters that poll a simulated API."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from exporter.simulator import Simulator
from tests.support.certificates import write_pair
from tests.support.chart import kubernetes_schema, pod_security
from tests.support.chart.cases import VALID, Case, case
from tests.support.chart.kubelet import Cluster, mount
from tests.support.chart.rendering import NAMESPACE, NEWEST, RELEASE
from tests.support.commands import Ran
from tests.support.config_files import account_of, entry, write_config
from tests.support.passwords import HASHED, PASSWORD
from tests.support.processes import output_of
from tests.support.running_exporter import Process, running, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.chart.conftest import Rendering
    from tests.support.certificates import Certificates
    from tests.support.chart.rendering import Helm, Rendered

FACTORS = 12
SHARDS = 3
SERVER_NAME = f"{RELEASE}.{NAMESPACE}.svc"
MOUNTED = "/etc/verify-factor-exporter/test"
TESTED = [one for one in VALID if any(name.startswith("Pod/") for name in one.expected["objects"])]
KINDS = [case("smallest"), case("sharded")]


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(seed=7) as started:
        yield started


def configs(simulator: Simulator, folder: Path, passwords: list[str], **tables: Any) -> list[Path]:
    """Write the configuration of one exporter per password of the account ``other``; they share a watchlist."""
    watchlist = [
        entry(f"factor-{number}", simulator.add_factor(), account=("main", "other")[number % 2])
        for number in range(FACTORS)
    ]
    return [
        write_config(
            folder / f"{ordinal}.toml",
            {"main": account_of(simulator), "other": account_of(simulator, password=password)},
            watchlist,
            sharding={"shard": f"{ordinal}/{len(passwords)}"},
            **tables,
        )
        for ordinal, password in enumerate(passwords)
    ]


@contextlib.asynccontextmanager
async def exporters(paths: list[Path]) -> AsyncIterator[list[str]]:
    """Run an exporter per configuration; gives their URLs."""
    async with contextlib.AsyncExitStack() as stack:
        yield [(await stack.enter_async_context(running(path))).url for path in paths]


def container(rendered: Rendered) -> dict[str, Any]:
    """Return the container of the test pod."""
    [only] = rendered.one("Pod")["spec"]["containers"]
    return dict(only)


async def run_test(rendered: Rendered, urls: list[str], root: Path | None = None, wait: str = "8m") -> Ran:
    """Run the command of the test pod, with the URLs of these exporters in place of those in the cluster."""
    of = container(rendered)
    assert of["args"].count("--wait=8m") == 1
    assert len(urls) == sum(argument.startswith("--url=") for argument in of["args"])
    words, waiting = [], iter(urls)
    for argument in of["args"]:
        word = f"--url={next(waiting)}" if argument.startswith("--url=") else argument
        words.append(word.replace("--wait=8m", f"--wait={wait}").replace(MOUNTED, f"{root}{MOUNTED}"))
    environ = {item["name"]: item["value"].replace(MOUNTED, f"{root}{MOUNTED}") for item in of.get("env", [])}
    status, out, err = await output_of(
        *(sys.executable, "-m", "exporter", *words), env={"PATH": os.environ["PATH"], **environ}
    )
    return Ran(status or 0, out.decode(), err.decode())


def good(rendered: Rendered, simulator: Simulator) -> list[str]:
    """Return one good password per exporter of the release."""
    return [simulator.password] * int(rendered.workload["spec"]["replicas"])


@pytest.mark.slow
@pytest.mark.parametrize("fixture", KINDS, ids=str)
async def test_it_passes_with_good_keys_and_says_what_it_found(
    fixture: Case, rendering: Rendering, simulator: Simulator, tmp_path: Path
) -> None:
    rendered = rendering(fixture, NEWEST)
    paths = configs(simulator, tmp_path, good(rendered, simulator))
    async with contextlib.AsyncExitStack() as stack:
        urls = [(await stack.enter_async_context(Process.run(path))).url for path in paths]
        ran = await run_test(rendered, urls)

    *lines, last = ran.out.splitlines()
    count = len(paths)
    assert ran.status == 0
    assert last == f"verified: {FACTORS} factors found, of 2 accounts, in {count} shard{'s' * (count > 1)}"
    for ordinal, url in enumerate(urls):
        main, other, shard = (line.removeprefix(f"{url}: ") for line in lines[3 * ordinal : 3 * ordinal + 3])
        assert main.startswith("account main passes: ")
        assert other.startswith("account other passes: ")
        assert shard.startswith(f"shard {ordinal}/{count}: ")
        assert shard.endswith(f" of {FACTORS} listed factors")
    assert not any(factor.identity in ran.out + ran.err for factor in simulator.factors.values())


@pytest.mark.slow
@pytest.mark.parametrize("fixture", KINDS, ids=str)
async def test_it_fails_with_a_wrong_key_even_of_one_shard(
    fixture: Case, rendering: Rendering, simulator: Simulator, tmp_path: Path
) -> None:
    rendered = rendering(fixture, NEWEST)
    passwords = [*good(rendered, simulator)[1:], "wrong-key"]
    async with exporters(configs(simulator, tmp_path, passwords)) as urls:
        refused = f"{urls[-1]}: account other fails: credentials refused; correct them or their permissions"
        ran = await until(lambda: run_test(rendered, urls, wait="1s"), lambda ran: refused in ran.err)

    assert ran.status == 1
    assert f"not verified: {refused}" in ran.err.splitlines()
    assert "\nverified:" not in ran.out
    assert "wrong-key" not in ran.out + ran.err


@pytest.mark.slow
async def test_it_fails_if_a_shard_is_missing_or_responds_twice(
    rendering: Rendering, simulator: Simulator, tmp_path: Path
) -> None:
    rendered = rendering(case("sharded"), NEWEST)
    async with exporters(configs(simulator, tmp_path, [simulator.password] * SHARDS)) as urls:
        assert (await run_test(rendered, urls)).status == 0
        twice = await run_test(rendered, [urls[0], urls[0], urls[1]], wait="1s")
        missing = await run_test(rendered, [urls[0], urls[1], "http://127.0.0.1:1"], wait="1s")

    assert twice.status == missing.status == 1
    assert twice.err.splitlines()[-2:] == [
        "not verified: shard 0/3 responded 2 times; give each shard's own URL once",
        "not verified: no response of shard 2/3; add the URL of every shard",
    ]
    assert missing.err.splitlines()[-1] == (
        "not verified: http://127.0.0.1:1: no exporter responds there (Connection refused)"
    )
    assert "\nverified:" not in twice.out + missing.out


@pytest.mark.slow
async def test_it_fails_if_a_shard_has_another_watchlist(
    rendering: Rendering, simulator: Simulator, tmp_path: Path
) -> None:
    rendered = rendering(case("sharded"), NEWEST)
    paths = configs(simulator, tmp_path, [simulator.password] * SHARDS)
    more = entry("one-more", simulator.add_factor(), account="main")
    text = "\n".join(f'{key} = "{value}"' for key, value in more.items())
    paths[2].write_text(f"{paths[2].read_text(encoding='utf-8')}\n[[factors]]\n{text}\n", encoding="utf-8")
    async with exporters(paths) as urls:
        # First, factors may not be found yet.
        ran = await until(
            lambda: run_test(rendered, urls, wait="1s"), lambda ran: " fails: " not in ran.err and ran.err
        )

    assert ran.status == 1
    assert ran.err.splitlines()[-1] == (
        f"not verified: the exporters disagree about the number of listed factors: {FACTORS} or {FACTORS + 1}"
    )


# Behind a web configuration


def files_of(rendered: Rendered, certificates: Certificates, root: Path) -> None:
    """Mount the volume of the test pod: with these certificates, and the password of the web configuration."""
    read = {
        name: (certificates.folder / name).read_text(encoding="utf-8")
        for name in ("ca.crt", "client.crt", "client.key")
    }
    given = [
        {"kind": "Secret", "name": "exporter-web", "files": {"ca.crt": read["ca.crt"]}},
        {"kind": "Secret", "name": "exporter-tls", "files": {"ca.crt": read["ca.crt"]}},
        {"kind": "Secret", "name": "scraper", "files": {"username": "reader\n", "password": f"{PASSWORD}\n"}},
        {"kind": "Secret", "name": "reader", "files": {"username": "reader", "password": PASSWORD}},
        {
            "kind": "Secret",
            "name": "helm-test",
            "files": {"tls.crt": read["client.crt"], "tls.key": read["client.key"]},
        },
    ]
    pod = rendered.one("Pod")
    mount(pod, Cluster.of(rendered, given), root, container="healthcheck")


def web_config(folder: Path, certificates: Certificates, server_name: str, *, mutual: bool) -> None:
    """Write a web configuration with TLS and a password, and its files."""
    certificates.copy_to(folder)
    write_pair(folder, "server", certificates.authority.issue_cert(server_name))
    tls: dict[str, Any] = {"cert_file": "server.crt", "key_file": "server.key"}
    if mutual:
        tls |= {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.crt"}
    text = yaml.safe_dump({"tls_server_config": tls, "basic_auth_users": {"reader": HASHED}})
    (folder / "web.yml").write_text(text, encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fixture", "server_name", "mutual"),
    [(case("web-config"), SERVER_NAME, True), (case("published"), "factors.example.com", False)],
    ids=str,
)
async def test_it_proves_data_behind_tls_a_password_and_client_certificates(
    fixture: Case,
    server_name: str,
    mutual: bool,
    rendering: Rendering,
    simulator: Simulator,
    certificates: Certificates,
    tmp_path: Path,
) -> None:
    rendered = rendering(fixture, NEWEST)
    files_of(rendered, certificates, tmp_path)
    web_config(tmp_path, certificates, server_name, mutual=mutual)
    paths = configs(simulator, tmp_path, [simulator.password], web={"config_file": "web.yml"})
    async with exporters(paths) as urls:
        ran = await run_test(rendered, urls, tmp_path)
        (tmp_path / MOUNTED[1:] / "password").unlink()
        (tmp_path / MOUNTED[1:] / "password").write_text("another", encoding="utf-8")
        wrong = await run_test(rendered, urls, tmp_path, wait="1s")

    assert (ran.status, ran.out.splitlines()[-1]) == (
        0,
        f"verified: {FACTORS} factors found, of 2 accounts, in 1 shard",
    )
    assert wrong.status == 1
    assert wrong.err.splitlines()[-1].endswith(": HTTP 401: it refuses the user name or the password")
    assert PASSWORD not in ran.out + ran.err + wrong.out + wrong.err


@pytest.mark.slow
async def test_without_a_password_it_says_that_nothing_was_checked(
    rendering: Rendering, simulator: Simulator, certificates: Certificates, tmp_path: Path
) -> None:
    rendered = rendering(case("scrape-config"), NEWEST)
    web_config(tmp_path, certificates, "localhost", mutual=False)
    paths = configs(simulator, tmp_path, [simulator.password], web={"config_file": "web.yml"})
    async with exporters(paths) as urls:
        ran = await run_test(rendered, urls, wait="1s")

    assert (ran.status, ran.out) == (1, "")
    assert ran.err.splitlines()[-1].startswith(
        f"not verified: {urls[0]}: HTTP 401: it requires a password, so nothing was checked; "
    )
    assert "(in the Helm chart, tests.basicAuth)" in ran.err


# The pod


@pytest.mark.parametrize("fixture", TESTED, ids=str)
def test_the_test_pod_fits_quotas_and_the_restricted_profile(fixture: Case, rendering: Rendering) -> None:
    rendered = rendering(fixture, NEWEST)
    pod = rendered.one("Pod")
    for kind in ("requests", "limits"):
        assert container(rendered)["resources"][kind].keys() == {"cpu", "memory"}
    assert pod_security.violations(pod) == []
    assert kubernetes_schema.errors(pod, NEWEST) == []
    assert pod["spec"]["restartPolicy"] == "Never"
    assert pod["metadata"]["annotations"]["helm.sh/hook-delete-policy"] == "before-hook-creation", (
        "helm test --logs fails if Helm deletes the pod after a success"
    )


@pytest.mark.parametrize("fixture", TESTED, ids=str)
def test_the_test_pod_gets_no_secret_but_those_it_needs(
    fixture: Case, rendering: Rendering, certificates: Certificates, tmp_path: Path
) -> None:
    rendered = rendering(fixture, NEWEST)
    of, spec = container(rendered), rendered.one("Pod")["spec"]
    files = {word.rpartition("/")[2] for word in (*of["args"], *map(str, of.get("env", []))) if MOUNTED in word}
    files = {name.strip("'}") for name in files}
    assert [place["mountPath"] for place in of.get("volumeMounts", [])] == ([MOUNTED] if files else [])
    assert bool(spec.get("volumes")) == bool(files)
    if files:
        files_of(rendered, certificates, tmp_path)
        assert {path.name for path in (tmp_path / MOUNTED[1:]).iterdir() if path.name[0] != "."} == files


@pytest.mark.parametrize(
    ("monitor", "passwords"),
    [
        ({"type": "ServiceMonitor"}, True),
        ({"type": "PodMonitor", "namespace": NAMESPACE}, True),
        ({"type": "ServiceMonitor", "namespace": "elsewhere"}, False),
        ({"type": "none"}, False),
    ],
)
def test_the_secrets_of_the_scrape_are_the_default_in_the_same_namespace(
    helm: Helm, tmp_path: Path, monitor: dict[str, str], passwords: bool
) -> None:
    document = yaml.safe_load(case("web-config").values.read_text(encoding="utf-8"))
    document["monitor"] |= monitor
    del document["tests"]
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(document), encoding="utf-8")
    of = container(helm.template(values))

    assert any(word.startswith("--password-file") for word in of["args"]) is passwords
    assert bool(of.get("env")) is passwords


@pytest.mark.parametrize(
    ("fixture", "present", "absent"),
    [
        (
            "smallest",
            ["Test the credentials of all accounts, and that factors are found:"],
            ["It has no", "It fails"],
        ),
        ("sharded", ["that factors are found by all shards:"], ["It has no password"]),
        ("web-config", ["--timeout 10m --logs"], ["It has no password", "It fails unless"]),
        ("scrape-config", ["It has no password and no client certificate, and fails"], ["It fails unless"]),
    ],
)
def test_the_notes_say_what_helm_test_checks_and_what_it_lacks(
    helm: Helm, fixture: str, present: list[str], absent: list[str]
) -> None:
    notes = helm.notes(case(fixture).values)
    assert "helm test verify-factor-exporter --namespace monitoring" in notes
    assert [text for text in present if text not in notes] == []
    assert [text for text in absent if text in notes] == []
