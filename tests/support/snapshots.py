"""Snapshots of factors, as hypothesis draws them."""

from __future__ import annotations

from hypothesis import strategies as st

from exporter.polling.snapshot import FactorSnapshot
from exporter.verify.outcome import Status

NOW = 1_800_000_000.0

times = st.floats(NOW - 1e8, NOW).map(lambda seconds: round(seconds, 3))
numbers = st.floats(0, 1e9)
snapshots = st.builds(
    FactorSnapshot,
    status=st.sampled_from(Status),
    answered_seconds=times,
    answered_interval_seconds=numbers,
    last_verified_seconds=st.none() | times,
    unverified_since_seconds=st.none() | times,
    not_found_since_seconds=st.none() | times,
    up=st.none() | st.booleans(),
    failures=st.integers(0, 2**40),
    duration_seconds=st.none() | numbers,
    created_seconds=st.none() | numbers,
    updated_seconds=st.none() | numbers,
    approved_seconds=st.none() | numbers,
    factor_type=st.sampled_from(["", "push", "totp"]),
    entity_sid=st.sampled_from(["", "YE" + "0" * 32]),
    notification_platform=st.sampled_from(["", "apn", "fcm", "none", "other"]),
    slowed=st.booleans(),
    withdrawn=st.booleans(),
    entity=st.text(max_size=20),
    gone_since_seconds=st.none() | times,
    status_since_seconds=st.none() | times,
    status_change_seen=st.booleans(),
    failing_since_seconds=st.none() | times,
    removed_seconds=st.none() | times,
)
