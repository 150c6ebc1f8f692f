"""files/keys.json: which keys values may have, for templates/_keys.tpl, which reports all others.

A node is the name of a definition, a map of keys to nodes in which `*` stands for any key, a list with the node of
its items, or true for what may be anything.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Collection

Schema = dict[str, Any]
Node = str | dict[str, Any] | list[Any] | bool

GUESSES = Path(__file__).parent / "guesses.yaml"
_PREFIX = "#/definitions/"


def document(strict: Schema) -> str:
    """Return the content of files/keys.json for the schema in which every unknown key is an error."""
    answers = yaml.safe_load(GUESSES.read_text(encoding="utf-8"))
    values, definitions = nodes(strict)
    found = {"values": values, "definitions": definitions, "places": _places(values), "guesses": answers}
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def schemas(strict: Schema) -> dict[str, Schema]:
    """Return definitions for values.schema.json that refuse unknown keys and nothing else; the first is `keys`."""
    values, definitions = nodes(strict)
    return {"keys": _refusing(values)} | {f"keys.{name}": _refusing(below) for name, below in definitions.items()}


def nodes(strict: Schema) -> tuple[Node, dict[str, Node]]:
    """Return the node of all values, and those of the definitions that have keys."""
    schemas_ = strict["definitions"]
    open_to_all = {name for name, below in schemas_.items() if _node(below, ()) is True}
    definitions = {name: _node(below, open_to_all) for name, below in schemas_.items() if name not in open_to_all}
    return _node(strict, open_to_all), definitions


def _node(schema: Schema, open_to_all: Collection[str]) -> Node:
    if "$ref" in schema:
        name = str(schema["$ref"]).removeprefix(_PREFIX)
        return True if name in open_to_all else name
    if "items" in schema:
        below = _node(schema["items"], open_to_all)
        return True if below is True else [below]
    further = schema.get("additionalProperties", "properties" not in schema)
    found: dict[str, Any] = {
        name: _node(below, open_to_all) for name, below in schema.get("properties", {}).items()
    }
    if further is not False or "patternProperties" in schema:
        found["*"] = _node(further, open_to_all) if isinstance(further, dict) else True
    return True if found == {"*": True} else found


def _refusing(found: Node) -> Schema:
    match found:
        case str():
            return {"$ref": f"{_PREFIX}keys.{found}"}
        case list():
            return {"items": _refusing(found[0])}
        case dict():
            named = {name: _refusing(below) for name, below in found.items() if name != "*"}
            return {
                "properties": named,
                "additionalProperties": _refusing(found["*"]) if "*" in found else False,
            }
        case _:
            return {}


def _places(values: Node) -> dict[str, list[str]]:
    """Return where the chart has a key that isn't at the top: the answer to one at the wrong place."""
    found: dict[str, list[str]] = {}
    for path in paths(values):
        *parents, name = path.split(".")
        if parents and "*" not in path:
            found.setdefault(name, []).append(path)
    return {name: places for name, places in sorted(found.items()) if len(places) == 1}


def paths(found: Node, path: str = "") -> list[str]:
    """Return the dotted paths of the keys below a node, without those of definitions."""
    if not isinstance(found, dict):
        return []
    every: list[str] = []
    for name, below in found.items():
        own = f"{path}.{name}" if path else name
        every += [own, *paths(below, own)]
    return every
