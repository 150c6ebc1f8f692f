"""Shards: each entity in one of them, evenly, and moved by a resize no more than must be."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.sharding import Shard, ShardError, shard_of

ENTITIES = [("main", f"VA{n % 7:032x}", f"identity-{n:06d}") for n in range(20_000)]


def holder(entity: tuple[str, str, str], shards: int) -> int:
    holders = [ordinal for ordinal in range(shards) if Shard(ordinal, shards).holds(*entity)]
    assert len(holders) == 1
    return holders[0]


@given(st.tuples(st.text(max_size=8), st.text(max_size=8), st.text(max_size=8)), st.integers(1, 12))
def test_every_entity_is_in_exactly_one_shard(entity: tuple[str, str, str], shards: int) -> None:
    assert 0 <= holder(entity, shards) < shards


@pytest.mark.parametrize("shards", [2, 3, 8])
def test_shards_are_even(shards: int) -> None:
    counts = Counter(holder(entity, shards) for entity in ENTITIES[:4000])
    assert max(counts.values()) < 1.15 * 4000 / shards
    assert min(counts.values()) > 0.85 * 4000 / shards


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_one_shard_more_moves_one_part_and_only_to_the_new_one(shards: int) -> None:
    moved = [entity for entity in ENTITIES[:4000] if holder(entity, shards + 1) != holder(entity, shards)]
    assert all(holder(entity, shards + 1) == shards for entity in moved)
    assert len(moved) == pytest.approx(4000 / (shards + 1), rel=0.15)


@pytest.mark.parametrize("number", range(20))
def test_an_entity_is_in_the_same_shard_however_its_identity_is_written(number: int) -> None:
    """The API may write the identity of a listed entity in another case than the watchlist does."""
    written, listed = (("main", f"VA{7:032x}", f"{prefix}-{number:06d}") for prefix in ("Identity", "identity"))
    assert holder(written, 5) == holder(listed, 5)


def test_the_places_are_fixed() -> None:
    """Versions that run beside each other during an update must agree."""
    assert [holder(entity, 5) for entity in ENTITIES[:12]] == PLACES


PLACES = [0, 1, 3, 1, 0, 1, 2, 1, 4, 4, 3, 0]


def test_shards_by_number() -> None:
    assert shard_of("2/5", {}, "host") == Shard(2, 5)
    assert shard_of("0/1", {"POD_NAME": "x-9"}, "host") == Shard()


@pytest.mark.parametrize(
    ("environ", "hostname", "ordinal"),
    [
        ({}, "verify-factor-exporter-0", 0),
        ({}, "exporter-2", 2),
        ({"POD_NAME": "exporter-1"}, "some-node-7", 1),
        ({"POD_NAME": ""}, "exporter-2", 2),
    ],
)
def test_the_ordinal_of_a_pod(environ: dict[str, str], hostname: str, ordinal: int) -> None:
    assert shard_of("auto/3", environ, hostname) == Shard(ordinal, 3)


@pytest.mark.parametrize("pod", ["exporter", "exporter-", "exporter-7d9f8b5c4-x2x9z", "exporter-1a", "", "1"])
def test_a_pod_without_an_ordinal(pod: str) -> None:
    with pytest.raises(ShardError, match="needs a pod name that ends in an ordinal") as refused:
        shard_of("auto/3", {}, pod)
    assert refused.value.hint == "run it in a StatefulSet, or write the shard as I/N"


def test_an_ordinal_beyond_the_count() -> None:
    with pytest.raises(ShardError, match="has too few shards for the pod with ordinal 3") as refused:
        shard_of("auto/3", {}, "exporter-3")
    assert refused.value.hint == "raise the count to 4"
