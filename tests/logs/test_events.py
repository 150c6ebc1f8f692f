"""What polling writes to the log: new events in full, repeated ones as a count, and their end."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from exporter.logs.events import FULL_LINES, EventLog
from exporter.logs.folding import REPEAT_SECONDS
from exporter.polling.clients import RotationReason
from exporter.polling.record import FactorRecord, StatusChange
from exporter.verify.outcome import HINTS, Answer, Attempt, Failure, Outcome, Reason, ServiceAnswer, Status
from exporter.watched import (
    EntityKey,
    FactorKey,
    ServiceKey,
    WatchedEntity,
    WatchedFactor,
    WatchedService,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICE = "VA" + "1" * 32


class Story:
    """An event log with its own clock, and the lines it wrote."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.now = 1000.0
        self.size, self.stretch = 0, 1.0
        self.events = EventLog(
            lambda: self.now,
            service_size=lambda _account, _service: self.size,
            stretch=lambda _account: self.stretch,
        )
        self._caplog = caplog

    def fails(self, number: int, reason: Reason = Reason.TIMEOUT, *, account: str = "main") -> None:
        failure = Failure(reason, f"detail of {reason}")
        self.events.fetched(record(number, account), Outcome(failure, 1.0, attempts=3, request_id="RQ1"), None)

    def answers(self, number: int, change: StatusChange | None = None, *, account: str = "main") -> None:
        self.events.fetched(record(number, account), Outcome(Answer(Status.VERIFIED), 0.1), change)

    def loses(self, *numbers: int) -> None:
        for number in numbers:
            self.events.fetched(record(number), Outcome(Answer(Status.NOT_FOUND), 0.1), None)

    def logged(self, level: int = logging.INFO) -> list[tuple[str, dict[str, Any]]]:
        """Return messages and fields written since the last call, from this level on."""
        lines = [(r.getMessage(), getattr(r, "fields", {})) for r in self._caplog.records if r.levelno >= level]
        self._caplog.clear()
        return lines


@pytest.fixture
def story(caplog: pytest.LogCaptureFixture) -> Iterator[Story]:
    with caplog.at_level(logging.DEBUG, "exporter.logs.events"):
        yield Story(caplog)


def record(number: int, account: str = "main") -> FactorRecord:
    key = FactorKey(account, SERVICE, f"YF{number:032x}")
    return FactorRecord(WatchedFactor(key, f"factor-{number}", "identity-0001", 60.0))


def test_the_first_failure_of_a_factor_is_logged_by_its_name_however_late(story: Story) -> None:
    story.fails(1, Reason.BAD_REQUEST)
    story.now += 900
    story.fails(2, Reason.BAD_REQUEST)
    assert [(message, fields["factor"]) for message, fields in story.logged()] == [
        ("fetch failed", "factor-1"),
        ("fetch failed", "factor-2"),
    ]


def test_the_failures_of_a_factor_end_when_it_is_paused(story: Story) -> None:
    known = record(1)
    story.fails(1)
    story.events.revised(known)
    assert len(story.logged()) == 1
    known.watched = replace(known.watched, paused=True)
    story.events.revised(known)
    assert [message for message, _ in story.logged()] == ["fetches recovered"]


def test_the_first_five_are_written_in_full_and_the_rest_counted(story: Story) -> None:
    for number in range(20):
        story.fails(number)
    logged = story.logged()
    assert [message for message, _ in logged] == ["fetch failed"] * FULL_LINES
    assert logged[0][1] == {
        "account": "main",
        "service_sid": SERVICE,
        "factor": "factor-0",
        "reason": Reason.TIMEOUT,
        "detail": "detail of timeout",
        "attempts": 3,
        "request_id": "RQ1",
        "hint": HINTS[Reason.TIMEOUT],
    }
    assert [fields["factor"] for _, fields in logged] == [f"factor-{number}" for number in range(FULL_LINES)]


def test_repeated_failures_are_logged_as_a_count_every_five_minutes(story: Story) -> None:
    for _ in range(int(REPEAT_SECONDS / 60)):
        for number in range(20):
            story.fails(number)
        story.now += 60
    story.logged()
    story.fails(0)
    [(message, fields)] = story.logged()
    assert message == "fetches still failing"
    assert fields == {
        "account": "main",
        "reason": Reason.TIMEOUT,
        "factors": 20,
        "fetches": 5 * 20 - FULL_LINES + 1,
        "detail": "detail of timeout",
    }
    story.now += REPEAT_SECONDS - 1
    story.fails(1)
    assert story.logged() == []
    story.now += 1
    story.fails(2)
    [(message, fields)] = story.logged()
    assert (message, fields["fetches"]) == ("fetches still failing", 2)


