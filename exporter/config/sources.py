"""The sources of the settings (flags, environment variables, configuration file) and the place of every value.

pydantic-settings merges them. What it doesn't do is done here: every value keeps its place for error messages, and
a misspelt key or variable is an error instead of being ignored.
"""

from __future__ import annotations

import difflib
import re
from collections import ChainMap
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from pydantic_settings import PydanticBaseSettingsSource

from exporter.config import values
from exporter.config.errors import ConfigWarning, ErrorDetail, did_you_mean, escape, nearest
from exporter.config.oddities import Oddity, oddity
from exporter.config.settings import Settings
from exporter.config.tree import LISTED, Key, Table, dotted
from exporter.config.validation import explain, key_hint, oddity_at, toml_path

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from pydantic.fields import FieldInfo

ENVIRONMENT_PREFIX = "VERIFY_EXPORTER_"

_LINK_VARIABLE = re.compile(
    r"VERIFY_EXPORTER(_[A-Z0-9_]+?)?"
    r"_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
_LONG_PREFIX = re.compile(r"(?:TWILIO_?)?(?:VERIFY_?(?:FACTORS?_?)?|FACTORS?_?)EXPORTER")
"""Prefixes that are easily taken for this exporter's, such as its whole name."""

_SHORT_PREFIX = re.compile(r"(?:TWILIO_?)?VERIFY")
_SIMILAR = 0.8

_LINK_PORTS = ("_TCP_PORT", "_UDP_PORT", "_SCTP_PORT")
_LINK_ADDRESS = re.compile(r"(tcp|udp|sctp)://")


class HiddenValues(dict[str, Any]):
    """Values without a ``repr``: pydantic-settings can be configured to log what its sources return."""

    def __repr__(self) -> str:
        return "<settings>"


class Source(PydanticBaseSettingsSource):
    """One source of settings: its values, the place of each, and the errors found while reading it."""

    def __init__(self, tree: Table) -> None:
        super().__init__(Settings)
        self.tree = tree
        self.values: dict[str, Any] = {}
        self.places: dict[tuple[str, ...], str] = {}
        self.errors: list[ErrorDetail] = []

    def __call__(self) -> dict[str, Any]:
        return HiddenValues(self.values)

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the value of a top-level key; required by the interface of a source."""
        del field
        return self.values.get(field_name), field_name, False

    def put(self, path: tuple[str, ...], value: object, place: str) -> None:
        """Set a key or table, and record its place."""
        self.places[path] = place
        table = self.values
        for part in path[:-1]:
            table = table.setdefault(part, {})
        table[path[-1]] = value

    def drop(self, path: tuple[str, ...]) -> None:
        """Remove the value of a key or table; its place stays known."""
        table: Any = self.values
        for part in path[:-1]:
            table = table.get(part, {})
        table.pop(path[-1], None)

    def account_names(self) -> tuple[str, ...]:
        """Return the names of the accounts that this source sets keys of."""
        return tuple(self.values.get("accounts", {}))

    def put_text(self, key: Key, path: tuple[str, ...], text: str, place: str) -> None:
        """Set a key from text, as a flag or an environment variable has it."""
        try:
            self.put(path, key.kind.from_text(text), place)
        except ValueError as error:
            odd = oddity(text)
            self.errors.append(
                ErrorDetail(place, explain(error, path))
                if odd is None
                else ErrorDetail(place, odd.problem, odd.hint)
            )


class FlagSource(Source):
    """Values from the command line, by dotted key; None and an empty list mean that the flag isn't given."""

    def __init__(self, tree: Table, flags: Mapping[str, Any]) -> None:
        super().__init__(tree)
        for name, value in flags.items():
            if value is None or value == []:
                continue
            path = tuple(name.split("."))
            key = find(tree, path)
            if not isinstance(key, Key):
                known = [known.dotted for known in tree.leaves()]
                self.errors.append(ErrorDetail(flag_name(name), "unknown key", did_you_mean(name, known)))
                continue
            place = key.flag.name if key.flag else flag_name(name)
            if isinstance(value, str):
                self.put_text(key, path, value, place)
            else:
                self.put(path, value, place)


class EnvironmentSource(Source):
    """Values from environment variables with the exporter's prefix, in upper or lower case.

    The variables that Kubernetes sets for a service named verify-exporter are ignored.
    """

    def __init__(self, tree: Table, environ: Mapping[str, str], accounts: Collection[str]) -> None:
        super().__init__(tree)
        self._accounts = accounts
        self.warnings: list[ConfigWarning] = []
        for name in sorted(environ):
            if name.upper().startswith(ENVIRONMENT_PREFIX) and not is_link_variable(name, environ[name]):
                self._read(name, environ[name])
            elif (meant := self._meant(name)) is not None:
                text = f"is ignored: the prefix of this exporter's variables is {ENVIRONMENT_PREFIX}"
                self.warnings.append(ConfigWarning(escape(name, 120), text, f"rename it to {meant}"))

    def _read(self, name: str, text: str) -> None:
        path = tuple(name[len(ENVIRONMENT_PREFIX) :].lower().split("__"))
        for length in range(1, len(path) + 1):
            node = find(self.tree, path[:length])
            if isinstance(node, Table) and node.is_array:
                self._refuse(name, "lists can be set in files only", f"write [[{dotted(path[:length])}]] in a file")
                return
            if isinstance(node, Key) and node.kind.files_only:
                what = "tables" if node.kind.table else "lists"
                hint = f"set {node.dotted} in the configuration file"
                self._refuse(name, f"{what} can be set in files only", hint)
                return
        if path[0] == "accounts" and len(path) > 1:
            account = self._account_named(path[1])
            if account is None:
                self._refuse(name, "matches several accounts", "set the key in the configuration file")
                return
            path = ("accounts", account, *path[2:])
        key = find(self.tree, path)
        if key is None:
            self._refuse(name, "unknown variable", self._hint(path))
        elif isinstance(key, Table):
            example = variable_name(next(key.leaves()).path)
            self._refuse(name, "sets a whole table", f"set its keys one by one, for example {example}")
        elif path in self.places:
            self._refuse(name, f"sets the same key as {self.places[path]}", "remove one of the two")
        else:
            self.put_text(key, path, text, name)

    def _meant(self, name: str) -> str | None:
        """Return the variable that one with a similar prefix was meant to be; None for others' variables.

        What follows the prefix must be a key of this configuration; with one underscore in place of two, only if
        the prefix has the exporter's name.
        """
        upper = name.upper()
        for found in re.finditer(rf"_+(?=(?:{'|'.join(self.tree.below).upper()})_)", upper):
            prefix, rest = upper[: found.start()], upper[found.end() :]
            exporter = _LONG_PREFIX.fullmatch(prefix) is not None or _is_misspelt(prefix)
            if exporter or _SHORT_PREFIX.fullmatch(prefix):
                path = tuple(rest.lower().split("__"))
                if path[0] == "accounts" and len(path) > 1:
                    path = ("accounts", self._account_named(path[1]) or path[1], *path[2:])
                if isinstance(key := find(self.tree, path), Key) and not key.kind.files_only:
                    return ENVIRONMENT_PREFIX + rest
                flat = (key for key in self.tree.leaves() if "_".join(key.path) == rest.lower())
                if exporter and (key := next(flat, None)) is not None and not key.kind.files_only:
                    return variable_name(key.path)
        return None

    def _refuse(self, name: str, problem: str, hint: str) -> None:
        self.errors.append(ErrorDetail(escape(name, 120), problem, hint))

    def _account_named(self, name: str) -> str | None:
        """Return the account that a variable names, where _ may stand for a hyphen; None if several match."""
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


class FileSource(Source):
    """Values from the parsed configuration file; relative paths are relative to its directory."""

    def __init__(self, tree: Table, document: Mapping[str, Any], file: str, directory: Path) -> None:
        super().__init__(tree)
        self._file = file
        self._directory = directory
        self._read(tree, document, ())

    def _read(self, table: Table, content: Mapping[str, Any], path: tuple[str, ...]) -> None:
        for name, value in content.items():
            here = (*path, name)
            place = f"{self._file}: {toml_path(here)}"
            node = table.each or table.below.get(name)
            if node is None:
                problem = (
                    "unknown table" if isinstance(value, dict) or _is_array_of_tables(value) else "unknown key"
                )
                self.errors.append(ErrorDetail(place, problem, self._hint(table, here, value), of_key=True))
            elif isinstance(node, Key):
                self.put(here, self._value(node, value), place)
                if isinstance(value, dict):  # a table with names that the user chooses
                    self.places |= {(*here, key): f"{self._file}: {toml_path((*here, key))}" for key in value}
            elif not isinstance(value, dict):
                self._refuse(place, value, f"[{dotted(node.each.path) if node.each else toml_path(here)}]")
            else:
                self.put(here, {}, place)
                self._read(node, value, here)

    def _value(self, key: Key, value: object) -> object:
        if not isinstance(value, str):
            return value
        if key.kind.secret:
            return SecretStr(value)
        if key.kind.path and value:
            try:
                return str(self._directory / values.parse_path(value))
            except ValueError:
                return value  # pydantic reports what is wrong with it
        return value

    def _refuse(self, place: str, value: object, heading: str) -> None:
        """Add the error of a value where a table belongs."""
        if _is_array_of_tables(value):
            found, hint = "an array of tables", f"write {heading} with single brackets"
        else:
            found, hint = values.kind_of(value), f"write {heading} with its keys below it"
        self.errors.append(ErrorDetail(place, f"is {found}, not a table", hint))

    def _hint(self, table: Table, path: tuple[str, ...], value: object) -> str:
        name = path[-1]
        if isinstance(value, dict) or _is_array_of_tables(value):
            # A misspelt table is meant for this level, whatever keys of that name exist elsewhere
            hint = did_you_mean(name, (name for name, node in table.below.items() if isinstance(node, Table)))
            if hint:
                return hint
        elsewhere = next((key.dotted for key in self.tree.leaves() if key.path[-1] == name), None)
        if elsewhere is not None:
            return f'did you mean "{elsewhere}"?'
        return key_hint(name, table.below)


def _is_array_of_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _is_misspelt(prefix: str) -> bool:
    """Return whether a prefix is almost this exporter's, with letters exchanged, missing or too many."""
    right = ENVIRONMENT_PREFIX.rstrip("_")
    return abs(len(prefix) - len(right)) <= 2 and difflib.SequenceMatcher(None, prefix, right).ratio() >= _SIMILAR


def find(tree: Table, path: tuple[str, ...]) -> Key | Table | None:
    """Return the key or table at a path that may contain an account's name; None where the tree has neither."""
    node: Key | Table | None = tree
    for part in path:
        if not isinstance(node, Table) or node.is_array:
            return None
        node = node.each or node.below.get(part)
    return node


def is_link_variable(name: str, value: str) -> bool:
    """Whether this is one of the variables that Kubernetes and Docker set to announce a service's address.

    Source: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
    """
    upper = name.upper()
    if "__" in upper or not _LINK_VARIABLE.fullmatch(upper):
        return False
    return (
        not upper.endswith("_PORT")
        or upper.endswith(("_SERVICE_PORT", *_LINK_PORTS))
        or bool(_LINK_ADDRESS.match(value))
    )


def variable_name(path: tuple[str, ...], account: str = "main") -> str:
    """Return the environment variable of a key."""
    parts = [account if part == "*" else part for part in path]
    return ENVIRONMENT_PREFIX + "__".join(parts).upper().replace("-", "_")


def flag_name(name: str) -> str:
    """Return the name that messages use for the flag of a key without a declared one."""
    return "--" + escape(name, 60).replace("_", "-")


class Sources:
    """All sources of a configuration, with precedence: flags, then environment variables, then the file.

    ``errors`` are those of all sources, the file's first.
    """

    def __init__(self, flags: FlagSource, environment: EnvironmentSource, file: FileSource) -> None:
        self.file = file
        self._all = (flags, environment, file)
        self._places = ChainMap(*(source.places for source in self._all))
        self.errors = [error for source in reversed(self._all) for error in source.errors]
        self.warnings = environment.warnings

    def settings(self) -> Settings:
        """Return the settings that pydantic-settings makes of the sources; raises pydantic's ValidationError."""
        return Settings.from_sources(*self._all)

    def drop(self, path: tuple[str, ...]) -> None:
        """Remove the value of a key or table from every source."""
        for source in self._all:
            source.drop(path)

    def place(self, path: tuple[str, ...]) -> str:
        """Return where the value in effect of a key comes from; of a table, or else of the first key set in it."""
        if path in self._places:
            return self._places[path]
        below = (place for known, place in self._places.items() if known[: len(path)] == path)
        return next(below, dotted(path))

    def in_file(self, path: tuple[str, ...]) -> bool:
        """Return whether the value in effect of a key comes from the configuration file."""
        return next((source for source in self._all if path in source.places), None) is self.file

    def oddity(self, path: tuple[str, ...], position: int | None = None) -> Oddity | None:
        """Return what is odd about the value in effect of a key, as it was given, and what to do about it."""
        source = next((source for source in self._all if path in source.places), None)
        odd = None if source is None else oddity_at(source.values, path, position)
        if odd is None or not odd.of_variable or source is None:
            return odd
        if source is not self.file:
            return odd._replace(hint="set it to the value itself: nothing replaces variables in it")
        key = find(source.tree, path)
        if not isinstance(key, Key) or key.kind.files_only:
            return odd._replace(hint="TOML has no variables: write the value itself")
        name = variable_name(key.path, path[1] if path[0] == "accounts" else "main")
        return odd._replace(hint=f"TOML has no variables: write the value, or set {name} instead of this key")

    def odd_values(self, refused: Collection[tuple[str, ...]]) -> Iterator[ConfigWarning]:
        """Yield a warning for each odd value in effect that was not refused and is no secret."""
        for path in self._places:
            key = find(self.file.tree, path)
            if isinstance(key, Key) and not key.kind.secret and path not in refused:
                odd = self.oddity(path)
                if odd is not None:
                    yield ConfigWarning(self.place(path), odd.problem, odd.hint)

    def given(self, table: str, key: str) -> object:
        """Return the value in effect of a key as it was given, before it is checked; None where it isn't set."""
        return next((source.values[table][key] for source in self._all if (table, key) in source.places), None)

    def account_names(self) -> tuple[str, ...]:
        """Return the names of all accounts, the file's first."""
        return tuple(dict.fromkeys(name for source in reversed(self._all) for name in source.account_names()))
