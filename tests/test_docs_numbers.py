"""Every number in prose that counts things of the project is the real count; one that nothing counts is found."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from exporter.cli import COMMANDS
from exporter.config.http_source import LARGEST_ANSWER_BYTES
from exporter.config.settings import DEFAULT_PORT, PollingSettings
from exporter.daemon.jobs import HOUSEKEEPING_SECONDS, WATCH_SECONDS
from exporter.daemon.url_sources import _LONGEST_WAIT_SECONDS
from exporter.exposition.catalogue import FACTOR_FAMILIES, SchedulerTask
from exporter.exposition.factors import BLOCK_FACTORS
from exporter.polling.clients import ROTATION_SECONDS, SILENT_SECONDS, STUCK_SECONDS
from exporter.polling.ledger import NEWLY_MISSING_SECONDS
from exporter.polling.poller import DISPATCH_SECONDS
from exporter.polling.probe import FRESH_SECONDS
from exporter.polling.queue import _BURST
from exporter.polling.schedule import FIRST_FETCH_SECONDS
from exporter.polling.throttle import LISTINGS_ALWAYS
from exporter.polling.token import FRESH_SECONDS as FRESH_TOKEN_SECONDS
from exporter.polling.token import LONGEST_WAIT_SECONDS, RENEW_AT_SHARE, SPACING_SECONDS
from exporter.simulator import Simulator, demo_world
from exporter.verify.token import DEFAULT_LIFETIME_SECONDS
from tests.support.proofs.fault_matrix import RATE_LIMITS, ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
RULES = ROOT / "grafana" / "rules"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *(ROOT / "benchmarks").glob("*.md"),
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if path.name != "performance.md"),
]
WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
VALUES = {word: number for number, word in enumerate(WORDS, 1)} | {"sixteen": 16, "twenty": 20, "thirty": 30}
NUMBER = rf"(\d[\d,]*|{'|'.join(word for word in VALUES if word != 'one')})"

# Things that the project has a certain number of; factors, services and seconds are not among them.
COUNTED = re.compile(
    rf"\b{NUMBER} (?:[a-z-]+ )?(?:alerts|boards|commands|configuration keys|dashboards|families|faults|jobs|"
    r"metrics|modules|packages|panels|rules|runbooks|samples|steps|templates|ways to fail)\b",
    re.IGNORECASE,
)

ALERTS = sum(
    "alert" in rule
    for group in yaml.safe_load((RULES / "verify-factor-exporter.rules.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
)
POLLING = PollingSettings()
FAULT_ROWS = len(ROWS) + len(RATE_LIMITS)


def demo() -> tuple[int, int]:
    """Return the number of factors in the demo, and of those that always fail."""
    simulator = Simulator()
    return len(demo_world(simulator)), len(list(simulator.faults))


def steps_of_the_installation() -> int:
    """Return the number of steps that docs/kubernetes.md installs the chart in."""
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    return len(re.findall(r"^\d+\. ", page.partition("\n## Install\n")[2].partition("\n## ")[0], re.MULTILINE))


def loose_modules() -> int:
    """Return the number of modules outside the packages, without ``__init__`` and ``__main__``."""
    return len([path for path in (ROOT / "exporter").glob("*.py") if not path.stem.startswith("__")])


def paths_that_are_disabled() -> int:
    """Return the number of paths that are not available unless they are enabled."""
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    section = page.partition("\n## What each path")[2].partition("\n## ")[0]
    (table,) = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    return sum(row.split("|")[1].count("`") // 2 for row in table.splitlines() if "403 unless" in row)


FACTORS_OF_THE_DEMO, FAILING = demo()

# Page, what it says (numbers in groups), and what it has to say.
CLAIMS: list[tuple[str, str, tuple[float, ...]]] = [
    ("README.md", rf"The demo has {NUMBER} factors", (FACTORS_OF_THE_DEMO,)),
    ("README.md", rf"Fetches of {NUMBER} others\s+always fail", (FAILING,)),
    ("README.md", rf"installs the Helm chart in {NUMBER} steps", (steps_of_the_installation(),)),
    ("README.md", rf"has {NUMBER} alerts, each with a runbook", (ALERTS,)),
    ("README.md", rf"the rules, {NUMBER} dashboards", (len(list((ROOT / "grafana/dashboards").glob("*.json"))),)),
    ("README.md", rf"{NUMBER} ways to fail", (FAULT_ROWS,)),
    ("README.md", rf"after {NUMBER} intervals without an answer", (POLLING.stale_after,)),
    ("README.md", rf"on port {NUMBER}", (DEFAULT_PORT,)),
    (
        "README.md",
        rf"every {NUMBER} minutes, an\s+unverified one .* for {NUMBER} minutes, then every {NUMBER} minutes",
        (POLLING.interval / 60, NEWLY_MISSING_SECONDS / 60, POLLING.not_found_interval / 60),
    ),
    ("docs/reliability.md", rf"{NUMBER} ways to fail", (FAULT_ROWS,)),
    ("docs/reliability.md", rf"confirmed a status for {NUMBER} intervals", (POLLING.stale_after,)),
    (
        "docs/dashboards.md",
        rf"There are {NUMBER} dashboards",
        (len(list((ROOT / "grafana/dashboards").glob("*.json"))),),
    ),
    ("docs/prometheus.md", rf"A factor has at most {NUMBER} samples", (len(FACTOR_FAMILIES),)),
    ("docs/prometheus.md", rf"a factor is polled every {NUMBER} minutes", (POLLING.interval / 60,)),
    ("docs/architecture.md", rf"The only {NUMBER} modules outside a package", (loose_modules(),)),
    (
        "docs/architecture.md",
        rf"runs {NUMBER} jobs: .*, the file watch every {NUMBER} seconds, and housekeeping every {NUMBER} seconds",
        (len(SchedulerTask), WATCH_SECONDS, HOUSEKEEPING_SECONDS),
    ),
    ("docs/architecture.md", rf"because {NUMBER} jobs would cost", (100_000,)),  # a factor each
    ("docs/architecture.md", rf"are spread over {NUMBER} seconds", (FIRST_FETCH_SECONDS,)),
    ("docs/security.md", rf"All paths are read-only except {NUMBER}", (paths_that_are_disabled(),)),
    ("docs/security.md", rf"at most one request every {NUMBER} s", (FRESH_SECONDS,)),
    ("docs/operations.md", rf"Every {NUMBER} s it checks the configuration", (WATCH_SECONDS,)),
    ("docs/operations.md", rf"first fetched within {NUMBER} s", (FIRST_FETCH_SECONDS,)),
    ("docs/operations.md", rf"exceeds its timeout by {NUMBER} s", (STUCK_SECONDS,)),
    ("docs/operations.md", rf"is replaced, at most every {NUMBER} minutes", (ROTATION_SECONDS / 60,)),
    ("docs/operations.md", rf"is younger than {NUMBER} s", (FRESH_SECONDS,)),
    ("docs/operations.md", rf"may always use {NUMBER}% of", (100 * LISTINGS_ALWAYS,)),
    ("docs/operations.md", rf"and after {NUMBER} MiB, decompressed", (LARGEST_ANSWER_BYTES >> 20,)),
    ("docs/operations.md", rf"for `timeout`, but {NUMBER} s at most", (_LONGEST_WAIT_SECONDS,)),
    ("docs/configuration.md", rf"at most {NUMBER} MiB \(decompressed\)", (LARGEST_ANSWER_BYTES >> 20,)),
    ("docs/architecture.md", rf"at {NUMBER}% of the token's lifetime", (100 * RENEW_AT_SHARE,)),
    ("docs/architecture.md", rf"so that listings use {NUMBER}% of", (100 * LISTINGS_ALWAYS,)),
    ("docs/security.md", rf"when {NUMBER}% of the token's lifetime has passed", (100 * RENEW_AT_SHARE,)),
    (
        "docs/security.md",
        rf"Token requests are at least {NUMBER} s apart. .*?, the time between them grows to {NUMBER} s",
        (SPACING_SECONDS, LONGEST_WAIT_SECONDS),
    ),
    (
        "docs/security.md",
        rf"A token without a lifetime is used for {NUMBER} minutes",
        (DEFAULT_LIFETIME_SECONDS / 60,),
    ),
    ("docs/security.md", rf"refuses a token that is less than {NUMBER} s old", (FRESH_TOKEN_SECONDS,)),
    ("docs/faq.md", rf"{NUMBER} minutes at most by default", (POLLING.interval / 60,)),
    ("docs/faq.md", rf"After {NUMBER} intervals without an answer", (POLLING.stale_after,)),
    ("docs/faq.md", rf"within {NUMBER} seconds for a short watchlist", (FIRST_FETCH_SECONDS,)),
    ("docs/troubleshooting.md", rf"First fetches are spread over {NUMBER} seconds", (FIRST_FETCH_SECONDS,)),
    ("docs/glossary.md", rf"What runs every {NUMBER} seconds", (HOUSEKEEPING_SECONDS,)),
    ("benchmarks/page.md", rf"A burst sends {NUMBER} requests at a time", (_BURST,)),
    ("benchmarks/page.md", rf"in pieces of {NUMBER} factors", (BLOCK_FACTORS,)),
]


def value(text: str) -> float:
    return VALUES.get(text.lower()) or float(text.replace(",", ""))


@pytest.mark.parametrize(("page", "says", "counted"), CLAIMS, ids=[f"{page}: {says}" for page, says, _ in CLAIMS])
def test_a_number_in_prose_is_the_real_count(page: str, says: str, counted: tuple[float, ...]) -> None:
    found = re.findall(says, (ROOT / page).read_text(encoding="utf-8"))
    assert found
    for numbers in found:
        assert tuple(map(value, numbers if isinstance(numbers, tuple) else (numbers,))) == counted


def uncounted() -> Iterator[str]:
    """Yield every count of the project's things that no claim above checks."""
    for page in PAGES:
        name, text = str(page.relative_to(ROOT)), page.read_text(encoding="utf-8")
        checked = [
            range(found.start(), found.end())
            for of, says, _ in CLAIMS
            if of == name
            for found in re.finditer(says, text)
        ]
        for found in COUNTED.finditer(re.sub(r"\s", " ", text)):
            if not any(found.start() in span for span in checked):
                yield f"{name}: {found[0]}"


def test_no_number_in_prose_that_nothing_counts() -> None:
    assert COUNTED.search("It has twenty metric families")
    assert list(uncounted()) == []


def test_what_is_said_in_words_holds() -> None:
    assert DISPATCH_SECONDS == 1  # "every second"
    assert SILENT_SECONDS == 60  # "for a minute"
    assert (POLLING.unverified_interval, POLLING.unverified_window) == (60, 3600)  # "every minute", "first hour"


def test_the_readme_lists_the_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    _, _, section = text.partition("\n## Commands\n")
    listed = re.findall(r"^\| `([a-z]+)", section.partition("\n## ")[0], re.MULTILINE)
    assert listed == list(COMMANDS)
