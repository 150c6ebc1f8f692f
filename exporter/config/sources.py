"""The layers of the configuration: flags over environment over file, each with the place of every value."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from pydantic_settings import PydanticBaseSettingsSource

from exporter.config import values
from exporter.config.errors import ErrorDetail, UnfitError, did_you_mean, escape, nearest
from exporter.config.settings import Settings
from exporter.config.tree import LISTED, Key, Table, dotted

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from pydantic.fields import FieldInfo

ENVIRONMENT_PREFIX = "VERIFY_EXPORTER_"

_LINK_VARIABLE = re.compile(
    r"VERIFY_EXPORTER(_[A-Z0-9_]+?)?"
    r"_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
_LINK_ADDRESS = re.compile(r"(tcp|udp|sctp)://")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_WITH_CREDENTIALS = frozenset({"accounts", "factors", "entities"})


class Unshown(dict[str, Any]):
    """Values that no debug log prints; pydantic-settings can be told to log what its sources return."""

    def __repr__(self) -> str:
        return "<settings>"


class Layer(PydanticBaseSettingsSource):
    """One source of settings: its values, the place of each, and what was wrong with it."""

    def __init__(self, tree: Table) -> None:
        super().__init__(Settings)
        self.tree = tree
        self.values: dict[str, Any] = {}
        self.places: dict[tuple[str, ...], str] = {}
        self.errors: list[ErrorDetail] = []

    def __call__(self) -> dict[str, Any]:
        return Unshown(self.values)

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the value of a top-level key; part of the interface of a source."""
        del field
        return self.values.get(field_name), field_name, False

    def put(self, path: tuple[str, ...], value: object, place: str) -> None:
        """Set a key, and snapshot_of where its value came from."""
        self.places[path] = place
        table = self.values
        for part in path[:-1]:
            table = table.setdefault(part, {})
        table[path[-1]] = value

    def drop(self, path: tuple[str, ...]) -> None:
        """Forget a key or a table, if it is set here."""
        table: Any = self.values
        for part in path[:-1]:
            table = table.get(part, {})
        table.pop(path[-1], None)

    def place_under(self, path: tuple[str, ...]) -> str | None:
        """Return the place of a key or table, or else of the first key set in that table."""
        return self.places.get(path) or next(
            (place for known, place in self.places.items() if known[: len(path)] == path), None
        )

    def account_names(self) -> tuple[str, ...]:
        """Return the names of the accounts that are set here."""
        return tuple(self.values.get("accounts", {}))

    def put_text(self, key: Key, path: tuple[str, ...], text: str, place: str) -> None:
        """Set a key from text, as flags and the environment give it."""
        try:
            self.put(path, key.kind.from_text(text), place)
        except ValueError as error:
            self.errors.append(ErrorDetail(place, explain(error, path)))


class FlagLayer(Layer):
    """Values from the command line: dotted keys and their values; None and an empty list mean not given."""

    def __init__(self, tree: Table, flags: Mapping[str, Any]) -> None:
        super().__init__(tree)
        for name, value in flags.items():
            if value is None or value == []:
                continue
            path = tuple(name.split("."))
            key = find(tree, path)
            if not isinstance(key, Key):
                known = [known.dotted for known in tree.leaves()]
                self.errors.append(ErrorDetail(flag_name(name), "sets no known key", did_you_mean(name, known)))
                continue
            place = key.flag.name if key.flag else flag_name(name)
            if isinstance(value, str):
                self.put_text(key, path, value, place)
            else:
                self.put(path, value, place)


class EnvironmentLayer(Layer):
    """Values from environment variables with our prefix, matched without case.

    The variables that Kubernetes sets for a service called verify-exporter are not ours.
    Source: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
    """

    def __init__(self, tree: Table, environ: Mapping[str, str], accounts: Collection[str]) -> None:
        super().__init__(tree)
        self._accounts = accounts
        for name in sorted(environ):
            if name.upper().startswith(ENVIRONMENT_PREFIX) and not is_link_variable(name, environ[name]):
                self._read(name, environ[name])

    def _read(self, name: str, text: str) -> None:
        path = tuple(name[len(ENVIRONMENT_PREFIX) :].lower().split("__"))
        top = self.tree.below.get(path[0])
        if isinstance(top, Table) and top.is_array:
            self._refuse(name, "sets a list, which comes from files only", f"write [[{path[0]}]] in a file")
            return
        if path[0] == "accounts" and len(path) > 1:
            account = self._account_named(path[1])
            if account is None:
                self._refuse(name, "fits several accounts", "set the key in the configuration file")
                return
            path = ("accounts", account, *path[2:])
        key = find(self.tree, path)
        if key is None:
            self._refuse(name, "is no known variable", self._hint(path))
        elif isinstance(key, Table):
            example = variable_name(next(key.leaves()).path)
            self._refuse(name, "sets a whole table", f"set its keys one by one, such as {example}")
        elif key.kind.files_only:
            self._refuse(name, "sets a list, which comes from files only", f"set {key.dotted} in the file")
        elif path in self.places:
            self._refuse(name, f"sets the same key as {self.places[path]}", "remove one of the two")
        else:
            self.put_text(key, path, text, name)

    def _refuse(self, name: str, problem: str, hint: str) -> None:
        self.errors.append(ErrorDetail(escape(name, 120), problem, hint))

    def _account_named(self, name: str) -> str | None:
        """Return the account that a part of a variable's name means; a hyphen may be spelt as _ there."""
        if name in self._accounts:
            return name
        matches = [account for account in self._accounts if account.replace("-", "_") == name]
        return (matches or [name])[0] if len(matches) < 2 else None

    def _hint(self, path: tuple[str, ...]) -> str:
        known: dict[str, str] = {}
        for key in self.tree.leaves():
            if LISTED in key.path or key.kind.files_only:
                continue
            account = nearest(path[1], self._accounts) if key.path[0] == "accounts" and path[1:] else None
            name = variable_name(key.path, account or "main")
            known[name.removeprefix(ENVIRONMENT_PREFIX).lower()] = name
        match = nearest("__".join(path), known)
        return f"did you mean {known[match]}?" if match else "remove it"


