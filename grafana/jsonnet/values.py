"""Values written as jsonnet, in the style of jsonnetfmt; a string may read keys of ``_config``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# Characters for private use: no rule and no default contains them.
_BEGIN, _END = "\ue000", "\ue001"
_READ = re.compile(f"{_BEGIN}([^{_END}]*){_END}")
_NAME = re.compile(r"[a-z_][A-Za-z0-9_]*")
_KEYWORDS = {
    *("assert", "else", "error", "false", "for", "function", "if", "import", "importstr", "importbin", "in"),
    *("local", "null", "self", "super", "tailstrict", "then", "true"),
}


def read(expression: str) -> str:
    """Return the part of a text that stands for a jsonnet expression, such as ``errorBudget * 6``."""
    return f"{_BEGIN}{expression}{_END}"


def expressions(texts: Iterable[str]) -> list[str]:
    """Return the expressions that the texts contain and don't consist of, in order and without repetition."""
    return list(dict.fromkeys(name for text in texts if not _READ.fullmatch(text) for name in _READ.findall(text)))


def written(value: object, indent: int = 0) -> str:
    """Return a value as jsonnet; strings that contain expressions are formatted with the object ``values``."""
    inner = " " * (indent + 2)
    match value:
        case dict() if len(value) == 1 and all(isinstance(item, str) for item in value.values()):
            ((key, item),) = value.items()
            return f"{{ {_key(key)}: {written(item, indent)} }}"
        case dict():
            lines = [f"{inner}{_key(key)}: {written(item, indent + 2)},\n" for key, item in value.items()]
            return "{\n" + "".join(lines) + " " * indent + "}" if lines else "{}"
        case list() if all(isinstance(item, str) and "\n" not in item for item in value):
            return f"[{', '.join(written(item) for item in value)}]"
        case list():
            return "[\n" + "".join(f"{inner}{written(item, indent + 2)},\n" for item in value) + " " * indent + "]"
        case bool():
            return str(value).lower()
        case str():
            return _string(value, indent)
    return f"{value}"


def _key(key: object) -> str:
    name = str(key)
    return name if _NAME.fullmatch(name) and name not in _KEYWORDS else _quoted(name)


def _string(text: str, indent: int) -> str:
    whole = _READ.fullmatch(text)
    if whole:
        return whole[1]
    formatted = _READ.sub(lambda found: f"%({found[1]})s", text.replace("%", "%%")) if _READ.search(text) else text
    by = " % values" if formatted != text else ""
    lines = formatted.split("\n")
    # A text block takes its indentation from its first line, and ends at |||.
    if len(lines) > 1 and all(map(str.strip, lines)) and not lines[0].startswith(" ") and "|||" not in formatted:
        block = "".join(f"{' ' * (indent + 2)}{line}\n" for line in lines)
        return f"lines(|||\n{block}{' ' * indent}|||{by})"
    return _quoted(formatted) + by


def _quoted(text: str) -> str:
    quote = '"' if "'" in text and '"' not in text else "'"
    escaped = text.replace("\\", "\\\\").replace(quote, f"\\{quote}").replace("\n", "\\n")
    return f"{quote}{escaped}{quote}"
