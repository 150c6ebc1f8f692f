"""The rules of docs/architecture.md: who may import whom, what a module is for, and what no file may contain."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "exporter"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
# Lowest first: a package imports none that stands after it.
ORDER = (
    "watched",
    "threads",
    "config",
    "verify",
    "polling",
    "exposition",
    "logs",
    "state",
    "web",
    "daemon",
    "cli",
)
LOOSE = {"watched", "threads"}
SMALL_LINES = 80
NAMELESS = {"utils", "util", "helpers", "helper", "common", "base", "misc"}
# Letters in brackets: these patterns don't find themselves.
UNFINISHED = re.compile(r"\b(TO[D]O|FI[X]ME|X[X]X)\b")
SESSION_PATH = re.compile(r"(?<![A-Za-z0-9_.\])}-])/wor[k]/")
INDEX = re.compile(
    r"(index[-_]url|find-links)\s*[=:]?\s*[\"']?https?://|https?://[^\s\"'<>]*/simple(/|\b)|files\.python[h]osted"
)


def imports(module: str, *, at_run_time: bool = False) -> set[str]:
    """Return the modules of the package that a module imports, those for annotations alone included or not."""
    path = MODULES[module]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    ignored = _for_annotations(tree) if at_run_time else set()
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in ignored:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*parts, *([node.module] if node.module else [])])
            found.add(source)
            found.update(f"{source}.{alias.name}" for alias in node.names)
    return {name for name in found if name in MODULES}


def _for_annotations(tree: ast.Module) -> set[ast.AST]:
    return {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for statement in block.body
        for node in ast.walk(statement)
    }


def inside(name: str, *packages: str) -> bool:
    return any(name == f"exporter.{package}" or name.startswith(f"exporter.{package}.") for package in packages)


def arrows(*packages: str) -> Iterator[tuple[str, str]]:
    """Yield (importer, imported) for every module of these packages."""
    for module in MODULES:
        if inside(module, *packages):
            for name in sorted(imports(module)):
                yield module, name


def test_the_scan_sees_what_is_imported() -> None:
    assert {module.split(".")[1] for module in MODULES if module.count(".") > 1} == {*ORDER, "simulator"} - LOOSE
    assert "exporter.config.loader" in imports("exporter.daemon.parts")
    assert "exporter.config.loader" not in imports("exporter.daemon.parts", at_run_time=True)
    assert "exporter.exposition.catalogue" in imports("exporter.exposition.telemetry")


def test_only_two_modules_sit_outside_the_packages() -> None:
    outside = {path.stem for path in PACKAGE.glob("*.py")}
    assert outside - {"__init__", "__main__"} == LOOSE


def test_every_package_says_what_it_holds() -> None:
    assert [name for name, path in MODULES.items() if path.name == "__init__.py" and not docstring(name)] == []


def test_no_package_imports_upward() -> None:
    """Imports inside functions and for annotations included; so there is no cycle of packages either."""
    rank = {name: place for place, name in enumerate(ORDER)}
    upward = [
        f"{module} imports {name}"
        for module, name in arrows(*ORDER)
        if (imported := name.split(".")[1:2]) and rank.get(imported[0], len(ORDER)) > rank[module.split(".")[1]]
        if imported[0] not in {"simulator", "__init__"} and imported[0] in rank
    ]
    assert upward == []


def test_the_entry_point_is_imported_by_nothing() -> None:
    assert [module for module in MODULES if "exporter.__main__" in imports(module)] == []


def test_nothing_of_the_package_imports_what_stands_around_it() -> None:
    outside = re.compile(r"^\s*(?:from|import) (tools|tests|grafana|helm|benchmarks)\b", re.MULTILINE)
    texts = {module: path.read_text(encoding="utf-8") for module, path in MODULES.items()}
    assert [module for module, text in texts.items() if outside.search(text)] == []


@pytest.mark.parametrize("pure", ["verify", "polling.schedule", "polling.ledger", "exposition"])
def test_the_inner_packages_know_neither_settings_nor_pages_nor_commands(pure: str) -> None:
    assert [arrow for arrow in arrows(pure) if inside(arrow[1], "config", "web", "cli")] == []


def test_the_engine_knows_no_server() -> None:
    assert [name for name in imports("exporter.daemon.engine") if inside(name, "web", "state", "logs")] == []


def test_only_commands_know_the_daemon() -> None:
    importers = {module for module in MODULES if any(inside(name, "daemon") for name in imports(module))}
    assert {module for module in importers if inside(module, "cli")}
    assert {module for module in importers if not inside(module, "cli", "daemon")} == set()


def test_the_simulator_stands_apart() -> None:
    assert [arrow for arrow in arrows("simulator") if not inside(arrow[1], "simulator")] == []
    importers = {module for module in MODULES if any(inside(name, "simulator") for name in imports(module))}
    assert {module for module in importers if not inside(module, "simulator", "cli")} == set()


def test_the_pure_parts_have_neither_loop_nor_clock() -> None:
    for name in ("polling.schedule", "polling.ledger", "polling.throttle", "polling.backoff", "verify.answers"):
        text = MODULES[f"exporter.{name}"].read_text(encoding="utf-8")
        assert not re.search(r"^\s*(import|from) (asyncio|time|threading)\b", text, re.MULTILINE), name


def test_nothing_is_imported_in_a_circle() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join((*path[path.index(module) :], module))
        if module in done:
            return
        for name in imports(module):
            # A package's __init__ runs before its modules, and may gather them.
            if not module.startswith(f"{name}."):
                visit(name, (*path, module))
        done.add(module)

    for module in MODULES:
        visit(module, ())


def test_a_small_module_with_one_importer_says_why_it_is_one() -> None:
    """A module is split where its readers differ, not at a line count."""
    importers = Counter(name for module in MODULES for name in imports(module) - {module})
    silent = [
        module
        for module, path in MODULES.items()
        if importers[module] == 1
        and path.name != "__init__.py"
        and len(path.read_text(encoding="utf-8").splitlines()) < SMALL_LINES
        and not re.search(
            r"\b(apart|separate|of its own)\b.* because ", " ".join(docstring(module).split()), re.IGNORECASE
        )
    ]
    assert silent == []


def docstring(module: str) -> str:
    return ast.get_docstring(ast.parse(MODULES[module].read_text(encoding="utf-8"))) or ""


@pytest.mark.parametrize("folder", ["exporter", "tests", "benchmarks", "grafana", "helm", "tools"])
def test_every_module_has_a_noun_for_its_name(folder: str) -> None:
    paths = [*(ROOT / folder).rglob("*.py"), *(ROOT / folder).glob("*/")]
    assert [str(path) for path in paths if path.stem.strip("_").removeprefix("test_") in NAMELESS] == []


def tracked_texts() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each file under version control, and of those that are to come."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what is tracked isn't known")
    listed = subprocess.run(
        [git, "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / name
        if path.is_file():
            yield name, path.read_text(encoding="utf-8", errors="replace")


def test_nothing_is_left_to_do_in_a_comment() -> None:
    texts = ((name, text) for name, text in tracked_texts() if not name.endswith(".png"))  # pixels spell anything
    assert [name for name, text in texts if UNFINISHED.search(text)] == []


def test_no_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    assert [name for name, text in tracked_texts() if SESSION_PATH.search(text)] == []


def test_no_file_names_a_package_index() -> None:
    hosts = index_hosts()
    assert [
        name
        for name, text in tracked_texts()
        if INDEX.search(text) or any(re.search(rf"(?<![\w.]){re.escape(host)}(?![\w.])", text) for host in hosts)
    ] == []


def index_hosts() -> set[str]:
    """Return the hosts of the package indexes that this machine is set to, the public one apart."""
    urls = [value for name, value in os.environ.items() if re.fullmatch(r"(PIP|UV)_.*(INDEX|LINKS).*", name)]
    for path in ("/etc/pip.conf", "~/.config/pip/pip.conf", "~/.pip/pip.conf"):
        parser = configparser.RawConfigParser()
        parser.read(Path(path).expanduser())
        urls += [value for section in parser.sections() for value in dict(parser[section]).values()]
    hosts = {urlsplit(url).hostname for text in urls for url in text.split()}
    return {host for host in hosts if host} - {"pypi.org", "localhost", "127.0.0.1", "::1"}


def test_tests_import_their_own_folder_and_the_support_package_alone() -> None:
    tests = ROOT / "tests"
    crossing = []
    for path in sorted(tests.rglob("*.py")):
        room = path.relative_to(tests).parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""] if node.module != "tests" else [f"tests.{of.name}" for of in node.names]
            elif isinstance(node, ast.Import):
                names = [of.name for of in node.names]
            else:
                continue
            of_tests = [name.split(".") for name in names if name.startswith("tests.")]
            crossing += [
                f"{path.relative_to(ROOT)}: {'.'.join(of)}" for of in of_tests if of[1] not in ("support", room)
            ]
    assert crossing == []
    assert [path.name for path in (tests / "support").rglob("test_*.py")] == []
