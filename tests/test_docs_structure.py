"""Links lead somewhere; files, packages and their order are as the pages for contributors say."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / ".github").rglob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PACKAGE = ROOT / "exporter"
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


def test_no_page_has_a_heading_twice() -> None:
    """Two branches that each describe a feature can merge without a conflict."""
    for page in PAGES:
        if page.name != "CHANGELOG.md":  # each version has the same sections
            text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
            headings = re.findall(r"^#+ .+$", text, re.MULTILINE)
            assert sorted(headings) == sorted(set(headings)), page.name


def test_the_changelog_has_every_change_once() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for section in re.split(r"^#+ .+$", text, flags=re.MULTILINE):
        changes = [line[:40] for line in section.splitlines() if line.startswith("- ")]
        assert sorted(changes) == sorted(set(changes))
        assert "\n\n- " not in section.strip(), "a blank line divides the list"


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


def packages() -> list[str]:
    """Return the packages of the architecture page's table, in its order."""
    _, _, section = ARCHITECTURE.read_text(encoding="utf-8").partition("\n## Packages\n")
    cells = re.findall(r"^\| (`[^|]+) \|", section.partition("\n## ")[0], re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


def test_the_table_of_packages_has_every_package() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert set(packages()) == folders | {
        path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")
    }


def imported(path: Path) -> set[str]:
    """Return the packages that a module imports from, also within functions and for annotations."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found.update(name.split(".")[1] for name in names if name.startswith("exporter."))
    return found & set(packages())


def test_packages_import_from_those_before_them_in_the_table_alone() -> None:
    order = packages()
    upward = [
        f"{path.relative_to(ROOT)} imports from {other}"
        for place, name in enumerate(order)
        for path in (
            [PACKAGE / f"{name}.py"] if (PACKAGE / f"{name}.py").exists() else (PACKAGE / name).rglob("*.py")
        )
        for other in sorted(imported(path) - {name})
        if other not in order[:place] and not (name == "cli" and other == "simulator")
    ]
    assert upward == []
    assert imported(PACKAGE / "daemon" / "daemon.py") >= {"config", "web"}


def test_every_name_in_the_code_that_is_named_exists() -> None:
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in (PACKAGE, ROOT / "helm", ROOT / "grafana")
        for path in folder.rglob("*.py")
    )
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {
        name
        for page in (ARCHITECTURE, CONTRIBUTING)
        for name in re.findall(
            r"`(_[a-z_]+|_?[A-Z][A-Z_]{2,}|[A-Z][a-z]+(?:[A-Z][a-z]+)+)`", page.read_text(encoding="utf-8")
        )
    }
    assert named >= {"_apply_outcome", "_FIXED", "FACTOR_FAMILIES", "FactorFamily"}
    assert [name for name in sorted(named) if not re.search(rf"\b{name}\b", code + makefile)] == []