def test_a_factor_that_joins_after_a_count_is_written_in_full(story: Story) -> None:
    for number in range(10):
        story.fails(number)
    story.now += REPEAT_SECONDS
    story.fails(0)
    story.logged()
    story.fails(10)
    story.fails(1)
    [(message, fields)] = story.logged()
    assert (message, fields["factor"]) == ("fetch failed", "factor-10")


def test_the_last_recovery_is_logged_once(story: Story) -> None:
    for number in range(8):
        story.fails(number)
        story.fails(number)
    story.logged()
    for number in range(7):
        story.answers(number)
    assert story.logged() == []
    story.answers(7)
    assert story.logged() == [("fetches recovered", {"account": "main", "reason": Reason.TIMEOUT, "failed": 16})]
    story.answers(7)
    assert story.logged() == []
    story.fails(3)
    [(message, fields)] = story.logged()
    assert (message, fields["factor"]) == ("fetch failed", "factor-3"), "logged in full again"


def test_a_factor_that_fails_for_another_reason_changes_episode(story: Story) -> None:
    story.fails(1, Reason.TIMEOUT)
    story.fails(2, Reason.TIMEOUT)
    story.fails(1, Reason.DNS)
    logged = story.logged()
    assert [(message, fields["reason"]) for message, fields in logged] == [
        ("fetch failed", Reason.TIMEOUT),
        ("fetch failed", Reason.TIMEOUT),
        ("fetch failed", Reason.DNS),
    ]
    story.answers(2)
    assert [(m, f["reason"]) for m, f in story.logged()] == [("fetches recovered", Reason.TIMEOUT)]
    story.answers(1)
    assert [(m, f["reason"], f["failed"]) for m, f in story.logged()] == [("fetches recovered", Reason.DNS, 1)]


def test_reasons_and_accounts_are_collapsed_separately(story: Story) -> None:
    for number in range(10):
        story.fails(number)
        story.fails(100 + number, Reason.DNS)
        story.fails(number, account="other")
    logged = story.logged()
    assert len(logged) == 3 * FULL_LINES
    assert {(fields["account"], fields["reason"]) for _, fields in logged} == {
        ("main", Reason.TIMEOUT),
        ("main", Reason.DNS),
        ("other", Reason.TIMEOUT),
    }


def test_a_factor_removed_from_the_watchlist_ends_its_episode(story: Story) -> None:
    story.fails(1)
    story.fails(2)
    story.answers(1)
    story.logged()
    story.events.forgotten(record(2))
    assert [message for message, _ in story.logged()] == ["fetches recovered"]
    story.events.forgotten(record(2))
    assert story.logged() == []


def test_repeated_failures_are_logged_at_debug(story: Story) -> None:
    story.fails(1)
    story.fails(1)
    assert [message for message, _ in story.logged(logging.DEBUG)] == ["fetch failed", "fetch failed again"]


@pytest.mark.parametrize(
    ("after", "level"),
    [(Status.VERIFIED, "INFO"), (Status.UNVERIFIED, "WARNING"), (Status.NOT_FOUND, "WARNING")],
)
def test_every_change_is_logged(story: Story, caplog: pytest.LogCaptureFixture, after: Status, level: str) -> None:
    before = Status.UNVERIFIED if after is Status.VERIFIED else Status.VERIFIED
    story.answers(1, StatusChange(before, after))
    assert [line.levelname for line in caplog.records] == [level]
    [(message, fields)] = story.logged()
    assert message == "status changed"
    assert (fields["factor"], fields["from"], fields["to"]) == ("factor-1", before, after)


@pytest.mark.parametrize(
    ("outcome", "evidence"),
    [
        (Outcome(Answer(Status.NOT_FOUND), 0.1, 1, 404, "RQ1", twilio_code=20404), (404, 20404, "RQ1")),
        (Outcome(Answer(Status.NOT_FOUND), 0.1, 1, 404, ""), (404, None, None)),
    ],
)
def test_a_change_has_its_evidence(story: Story, outcome: Outcome, evidence: tuple[object, ...]) -> None:
    story.events.fetched(record(1), outcome, StatusChange(Status.VERIFIED, Status.NOT_FOUND))
    [(_, fields)] = story.logged()
    assert (fields["http_status"], fields["twilio_code"], fields["request_id"]) == evidence


