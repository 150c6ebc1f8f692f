"""The site in a browser: search, versions, links, contrast, a phone; nothing from another site."""

from __future__ import annotations

import os
import re
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]  # it carries no types
from playwright.async_api import expect

from tests.support.programs.chromium import INSTALL, PATIENCE_MILLISECONDS, browser, visit
from tools.release.repository import repository

if TYPE_CHECKING:
    from playwright.async_api import Page

    from tests.support.fixtures import Program

pytestmark = pytest.mark.external
expect.set_options(timeout=PATIENCE_MILLISECONDS)

DEVICES = {"phone": {"width": 390, "height": 844}, "laptop": {"width": 1440, "height": 900}}
SCHEMES = {"light": "default", "dark": "slate"}
PAGES = ("", "architecture", "runbooks/TwilioVerifyMassMissing")
# The theme's own: its search dialog has no name, and it gives two menus the same one.
OF_THE_THEME = {"aria-dialog-name", "landmark-unique"}
# What somebody types, and the page that has to be among the results.
SEARCHES = {
    "twilio_verify_factor_up": "metrics",
    "stale_after": "configuration",
    "MassMissing": "runbooks/TwilioVerifyMassMissing",
}


async def find(page: Page, words: str, place: str) -> None:
    """Search for words, and wait until a page is among the results, which change with every letter."""
    # The index is read.
    await expect(page.locator(".md-search-result__meta")).to_have_text("Type to start searching")
    await page.keyboard.press("/")
    await page.get_by_role("textbox", name="Search").press_sequentially(words)
    await expect(page.locator(f'.md-search-result__link[href*="/{place}/"]').first).to_be_attached()


async def pictures(page: Page, name: str) -> None:
    """Take a picture if there is a folder for it."""
    if folder := os.environ.get("SITE_PICTURES"):
        await page.screenshot(path=Path(folder) / f"{name}.png")


async def loaded(page: Page) -> None:
    """Wait until the scripts of a page have what they request; who leaves before sees that fail on the console."""
    await page.wait_for_load_state("networkidle")


async def test_a_reader_finds_a_page_by_search_menu_and_version(program: Program, address: str) -> None:
    async with browser(program("chromium", install=INSTALL)) as opened:
        for words, place in SEARCHES.items():
            async with visit(opened, f"{address}/latest/", **DEVICES["laptop"]) as visited:
                await find(visited.page, words, place)
        async with visit(opened, f"{address}/", **DEVICES["laptop"]) as visited:
            page = visited.page
            await expect(page).to_have_url(f"{address}/latest/")
            example = page.get_by_role("link", name="config.example.toml").first
            await expect(example).to_have_attribute("href", f"{repository()}/blob/v0.2.0/config.example.toml")
            await loaded(page)
            await page.get_by_role("link", name="On call", exact=True).first.click()
            await loaded(page)
            await page.locator(".md-content").get_by_role("link", name="TwilioVerifyMassMissing").first.click()
            await expect(page.locator("h1")).to_contain_text("TwilioVerifyMassMissing")
            await loaded(page)
            await page.goto(f"{address}/latest/runbooks/TwilioVerifyAPIDown.md")
            await expect(page).to_have_url(f"{address}/latest/runbooks/TwilioVerifyAPIDown/")
            await loaded(page)
            await page.locator(".md-version__current").hover(force=True)  # the list covers it
            await page.get_by_role("link", name="0.1", exact=True).click()
            await expect(page).to_have_url(re.compile(f"{address}/0.1/.*"))


async def test_it_fits_a_phone_and_a_laptop_and_can_be_read(program: Program, address: str) -> None:
    async with browser(program("chromium", install=INSTALL)) as opened:
        for (device, size), (scheme, used), name in product(DEVICES.items(), SCHEMES.items(), PAGES):
            async with visit(opened, f"{address}/latest/{name}", color_scheme=scheme, **size) as visited:
                page = visited.page
                wide = await page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
                assert wide[0] <= wide[1], (name, wide)
                assert await page.evaluate("document.body.dataset.mdColorScheme") == used
                if device == "laptop":
                    violations = (await Axe().run(page)).response["violations"]
                    assert [found for found in violations if found["id"] not in OF_THE_THEME] == [], name
                await pictures(page, f"{device}-{scheme}-{name.rpartition('/')[2] or 'home'}")
