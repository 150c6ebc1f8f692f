"""Hypothesis strategies: arbitrary JSON, and strings that resemble dates."""

from __future__ import annotations

from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
DATES = st.text(max_size=70) | st.from_regex(
    r"[A-Z][a-z]{2}, \d{1,20} [A-Z][a-z]{2} \d{1,20} [\d:]{1,8} [+-]\d{1,20}"
)