def test_withdrawn_statuses_are_counted_beyond_five(story: Story) -> None:
    for number in range(12):
        story.events.withdrawn(record(number))
    logged = story.logged()
    assert len(logged) == FULL_LINES
    assert logged[0][1]["factor"] == "factor-0"
    story.now += REPEAT_SECONDS
    story.events.withdrawn(record(20))
    assert [(message, fields.get("factors")) for message, fields in story.logged()] == [
        ("more stale statuses withdrawn", 7),
        ("stale status withdrawn", None),
    ]


def test_pauses_and_budgets_are_logged(story: Story) -> None:
    story.events.credentials_refused("main", Failure(Reason.AUTH, "HTTP 401"))
    story.events.credentials_accepted("main")
    story.events.rate_limited("main", 5.0, 2)
    story.events.over_budget("main", 2.5, 25.0, 10.0)
    story.events.over_budget("main", 1.0, 9.0, 10.0)
    logged = story.logged()
    assert [message for message, _ in logged] == [
        "account paused for refused credentials",
        "account resumed",
        "rate limited",
        "account over budget",
        "account within budget",
    ]
    assert all(fields["account"] == "main" for _, fields in logged)
    assert "password_file" in logged[0][1]["hint"]
    assert logged[2][1]["pause_seconds"] == 5.0
    assert logged[3][1]["stretch"] == 2.5


def test_repeated_pauses_are_counted_and_their_end_is_logged(story: Story) -> None:
    for _ in range(44):
        story.events.rate_limited("main", 1.0, 2)
    story.events.flush()
    assert [message for message, _ in story.logged()] == ["rate limited"]
    story.now += REPEAT_SECONDS - 1
    story.events.rate_limited("main", 1.0, 2)
    story.now += 1
    story.events.flush()
    story.events.flush()
    assert story.logged() == [("still rate limited", {"account": "main", "pauses": 44})]
    story.now += REPEAT_SECONDS
    story.events.flush()
    story.events.flush()
    assert story.logged() == [("no longer rate limited", {"account": "main", "pauses": 45})]
    story.events.rate_limited("main", 1.0, 2)
    assert [message for message, _ in story.logged()] == ["rate limited"], "logged in full again"


def test_a_token_that_is_not_renewed_is_logged_once_and_then_counted(story: Story) -> None:
    failure = Failure(Reason.CONNECT, "token endpoint: the connection failed")
    for _ in range(3):
        story.events.token_not_renewed("main", failure)
    ((message, logged),) = story.logged()
    assert message == "access token not renewed"
    assert (logged["account"], logged["reason"], logged["detail"]) == ("main", Reason.CONNECT, failure.detail)
    assert "token_url must be reachable" in logged["hint"]
    story.now += REPEAT_SECONDS
    story.events.token_not_renewed("main", failure)
    ((message, logged),) = story.logged()
    assert (message, logged["requests"]) == ("access token still not renewed", 3)
    story.events.token_not_renewed("main", failure)
    story.events.flush(at_the_end=True)
    assert story.logged() == [("access token still not renewed", {"account": "main", "requests": 1})]
    story.now += REPEAT_SECONDS
    story.events.flush()
    story.events.token_not_renewed("main", failure)
    assert [message for message, _ in story.logged()] == ["access token not renewed"], "logged in full again"


def test_what_is_collapsed_is_logged_at_the_end(story: Story) -> None:
    entity = WatchedEntity(EntityKey("main", SERVICE, "identity-0001"), "ops", 60.0)
    for number in range(8):
        story.fails(number)
        story.events.withdrawn(record(number))
        story.events.rate_limited("main", 1.0, 2)
        story.events.listing_failed(entity, Failure(Reason.TIMEOUT, "connection timed out"))
    story.logged()
    story.events.flush()
    assert story.logged() == []
    story.events.flush(at_the_end=True)
    service = {"account": "main", "service_sid": SERVICE}
    assert story.logged() == [
        ("fetches still failing", {"account": "main", "reason": Reason.TIMEOUT, "factors": 8, "fetches": 3}),
        ("more stale statuses withdrawn", {"factors": 3}),
        ("still rate limited", {"account": "main", "pauses": 7}),
        ("listings still failing", {**service, "listings": 7}),
    ]
    story.events.flush(at_the_end=True)
    assert story.logged() == []


