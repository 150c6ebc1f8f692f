"""The site in a browser: search, versions, links, both colour schemes, a phone; nothing from another site."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.support.programs.chromium import INSTALL, PATIENCE_MILLISECONDS, browser, visit

if TYPE_CHECKING:
    from playwright.async_api import Page

    from tests.support.fixtures import Program

pytestmark = pytest.mark.external
expect.set_options(timeout=PATIENCE_MILLISECONDS)

PHONE = {"width": 390, "height": 844}
LAPTOP = {"width": 1440, "height": 900}
# What somebody types, and the page that has to be among the results.
SEARCHES = {
    "twilio_verify_factor_up": "metrics",
    "stale_after": "configuration",
    "MassMissing": "runbooks/TwilioVerifyMassMissing",
}


async def results(page: Page, words: str) -> list[str]:
    """Search for words, and return the addresses of the pages that are found."""
    # The index is read.
    await expect(page.locator(".md-search-result__meta")).to_have_text("Type to start searching")
    await page.keyboard.press("/")
    await page.get_by_role("textbox", name="Search").press_sequentially(words)
    found = page.locator(".md-search-result__link")
    await expect(found.first).to_be_attached()
    return [await link.get_attribute("href") or "" for link in await found.all()]


async def pictures(page: Page, name: str) -> None:
    """Take a picture if there is a folder for it."""
    if folder := os.environ.get("SITE_PICTURES"):
        await page.screenshot(path=Path(folder) / f"{name}.png")


async def test_a_reader_finds_a_page_by_search_menu_and_version(program: Program, address: str) -> None:
    async with browser(program("chromium", install=INSTALL)) as opened:
        for words, place in SEARCHES.items():
            async with visit(opened, f"{address}/latest/", **LAPTOP) as visited:
                assert any(f"/{place}/" in link for link in await results(visited.page, words)), words
        async with visit(opened, f"{address}/", **LAPTOP) as visited:
            page = visited.page
            await expect(page).to_have_url(f"{address}/latest/")
            await page.get_by_role("link", name="On call", exact=True).first.click()
            await page.locator(".md-content").get_by_role("link", name="TwilioVerifyMassMissing").first.click()
            await expect(page.locator("h1")).to_contain_text("TwilioVerifyMassMissing")
            await page.goto(f"{address}/latest/runbooks/TwilioVerifyAPIDown.md")
            await expect(page).to_have_url(f"{address}/latest/runbooks/TwilioVerifyAPIDown/")
            await page.locator(".md-version__current").hover(force=True)  # the list covers it
            await page.get_by_role("link", name="0.1", exact=True).click()
            await expect(page).to_have_url(re.compile(f"{address}/0.1/.*"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_fits_a_phone_and_a_laptop(program: Program, address: str, scheme: str) -> None:
    async with browser(program("chromium", install=INSTALL)) as opened:
        for device, size in {"phone": PHONE, "laptop": LAPTOP}.items():
            for name in ("", "runbooks/TwilioVerifyMassMissing"):
                async with visit(opened, f"{address}/latest/{name}", color_scheme=scheme, **size) as visited:
                    page = visited.page
                    wide = await page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
                    assert wide[0] <= wide[1], (name, wide)
                    used = await page.evaluate("document.body.dataset.mdColorScheme")
                    assert used == {"light": "default", "dark": "slate"}[scheme]
                    await pictures(page, f"{device}-{scheme}-{name.rpartition('/')[2] or 'home'}")
