"""values.schema.json, from the comments of values.yaml, the exporter's settings tree and Kubernetes' schemas.

Helm's own message for an unknown key names no other key. So Helm, which validates the values together with the
defaults, leaves unknown keys to templates/_keys.tpl. A values file by itself, as in an editor, is validated
strictly.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from exporter.config.tree import Key, Table, settings_tree
from exporter.watched import FACTOR_TYPES
from helm import keys, kubernetes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from helm.values import Section, Value

Schema = dict[str, Any]

# Settings that the chart manages itself or keeps in a Secret.
_MANAGED = {
    "web": {"listen_address", "health_listen_address", "config_file"},
    "watchlist": {"files"},
    "metrics": {"identity_key_file"},
    "accounts": {"password", "password_file"},
    "oauth": {"client_secret", "client_secret_file"},
    "http": {"bearer_token_file", "password_file"},
}
_CONFIG_TABLES = ("web", "log", "polling", "watchlist", "metrics")
_SID_PREFIXES = {"account_sid": "[Aa][Cc]", "username": "([Aa][Cc]|[Ss][Kk])", "service_sid": "[Vv][Aa]",
                 "factor_sid": "[Yy][Ff]"}  # fmt: skip
_DURATION = "^([0-9]{1,9}(ms|s|m|h|d))+$"

# Validator messages quote values that don't match a pattern, so identities and URLs have no pattern here.
_KINDS: dict[str, Schema] = {
    "duration": {"type": "string", "pattern": _DURATION},
    "identity": {"type": "string", "minLength": 8, "maxLength": 64},
    "account name": {"type": "string", "pattern": "^[a-z0-9]+([_-][a-z0-9]+)*$"},
    "name": {"type": "string", "minLength": 1, "maxLength": 128},
    "string": {"type": "string", "minLength": 1},
    "whole number": {"type": "integer", "minimum": 1},
    "number": {"type": "number", "exclusiveMinimum": 0},
    "true or false": {"type": "boolean"},
    "path": {"type": "string"},
    "URL": {"type": "string"},
    "URL path": {"type": "string", "pattern": "^/"},
    "list of host names": {"type": "array", "items": {"type": "string", "minLength": 1}},
    "list of factor types": {
        "type": "array",
        "items": {"enum": list(FACTOR_TYPES)},
        "minItems": 1,
        "uniqueItems": True,
    },
    "list of names or patterns": {"type": "array", "items": {"type": "string", "minLength": 1}},
    "table of URL templates": {
        "type": "object",
        "additionalProperties": {"type": "string", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://"},
        "propertyNames": {"minLength": 1, "maxLength": 40},
    },
    "table of strings": {"type": "object", "additionalProperties": {"type": "string"}},
}


def _closed(properties: dict[str, Schema], required: Iterable[str] = ()) -> Schema:
    schema: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
    names = sorted(required)
    return schema | ({"required": names} if names else {})


_TEXT: Schema = {"type": "string", "minLength": 1}
_STRINGS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_EXISTING_SECRET = _closed({"name": _TEXT, "key": _TEXT}, ["name"])
_GLOBAL: Schema = {
    "type": "object",
    "additionalProperties": True,
    "properties": {
        "imageRegistry": {"type": "string"},
        "imagePullSecrets": {
            "type": "array",
            "items": _closed({"name": _TEXT}, ["name"]) | {"type": ["string", "object"]},
        },
    },
}
_FILE: Schema = {"type": "string", "pattern": "^(/.+)?$"}
_CREDENTIALS = _closed(
    {
        "existingSecret": _EXISTING_SECRET,
        "password": {"type": "string"},
        "file": _FILE,
        "externalSecret": _closed(
            {
                "apiVersion": {"enum": ["external-secrets.io/v1", "external-secrets.io/v1beta1"]},
                "refreshInterval": _TEXT,
                "secretStoreRef": _closed(
                    {"name": _TEXT, "kind": {"enum": ["SecretStore", "ClusterSecretStore"]}}, ["name"]
                ),
                "remoteRef": _closed({"key": _TEXT, "property": _TEXT, "version": _TEXT}, ["key"]),
            },
            ["secretStoreRef", "remoteRef"],
        ),
    }
)
_ALERT = _closed(
    {
        "enabled": {"type": "boolean"},
        "for": {"$ref": "#/definitions/prometheusDuration"},
        "keepFiringFor": {"$ref": "#/definitions/prometheusDuration"},
        "severity": _TEXT,
        "expr": _TEXT,
        "labels": _STRINGS,
        "annotations": _STRINGS,
    }
)


def render(sections: list[Section], alerts: Iterable[str]) -> Schema:
    """Return values.schema.json, in which an unknown key is an error only if the chart's defaults are missing."""
    closed = strict(sections, alerts)
    names = sorted(name for name, value in closed["properties"].items() if value.get("properties"))
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$comment": "Generated by `python -m helm.generate`. Do not edit. Helm validates values with the chart's "
        "defaults, and templates/_keys.tpl reports unknown keys; a file by itself is validated strictly here.",
        **_opened(closed),
        "if": {"required": names},
        "else": {"$ref": "#/definitions/keys"},
        "definitions": {name: _opened(below) for name, below in closed["definitions"].items()}
        | keys.schemas(closed),
    }