def test_an_entity_removed_from_the_watchlist_is_not_logged_again(story: Story) -> None:
    entity = WatchedEntity(EntityKey("main", SERVICE, "identity-0001"), "ops", 60.0)
    for _ in range(3):
        story.events.listing_failed(entity, Failure(Reason.TIMEOUT, "connection timed out"))
    story.logged()
    story.events.entity_forgotten(entity)
    story.events.flush(at_the_end=True)
    assert story.logged() == []
    story.events.listing_failed(entity, Failure(Reason.TIMEOUT, "connection timed out"))
    assert [message for message, _ in story.logged()] == ["listing failed"], "logged in full again"


def test_failed_listings_of_a_service_are_one_episode_whatever_the_entity(story: Story) -> None:
    watched = WatchedService(ServiceKey("main", SERVICE), "login", 60.0)
    failure = Failure(Reason.TIMEOUT, "connection timed out")
    for number in range(1000):
        story.events.service_listing_failed(watched, f"login-{number:08x}", failure)
    story.events.service_listed(watched, 1000, False, 1000)
    [(message, fields)] = story.logged()
    assert message == "listing failed"
    assert (fields["entity"], fields["reason"]) == ("login-00000000", "timeout")
    story.events.service_listed(watched, 1000, False, 0)
    [(message, fields)] = story.logged()
    assert message == "listings recovered"
    assert (fields["entity"], fields["entities"], fields["failed"]) == ("login", 1000, 1000)
    story.events.service_listing_failed(watched, "login", failure)
    story.logged()
    story.events.service_forgotten(watched)
    story.events.flush(at_the_end=True)
    assert story.logged() == []


def test_a_service_with_too_many_entities_is_logged_once(story: Story) -> None:
    watched = WatchedService(ServiceKey("main", SERVICE), "login", 60.0, max_entities=7)
    for _ in range(3):
        story.events.service_listed(watched, 7, True, 0)
    [(message, fields)] = story.logged()
    assert message == "service has more entities than max_entities"
    assert (fields["entity"], fields["entities"], fields["max_entities"]) == ("login", 7, 7)
    assert "raise max_entities" in str(fields["hint"])
    for _ in range(3):
        story.events.service_listed(watched, 6, False, 0)
    assert [message for message, _ in story.logged()] == ["service no longer has more entities than max_entities"]
    story.events.service_listed(watched, 7, True, 0)
    story.events.service_forgotten(watched)
    story.events.service_listed(watched, 7, True, 0)
    assert len(story.logged()) == 2


def test_a_count_is_logged_even_without_a_next_event(story: Story) -> None:
    story.fails(1)
    story.now += 10
    story.fails(1)
    story.logged()
    story.now += REPEAT_SECONDS
    story.events.flush()
    [(message, fields)] = story.logged()
    assert (message, fields["fetches"], fields["factors"]) == ("fetches still failing", 1, 1)


@pytest.mark.parametrize("why", list(RotationReason))
def test_a_replaced_client_is_logged(story: Story, caplog: pytest.LogCaptureFixture, why: RotationReason) -> None:
    story.events.client_rotated("main", why)
    assert [line.levelname for line in caplog.records] == ["WARNING"]
    [(message, fields)] = story.logged()
    assert "replaced" in message
    assert fields["account"] == "main"
    assert "request" in fields["detail"]


# Whether a service exists


def of_service(result: ServiceAnswer | Failure, code: int, twilio_code: int | None = None) -> Attempt:
    return Attempt(result, 0.1, code, "RQ1", twilio_code=twilio_code)


