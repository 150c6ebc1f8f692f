"""Examples in the documentation render, and its Helm commands exist."""

from __future__ import annotations

import re
import subprocess
import textwrap
from typing import TYPE_CHECKING

import pytest

from helm.generate import CHART, HERE
from tests.support.chart.cases import case
from tests.support.chart.rendering import NEWEST

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.chart.rendering import Helm

DOCS = HERE.parent / "docs"
PAGES = {
    "kubernetes": DOCS / "kubernetes.md",
    "upgrading": DOCS / "kubernetes" / "upgrading.md",
    "readme": CHART / "README.md",
}
BLOCK = re.compile(r"(?ms)^( *)```(\w+)\n(.*?)^ *```$")
# A plugin, which has the flags of the command after it.
PLUGIN = "diff"


def blocks(language: str) -> list[tuple[str, str]]:
    return [
        (page, textwrap.dedent(text))
        for page, path in PAGES.items()
        for _indent, kind, text in BLOCK.findall(path.read_text(encoding="utf-8"))
        if kind == language
    ]


def test_the_pages_have_examples() -> None:
    assert len(blocks("yaml")) >= 10
    assert len(blocks("sh")) >= 4


@pytest.mark.parametrize(
    ("page", "values"), blocks("yaml"), ids=[f"{page}-{i}" for i, (page, _) in enumerate(blocks("yaml"))]
)
def test_values_in_the_documentation_render(page: str, values: str, helm: Helm, tmp_path: Path) -> None:
    example = tmp_path / f"{page}.yaml"
    example.write_text(values, encoding="utf-8")
    # Examples without an account or watchlist are combined with a fixture that has them.
    rendered = helm.template(case("smallest").values, NEWEST, "--values", str(example))
    assert rendered.workload
    if "accounts:" in values:
        assert helm.template(example).workload


def test_flags_in_the_documentation_are_those_of_helm(helm: Helm) -> None:
    scripts = [re.sub(r"\\\n\s*", "", text) for _page, text in blocks("sh")]
    lines = [line.partition("|")[0] for text in scripts for line in text.splitlines()]
    commands = [line.removeprefix("helm ").split() for line in lines if line.startswith("helm ")]
    assert {command[0] for command in commands} == {
        "install", "test", "upgrade", "template", "history", "rollback", PLUGIN
    }  # fmt: skip
    for command in commands:
        known = helm.run(command[1] if command[0] == PLUGIN else command[0], "--help").stdout
        flags = [word for word in command if word.startswith("--")]
        assert [flag for flag in flags if f"{flag} " not in known] == [], command
    upgrade = helm.run("upgrade", "--help").stdout
    for flag in ("--rollback-on-failure", "--force-replace", "--wait", "--server-side"):
        assert flag in upgrade


def test_flags_in_the_documentation_are_those_of_kubectl(kubectl: Path) -> None:
    words = " ".join(text for _page, text in blocks("sh"))
    assert "kubectl --namespace twilio diff --filename -" in words
    known = subprocess.run([kubectl, "diff", "--help"], capture_output=True, text=True, check=True).stdout
    assert "--filename=" in known


def test_links_lead_to_existing_files() -> None:
    page = PAGES["kubernetes"]
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []
