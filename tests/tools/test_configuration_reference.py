"""The reference and the example: both have every key of the settings tree."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from exporter.config import load
from exporter.config.errors import ErrorDetail
from exporter.config.settings import (
    AccountSettings,
    EntityEntry,
    FactorEntry,
    HttpSourceEntry,
    ServiceEntry,
    Settings,
)
from exporter.config.tree import LISTED, NAMED, Key, Table, settings_tree
from tools.reference.configuration import default_text, heading, render

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config.example.toml"


def test_the_reference_is_what_the_generator_writes() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == render(), (
        "run: python -m tools.reference.configuration > docs/configuration.md"
    )


def test_the_generator_runs_as_a_module(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(RuntimeWarning, match="found in sys.modules"):
        runpy.run_module("tools.reference.configuration", run_name="__main__")
    assert capsys.readouterr().out == render()


def test_the_reference_names_every_key_with_its_default() -> None:
    text = render()
    for key in settings_tree().leaves():
        assert re.search(
            rf"^\| `{key.path[-1]}` \| [^|]+ \| {re.escape(default_text(key))} \| ", text, re.MULTILINE
        )
        assert key.description.endswith("."), key.dotted


def test_how_keys_and_tables_are_written() -> None:
    tree = settings_tree()
    assert [heading(table.each or table) for table in tree.below.values() if isinstance(table, Table)] == [
        "[web]", "[log]", "[polling]", "[accounts.NAME]", "[[factors]]", "[[entities]]", "[[services]]",
        "[watchlist]", "[metrics]", "[state]", "[sharding]",
    ]  # fmt: skip
    dotted = {key.dotted for key in tree.leaves()}
    assert {"web.listen_address", "accounts.NAME.password_file", "factors[].identity"} <= dotted


def uncommented() -> str:
    """The example with the keys that are commented out brought in; a comment in words has a space after its #."""
    return re.sub(r"^#(?=[a-z\[])", "", EXAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)


def value_at(document: Mapping[str, Any], key: Key) -> Any:
    value: Any = document
    for part in key.path:
        value = value["main"] if part == NAMED else value[0] if part == LISTED else value[part]
    return value


def keys_of(document: Mapping[str, Any], table: Table) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for name, value in document.items():
        node = table.below[name]
        if isinstance(node, Key):
            found.add(node.path)
        else:
            inner = node.each or node
            content = value[0] if node.is_array else value["main"] if node.each else value
            found |= keys_of(content, inner)
    return found


def test_the_example_has_every_key() -> None:
    document = tomllib.loads(uncommented())
    assert keys_of(document, settings_tree()) == {key.path for key in settings_tree().leaves()}
    for key in settings_tree().leaves():
        assert value_at(document, key) is not None


def test_the_example_has_every_default() -> None:
    plain = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
    whole = tomllib.loads(uncommented())
    for key in settings_tree().leaves():
        document = whole if key.path[0] in {"entities", "services"} or "http" in key.path else plain
        if "oauth" in key.path or default_text(key) in {"required", "–"} or key.path[-1] == "password_file":
            continue
        assert value_at(document, key) == tomllib.loads(f"x = {key.kind.to_toml(key.default)}")["x"], key.dotted


def test_the_example_is_valid(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("made-up\n")
    environ = {"VERIFY_EXPORTER_ACCOUNTS__MAIN__PASSWORD_FILE": str(tmp_path / "secret")}
    config = load(EXAMPLE, environ=environ, flags={})
    assert not config.warnings
    defaults = Settings()
    for name in ("web", "log", "polling", "watchlist", "metrics", "state", "sharding"):
        assert getattr(config.settings, name) == getattr(defaults, name)
    assert len(config.factors) == 1


def test_what_is_commented_out_in_the_example_is_valid_too() -> None:
    document = tomllib.loads(uncommented())
    for entry in document["factors"]:
        FactorEntry.model_validate(entry)
    for entry in document["entities"]:
        EntityEntry.model_validate(entry)
    for entry in document["services"]:
        ServiceEntry.model_validate(entry)
    for entry in document["watchlist"]["http"]:
        HttpSourceEntry.model_validate(entry)
    AccountSettings.model_validate(document["accounts"]["main"])
    assert all(
        isinstance(ErrorDetail(key.dotted, key.description), ErrorDetail) for key in settings_tree().leaves()
    )