class FileLayer(Layer):
    """Values from the configuration file, parsed; relative paths are taken from its directory."""

    def __init__(self, tree: Table, document: Mapping[str, Any], file: str, directory: Path) -> None:
        super().__init__(tree)
        self._file = file
        self._directory = directory
        self._walk(tree, document, ())

    def _walk(self, table: Table, content: Mapping[str, Any], path: tuple[str, ...]) -> None:
        for name, value in content.items():
            here = (*path, name)
            place = f"{self._file}: {spelt(here)}"
            node = table.each or table.below.get(name)
            if node is None:
                self.errors.append(ErrorDetail(place, "is not a known key", self._hint(table, here, value)))
            elif isinstance(node, Key):
                self.put(here, self._value(node, value), place)
            elif not isinstance(value, dict):
                self._refuse(place, value, f"[{dotted(node.each.path) if node.each else spelt(here)}]")
            else:
                self.put(here, {}, place)
                self._walk(node, value, here)

    def _value(self, key: Key, value: object) -> object:
        if not isinstance(value, str):
            return value
        if key.kind.secret:
            return SecretStr(value)
        if key.kind.path and value:
            try:
                return str(self._directory / values.parse_path(value))
            except ValueError:
                return value  # the tree tells what is wrong with it
        return value

    def _refuse(self, place: str, value: object, heading: str) -> None:
        """Add the detail of a value that stands where a table belongs."""
        if _is_array_of_tables(value):
            detail = ErrorDetail(place, "is an array of tables, not a table", f"write {heading} with one bracket")
        else:
            detail = ErrorDetail(
                place, f"is {values.kind_of(value)}, not a table", f"write {heading} and its keys below"
            )
        self.errors.append(detail)

    def _hint(self, table: Table, path: tuple[str, ...], value: object) -> str:
        name = path[-1]
        if isinstance(value, dict) or _is_array_of_tables(value):
            # A misspelt table is meant to stand here, whatever keys of that name there are elsewhere
            hint = did_you_mean(name, (name for name, node in table.below.items() if isinstance(node, Table)))
            if hint:
                return hint
        elsewhere = next((key.dotted for key in self.tree.leaves() if key.path[-1] == name), None)
        if elsewhere is not None:
            return f'did you mean "{elsewhere}"?'
        return did_you_mean(name, table.below) or "remove it"


def _is_array_of_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def find(tree: Table, path: tuple[str, ...]) -> Key | Table | None:
    """Return the key or table at a path with chosen names in it; None when the tree has none there."""
    node: Key | Table | None = tree
    for part in path:
        if not isinstance(node, Table) or node.is_array:
            return None
        node = node.each or node.below.get(part)
    return node


def is_link_variable(name: str, value: str) -> bool:
    """Whether Kubernetes or Docker set this variable to tell where a service is."""
    upper = name.upper()
    if "__" in upper or not _LINK_VARIABLE.fullmatch(upper):
        return False
    return (
        not upper.endswith("_PORT")
        or upper.endswith(("_SERVICE_PORT", *_LINK_PORTS))
        or bool(_LINK_ADDRESS.match(value))
    )


_LINK_PORTS = ("_TCP_PORT", "_UDP_PORT", "_SCTP_PORT")


def variable_name(path: tuple[str, ...], account: str = "main") -> str:
    """Return the environment variable of a key."""
    parts = [account if part == "*" else part for part in path]
    return ENVIRONMENT_PREFIX + "__".join(parts).upper().replace("-", "_")


def flag_name(name: str) -> str:
    """Return the flag of a dotted key that doesn't declare one."""
    return "--" + escape(name, 60).replace("_", "-")


def spelt(path: tuple[str, ...]) -> str:
    """Return a path of the file as it is written there, with odd keys in quotes."""
    return ".".join(part if _BARE_KEY.fullmatch(part) else f'"{escape(part, 60)}"' for part in path)


def explain(error: ValueError, path: tuple[str, ...]) -> str:
    """Return what is wrong with a value, without the value where it could be a secret in a wrong place."""
    if isinstance(error, UnfitError) and path[0] not in _WITH_CREDENTIALS:
        return error.quoted
    return str(error)


def place_of(layers: tuple[Layer, ...], path: tuple[str, ...]) -> str:
    """Return where the value in force of a key or table came from."""
    places = (place for layer in layers if (place := layer.place_under(path)) is not None)
    return next(places, dotted(path))
