"""The status page in a real browser: every factor with its state, on a desk and on a phone, by day and by night."""

from __future__ import annotations

import asyncio
import html
import re
import struct
from typing import TYPE_CHECKING

import pytest

from .worlds import ODD_NAME, STATES, WORDS, world

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Program

pytestmark = pytest.mark.external

INSTALL = "apt-get install chromium"
PNG = b"\x89PNG\r\n\x1a\n"
LIGHT, DARK = "preferredColorScheme=1", "preferredColorScheme=0"


async def chromium(binary: str, profile: Path, url: str, *flags: str) -> str:
    """Open a page, without a window and without calls of its own, and return what is written on standard output."""
    process = await asyncio.create_subprocess_exec(
        binary,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        f"--user-data-dir={profile}",
        *flags,
        url,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    return out.decode()


def size_of(image: bytes) -> tuple[int, int]:
    assert image.startswith(PNG)
    width, height = struct.unpack(">II", image[16:24])
    return width, height


async def test_the_browser_holds_every_factor_with_its_state_in_words(program: Program, tmp_path: Path) -> None:
    binary = program("chromium", install=INSTALL)
    async with world(tmp_path, "all") as house:
        dom = await chromium(binary, tmp_path / "profile", f"{house.url}/", "--dump-dom")

    rows = {
        html.unescape(name): html.unescape(status)
        for name, status in re.findall(
            r"<tr>\s*<td>([^<]*)<small>.*?<span class=\"status [^>]*>([^<]*)<", dom, re.DOTALL
        )
    }
    assert rows == WORDS
    assert set(rows) == set(STATES["all"])
    assert html.escape(ODD_NAME, quote=False) in dom
    assert "<script" not in dom


async def test_it_is_a_picture_in_every_size_and_light(program: Program, tmp_path: Path) -> None:
    binary = program("chromium", install=INSTALL)
    looks = {
        "light": ((1280, 1200), LIGHT),
        "dark": ((1280, 1200), DARK),
        "phone": ((390, 1800), LIGHT),
        "phone-dark": ((390, 1800), DARK),
    }
    images = {}
    async with world(tmp_path, "all") as house:
        for name, ((width, height), scheme) in looks.items():
            path = tmp_path / f"{name}.png"
            flags = (f"--screenshot={path}", f"--window-size={width},{height}", f"--blink-settings={scheme}")
            await chromium(binary, tmp_path / "profile", f"{house.url}/", *flags)
            images[name] = path.read_bytes()

    assert {name: size_of(image) for name, image in images.items()} == {
        name: size for name, (size, _) in looks.items()
    }
    assert all(len(image) > 30_000 for image in images.values()), {name: len(i) for name, i in images.items()}
    assert len(set(images.values())) == len(images)


async def test_nothing_runs_off_a_phone_s_edge(program: Program, tmp_path: Path) -> None:
    binary = program("chromium", install=INSTALL)
    async with world(tmp_path, "all") as house:
        page = (await house.ask("/")).text
    # The page's own policy allows no script; a copy in a frame as wide as a phone may measure itself.
    measure = "parent.document.title = document.documentElement.scrollWidth + ' of ' + innerWidth"
    copy = page.replace("http-equiv", "data-http-equiv").replace("</body>", f"<script>{measure}</script></body>")
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<title></title><iframe width="390" height="800" srcdoc="{html.escape(copy)}"></iframe>', encoding="utf-8"
    )
    dom = await chromium(binary, tmp_path / "profile", frame.as_uri(), "--dump-dom")

    assert re.findall(r"<title>([0-9][^<]*)</title>", dom) == ["390 of 390"]
