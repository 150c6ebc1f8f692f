"""The filters, groups and pages of the status page in a real browser: without a button, by keyboard, on a phone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]  # it carries no types
from playwright.async_api import expect

from exporter.verify.outcome import Failure, Reason
from tests.support.factor_states import STATES, world
from tests.support.programs.chromium import INSTALL, PATIENCE_MILLISECONDS, browser, visit
from tests.support.served_exporter import NOT_FOUND, UNVERIFIED, VERIFIED, entries, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Browser, Page, Route

    from tests.support.fixtures import Program
    from tests.support.served_exporter import ServedExporter

pytestmark = pytest.mark.external
expect.set_options(timeout=PATIENCE_MILLISECONDS)

LINKS = "#rows tbody .factor > a"
FOCUSED = "document.activeElement.id"


@pytest.fixture
async def opened(program: Program) -> AsyncIterator[Browser]:
    async with browser(program("chromium", install=INSTALL)) as running:
        yield running


async def value(page: Page, field: str) -> str:
    return await page.locator(f"#{field}").input_value()


async def test_a_filter_applies_while_it_is_typed(opened: Browser, tmp_path: Path) -> None:
    async with world(tmp_path, "all") as running, visit(opened, f"{running.url}/#accounts") as visited:
        page = visited.page
        await page.evaluate("window.untouched = true")
        await expect(page.get_by_role("button", name="Apply")).to_be_hidden()
        await page.locator("#q").press_sequentially("kapt")
        await expect(page.locator("#found")).to_have_text("0 of 9 factors match.")
        await page.keyboard.press("ArrowLeft")
        await page.keyboard.press("ArrowLeft")
        await page.keyboard.press("Backspace")
        await page.keyboard.press("e")
        await expect(page.locator(LINKS)).to_have_text(["kept"])
        assert page.url == f"{running.url}/?q=kept"
        assert await page.evaluate(FOCUSED) == "q"
        assert await page.evaluate("document.activeElement.selectionStart") == 2
        await expect(page.locator("#tile-all b")).to_have_text("1")
        await page.get_by_label("State", exact=True).select_option(value="not_found")
        await expect(page.locator("#found")).to_have_text("0 of 9 factors match.")
        assert page.url == f"{running.url}/?q=kept&status=not_found"
        assert await page.evaluate("window.untouched") is True


async def test_the_history_has_one_entry_per_field(opened: Browser, tmp_path: Path) -> None:
    async with world(tmp_path, "all") as running, visit(opened, f"{running.url}/") as visited:
        page = visited.page
        for part in ("st", "ale"):
            await page.locator("#q").press_sequentially(part)
            await page.wait_for_url(f"**{part}")
        await page.get_by_label("Group by").select_option("team")
        await page.wait_for_url("**/?q=stale&group=team")
        await expect(page.locator(LINKS)).to_have_text(['the "a" team'])
        await page.get_by_role("link", name='the "a" team', exact=True).click()
        await expect(page.locator(LINKS)).to_have_text(["stale"])
        await page.go_back()
        await expect(page.locator(LINKS)).to_have_text(['the "a" team'])
        assert [await value(page, field) for field in ("q", "group")] == ["stale", "team"]
        await page.evaluate("window.untouched = true")
        await page.go_back()
        await expect(page.locator(LINKS)).to_have_text(["stale"])
        await expect(page.locator("#group")).to_have_value("")
        await page.go_back()
        await expect(page.locator(LINKS)).to_have_count(len(STATES["all"]))
        await expect(page.locator("#q")).to_have_value("")
        await expect(page.locator("#clear")).to_have_count(0)
        await page.go_forward()
        await expect(page.locator(LINKS)).to_have_text(["stale"])
        await expect(page.locator("#q")).to_have_value("stale")
        assert await page.evaluate("window.untouched") is True


async def test_a_late_answer_does_not_replace_a_newer_one(opened: Browser, tmp_path: Path) -> None:
    async with world(tmp_path, "all") as running, visit(opened, f"{running.url}/") as visited:
        page = visited.page
        held: list[Route] = []

        def hold(route: Route) -> None:  # it is never answered
            held.append(route)

        await page.route("**/?q=st", hold)
        await page.locator("#q").press_sequentially("st")
        await page.wait_for_url("**/?q=st")
        await page.locator("#q").press_sequentially("ale")
        await expect(page.locator(LINKS)).to_have_text(["stale"])
        await expect(page.locator("#outdated")).to_be_hidden()
        assert len(held) == 1


async def test_a_slash_focuses_the_search(opened: Browser, tmp_path: Path) -> None:
    async with world(tmp_path, "all") as running, visit(opened, f"{running.url}/?q=kept") as visited:
        page = visited.page
        await expect(page.locator(".key")).to_have_text("· press /")
        await page.keyboard.press("/")
        assert await page.evaluate(FOCUSED) == "q"
        await page.keyboard.press("/")  # in a field it is a character, here instead of the selected text
        assert await value(page, "q") == "/"
        await page.locator("#label").press_sequentially("team=a/b")
        assert await value(page, "label") == "team=a/b"
        await page.locator("#tile-all").focus()
        await page.keyboard.press("Control+/")
        assert await page.evaluate(FOCUSED) == "tile-all"
        await page.locator("#q").fill("kept")
        await page.locator("#label").fill("")
        await page.get_by_role("link", name="kept", exact=True).click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("kept")
        await page.keyboard.press("/")  # there is no search on this page


async def test_groups_and_pages_by_keyboard(opened: Browser, tmp_path: Path) -> None:
    names = [f"factor-{number:03d}" for number in range(205)]
    async with serving(tmp_path, entries(*names, labels={"team": "payments"})) as running:
        running.apply("factor-007", NOT_FOUND)
        async with visit(opened, f"{running.url}/") as visited:
            page = visited.page
            await page.locator("#group").focus()
            await page.keyboard.type("team")
            await expect(page.locator(LINKS)).to_have_text(["payments"])
            await expect(page.locator("#group")).to_be_focused()
            for _ in range(20):
                await page.keyboard.press("Tab")
                if await page.evaluate(FOCUSED) == "link-group-payments":
                    break
            await page.keyboard.press("Enter")
            await page.wait_for_url("**/?label=team%3Dpayments")
            await page.locator("#page-3").focus()
            await page.keyboard.press("Enter")
            await page.wait_for_url("**/?label=team%3Dpayments&page=3")
            await expect(page.locator(LINKS)).to_have_count(5)
            await expect(page.locator("#page-3")).to_have_attribute("aria-current", "page")
            await page.get_by_role("link", name="Page 1, first").click()
            await expect(page.locator(LINKS)).to_have_count(100)


async def test_filters_and_groups_without_javascript(opened: Browser, tmp_path: Path) -> None:
    async with (
        world(tmp_path, "all") as running,
        visit(opened, f"{running.url}/", java_script_enabled=False) as visited,
    ):
        page = visited.page
        await expect(page.locator(".key")).to_be_hidden()
        await page.get_by_label("Group by").select_option("team")
        await page.get_by_role("button", name="Apply").click()
        await page.get_by_role("link", name='the "a" team', exact=True).click()
        await expect(page.locator(LINKS)).to_have_count(len(STATES["all"]))
        await page.locator("#tile-verified").click()
        await expect(page.locator(LINKS)).to_have_text(["kept", 'Zoë\'s "factor" \\ <b>日本語</b>', "verified"])


def many(running: ServedExporter, count: int) -> None:
    """Give some of the factors a status."""
    for number in range(count):
        answers = (VERIFIED, VERIFIED, UNVERIFIED, NOT_FOUND)
        running.apply(f"factor-{number:03d}", answers[number % 4])
        if number % 9 == 0:
            running.apply(f"factor-{number:03d}", Failure(Reason.TIMEOUT, "no complete answer in time"))


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_groups_and_pages_are_accessible_and_fit(opened: Browser, tmp_path: Path, theme: str) -> None:
    factors = [
        factor | {"labels": {"team": "W" * (1 + number % 130)}}
        for number, factor in enumerate(entries(*(f"factor-{number:03d}" for number in range(999))))
    ]
    async with serving(tmp_path, factors) as running:
        many(running, 600)
        for path in ("/?page=5", "/?group=team", "/?group=team&page=2", "/?group=type&status=failing"):
            for width in (320, 1280):
                async with visit(opened, running.url + path, width=width, color_scheme=theme) as visited:
                    page = visited.page
                    found = await Axe().run(page)
                    assert [(one["id"], one["nodes"]) for one in found.response["violations"]] == [], path
                    wide = await page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
                    assert wide[0] <= wide[1], (path, width)
