"""Ranks that say no more than the numbers do."""

from __future__ import annotations

from collections.abc import Sequence


def overlap_ranks(
    values: Sequence[float | None],
    lows: Sequence[float | None],
    highs: Sequence[float | None],
    higher_is_better: bool,
) -> list[int | None]:
    """The rank of each value, 1 being best; those whose intervals overlap that of the best of a rank share it.

    The best value opens rank 1. Going down, a value shares the rank that is open while its 95 % interval overlaps the
    interval of the value that opened it; the first that does not opens a rank of its own, which is its place (1, 1, 3).
    Without an interval a value is a point. Overlap is a cautious rule: two runs on the same images may be told
    apart by their paired difference (:func:`bench.metrics.compare`) although their intervals overlap.

    Args:
        values: None has no rank.
        lows: lower ends of the intervals, or None.
        highs: upper ends.
        higher_is_better: direction.
    """
    sign = 1.0 if higher_is_better else -1.0
    known = [(i, value) for i, value in enumerate(values) if value is not None]
    order = [i for i, _ in sorted(known, key=lambda pair: -sign * pair[1])]
    ranks: list[int | None] = [None] * len(values)
    reach = 0.0  # the worse end of the interval of the value that opened the rank
    rank: int | None = None
    for place, i in enumerate(order, start=1):
        low, high, value = lows[i], highs[i], values[i]
        assert value is not None
        ends = (value, value) if low is None or high is None else (low, high)
        best, worst = (max(ends), min(ends)) if higher_is_better else (min(ends), max(ends))
        if rank is None or sign * best < sign * reach:
            rank, reach = place, worst
        ranks[i] = rank
    return ranks