def strict(sections: list[Section], alerts: Iterable[str]) -> Schema:
    """Return the schema in which every unknown key is an error, also below fields of Kubernetes."""
    values = [value for section in sections for value in section.values]
    schema = _closed({value.path[-1]: _of_value(value) for value in values})
    if "rules" in schema["properties"]:
        one = {"$ref": "#/definitions/alert"}
        schema["properties"]["rules"]["properties"]["alerts"] |= _closed(dict.fromkeys(alerts, one))
    return schema | {"definitions": _definitions() | kubernetes.definitions()}


def _opened(schema: Schema) -> Schema:
    """Return the schema without what refuses unknown keys; names by a pattern stay."""
    found = {
        name: {key: _opened(value) for key, value in below.items()}
        if name == "properties"
        else _opened(below)
        if isinstance(below, dict)
        else below
        for name, below in schema.items()
        if name != "definitions"
    }
    if found.get("additionalProperties") is False and "patternProperties" not in found:
        del found["additionalProperties"]
    return found


def _of_value(value: Value) -> Schema:
    described: Schema = {"description": value.description} if value.description else {}
    if "$ref" in value.schema:
        return described | value.schema
    if value.below:
        return described | _closed({below.path[-1]: _of_value(below) for below in value.below})
    schema = described | ({} if value.schema.keys() & {"type", "enum"} else {"type": _type_of(value.default)})
    return schema | value.schema


def _type_of(default: object) -> str:
    match default:
        case bool():
            return "boolean"
        case int():
            return "integer"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
        case _:
            raise ValueError(f"{default!r} has no type; add a line # @schema {{type: …}} to its key")


def _definitions() -> dict[str, Schema]:
    tree = settings_tree()
    accounts = _each(tree.below["accounts"])
    account = _of_table(accounts, _MANAGED["accounts"])
    account["properties"]["oauth"] = _of_table(_table(accounts.below["oauth"]), _MANAGED["oauth"])
    account["properties"]["credentials"] = _CREDENTIALS
    account["required"] = [*account["required"], "credentials"]
    http = _of_table(_each(_table(tree.below["watchlist"]).below["http"]), _MANAGED["http"])
    http["properties"]["credentials"] = _closed({"existingSecret": _EXISTING_SECRET, "file": _FILE})
    config = {name: _of_table(_table(tree.below[name]), _MANAGED.get(name, set())) for name in _CONFIG_TABLES}
    return {
        "account": account,
        "alert": _ALERT,
        "config": _closed(config),
        "entity": _of_table(_each(tree.below["entities"])),
        "global": _GLOBAL,
        "factor": _of_table(_each(tree.below["factors"])),
        "http": http,
        "parentReference": _closed(
            {
                "group": _TEXT,
                "kind": _TEXT,
                "name": _TEXT,
                "namespace": _TEXT,
                "port": {"type": "integer"},
                "sectionName": _TEXT,
            },
            ["name"],
        ),
        "prometheusDuration": {"type": "string", "pattern": "^(0|[0-9]+(ms|s|m|h|d|w|y))+$"},
        "quantities": {"type": "object", "additionalProperties": {"$ref": "#/definitions/Quantity"}},
        "quantity": {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?([KMGT]i?)?$"},
        "service": _of_table(_each(tree.below["services"])),
        "reference": _closed({"name": _TEXT}, ["name"]),
        "strings": _STRINGS,
    }


def _table(node: Key | Table) -> Table:
    assert isinstance(node, Table)  # noqa: S101 - a key in place of a table is a bug in this module
    return node


def _each(node: Key | Table) -> Table:
    each = _table(node).each
    assert each is not None  # noqa: S101 - the same
    return each


def _of_table(table: Table, without: Iterable[str] = ()) -> Schema:
    keys = [key for key in table.own_keys() if key.path[-1] not in without]
    return _closed({key.path[-1]: _of_key(key) for key in keys}, (key.path[-1] for key in keys if key.required))


def _of_key(key: Key) -> Schema:
    described: Schema = {"description": key.description}
    if isinstance(key.default, StrEnum):
        return described | {"enum": [str(word) for word in type(key.default)]}
    if key.kind.title == "SID":
        return described | {"type": "string", "pattern": f"^{_SID_PREFIXES[key.path[-1]]}[0-9a-fA-F]{{32}}$"}
    return described | _KINDS[key.kind.title]
