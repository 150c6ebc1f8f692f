"""What a page consists of, whoever made its HTML: headings, items, code, cells, links, and the text in them."""

from __future__ import annotations

from html.parser import HTMLParser

BLOCKS = {
    "blockquote",
    "em",
    "h1",
    "h2",
    "h3",
    "h4",
    "img",
    "li",
    "ol",
    "pre",
    "strong",
    "table",
    "td",
    "th",
    "tr",
    "ul",
}


class _Reader(HTMLParser):
    def __init__(self, *, within_article: bool) -> None:
        super().__init__()
        self.reads = not within_article
        self.found: list[str] = []
        self._code = 0
        self._links: list[bool] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.reads = self.reads or tag == "article"
        if not self.reads:
            return
        if tag == "a":
            of_the_theme = {"headerlink", "md-content__button", "md-path__link"} & set(
                (dict(attrs).get("class") or "").split()
            )
            self._links.append(bool(of_the_theme))
        self._code += tag == "pre"
        if (tag in BLOCKS or (tag == "code" and not self._code)) and not any(self._links[:-1]):
            self.found.append(f"<{tag}>")

    def handle_endtag(self, tag: str) -> None:
        if not self.reads:
            return
        if tag == "a":
            self._links.pop()
        self._code -= tag == "pre"
        self.reads = tag != "article"

    def handle_data(self, data: str) -> None:
        # Brackets, because GitHub's "[ ]" is a box.
        text = "".join(data.split()).replace("[", "").replace("]", "")
        if not self.reads or any(self._links) or not text:
            return
        if self.found and not self.found[-1].startswith("<"):
            self.found[-1] += text
        else:
            self.found.append(text)


def shape(html: str, *, within_article: bool = False) -> list[str]:
    """Return tags and texts in order, without spaces and without what the theme adds.

    Paragraphs are left out, since GitHub draws the items of a list with and without them alike, and so are links,
    since GitHub makes one of every bare address.
    """
    reader = _Reader(within_article=within_article)
    reader.feed(html)
    return reader.found
