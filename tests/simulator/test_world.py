from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.simulator import Action, FactorStatus, FactorType, Script, Step
from exporter.simulator.factors import AAGUID
from exporter.simulator.world import SimulatedApi

if TYPE_CHECKING:
    from exporter.simulator import SimulatedFactor

ACCOUNT = "AC" + "0" * 32
VERIFIED, UNVERIFIED, DELETED = FactorStatus.VERIFIED, FactorStatus.UNVERIFIED, FactorStatus.DELETED


def new_api() -> SimulatedApi:
    return SimulatedApi(ACCOUNT, random.Random(3))


def test_missing_values_are_generated_from_the_seed() -> None:
    first = new_api().add_factor(now=100)
    second = new_api().add_factor(now=100)

    assert first == second
    assert first.account_sid == ACCOUNT
    assert (first.factor_type, first.status) == (FactorType.TOTP, VERIFIED)
    assert (first.date_created, first.date_updated) == (100, 100)


def test_factors_share_the_first_service_and_have_an_entity_each() -> None:
    api = new_api()
    first, second = api.add_factor(now=0), api.add_factor(now=0)

    assert first.service_sid == second.service_sid
    assert first.entity_sid != second.entity_sid
    assert list(api.services) == [first.service_sid]


def test_an_entity_given_by_its_identity_is_one_and_the_same() -> None:
    api = new_api()
    entity = api.add_entity(now=0, identity="ops-oncall")
    first = api.add_factor(now=0, identity="ops-oncall", factor_type="push")
    second = api.add_factor(now=0, identity="ops-oncall", factor_type="passkeys")

    assert first.entity_sid == second.entity_sid == entity.sid
    assert entity.factor_sids == [first.sid, second.sid]


def test_each_type_has_the_config_and_metadata_of_its_kind() -> None:
    api = new_api()
    push, totp, passkeys = (api.add_factor(now=0, factor_type=type_) for type_ in FactorType)

    assert set(push.config) == {"sdk_version", "app_id", "notification_platform", "notification_token"}
    assert totp.config == {"alg": "sha1", "skew": 1, "code_length": 6, "time_step": 30}
    assert set(passkeys.config) == {
        "relying_party",
        "authenticator_attachment",
        "discoverable_credentials",
        "user_verification",
    }
    assert push.metadata is not None
    assert totp.metadata is None
    assert passkeys.metadata == {"aaguid": AAGUID}


def test_a_passkeys_factor_has_an_authenticator_once_verified_and_a_date_once_it_approved() -> None:
    api = new_api()
    factor = api.add_factor(now=0, factor_type="passkeys", status="unverified")
    assert factor.metadata is None
    with pytest.raises(ValueError, match="is not a verified passkeys factor"):
        api.approve(factor.sid, now=5)
    assert api.set_status(factor.sid, "verified", now=10).metadata == {"aaguid": AAGUID}
    approved = {"aaguid": AAGUID, "date_last_approved": "1970-01-01T00:00:20Z"}
    assert api.approve(factor.sid.swapcase(), now=20).metadata == approved
    assert api.factors[factor.sid].date_updated == 10
    assert api.set_status(factor.sid, "unverified", now=30).metadata == approved


def test_only_verified_passkeys_factors_have_approvals() -> None:
    api = new_api()
    for factor_type in ("push", "totp"):
        with pytest.raises(ValueError, match="the API shows no approvals of others"):
            api.approve(api.add_factor(now=0, factor_type=factor_type).sid, now=5)
    with pytest.raises(LookupError):
        api.approve("YF" + "0" * 32, now=5)


def test_a_script_approves_and_a_new_enrolment_starts_over() -> None:
    api = new_api()
    steps = (Step(10, Action.APPROVE), Step(20, Action.ENROL), Step(30, Action.APPROVE))
    factor = api.add_factor(now=0, factor_type="passkeys", script=Script(steps))
    push = api.add_factor(
        now=0, factor_type="push", script=Script((Step(10, Action.APPROVE), Step(20, Action.ENROL)))
    )
    api.advance(10)
    metadata = api.factors[factor.sid].metadata
    assert metadata is not None
    assert metadata["date_last_approved"] == "1970-01-01T00:00:10Z"
    api.advance(30)
    assert api.factors[factor.sid].metadata is None
    assert api.factors[push.sid].metadata == push.metadata


def test_the_notification_platform_of_a_push_factor_can_be_chosen() -> None:
    api = new_api()
    assert (
        api.add_factor(now=0, factor_type="push", notification_platform="none").config["notification_platform"]
        == "none"
    )
    with pytest.raises(ValueError, match=r"^notification_platform: a totp factor has none"):
        api.add_factor(now=0, notification_platform="apn")


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"factor_sid": "YF12"}, r'^factor_sid: "YF12" is not a SID \(YF followed by 32 hex digits\)'),
        ({"factor_sid": "VA" + "0" * 32}, r"^factor_sid: "),
        ({"service_sid": "x"}, r"^service_sid: "),
        ({"identity": ""}, r"^identity: "),
        ({"factor_type": "sms"}, r"'sms' is not a valid FactorType"),
        ({"status": "pending"}, r"'pending' is not a valid FactorStatus"),
    ],
)
def test_invalid_factors_are_refused(given_: dict[str, str], message: str) -> None:
    api = new_api()
    with pytest.raises(ValueError, match=message):
        api.add_factor(now=0, **given_)  # type: ignore[arg-type]  # that it is refused is the test
    assert not api.factors


