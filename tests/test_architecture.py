"""The house keeps its form: who may import whom, how long a module is, and what has no place in it."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import subprocess
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
ROOMS = ("cli", "config", "daemon", "exposition", "polling", "simulator", "verify", "web")
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
    passed_over = _for_annotations(tree) if at_run_time else set()
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in passed_over:
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


def inside(name: str, *rooms: str) -> bool:
    return any(name == f"exporter.{room}" or name.startswith(f"exporter.{room}.") for room in rooms)


def arrows(*rooms: str) -> Iterator[tuple[str, str]]:
    """Yield (importer, imported) for every module of these rooms."""
    for module in MODULES:
        if inside(module, *rooms):
            for name in sorted(imports(module)):
                yield module, name


def test_the_scan_sees_what_is_imported() -> None:
    assert all(any(inside(module, room) for module in MODULES) for room in ROOMS)
    assert "exporter.config.loader" in imports("exporter.daemon.parts")
    assert "exporter.config.loader" not in imports("exporter.daemon.parts", at_run_time=True)
    assert "exporter.daemon.daemon" in imports("exporter.cli.run")
    assert "exporter.exposition.catalogue" in imports("exporter.exposition.telemetry")


@pytest.mark.parametrize("room", ["verify", "polling.schedule", "polling.ledger", "exposition"])
def test_the_inner_rooms_know_neither_settings_nor_pages_nor_commands(room: str) -> None:
    assert [arrow for arrow in arrows(room) if inside(arrow[1], "config", "web", "cli")] == []


@pytest.mark.parametrize("room", ["verify", "polling.schedule", "polling.ledger"])
def test_the_verify_client_and_the_pure_parts_know_no_exposition(room: str) -> None:
    assert [arrow for arrow in arrows(room) if inside(arrow[1], "exposition")] == []


def test_the_engine_knows_no_server() -> None:
    assert [name for name in imports("exporter.daemon.engine") if inside(name, "web", "state", "logs")] == []


def test_only_commands_know_the_daemon() -> None:
    importers = {module for module in MODULES if "exporter.daemon.daemon" in imports(module)}
    assert importers
    assert {module for module in importers if not inside(module, "cli")} == set()


def test_nothing_knows_the_commands() -> None:
    importers = {module for module in MODULES if any(inside(name, "cli") for name in imports(module))}
    assert {module for module in importers if not inside(module, "cli")} == {"exporter.__main__"}


def test_the_simulator_knows_none_of_the_house() -> None:
    assert [arrow for arrow in arrows("simulator") if not inside(arrow[1], "simulator")] == []


def test_only_commands_know_the_simulator() -> None:
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
        for name in imports(module, at_run_time=True):
            # A package's __init__ runs before its modules, and may gather them.
            if not module.startswith(f"{name}."):
                visit(name, (*path, module))
        done.add(module)

    for module in MODULES:
        visit(module, ())


@pytest.mark.parametrize("folder", ["exporter", "tests", "benchmarks", "grafana", "helm"])
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
