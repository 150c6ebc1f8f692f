"""Links between pages, and the files and packages that the contributor pages name, exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / ".github").rglob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PLACEHOLDER = "NAME"


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links() -> Iterator[str]:
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", path):
                continue
            file = page.parent / path if path else page
            if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
                yield f"{page.relative_to(ROOT)}: {target}"


def test_every_link_leads_somewhere() -> None:
    assert list(dead_links()) == []


def named_files() -> Iterator[tuple[Path, str]]:
    """Yield the paths that the pages for contributors name in code."""
    for page in (ARCHITECTURE, CONTRIBUTING):
        for name in re.findall(r"`([\w./-]+)`", page.read_text(encoding="utf-8")):
            if ("/" in name and not name.startswith("/")) or name.endswith((".py", ".toml", ".yaml")):
                yield page, name


def test_every_file_that_is_named_exists() -> None:
    places = (ROOT, ROOT / "exporter", ROOT / "grafana" / "rules")
    named = list(named_files())
    assert len(named) > 50
    assert [
        f"{page.name}: {name}"
        for page, name in named
        if PLACEHOLDER not in name and not any((place / name).exists() for place in places)
    ] == []


def test_the_table_of_packages_has_every_package() -> None:
    _, _, section = ARCHITECTURE.read_text(encoding="utf-8").partition("\n## Packages\n")
    listed = {
        name
        for cell in re.findall(r"^\| (`[^|]+) \|", section.partition("\n## ")[0], re.MULTILINE)
        for name in re.findall(r"`(\w+)`", cell)
    }
    package = ROOT / "exporter"
    packages = {path.parent.name for path in package.glob("*/__init__.py")}
    assert listed == packages | {path.stem for path in package.glob("*.py") if not path.stem.startswith("__")}
