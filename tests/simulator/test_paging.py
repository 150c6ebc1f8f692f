from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.simulator.paging import PagingError, SimulatedPage, page_of, read_paging

sids = st.lists(st.integers(0, 2**128 - 1).map("YF{:032x}".format), unique=True, max_size=40)


def walk(listed: list[str], gone: frozenset[str], query: str) -> list[SimulatedPage]:
    pages = [page_of(listed, gone, read_paging(query))]
    while (following := pages[-1].next_query) is not None:
        pages.append(page_of(listed, gone, read_paging(following)))
        assert len(pages) < 100
    return pages


@given(sids, st.integers(1, 12), st.data())
def test_paging_forwards_and_backwards_returns_every_factor_once(
    listed: list[str], size: int, data: st.DataObject
) -> None:
    gone = frozenset(data.draw(st.sets(st.sampled_from(listed)))) if listed else frozenset()
    alive = [sid for sid in listed if sid not in gone]
    pages = walk(listed, gone, f"PageSize={size}")

    assert [sid for page in pages for sid in page.sids] == alive
    assert [page.number for page in pages] == list(range(len(pages)))
    assert all(len(page.sids) == size for page in pages[:-1])
    assert pages[0].previous_query is None
    for earlier, later in pairwise(pages):
        assert later.previous_query is not None
        back = page_of(listed, gone, read_paging(later.previous_query))
        assert (back.sids, back.number) == (earlier.sids, earlier.number)


def test_a_token_stays_valid_when_its_factor_is_deleted() -> None:
    listed = [f"YF{number:032x}" for number in range(6)]
    first = page_of(listed, frozenset(), read_paging("PageSize=2"))
    assert first.next_query is not None
    second = page_of(listed, frozenset(first.sids), read_paging(first.next_query))

    assert second.sids == listed[2:4]
    assert second.previous_query is None


def test_a_page_links_to_itself() -> None:
    listed = [f"YF{number:032x}" for number in range(3)]
    page = page_of(listed, frozenset(), read_paging(f"PageSize=1&Page=1&PageToken=PA{listed[0]}"))

    assert page.query == f"PageSize=1&Page=1&PageToken=PA{listed[0]}"
    assert page.first_query == "PageSize=1&Page=0"


def test_the_default_is_fifty_or_less_where_less_is_allowed() -> None:
    assert read_paging("").size == 50
    assert read_paging("", 25).size == 25


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("PageSize=1001", 20007),
        ("PageSize=0", 60373),
        ("PageSize=-1", 60373),
        ("PageSize=", 60373),
        ("PageSize=many", 60373),
        ("PageSize=" + "9" * 5000, 60373),
        ("PageSize=²", 60373),
        ("Page=-1", 60306),
        ("Page=x", 60306),
        ("PageToken=x", 60374),
        ("PageToken=PAVA" + "0" * 32, 60374),
        ("PageToken=PXYF" + "0" * 32, 60374),
    ],
)
def test_parameters_out_of_range_are_refused_with_their_code(query: str, code: int) -> None:
    with pytest.raises(PagingError) as refused:
        read_paging(query)
    assert refused.value.code == code


def test_a_token_of_another_list_is_refused() -> None:
    with pytest.raises(PagingError) as refused:
        page_of([], frozenset(), read_paging("PageToken=PAYF" + "0" * 32))
    assert refused.value.code == 60374