def test_a_sid_is_taken_once_whatever_its_case() -> None:
    api = new_api()
    factor = api.add_factor(now=0, factor_sid="yf" + "AB" * 16)

    assert factor.sid == "YF" + "ab" * 16
    with pytest.raises(ValueError, match=r"^factor_sid: YF\w+ exists already"):
        api.add_factor(now=0, factor_sid="YF" + "ab" * 16)


def test_setting_a_status_calls_back_and_updates_the_date() -> None:
    api = new_api()
    factor = api.add_factor(now=0)
    reported: list[tuple[SimulatedFactor, str, str, float]] = []
    api.on_change.append(lambda *change: reported.append(change))

    changed = api.set_status(factor.sid.swapcase(), "unverified", now=9)
    assert api.set_status(factor.sid, "unverified", now=10) is changed

    assert reported == [(changed, VERIFIED, UNVERIFIED, 9)]
    assert (changed.date_created, changed.date_updated) == (0, 9)
    assert api.factors[factor.sid] is changed


def test_unknown_factors_and_statuses_are_refused() -> None:
    api = new_api()
    factor = api.add_factor(now=0)
    with pytest.raises(LookupError, match="no factor has the SID YFx"):
        api.set_status("YFx", VERIFIED, now=0)
    with pytest.raises(ValueError, match="'lost' is not a valid FactorStatus"):
        api.set_status(factor.sid, "lost", now=0)


def test_a_callback_that_fails_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    api = new_api()
    factor = api.add_factor(now=0)
    called: list[str] = []

    def fail(*_: object) -> None:
        raise RuntimeError("boom")

    api.on_change += [fail, lambda *_: called.append("second")]
    api.set_status(factor.sid, UNVERIFIED, now=1)

    assert called == ["second"]
    assert "callback for a simulated change failed" in caplog.text


def test_a_script_with_every_action() -> None:
    api = new_api()
    script = Script(
        (
            Step(0, Action.ENROL),
            Step(10, Action.VERIFY),
            Step(20, Action.DELETE),
            Step(30, Action.RESTORE),
            Step(40, Action.RESTORE),
            Step(50, Action.ABANDON, lapse_seconds=10),
            Step(70, Action.ENROL),
            Step(80, Action.VERIFY),
            Step(90, Action.UNVERIFY),
        )
    )
    factor = api.add_factor(now=1000, script=script)
    lives: list[tuple[FactorStatus, float, float]] = []
    for now in range(1000, 1100, 10):
        api.advance(now)
        seen = api.factors[factor.sid]
        lives.append((seen.status, seen.date_created, seen.date_updated))

    assert lives == [
        (UNVERIFIED, 1000, 1000),
        (VERIFIED, 1000, 1010),
        (DELETED, 1000, 1020),
        (VERIFIED, 1000, 1030),
        (VERIFIED, 1000, 1030),
        (UNVERIFIED, 1000, 1050),
        (DELETED, 1000, 1060),
        (UNVERIFIED, 1070, 1070),
        (VERIFIED, 1070, 1080),
        (UNVERIFIED, 1070, 1090),
    ]


def test_enrolling_an_unverified_factor_again_is_no_change_of_status() -> None:
    api = new_api()
    factor = api.add_factor(now=0, status="unverified", script=Script((Step(5, Action.ENROL),)))
    reported: list[object] = []
    api.on_change.append(lambda *change: reported.append(change))
    api.advance(5)

    assert reported == []
    assert api.factors[factor.sid].date_created == 5


def test_a_factor_deleted_from_the_start_comes_back_unverified() -> None:
    api = new_api()
    factor = api.add_factor(now=0, status="deleted", script=Script((Step(5, Action.RESTORE),)))
    api.advance(5)

    assert api.factors[factor.sid].status is UNVERIFIED


@given(
    st.lists(st.tuples(st.integers(0, 50), st.sampled_from(list(Action))), min_size=1, max_size=5),
    st.lists(st.integers(0, 60), max_size=20),
)
def test_advancing_often_or_once_gives_the_same_changes(
    steps: list[tuple[int, Action]], advances: list[int]
) -> None:
    script = Script(tuple(Step(at, action, 7) for at, action in steps), period_seconds=60)
    results: list[list[object]] = []
    for hops in (sorted(advances), []):
        api = new_api()
        changes: list[object] = []
        api.on_change.append(lambda *change, changes=changes: changes.append(change))
        for _ in range(3):
            api.add_factor(now=0, script=script)
        for now in (*hops, 400):
            api.advance(now)
        results.append([changes, dict(api.factors)])

    assert results[0] == results[1]
