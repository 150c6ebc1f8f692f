"""No content of names, labels, errors or request IDs breaks pages, exposition or logs."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from exporter.exposition.catalogue import FACTOR_UP
from exporter.logs.output import EventFormatter, Redactor
from exporter.verify.outcome import Failure, Outcome, Reason
from exporter.watched import WatchedFactor
from tests.support.html import Page, page_of
from tests.support.served_exporter import VERIFIED, entries, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.served_exporter import ServedExporter

PROBES = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "</td></tr></table><svg/onload=alert(1)>",
    "{{ 7*7 }}{% raw %}",
    "&lt;b&gt;&amp;",
    "</title><script>alert(1)</script>",
    "javascript:alert(1)",
)
STRANGE = st.text(st.characters(codec="utf-8"), min_size=1, max_size=128).filter(lambda text: text.strip())
NAMES = STRANGE.filter(lambda name: name not in {".", ".."})  # the configuration refuses them
ANYTHING = st.text(max_size=300)  # including lone surrogates


async def test_markup_in_names_labels_and_details_stays_text(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("plain", labels={"team": "plain"})) as running:
        running.apply("plain", VERIFIED, Failure(Reason.DECODE, "plain"))
        plain = await page_of(running), await page_of(running, f"/{(await page_of(running)).links('factors/')[0]}")
    for probe in PROBES:
        async with serving(tmp_path, entries(probe, labels={"team": probe})) as running:
            running.apply(probe, VERIFIED, Failure(Reason.DECODE, probe))
            page = await page_of(running)
            own = await page_of(running, f"/{page.links('factors/')[0]}")

        row = page.row(probe)
        assert row[0] == f"{probe} main · push · team={probe}"
        assert row[6].startswith(probe)
        assert own.parts["headline"] == probe
        assert (set(page.tags), set(own.tags)) == (set(plain[0].tags), set(plain[1].tags))
        for name, value in (*page.attributes, *own.attributes):
            assert not name.startswith("on")
            assert not (name in {"href", "src", "action"} and value.lower().startswith("javascript:"))


@pytest.fixture
def log() -> Iterator[tuple[io.StringIO, EventFormatter]]:
    stream = io.StringIO()
    formatter = EventFormatter("json", Redactor())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    ours = logging.getLogger("exporter")
    level, spread = ours.level, ours.propagate
    ours.addHandler(handler)
    ours.setLevel(logging.DEBUG)
    ours.propagate = False
    yield stream, formatter
    ours.removeHandler(handler)
    ours.setLevel(level)
    ours.propagate = spread


@pytest.mark.slow
def test_strange_texts_break_neither_pages_nor_exposition_nor_logs(
    tmp_path: Path, log: tuple[io.StringIO, EventFormatter]
) -> None:
    stream, formatter = log
    loop = asyncio.new_event_loop()
    server = serving(tmp_path, entries("factor"))
    running = loop.run_until_complete(server.__aenter__())

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(name=NAMES, label=STRANGE, detail=ANYTHING, request_id=ANYTHING)
    def check(name: str, label: str, detail: str, request_id: str) -> None:
        loop.run_until_complete(_tell(running, name, label, Failure(Reason.DECODE, detail), request_id))
        for style in ("json", "logfmt"):
            formatter.set_style(style)
            stream.truncate(0)
            stream.seek(0)
            extra = {"factor": name, "detail": detail, "request_id": request_id}
            logging.getLogger("exporter.test").warning("fetch failed", extra={"fields": extra})
            [line] = stream.getvalue().splitlines()
            assert line.isprintable()
            if style == "json":
                assert json.loads(line)["factor"] == name

    try:
        check()
    finally:
        loop.run_until_complete(server.__aexit__(None, None, None))
        loop.close()


async def _tell(running: ServedExporter, name: str, label: str, failure: Failure, request_id: str) -> None:
    """Set these texts on the one factor, and read every place that shows them."""
    daemon = running.daemon
    [record] = daemon.engine.ledger
    watched = WatchedFactor(record.watched.key, name, "identity-1", 300.0, labels=(("team", label),))
    daemon.engine.poller.revise([watched])
    for outcome in (Outcome(failure, 0.2, 1, 200, request_id), Outcome(VERIFIED, 0.2, 1, 200, request_id)):
        change = daemon.engine.ledger.apply(watched.key, outcome, daemon.engine.clock.moment())
        daemon.engine.observers.fetched(record, outcome, change)
    for query in ("", "?sort=factor"):
        reply = await running.request(f"/{query}")
        page = Page(reply.text)
        assert reply.status == 200
        assert page.tags.count("tr") == 4
        assert {"img", "iframe", "object"} & set(page.tags) == set()
        assert page.tags.count("script") == 1
    [path] = page.links("factors/")
    own = await running.request(f"/{path.partition('?')[0]}")
    assert own.status == 200
    assert Page(own.text).tags.count("h1") == 1
    for accept, read in (
        ("text/plain", read_text),
        ("application/openmetrics-text; version=1.0.0", read_openmetrics),
    ):
        body = (await running.request("/metrics", Accept=accept)).text
        [family] = [family for family in read(body) if family.name == FACTOR_UP.name]
        [sample] = family.samples
        assert (sample.labels["factor"], sample.labels["team"]) == (name, label)
