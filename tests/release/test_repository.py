"""Every link to the project leads to one account, which one command changes in all files."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from grafana.rules.model import Settings
from tools.release.files import PROJECT, project_files
from tools.release.repository import NAME, PLACEHOLDER, account, accounts, changed, repository

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).relative_to(PROJECT)
URL = re.compile(r"\b(?:https?|oci)://[^\s\"'<>()`\\]+")
OF_SITES = re.compile(r"(?:.*\.)?example(?:\.(?:com|org|net))?|.*\.svc|localhost|127\.0\.0\.1")  # not the project's


def texts(project: Path = PROJECT) -> Iterator[tuple[Path, str]]:
    for path in project_files(project):
        if path.suffix not in {".png", ".lock"}:
            yield path, (project / path).read_text(encoding="utf-8", errors="replace")


def test_every_link_leads_to_the_account_of_pyproject() -> None:
    ours = {account(), account().lower()}
    others = {str(path): accounts(text) - ours for path, text in texts()}

    assert {path: found for path, found in others.items() if found} == {}


def test_every_address_of_the_project_is_one_that_the_command_changes() -> None:
    """An address that has the project's name leads to the account, or is an example that a site replaces."""
    strange = [
        f"{path}: {url}"
        for path, text in texts()
        if path != HERE
        for url in URL.findall(text)
        if NAME in url and not accounts(url) and not OF_SITES.fullmatch(urlsplit(url).hostname or "")
    ]

    assert strange == []


def test_the_links_of_the_package_and_of_alerts_come_from_it() -> None:
    urls = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]

    assert {"Repository", "Documentation", "Changelog", "Issues"} <= set(urls)
    assert all(accounts(url) <= {account(), account().lower()} and accounts(url) for url in urls.values())
    assert Settings().runbooks == f"{repository()}/blob/main/docs/runbooks"
    assert (PROJECT / "docs/runbooks").is_dir()


@pytest.mark.parametrize(
    ("link", "account_in_it"),
    [
        ("https://github.com/{}/verify-factor-exporter", "Acme"),
        ("github.com/{}/verify-factor-exporter.git", "Acme"),
        ("https://raw.githubusercontent.com/{}/verify-factor-exporter/v1.0.0/docs/images/a.png", "Acme"),
        ("--repo {}/verify-factor-exporter", "Acme"),
        ("ghcr.io/{}/verify-factor-exporter:1.0", "acme"),
        ("oci://ghcr.io/{}/charts/verify-factor-exporter", "acme"),
        ("https://{}.github.io/verify-factor-exporter/", "acme"),
    ],
)
def test_every_kind_of_link_is_changed(link: str, account_in_it: str) -> None:
    now = f"({link.format(account_in_it)})"

    assert changed(f"({link.format('OWNER')})", "OWNER", "Acme") == now
    assert accounts(now) == {account_in_it}
    assert changed(now, "Acme", "OWNER") == f"({link.format('OWNER')})"


@pytest.mark.parametrize(
    "text",
    [
        "https://github.com/{}-other/verify-factor-exporter",
        "https://github.com/{}/verify-factor-exporter-charts",
        "https://notgithub.com/{}/verify-factor-exporter",
        "https://ghcr.io/{}/charts/something",
        "helm/verify-factor-exporter",
        "make owner OWNER={}",
    ],
)
def test_nothing_else_is_changed(text: str) -> None:
    assert changed(text.format("OWNER"), "OWNER", "acme") == text.format("OWNER")


def run(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=project, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("invalid", ["acme/exporter", "https://github.com/acme", "-acme", "a--b", ""])
def test_what_is_no_account_is_refused(invalid: str) -> None:
    done = run(PROJECT, "-m", "tools.release.repository", "--", invalid)

    assert (done.returncode, done.stdout) == (64, "")
    rule = "letters, digits and single hyphens, not a link"
    assert done.stderr == f'"{invalid}" is not a GitHub account: {rule}; run: make owner OWNER=acme\n'


@pytest.mark.slow
def test_the_command_changes_every_link_and_nothing_else(tmp_path: Path) -> None:
    """The tests that read links and generated files pass in a copy; the way back gives the same bytes."""
    project = tmp_path / "copy"
    for path in project_files():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / path, project / path)
    before = {path: (project / path).read_bytes() for path in project_files(project)}
    assert set(before) == set(project_files())
    old, new = account(), "Acme-Corp"

    done = run(project, "-m", "tools.release.repository", new)

    assert done.returncode == 0, done.stderr
    after = {path: (project / path).read_bytes() for path in before}
    different = {path for path in before if before[path] != after[path]}
    assert done.stdout.splitlines() == [str(path) for path in sorted(different)]
    assert {path for path, text in texts() if accounts(text)} == different
    for path in different:
        lines = zip(before[path].decode().splitlines(), after[path].decode().splitlines(), strict=True)
        for line, now in lines:
            assert now == line or accounts(line), f"{path}: {line}"
            assert re.sub(rf"{new}", old, now, flags=re.IGNORECASE) == line, f"{path}: {line}"
    tested = ("tests/release", "tests/chart/test_generated.py", "tests/rules/test_rules.py", "tests/supply_chain")
    options = ("-q", "-x", "-n", "0", "-p", "no:cacheprovider", "-m", "not slow and not external")
    tests = run(project, "-m", "pytest", *options, *tested)
    assert tests.returncode == 0, tests.stdout[-4000:]

    assert run(project, "-m", "tools.release.repository", PLACEHOLDER).returncode == 0
    if old == PLACEHOLDER:
        assert {path: (project / path).read_bytes() for path in before} == before
