"""The pages for everyone: axe finds nothing wrong, and a keyboard reaches every control in order, visibly."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]  # it carries no types
from playwright.async_api import expect

from exporter.verify.outcome import Failure, Reason
from tests.support.factor_states import world
from tests.support.programs.chromium import PATIENCE_MILLISECONDS, visit
from tests.support.served_exporter import NOT_FOUND, SERVICE_SID, UNVERIFIED, VERIFIED, entries, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Browser, Page

    from tests.support.served_exporter import ServedExporter

pytestmark = pytest.mark.external
expect.set_options(timeout=PATIENCE_MILLISECONDS)

THEMES = ("light", "dark")
WIDTHS = (1280, 390)
LINKS = {"Grafana": "https://grafana.example.com/?x={factor}", "Runbook": "https://wiki.example.com/{label.team}"}
WEB = {"enable_probe": True, "external_links": LINKS}
TEAMS = ("payments", "people", "logistics")
CONTROLS = "a[href], button, input, select, textarea, summary, [tabindex='0']"
SEEN = f"""() => {{
  const seen = [...document.querySelectorAll("{CONTROLS}")]
    .filter((one) => one.checkVisibility({{ visibilityProperty: true }}) && one.tabIndex >= 0);
  return seen.map((one) => one.id || one.textContent.trim() || one.name);
}}"""
FOCUSED = f"""() => {{
  const seen = [...document.querySelectorAll("{CONTROLS}")]
    .filter((one) => one.checkVisibility({{ visibilityProperty: true }}) && one.tabIndex >= 0);
  const one = document.activeElement, style = getComputedStyle(one), box = one.getBoundingClientRect();
  return {{
    index: seen.indexOf(one),
    outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
    inView: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
  }};
}}"""


def factor_path(name: str) -> str:
    return f"/factors/main/{SERVICE_SID}/{name}"


@contextlib.asynccontextmanager
async def crowd(folder: Path) -> AsyncIterator[ServedExporter]:
    """Serve 130 factors of three teams, most of them in trouble, and everything that pages can show beside them."""
    names = [f"factor-{number:03}" for number in range(130)]
    factors = [
        factor | {"labels": {"team": TEAMS[number % 3], "tier": str(number % 2)}}
        for number, factor in enumerate(entries(*names))
    ]
    async with serving(folder, factors, web=WEB) as running:
        outcomes = (VERIFIED, UNVERIFIED, NOT_FOUND, Failure(Reason.TIMEOUT, "no complete answer in time"))
        for number, name in enumerate(names[:-1]):
            running.apply(name, VERIFIED, outcomes[number % 4])
        accounts = running.daemon.engine.poller.accounts
        accounts["main"]._refusals.guard.pause(running.daemon.engine.clock.steady())
        running.daemon.config_status.successful = False
        yield running


async def violations(page: Page) -> list[Any]:
    """Return what axe finds wrong with a page."""
    results = await Axe().run(page)
    return [(found["id"], [node["html"] for node in found["nodes"]]) for found in results.response["violations"]]


@pytest.mark.parametrize("theme", THEMES)
async def test_axe_finds_nothing_wrong_with_factors_in_every_state(
    opened: Browser, tmp_path: Path, theme: str
) -> None:
    async with world(tmp_path, "all") as running:
        for path in ("/", *map(factor_path, ("kept", "never-tried", "paused", "kapt"))):
            async with visit(opened, running.url + path, color_scheme=theme) as visited:
                assert await violations(visited.page) == [], path
                visited.console.clear()  # the browser logs a page that is 404


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
async def test_axe_finds_nothing_wrong_with_a_crowd(
    opened: Browser, tmp_path: Path, theme: str, width: int
) -> None:
    paths = (
        "/",
        "/?page=2",
        "/?status=attention&q=factor&label=team%3Dpayments&sort=-since&account=main",
        "/?q=nobody",
        "/?group=team",
        "/?group=account&status=attention",
        factor_path("factor-001"),
    )
    async with crowd(tmp_path) as running:
        for path in paths:
            async with visit(opened, running.url + path, color_scheme=theme, width=width) as visited:
                assert await violations(visited.page) == [], path
                for summary in (await visited.page.locator("summary").all())[:1]:
                    await summary.click()
                    assert await violations(visited.page) == [], f"{path}, links opened"


@pytest.mark.parametrize("theme", THEMES)
async def test_axe_finds_nothing_wrong_with_an_empty_watchlist_and_a_page_that_is_outdated(
    opened: Browser, tmp_path: Path, theme: str
) -> None:
    async with (
        world(tmp_path, "nothing-watched") as running,
        visit(opened, f"{running.url}/", color_scheme=theme) as visited,
    ):
        assert await violations(visited.page) == []
        await visited.page.route("**/*", lambda route: route.fulfill(status=503, body="stopping"))
        await expect(visited.page.locator("#outdated")).to_be_visible()
        assert await violations(visited.page) == []
        visited.console.clear()  # the browser logs the 503


@pytest.mark.parametrize("theme", THEMES)
async def test_axe_finds_nothing_wrong_with_the_result_of_a_check(
    opened: Browser, tmp_path: Path, theme: str
) -> None:
    async with (
        crowd(tmp_path) as running,
        visit(opened, running.url + factor_path("factor-001"), color_scheme=theme) as visited,
    ):
        await visited.page.get_by_role("button", name="Check now").click()
        await expect(visited.page.locator("#checked")).to_contain_text("the account main is paused")
        assert await violations(visited.page) == []
        visited.console.clear()  # the browser logs the 503


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("path", ["/", "/?q=nobody", "/?group=team", factor_path("kept"), factor_path("kapt")])
async def test_tab_reaches_every_control_in_the_order_of_the_page(
    opened: Browser, tmp_path: Path, width: int, path: str
) -> None:
    async with (
        world(tmp_path, "all", web=WEB) as running,
        visit(opened, running.url + path, width=width) as visited,
    ):
        page = visited.page
        controls = await page.evaluate(SEEN)
        reached = []
        for _ in controls:
            await page.keyboard.press("Tab")
            focused = await page.evaluate(FOCUSED)
            place = controls[focused["index"]]
            assert focused["outlined"], f"{place}: its focus can't be seen"
            assert focused["inView"], f"{place}: it is out of sight"
            reached.append(focused["index"])
        visited.console.clear()  # the browser logs a page that is 404

    assert reached == list(range(len(controls))), controls


async def test_links_open_and_close_with_the_keyboard_and_stay_open_while_the_page_refreshes(
    opened: Browser, tmp_path: Path
) -> None:
    async with world(tmp_path, "all", web=WEB) as running, visit(opened, f"{running.url}/") as visited:
        page = visited.page
        link = page.get_by_role("link", name="Runbook").first
        await page.locator("summary").first.focus()
        await page.keyboard.press("Enter")
        await expect(link).to_be_visible()
        running.apply("verified", UNVERIFIED)
        await expect(page).to_have_title("1 not found, 2 unverified, 3 unknown, 3 failing · Verify factors")
        await expect(link).to_be_visible()
        await page.keyboard.press("Tab")
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.textContent") == "Runbook"
        assert await page.evaluate("document.activeElement.href") == (
            "https://wiki.example.com/the%20%22a%22%20team"
        )
        await page.keyboard.press("Escape")
        await expect(link).to_be_hidden()
        assert await page.evaluate("document.activeElement.nodeName") == "SUMMARY"


async def test_a_keyboard_is_enough(opened: Browser, tmp_path: Path) -> None:
    async def tab_to(page: Page, identity: str) -> None:
        for _ in range(120):
            await page.keyboard.press("Tab")
            if await page.evaluate("document.activeElement.id") == identity:
                return
        pytest.fail(f"no way to {identity} by the key Tab")

    async with world(tmp_path, "all", web=WEB) as running, visit(opened, f"{running.url}/") as visited:
        page = visited.page
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.textContent") == "Skip to content"
        await page.keyboard.press("Enter")
        await tab_to(page, "q")
        await page.keyboard.type("kept")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/?q=kept**")
        await expect(page.locator("#rows tbody tr")).to_have_count(1)
        link = await page.locator("#rows tbody .factor > a").get_attribute("id")
        assert link is not None
        await tab_to(page, link)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text("kept")
        await tab_to(page, "back")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/?q=kept**")
        assert await page.input_value("#q") == "kept"
