"""Shared ranks, worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.store.ranks import overlap_ranks


@pytest.mark.parametrize(
    ("rows", "higher", "expected"),
    [
        # The second's interval reaches into the first's, the third's into the second's only: it opens a rank.
        ([(0.9, 0.85, 0.95), (0.84, 0.78, 0.88), (0.79, 0.75, 0.82)], True, [1, 1, 3]),
        ([(0.9, 0.85, 0.95), (0.8, 0.7, 0.85), (0.1, 0.0, 0.2)], True, [1, 1, 3]),  # touching ends overlap
        ([(3.0, 2.9, 3.1), (1.0, 0.9, 1.1), (1.05, 1.0, 1.1)], False, [3, 1, 1]),
        ([(0.5, None, None), (0.5, None, None), (0.4, None, None)], True, [1, 1, 3]),
        ([(0.5, None, None), (0.4, 0.3, 0.5)], True, [1, 1]),
        ([(None, None, None), (0.4, 0.3, 0.5)], True, [None, 1]),
        ([], True, []),
    ],
)
def test_by_hand(rows, higher, expected) -> None:
    values, lows, highs = ([row[i] for row in rows] for i in range(3))
    assert overlap_ranks(values, lows, highs, higher) == expected


numbers = st.integers(-50, 50).map(float)


@given(st.lists(st.tuples(numbers, st.integers(0, 9), st.integers(0, 9)), max_size=12), st.booleans())
def test_a_better_value_never_ranks_behind_and_mirroring_changes_nothing(rows, higher) -> None:
    values = [v for v, _, _ in rows]
    lows, highs = [v - a for v, a, _ in rows], [v + b for v, _, b in rows]
    ranks = overlap_ranks(values, lows, highs, higher)
    sign = 1 if higher else -1
    for i, first in enumerate(values):
        for j, second in enumerate(values):
            if sign * first > sign * second:
                assert ranks[i] <= ranks[j]
    assert ranks == overlap_ranks([-v for v in values], [-h for h in highs], [-low for low in lows], not higher)
    assert not rows or min(ranks) == 1
