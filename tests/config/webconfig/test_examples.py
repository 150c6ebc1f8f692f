"""Good and bad web config files, and what ``check`` prints for each; see the directory ``examples``.

A line ``#: …`` at the top of an example is one line of the output, without excerpts; HERE is its folder.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.config.files import FileReader
from exporter.config.webconfig import WebConfig, read
from tests.support.config_files import write_config
from tests.support.served_exporter import ACCOUNT_SID

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.commands import Ran

EXAMPLES = Path(__file__).parent / "examples"
SAID = "#: "


def examples(sort: str) -> list[str]:
    return sorted(path.stem for path in (EXAMPLES / sort).iterdir())


def check(call: Callable[..., Ran], folder: Path, example: Path) -> tuple[Ran, str]:
    """Run ``check`` on a configuration with this web config file; return what it should print."""
    text = example.read_text(encoding="utf-8")
    (folder / "web.yml").write_text(text, encoding="utf-8")
    account = {"account_sid": ACCOUNT_SID, "password": "made-up"}
    write_config(folder / "config.toml", {"main": account}, web={"config_file": "web.yml"})
    said = "".join(f"{line[len(SAID) :]}\n" for line in text.splitlines() if line.startswith(SAID))
    return call("check", "--config.file", str(folder / "config.toml")), said


def spoken(ran: Ran, folder: Path) -> str:
    """Return the output about the web config file."""
    text = ran.err.replace(str(folder / "config.toml"), "config.toml").replace(str(folder), "HERE")
    return "".join(
        line
        for line in text.splitlines(keepends=True)
        if "the watchlist is empty" not in line and not re.match(r" *\d* \|", line)
    )


@pytest.mark.parametrize("name", examples("good"))
def test_good(name: str, call: Callable[..., Ran], folder: Path) -> None:
    ran, said = check(call, folder, EXAMPLES / "good" / f"{name}.yml")

    assert spoken(ran, folder) == said
    assert ran.status == 0


@pytest.mark.parametrize("name", examples("bad"))
def test_bad(name: str, call: Callable[..., Ran], folder: Path) -> None:
    ran, said = check(call, folder, EXAMPLES / "bad" / f"{name}.yml")

    assert spoken(ran, folder) == said
    assert said
    assert (ran.status, ran.out) == (1, "")
    assert "made-up" not in ran.err


def test_certificates_that_stand_in_the_file(folder: Path) -> None:
    def indented(name: str) -> str:
        return (folder / name).read_text().replace("\n", "\n    ")

    (folder / "web.yml").write_text(
        f"tls_server_config:\n  cert: |\n    {indented('server.crt')}\n  key: |\n    {indented('server.key')}\n"
        f"  client_ca: |\n    {indented('ca.crt')}\n  client_auth_type: RequireAndVerifyClientCert\n"
    )
    reader = FileReader()
    config = read(folder / "web.yml", reader)

    assert isinstance(config, WebConfig)
    assert config.requires_client_certificate
    assert list(reader.versions) == [folder / "web.yml"]
    assert "PRIVATE" not in repr(config)
