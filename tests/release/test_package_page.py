"""The package's page on PyPI: the README, whose links lead to the files of the same version."""

from __future__ import annotations

import email
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from markdown_it import MarkdownIt

from exporter import __version__
from tools.release.files import PROJECT
from tools.release.repository import repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message

    from markdown_it.token import Token

FILES = f"{repository()}/blob/v{__version__}/"
PICTURES = f"{repository()}/v{__version__}/".replace("//github.com/", "//raw.githubusercontent.com/")


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> Message:
    """Return the METADATA of a wheel that is built as a release builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    build = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    done = subprocess.run(build, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        (name,) = (name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_string(files.read(name).decode())


def links(text: str) -> Iterator[tuple[str, str]]:
    """Yield ``href`` or ``src``, and the target, of every link and picture, as PyPI and GitHub read Markdown."""

    def all_of(tokens: list[Token]) -> Iterator[Token]:
        for token in tokens:
            yield token
            yield from all_of(token.children or [])

    for token in all_of(MarkdownIt("gfm-like", {"linkify": False}).parse(text)):
        yield from ((name, str(token.attrs[name])) for name in ("href", "src") if name in token.attrs)


def test_every_link_leads_to_the_file_of_this_version(metadata: Message) -> None:
    assert metadata["Description-Content-Type"] == "text/markdown"
    page = metadata.get_payload()
    assert isinstance(page, str)
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")

    found = list(zip(links(readme), links(page), strict=True))
    assert len(found) > 40
    assert {name for (name, _), _ in found} == {"href", "src"}
    for (name, before), (_, now) in found:
        if urlsplit(before).scheme or before.startswith("#"):
            assert now == before
        else:
            assert now == (PICTURES if name == "src" else FILES) + before
            assert (PROJECT / before.partition("#")[0]).exists()


def test_nothing_but_the_links_is_different(metadata: Message) -> None:
    page = metadata.get_payload()
    assert isinstance(page, str)

    assert page.replace(f"]({PICTURES}", "](").replace(f"]({FILES}", "](") == (
        (PROJECT / "README.md").read_text(encoding="utf-8")
    )
