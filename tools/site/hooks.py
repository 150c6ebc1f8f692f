"""MkDocs' hooks: pages from outside docs/, links to files that are no pages, runbooks in the menu, addresses."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.plugins import event_priority, get_plugin_logger
from mkdocs.structure.files import File

from tools.release.repository import repository
from tools.site.markdown import as_github_reads_it, with_links

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
DOCS = "docs/"
# Pages outside docs/, and what they are called on the site.
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
    "helm/verify-factor-exporter/README.md": "chart.md",
}
_STYLE = "assets/site.css"
_SOURCES = {uri: source for source, uri in OUTSIDE.items()}
_EVERY_RUNBOOK = "runbooks/*"
# What weighs more or less than 1 in a search.
_BOOST = {"troubleshooting.md": 4.0, "changelog.md": 0.1, "reliability.md": 0.3}
# A release sets it to its tag, so that links to files show them as they were.
_REVISION = "SITE_REVISION"
_log = get_plugin_logger("site")

_MOVED = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{name}</title>
<meta http-equiv="refresh" content="0; url=../{name}/">
<link rel="canonical" href="../{name}/">
<p><a href="../{name}/">{name}</a></p>
</html>
"""


@event_priority(100)  # mike adds the version to the address
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Set the addresses and the style sheet, and list the runbooks in the menu."""
    config.extra_css.append(_STYLE)
    address = repository()
    config.site_url = _site_of(address)
    config.extra["social"] = [{"icon": "fontawesome/brands/github", "link": address, "name": "Repository"}]
    runbooks = sorted(path.name for path in (ROOT / DOCS / "runbooks").glob("*.md"))
    config.nav = _with_runbooks(config.nav, [f"runbooks/{name}" for name in runbooks])
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside docs/, and the style sheet."""
    files.append(File.generated(config, _STYLE, abs_src_path=str(Path(__file__).with_name("site.css"))))
    for source, uri in OUTSIDE.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Adapt lists and links, and set the address at which the page is edited."""
    del config
    source = _source_of(page.file.src_uri)
    page.meta.setdefault("search", {"boost": _BOOST.get(page.file.src_uri, 1.0)})
    page.edit_url = f"{repository()}/edit/main/{source}"
    return as_github_reads_it(with_links(markdown, lambda target: _on_the_site(target, source, page.file, files)))


def on_post_build(config: MkDocsConfig) -> None:
    """Let every runbook be found at its file's name too, because that is where the links of alerts lead."""
    folder = Path(config.site_dir) / "runbooks"
    for page in (ROOT / DOCS / "runbooks").glob("*.md"):
        moved = folder / page.name / "index.html"
        moved.parent.mkdir()
        moved.write_text(_MOVED.format(name=page.stem), encoding="utf-8")


def _site_of(address: str) -> str:
    """Return where GitHub Pages shows the site of the repository at this address."""
    owner, name = address.rsplit("/", 2)[1:]
    return f"https://{owner.lower()}.github.io/{name}/"


def _with_runbooks(nav: Any, runbooks: list[str]) -> Any:
    """Return the menu with the runbooks in the place of ``runbooks/*``."""
    if isinstance(nav, list):
        return [_with_runbooks(entry, runbooks) for entry in nav]
    if isinstance(nav, dict):
        return {title: _with_runbooks(entry, runbooks) for title, entry in nav.items()}
    return runbooks if nav == _EVERY_RUNBOOK else nav


def _source_of(uri: str) -> str:
    return _SOURCES.get(uri, f"{DOCS}{uri}")


def _on_the_site(target: str, source: str, file: File, files: Files) -> str:
    """Return what a link in a file of the repository is on the site: a page or file of it, or GitHub's page."""
    path, mark, anchor = target.partition("#")
    own = f"{repository()}/blob/main/"
    if path.startswith(own):
        path = path.removeprefix(own)
    elif not path or ":" in path:
        return target
    else:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    uri = OUTSIDE.get(path, path.removeprefix(DOCS) if path.startswith(DOCS) else "")
    if uri and files.get_file_from_path(uri) is not None:
        return posixpath.relpath(uri, posixpath.dirname(file.src_uri) or ".") + mark + anchor
    if not (ROOT / path).exists():
        _log.warning("%s: %s is neither a page nor a file of the repository", source, target)
    kind = "tree" if (ROOT / path).is_dir() else "blob"
    return f"{repository()}/{kind}/{os.environ.get(_REVISION, 'main')}/{path}{mark}{anchor}"
