"""Generated files are up to date, and every value is described."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from exporter.config.tree import Key, Table, settings_tree
from helm import schema, values
from helm.generate import CHART, HERE, alert_names, files

if TYPE_CHECKING:
    from pathlib import Path

SECTIONS = values.read((CHART / "values.yaml").read_text(encoding="utf-8"))
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", sorted(files()), ids=str)
def test_generated_files_are_up_to_date(path: Path) -> None:
    assert (CHART / path).read_text(encoding="utf-8") == files()[path], "run python -m helm.generate"


def test_no_stale_copies_remain() -> None:
    copies = {path.relative_to(CHART) for path in (CHART / "files").rglob("*") if path.is_file()}
    assert copies == {path for path in files() if path.parts[0] == "files"}


def test_every_value_is_described() -> None:
    leaves = [leaf for section in SECTIONS for value in section.values for leaf in value.leaves()]
    assert len(leaves) > 90
    assert [leaf.path for leaf in leaves if not leaf.description] == []


def test_the_readme_has_every_value() -> None:
    readme = (CHART / "README.md").read_text(encoding="utf-8")
    leaves = [leaf for section in SECTIONS for value in section.values for leaf in value.leaves()]
    assert [leaf.path for leaf in leaves if f"\n| `{'.'.join(leaf.path)}` |" not in readme] == []


def test_the_schema_is_valid_and_accepts_the_defaults() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    defaults = {value.path[0]: value.default for section in SECTIONS for value in section.values}
    assert [error.message for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(defaults)] == []
    assert "$ref" not in {key for key in SCHEMA if key != "definitions"}
    assert not re.findall(r'"\$ref": "(?!#/definitions/)', json.dumps(SCHEMA)), "references must not be fetched"


def test_the_schema_is_closed_for_values_of_the_chart_and_of_kubernetes() -> None:
    strict = schema.strict(SECTIONS, alert_names())
    every = objects(strict, "")
    for name, definition in strict["definitions"].items():
        every += objects(definition, f"#{name}")
    assert len(every) > 150
    opened = {path for path, found in every if found.get("additionalProperties") is not False}
    maps = {path for path, found in every if isinstance(found.get("additionalProperties"), dict)}
    # Managed by the API server, and the values of a parent chart.
    assert opened - maps == {"#FieldsV1", "#global"}
    assert ".accounts" in maps
    assert not any(path.startswith((".affinity", ".resources", "#Toleration", "#Affinity")) for path in maps)


def objects(schema_: dict[str, Any], path: str) -> list[tuple[str, dict[str, Any]]]:
    found = [(path, schema_)] if "object" in schema_.get("type", "") else []
    for name, below in schema_.get("properties", {}).items():
        found += objects(below, f"{path}.{name}")
    return found


def test_a_value_without_a_type_is_refused() -> None:
    with pytest.raises(ValueError, match="has no type"):
        schema_of("## A\n\n# Of no type.\nkey: null\n")


def schema_of(text: str) -> dict[str, Any]:
    return schema.render(values.read(text), [])


def test_every_exporter_setting_is_in_the_chart() -> None:
    """A new key of the exporter appears in the schema automatically, or is managed by the chart."""
    managed = {
        "web.listen_address", "web.health_listen_address", "web.config_file", "watchlist.files", "state.file",
        "sharding.shard", "metrics.identity_key_file", "accounts.NAME.password", "accounts.NAME.password_file",
        "accounts.NAME.oauth.client_secret", "accounts.NAME.oauth.client_secret_file",
        "watchlist.http[].bearer_token_file", "watchlist.http[].password_file",
    }  # fmt: skip
    definitions = SCHEMA["definitions"]
    config = definitions["config"]["properties"]
    settable = {f"{table}.{name}" for table, found in config.items() for name in found["properties"]}
    for kind, place in {
        "account": "accounts.NAME",
        "factor": "factors[]",
        "entity": "entities[]",
        "service": "services[]",
        "http": "watchlist.http[]",
    }.items():
        settable |= {f"{place}.{name}" for name in definitions[kind]["properties"]}
    settable.remove("accounts.NAME.oauth")
    oauth = definitions["account"]["properties"]["oauth"]
    settable |= {f"accounts.NAME.oauth.{name}" for name in oauth["properties"]}
    keys = {key.dotted for key in settings_tree().leaves()}
    assert settable - {"accounts.NAME.credentials", "watchlist.http[].credentials"} == keys - managed


def test_the_settings_tree_has_the_expected_shape() -> None:
    assert all(isinstance(node, Table) for node in settings_tree().below.values())
    assert all(isinstance(node, Key) for node in settings_tree().leaves())


def test_the_embedded_icon_is_icon_svg() -> None:
    chart = (CHART / "Chart.yaml").read_text(encoding="utf-8")
    icon = re.search(r"(?m)^icon: data:image/svg\+xml;base64,(\S+)$", chart)
    assert icon is not None
    assert base64.b64decode(icon[1]) == (HERE / "icon.svg").read_bytes()
