"""The built site: the pages of the repository as GitHub shows them, links that lead somewhere, no other site."""

from __future__ import annotations

import re
import shutil
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from markdown_it import MarkdownIt

from tests.site.conftest import build
from tests.site.shape import shape
from tools.release.files import sdist_roots
from tools.release.repository import repository
from tools.site.hooks import OUTSIDE

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGES = {path.relative_to(ROOT / "docs").as_posix(): path for path in sorted((ROOT / "docs").rglob("*.md"))} | {
    uri: ROOT / source for source, uri in OUTSIDE.items()
}
LOADS = {"img": "src", "script": "src", "iframe": "src", "source": "src", "link": "href"}


class Html(HTMLParser):
    """The links of a page, what it loads, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors.update(filter(None, (given.get("id"), given.get("name"))))
        if tag == "a" and given.get("href"):
            self.links.append(str(given["href"]))
        elif given.get(LOADS.get(tag, "")) and given.get("rel") not in {"canonical", "prev", "next"}:
            self.loads.append(str(given[LOADS[tag]]))


@cache
def read(path: Path) -> Html:
    return Html(path.read_text(encoding="utf-8"))


def place(uri: str) -> str:
    """Return where a page of the site is: ``alerts.md`` is ``alerts/index.html``."""
    stem = uri.removesuffix(".md").removesuffix("README").rstrip("/")
    return "index.html" if stem == "index" else f"{stem}/index.html"


def test_every_page_is_on_the_site_as_github_shows_it(built: Path) -> None:
    assert len(PAGES) > 50
    github = MarkdownIt("gfm-like", {"linkify": False})
    for uri, source in PAGES.items():
        page = (built / place(uri)).read_text(encoding="utf-8")
        assert shape(page, within_article=True) == shape(github.render(source.read_text(encoding="utf-8"))), uri


def test_every_link_of_the_site_leads_somewhere(built: Path) -> None:
    dead = []
    for page in built.rglob("*.html"):
        if page.name == "404.html":  # its links begin with the path of the published site
            continue
        for link in read(page).links:
            to = urlsplit(urljoin(f"http://site/{page.relative_to(built).as_posix()}", link))
            if to.netloc != "site":
                continue
            file = built / unquote(to.path).lstrip("/")
            file = file / "index.html" if file.is_dir() else file
            if not file.is_file() or (to.fragment and unquote(to.fragment) not in read(file).anchors):
                dead.append(f"{page.relative_to(built)}: {link}")
    assert dead == []


def test_links_to_files_lead_to_files_of_the_repository(built: Path) -> None:
    files = {link for page in built.rglob("*.html") for link in read(page).links if link.startswith(repository())}
    found = {
        match[1]
        for link in files
        if (match := re.fullmatch(rf"{re.escape(repository())}/(?:blob|tree|edit)/main/([^#]+)(?:#.*)?", link))
    }
    assert {"config.example.toml", "docs/alerts.md", "grafana"} <= found
    assert [name for name in sorted(found) if not (ROOT / name).exists()] == []


def test_everything_that_is_loaded_is_there_and_nothing_is_from_another_site(built: Path) -> None:
    loads = {
        load if urlsplit(load).netloc else urlsplit(urljoin(f"/{page.relative_to(built).as_posix()}", load)).path
        for page in built.rglob("*.html")
        if page.name != "404.html"
        for load in read(page).loads
    }
    assert "/images/architecture.svg" in loads
    assert [load for load in sorted(loads) if load.startswith("/") and not (built / load[1:]).is_file()] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in built.rglob("*.css"))
    assert any(load.endswith(".css") for load in loads)
    assert [load for load in sorted(loads) if urlsplit(load).netloc] == []
    assert re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)\"']*", styles) == []


def test_a_runbook_is_at_the_address_that_alerts_link_to(built: Path) -> None:
    runbooks = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
    assert runbooks
    for runbook in runbooks:
        moved = read(built / "runbooks" / runbook.name / "index.html")
        assert moved.links == [f"../{runbook.stem}/"]
        assert (built / "runbooks" / runbook.stem / "index.html").is_file()


@pytest.mark.parametrize(
    ("name", "added", "said"),
    [
        ("docs/faq.md", "[x](nothing.md)", "docs/faq.md: nothing.md is neither a page nor a file"),
        ("docs/faq.md", "[x](../README.md#nowhere)", "does not contain an anchor '#nowhere'"),
        ("docs/new.md", "# New", 'not included in the "nav" configuration'),
    ],
)
def test_a_dead_link_and_a_page_outside_the_menu_fail_the_build(
    tmp_path: Path, name: str, added: str, said: str
) -> None:
    for source in ("docs", "tools"):
        shutil.copytree(ROOT / source, tmp_path / source)
    for source in ("mkdocs.yml", *sdist_roots()):
        if not (tmp_path / source).exists():
            (tmp_path / source).symlink_to(ROOT / source)
    with (tmp_path / name).open("a", encoding="utf-8") as page:
        page.write(f"\n{added}\n")
    ended = build(tmp_path, tmp_path / "built")
    assert ended.returncode == 1
    assert said in ended.stderr.decode()
    assert ended.stderr.decode().count("WARNING") == 1
