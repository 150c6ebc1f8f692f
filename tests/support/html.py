"""A parsed HTML page."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.served_exporter import ServedExporter


_VOID = {"meta", "link", "input", "br", "hr", "img"}


class Page(HTMLParser):
    """The rows of its tables, the text of every element with an id, its tags and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self.parts: dict[str, str] = {}
        self._open: list[tuple[str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in _VOID:
            self._open.append((tag, dict(attrs).get("id") or ""))
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        words = " ".join(data.split())
        if words:
            self.words.append(words)
            for _, name in self._open:
                self.parts[name] = " ".join(filter(None, (self.parts.get(name, ""), words)))
        if {"td", "th"} & {tag for tag, _ in self._open}:
            self.rows[-1][-1] = " ".join(filter(None, (self.rows[-1][-1], words)))

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def row(self, begins: str) -> list[str]:
        """Return the cells of the row whose first cell begins with this text."""
        [row] = [row for row in self.rows if row[0].startswith(begins)]
        return row

    def links(self, begins: str) -> list[str]:
        """Return the links that begin with this text."""
        return [value for name, value in self.attributes if name == "href" and value.startswith(begins)]

    @property
    def names(self) -> list[str]:
        """The names of the factors in its table, in order."""
        heads = [row[0].split()[0] if len(row) == 7 else "" for row in self.rows]
        begin = heads.index("Factor") + 1 if "Factor" in heads else len(heads)
        end = heads.index("Account") if "Account" in heads else len(heads)
        return [row[0].split()[0] for row in self.rows[begin:end]]


async def page_of(running: ServedExporter, path: str = "/", *, status: int = 200) -> Page:
    """Request a page and parse it."""
    reply = await running.request(path)
    assert reply.status == status
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    return Page(reply.text)