def test_a_service_that_is_gone_is_logged_once_as_an_error_with_its_evidence(
    story: Story, caplog: pytest.LogCaptureFixture
) -> None:
    gone, there = of_service(ServiceAnswer(exists=False), 404, 20404), of_service(ServiceAnswer(exists=True), 200)
    for attempt, before in ((there, None), (gone, True), (gone, False), (there, False), (there, True)):
        story.events.service_fetched("main", SERVICE, attempt, before)
    assert [line.levelname for line in caplog.records] == ["ERROR", "WARNING"]
    (message, fields), (message_again, fields_again) = story.logged()
    assert (message, message_again) == ("service not found", "service found again")
    assert fields.pop("hint")
    evidence = {"account": "main", "service_sid": SERVICE, "request_id": "RQ1"}
    assert fields == {**evidence, "http_status": 404, "twilio_code": 20404}
    assert fields_again == {**evidence, "http_status": 200, "twilio_code": None}


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        (Reason.FORBIDDEN, "give the API key permission to read Verify services"),
        (Reason.TIMEOUT, HINTS[Reason.TIMEOUT]),
        (Reason.AUTH, HINTS[Reason.AUTH]),
    ],
)
def test_services_that_could_not_be_fetched_are_logged_as_one_and_a_count(
    story: Story, reason: Reason, hint: str
) -> None:
    for number in range(10):
        story.events.service_fetched("main", f"VA{number}", of_service(Failure(reason, "why"), 403), None)
    [(message, fields)] = story.logged()
    assert (message, fields["service_sid"]) == ("service not fetched", "VA0")
    assert (fields["reason"], fields["detail"], fields["hint"]) == (reason, "why", hint)
    story.now += REPEAT_SECONDS
    story.events.flush()
    assert story.logged() == [("more services not fetched", {"account": "main", "services": 9})]


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (Failure(Reason.BAD_REQUEST, "HTTP 302, a redirect to login.example"), "redirects to login.example"),
        (Failure(Reason.FORBIDDEN, "HTTP 403, Twilio error 20005"), "the Twilio account is not active"),
    ],
)
def test_the_hint_about_a_service_is_as_specific_as_about_a_factor(
    story: Story, failure: Failure, words: str
) -> None:
    story.events.service_fetched("main", SERVICE, of_service(failure, 403), None)
    [(_, fields)] = story.logged()
    assert fields["hint"] == failure.hint
    assert words in failure.hint


# Most factors of a service not found


def test_a_service_not_found_is_logged_once_as_an_error(story: Story, caplog: pytest.LogCaptureFixture) -> None:
    story.size = 20
    story.loses(*range(10))
    assert story.logged() == []
    story.loses(*range(10, 20))
    assert [line.levelname for line in caplog.records] == ["ERROR"]
    [(message, fields)] = story.logged()
    assert message == "most factors of a service not found"
    assert fields.pop("hint")
    assert fields == {
        "account": "main",
        "service_sid": SERVICE,
        "not_found": 11,
        "factors": 20,
        "within_seconds": 60.0,
    }
    story.now += 10_000
    story.loses(*range(20))
    assert story.logged() == []


def test_it_is_logged_again_after_most_were_found(story: Story) -> None:
    story.size = 20
    story.loses(*range(20))
    assert len(story.logged()) == 1
    for number in range(10):
        story.answers(number)
    story.now += 60
    story.loses(*range(10))
    assert story.logged() == [], "half of them were never found again"
    for number in range(11):
        story.answers(number)
    story.now += 60
    story.loses(*range(11))
    assert len(story.logged()) == 1


def test_failures_neither_count_as_404_nor_end_an_episode(story: Story) -> None:
    story.size = 10
    for number in range(10):
        story.fails(number)
    story.loses(*range(5))
    for number in range(5):
        story.fails(number)
    story.logged()
    story.loses(5)
    assert len(story.logged(logging.ERROR)) == 1


def test_a_factor_removed_from_the_watchlist_does_not_count_as_not_found(story: Story) -> None:
    story.size = 20
    story.loses(*range(10))
    for number in range(10):
        story.events.forgotten(record(number))
    story.loses(*range(10, 20))
    assert story.logged() == []
    for number in range(10, 20):
        story.events.forgotten(record(number))
    assert story.events._services == {}


@pytest.mark.parametrize(("stretch", "lines"), [(1.0, 0), (2.5, 1)])
def test_stretched_intervals_stretch_the_window(story: Story, stretch: float, lines: int) -> None:
    story.size, story.stretch = 20, stretch
    for number in range(20):
        story.loses(number)
        story.now += 120 / 20
    assert len(story.logged()) == lines


def test_without_a_service_size_nothing_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    events = EventLog(lambda: 0.0)
    for number in range(100):
        events.fetched(record(number), Outcome(Answer(Status.NOT_FOUND), 0.1), None)
    assert caplog.records == []
