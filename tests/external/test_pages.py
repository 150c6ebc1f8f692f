"""The pages in a real browser: they refresh, do what their buttons say, fit a phone, and no name breaks them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from exporter.simulator import Simulator
from exporter.verify.outcome import Answer, Failure, Reason
from tests.support.config_files import account_of, entry, write_config
from tests.support.factor_states import ODD_NAME, STATES, WORDS, world
from tests.support.pictures import reduce_colours
from tests.support.programs.chromium import PATIENCE_MILLISECONDS, visit
from tests.support.running_exporter import LeapingClock, becomes
from tests.support.running_exporter import running as running_daemon
from tests.support.served_exporter import NOT_FOUND, SERVICE_SID, UNVERIFIED, VERIFIED, entries, serving

if TYPE_CHECKING:
    from collections.abc import Sequence

    from playwright.async_api import Browser, Page

    from tests.support.served_exporter import ServedExporter

pytestmark = pytest.mark.external
expect.set_options(timeout=PATIENCE_MILLISECONDS)

THEMES = ("light", "dark")
ROW = "#rows tbody tr"
TIMEOUT = Failure(Reason.TIMEOUT, "no complete answer in time")
HOSTILE = (
    "<script>document.title='ran'</script>",
    '"><img src=x onerror="document.title=\'ran\'">',
    "'-alert(1)-'",
    "</td></tr></table><svg/onload=document.title='ran'>",
    "{{ 7*7 }}{% raw %}",
    "W" * 128,
    "ﷺ" * 20 + "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘",
    "שלום עולם",
    "👩‍👩‍👧‍👦" * 12,
)


def factor_path(name: str) -> str:
    return f"/factors/main/{SERVICE_SID}/{name}"


async def names(page: Page) -> list[str]:
    """Return the names of the factors that are shown, in order."""
    return await page.locator(f"{ROW} .factor > a").all_inner_texts()


async def fits(page: Page) -> None:
    """Assert that nothing runs off the edge."""
    wide = await page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide[0] <= wide[1], wide


async def test_every_factor_is_shown_with_its_state_in_words(opened: Browser, tmp_path: Path) -> None:
    async with world(tmp_path, "all") as running, visit(opened, f"{running.url}/") as visited:
        rows = {
            await row.locator(".factor > a").inner_text(): await row.locator(".chip").first.inner_text()
            for row in await visited.page.locator(ROW).all()
        }

    assert rows == WORDS
    assert set(rows) == set(STATES["all"])


async def test_a_change_is_shown_without_a_reload_and_everything_stays_in_place(
    opened: Browser, tmp_path: Path
) -> None:
    many = [f"factor-{number:02d}" for number in range(60)]
    async with serving(tmp_path, entries(*many)) as running:
        for name in many:
            running.apply(name, VERIFIED)
        async with visit(opened, f"{running.url}/", height=500) as visited:
            page = visited.page
            await page.evaluate("window.untouched = true")
            link = page.get_by_role("link", name="factor-42", exact=True)
            await link.focus()
            await link.evaluate("element => getSelection().selectAllChildren(element)")
            await page.evaluate("document.getElementById('q').value = 'half a wo'")
            await page.evaluate("scrollTo(0, document.body.scrollHeight / 2)")
            before = await link.evaluate("element => element.getBoundingClientRect().top")
            running.apply("factor-42", UNVERIFIED)  # it moves to the top: above what is in sight
            running.apply("factor-50", NOT_FOUND)
            row = page.locator(ROW).filter(has_text="factor-42")
            await expect(row.locator(".chip")).to_contain_text("unverified")
            await expect(page).to_have_title("1 not found, 1 unverified, 0 unknown, 0 failing · Verify factors")
            assert (await names(page))[:2] == ["factor-50", "factor-42"]
            assert await page.evaluate("window.untouched") is True
            assert await page.evaluate("document.activeElement.textContent") == "factor-42"
            assert await page.evaluate("getSelection().toString()") == "factor-42"
            assert await page.input_value("#q") == "half a wo"
            assert await page.evaluate("scrollY") > 0
            assert before is not None


async def test_typed_text_stays_while_the_page_refreshes(opened: Browser, tmp_path: Path) -> None:
    async with serving(tmp_path, entries("factor")) as running, visit(opened, f"{running.url}/") as visited:
        page = visited.page
        await page.locator("#q").press_sequentially("fact")
        await page.keyboard.press("ArrowLeft")
        running.apply("factor", UNVERIFIED)
        await expect(page.locator(f"{ROW} .chip")).to_contain_text("unverified")
        await page.keyboard.press("x")
        assert await page.input_value("#q") == "facxt"


async def test_it_says_when_it_is_no_longer_refreshed(opened: Browser, tmp_path: Path) -> None:
    async with serving(tmp_path, entries("factor")) as running:
        running.apply("factor", VERIFIED)
        async with visit(opened, f"{running.url}/") as visited:
            await visited.page.route("**/*", lambda route: route.fulfill(status=503, body="stopping"))
            outdated = visited.page.locator("#outdated")
            await expect(outdated).to_be_visible()
            assert (
                "the exporter returned HTTP 503. The values below are from that time."
                in await outdated.inner_text()
            )
            await visited.page.unroute_all()
            await expect(outdated).to_be_hidden()
            # The browser logs the 503 itself.
            assert all("503" in line for line in visited.console)
            visited.console.clear()


async def test_filter_and_sort_are_in_the_url(opened: Browser, tmp_path: Path) -> None:
    async with world(tmp_path, "all") as running, visit(opened, f"{running.url}/") as visited:
        page = visited.page
        await page.get_by_label("State", exact=True).select_option("needs attention")
        await page.get_by_label("Search").fill("e")
        await page.wait_for_url("**/?q=e&status=attention")
        await page.get_by_role("columnheader", name="Factor").get_by_role("link").click()
        await page.wait_for_url("**sort=factor**")
        assert await names(page) == ["failing", "kept", "never-tried", "not-found", "stale", "unverified"]
        await page.get_by_role("columnheader", name="Factor").get_by_role("link").click()
        await page.wait_for_url("**sort=-factor**")
        assert (await names(page))[0] == "unverified"
        await page.get_by_role("link", name="stale").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("stale")
        await page.get_by_role("link", name="All factors").click()
        await page.wait_for_url("**status=attention**sort=-factor**")
        assert (await names(page))[0] == "unverified"
        await page.locator("#tile-not_found").click()
        await page.wait_for_url("**status=not_found**")
        assert await names(page) == ["not-found"]
        await page.get_by_role("link", name="Clear").click()
        await page.wait_for_url(f"{running.url}/")
        assert len(await names(page)) == len(STATES["all"])


async def test_a_dark_theme(opened: Browser, tmp_path: Path) -> None:
    shades = {}
    async with world(tmp_path, "all") as running:
        for theme in THEMES:
            async with visit(opened, f"{running.url}/", color_scheme=theme) as visited:
                shade = await visited.page.evaluate("getComputedStyle(document.body).backgroundColor")
                shades[theme] = sum(int(part) for part in shade.removeprefix("rgb(").removesuffix(")").split(","))

    assert shades["light"] > 700
    assert shades["dark"] < 100


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
async def test_it_fits_every_width(opened: Browser, tmp_path: Path, width: int) -> None:
    async with world(tmp_path, "all") as running:
        for path in ("/", factor_path("kept")):
            async with visit(opened, running.url + path, width=width, height=800) as visited:
                await fits(visited.page)
                for text in ("no complete answer in time", "the API is slow or unreachable"):
                    await expect(visited.page.get_by_text(text).first).to_be_visible()


async def test_it_works_without_javascript(opened: Browser, tmp_path: Path) -> None:
    async with (
        world(tmp_path, "all") as running,
        visit(opened, f"{running.url}/", java_script_enabled=False) as visited,
    ):
        page = visited.page
        await page.get_by_label("Search").fill("kept")
        await page.get_by_role("button", name="Apply").click()
        await page.wait_for_url("**/?q=kept**")
        await page.get_by_role("link", name="kept").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("kept")
        await expect(page.get_by_role("button", name="Copy")).to_have_count(0)


async def test_no_name_is_executed_or_breaks_the_layout(opened: Browser, tmp_path: Path) -> None:
    factors = [factor | {"labels": {"team": name}} for factor, name in zip(entries(*HOSTILE), HOSTILE, strict=True)]
    async with serving(tmp_path, factors) as running:
        for name in HOSTILE:
            running.apply(name, VERIFIED, Failure(Reason.DECODE, name * 2))
        for width in (390, 1280):
            async with visit(opened, f"{running.url}/?sort=failures", width=width) as visited:
                page = visited.page
                shown = await page.locator(f"{ROW} .factor > a").all_text_contents()
                assert set(shown) == set(HOSTILE)
                assert "failing" in await page.title()
                assert await page.locator("main img, main script, main svg:not(.history)").count() == 0
                await fits(page)
                paths = await page.locator(f"{ROW} .factor > a").evaluate_all("all => all.map(one => one.href)")
        for path in paths:
            async with visit(opened, path, width=390) as visited:
                assert await visited.page.locator("h1").text_content() in HOSTILE
                assert "ran" not in (await visited.page.title()).split()
                assert await visited.page.locator("main img, main script").count() == 0
                await fits(visited.page)


async def test_a_query_is_copied_completely(opened: Browser, tmp_path: Path) -> None:
    async with (
        world(tmp_path, "an-odd-name") as running,
        visit(opened, f"{running.url}/", permissions=["clipboard-read", "clipboard-write"]) as visited,
    ):
        page = visited.page
        await page.get_by_role("link", name=ODD_NAME, exact=True).click()
        shown = await page.locator("#query-1").text_content()
        await page.get_by_role("button", name="Copy: Verified", exact=True).click()
        await expect(page.locator(".copy.done")).to_have_count(1)
        assert await page.evaluate("navigator.clipboard.readText()") == shown
        assert shown is not None
        assert 'factor="Zoë\'s \\"factor\\" \\\\ <b>日本語</b>"' in shown


async def test_sids_are_copied_and_screen_readers_are_told(opened: Browser, tmp_path: Path) -> None:
    async with (
        world(tmp_path, "verified") as running,
        visit(
            opened, running.url + factor_path("verified"), permissions=["clipboard-read", "clipboard-write"]
        ) as visited,
    ):
        page = visited.page
        for what, sid in (
            ("SID of the service", SERVICE_SID),
            ("SID of the factor", f"YF{1:032x}"),
            ("SID of the entity", "YE" + "0" * 32),
        ):
            await page.get_by_role("button", name=f"Copy: {what}", exact=True).click()
            await expect(page.locator("#copied")).to_have_text(f"{what}: copied")
            assert await page.evaluate("navigator.clipboard.readText()") == sid
        assert await page.locator("#copied").get_attribute("role") == "status"


async def test_without_a_clipboard_the_sid_is_copied_as_a_selection(opened: Browser, tmp_path: Path) -> None:
    async with (
        world(tmp_path, "verified") as running,
        visit(opened, running.url + factor_path("verified"), permissions=["clipboard-read"]) as visited,
    ):
        page = visited.page
        # As over plain HTTP from another machine.
        await page.evaluate("navigator.clipboard.writeText = undefined")
        await page.get_by_role("button", name="Copy: SID of the factor", exact=True).click()
        await expect(page.locator("#copied")).to_have_text("SID of the factor: copied")
        assert await page.evaluate("navigator.clipboard.readText()") == f"YF{1:032x}"
        await page.evaluate("document.execCommand = () => false")
        await page.get_by_role("button", name="Copy: SID of the service", exact=True).click()
        await expect(page.locator("#copied")).to_have_text("SID of the service: selected, but not copied")
        assert await page.evaluate("getSelection().toString()") == SERVICE_SID


@pytest.mark.parametrize("scripted", [True, False])
async def test_check_now_fetches_once_and_shows_what_came_of_it(
    opened: Browser, tmp_path: Path, scripted: bool
) -> None:
    async with Simulator(seed=7) as simulator:
        factor = simulator.add_factor()
        accounts = {"main": account_of(simulator)}
        polling = {"interval": "1h", "unverified_interval": "1h"}
        web = {"enable_probe": True}
        path = write_config(tmp_path / "c.toml", accounts, [entry("one", factor)], polling=polling, web=web)
        clock = LeapingClock()
        async with running_daemon(path, clock=clock) as exporter:
            clock.leap(30)
            await becomes(lambda: all(record.last_seconds for record in exporter.daemon.engine.ledger))
            clock.leap(11)
            before = len(simulator.calls.log)
            simulator.set_status(factor.sid, "unverified")
            url = f"{exporter.url}/factors/main/{factor.service_sid}/one?q=on"
            async with visit(opened, url, java_script_enabled=scripted) as visited:
                page = visited.page
                await expect(page.locator("#lead")).to_contain_text("✓ verified")
                button = page.get_by_role("button", name="Check now")
                await button.click()
                await expect(page.locator("#checked")).to_contain_text("UTC: unverified, by HTTP 200.")
                await expect(page.locator("#lead")).to_contain_text("✗ unverified")
                assert page.url == url
                assert len(simulator.calls.log) == before + 1
                await expect(button).to_have_text("Check now")
                if scripted:
                    focused = "document.activeElement.textContent"
                    assert await page.evaluate(focused) == "Check now"
                    await page.keyboard.press("Enter")
                    await expect(page.locator("#checked")).to_contain_text("Not fetched again")
                    await expect(page.locator("#checked")).to_be_empty()  # by the next refresh
                await page.get_by_role("link", name="All factors").click()
                await page.wait_for_url("**/?q=on")


async def test_check_now_says_why_it_was_refused(opened: Browser, tmp_path: Path) -> None:
    web = {"enable_probe": True}
    async with (
        serving(tmp_path, entries("one"), web=web) as running,
        visit(opened, running.url + factor_path("one")) as visited,
    ):
        page = visited.page
        await page.route(
            "**/*", lambda route: route.fulfill(status=403, body="refused: made-up", content_type="text/plain")
        )
        await page.get_by_role("button", name="Check now").click()
        await expect(page.locator("#checked")).to_have_text("Not checked: HTTP 403, refused: made-up")
        await page.unroute_all()
        await page.route("**/*", lambda route: route.abort())
        await page.get_by_role("button", name="Check now").click()
        await expect(page.locator("#checked")).to_have_text("No result: the exporter did not answer.")
        visited.console.clear()  # the browser logs both


async def test_printed_pages_have_absolute_times_and_no_controls(opened: Browser, tmp_path: Path) -> None:
    async with world(tmp_path, "all") as running, visit(opened, f"{running.url}/", color_scheme="dark") as visited:
        await visited.page.emulate_media(media="print")
        paper = await visited.page.evaluate("getComputedStyle(document.body).backgroundColor")
        content = await visited.page.evaluate(
            "getComputedStyle(document.querySelector('#rows time'), '::after').content"
        )
        await expect(visited.page.locator("#filter")).to_be_hidden()
        pdf = await visited.page.pdf()

    assert paper == "rgb(255, 255, 255)"
    assert "datetime" in content or "20" in content
    assert pdf.startswith(b"%PDF")


PICTURES = {
    "status-light": ("/", 1280, "light"),
    "status-dark": ("/", 1280, "dark"),
    "status-phone": ("/", 390, "light"),
    "factor-light": ("/factors/main/{service}/legacy-gateway-totp", 1280, "light"),
    "factor-dark": ("/factors/main/{service}/legacy-gateway-totp", 1280, "dark"),
}
RESULTS: dict[str, tuple[str, Sequence[Answer | Failure]]] = {
    "payments-oncall-push": ("payments", [VERIFIED] * 12),
    "new-hire-totp": ("people", [UNVERIFIED] * 3),
    "contractor-push": ("people", [VERIFIED] * 4 + [NOT_FOUND] * 3),
    "warehouse-tablet-totp": ("logistics", [VERIFIED] * 6 + [UNVERIFIED] * 2 + [VERIFIED] * 4),
    "legacy-gateway-totp": (
        "logistics",
        [TIMEOUT]
        + [VERIFIED] * 4
        + [UNVERIFIED] * 2
        + [VERIFIED] * 4
        + [Failure(Reason.SERVER_ERROR, "HTTP 503, Twilio error 20503")] * 2,
    ),
    "finance-director-push": ("billing", [VERIFIED] * 5 + [TIMEOUT] + [VERIFIED] * 6),
    "support-lead-passkey": ("support", [VERIFIED] * 9),
}
EARLIER: dict[str, Sequence[Answer]] = {
    "new-hire-totp": (),
    "warehouse-tablet-totp": [VERIFIED] * 40 + [UNVERIFIED] * 30 + [VERIFIED] * 68,
    "legacy-gateway-totp": [VERIFIED] * 96 + [UNVERIFIED] * 12 + [VERIFIED] * 30,
}


def apply_results(running: ServedExporter) -> None:
    """Apply the results of each factor's fetches, five minutes apart, after a day of earlier ones."""
    running.daemon.engine.ledger.history._since -= 4 * 86400
    for number, (name, (_, results)) in enumerate(RESULTS.items()):
        earlier = EARLIER.get(name, [VERIFIED] * 138)
        for place, answer in enumerate(earlier):
            running.apply(name, answer, ago_seconds=600.0 * (len(earlier) - place) + 300 * len(results))
        for place, result in enumerate(results):
            failed = isinstance(result, Failure)
            quick = 0.14 + 0.05 * ((place * 7 + number * 3) % 8)
            running.apply(
                name,
                result,
                ago_seconds=300.0 * (len(results) - 1 - place) + 17 * number + 12,
                duration_seconds=1.1 + quick if failed else quick,
                attempts=3 if failed else 1,
                code=0 if result is TIMEOUT else 503 if failed else 404 if result is NOT_FOUND else 200,
            )
    running.daemon.history.since_seconds -= 4 * 86400
    running.daemon.engine.poller.accounts["main"]._refusals.guard.heard(200)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return where pictures go: with SCREENSHOTS=docs/images, into the documentation."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path / "images")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


async def test_the_pictures_of_the_documentation(opened: Browser, tmp_path: Path, pictures: Path) -> None:
    factors = [
        factor | {"labels": {"team": team}}
        for factor, (team, _) in zip(entries(*RESULTS), RESULTS.values(), strict=True)
    ]
    paused = entries("retired-tablet-totp", paused=True, labels={"team": "logistics"})[0]
    factors.append(paused | {"factor_sid": "YF" + "e" * 32})
    links = {"Grafana": "https://grafana.example.com/{factor}", "Runbook": "https://wiki.example.com/{label.team}"}
    async with serving(tmp_path, factors, web={"enable_probe": True, "external_links": links}) as running:
        apply_results(running)
        running.daemon.engine.poller.dispatch()
        for name, (path, width, theme) in PICTURES.items():
            url = running.url + path.format(service=SERVICE_SID)
            async with visit(opened, url, width=width, height=844, color_scheme=theme) as visited:
                await visited.page.screenshot(path=pictures / f"{name}.png", full_page=width > 600)
                await asyncio.to_thread(reduce_colours, pictures / f"{name}.png")

    sizes = await asyncio.to_thread(lambda: {name: (pictures / f"{name}.png").stat().st_size for name in PICTURES})
    assert all(10_000 < size < 150_000 for size in sizes.values()), sizes
