"""The overlap policy ``score`` of :mod:`bench.instances`, on segments: which instance keeps which pixels.

The policy goes through the instances from the surest to the least sure; what one drops or gives up is free for those
after it. Here all instances are decided at once, as if none gave anything up; then those whose neighbours turned out
to give something up are decided anew, until nothing changes. Because an instance depends on surer ones only, the
result that no longer changes is the one the policy reaches in sequence (``tests/metrics`` holds the two equal).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.metrics.runs import Runs
from bench.metrics.segments import NOBODY, Cover, Segments, expand

MIN_REMAINING = 0.5
"""Share of an instance's own area that must be left to it; with less it is dropped."""


def flatten(
    segments: Segments,
    cover: Cover,
    runs: Runs,
    scores: NDArray[np.float64] | None,
) -> NDArray[np.int64]:
    """Decide the owner of every segment.

    Args:
        segments: of the image.
        cover: which instance covers which segment.
        runs: the instances.
        scores: of each instance, or None; ties go to the larger, then to the one further left, then to the earlier one.

    Returns:
        int64 (S,), the instance or :data:`~bench.metrics.segments.NOBODY`.
    """
    owner: NDArray[np.int64] = np.full(len(segments), NOBODY)
    shared = np.flatnonzero(cover.depth(len(segments))[cover.segments] > 1)
    if shared.size == 0:
        owner[cover.segments] = cover.masks
        return owner
    contest = _Contest(segments, cover, shared, _by_score(runs, scores))
    # The verdict on an instance: dropped or not, and the entries that it gives up though it could have them.
    dropped: NDArray[np.bool_] = np.zeros(len(runs), np.bool_)
    surrendered: NDArray[np.bool_] = np.zeros(cover.segments.size, np.bool_)
    stale: NDArray[np.bool_] = np.ones(len(runs), np.bool_)
    free = contest.free(dropped, surrendered)
    while stale.any():
        left = contest.pixels_left(free, runs.areas)
        dropped = (left < 1) | (left < MIN_REMAINING * runs.areas)
        available = contest.available(free)
        surrendered &= ~stale[cover.masks]
        torn = stale & ~dropped & (left < runs.areas)
        _surrender_fragments(segments, cover, np.flatnonzero(available & torn[cover.masks]), surrendered)
        before, free = free, contest.free(dropped, surrendered)
        stale = np.zeros(len(runs), np.bool_)
        stale[contest.masks[free != before]] = True
    owned = contest.available(free) & ~surrendered & ~dropped[cover.masks]
    owner[cover.segments[owned]] = cover.masks[owned]
    return owner


class _Contest:
    """The entries of a cover whose segments several instances want."""

    def __init__(
        self, segments: Segments, cover: Cover, shared: NDArray[np.int64], surest_first: NDArray[np.int64]
    ) -> None:
        rank = np.empty(cover.n_masks, np.int64)
        rank[surest_first] = np.arange(cover.n_masks)
        self._shared = shared
        self._segments = cover.segments[shared]
        self.masks = cover.masks[shared]
        self._ranks = rank[self.masks]
        self._lengths = segments.lengths[self._segments]
        self._least_sure_first = np.argsort(-self._ranks, kind="stable")
        self._holder = np.empty(len(segments), np.int64)
        self._n_entries = cover.segments.size
        self._n_masks = cover.n_masks

    def free(self, dropped: NDArray[np.bool_], surrendered: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which of the contested entries no surer instance holds."""
        holds = ~(surrendered[self._shared] | dropped[self.masks])
        painted = self._least_sure_first[holds[self._least_sure_first]]
        self._holder[self._segments] = self._n_masks
        self._holder[self._segments[painted]] = self._ranks[painted]  # of several the surest is written last
        return self._holder[self._segments] >= self._ranks

    def pixels_left(self, free: NDArray[np.bool_], areas: NDArray[np.int64]) -> NDArray[np.int64]:
        """Pixels that each instance could have, of its ``areas``."""
        lost = np.bincount(self.masks, weights=self._lengths * ~free, minlength=self._n_masks)
        return areas - lost.astype(np.int64)

    def available(self, free: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which entries of the whole cover no surer instance holds."""
        found = np.ones(self._n_entries, np.bool_)
        found[self._shared] = free
        return found


def _by_score(runs: Runs, scores: NDArray[np.float64] | None) -> NDArray[np.int64]:
    """The instances in the order of the policy, the surest first."""
    keys = (-runs.areas, np.zeros(len(runs)) if scores is None else -scores)
    order = np.lexsort(keys)
    area, score = (key[order] for key in keys)
    if not ((area[1:] == area[:-1]) & (score[1:] == score[:-1])).any():
        return order
    x0, y0, x1, y1 = runs.boxes.T
    return np.lexsort((np.arange(len(runs)), y1, x1, y0, x0, *keys))


def _surrender_fragments(
    segments: Segments, cover: Cover, entries: NDArray[np.int64], surrendered: NDArray[np.bool_]
) -> None:
    """Of each instance in ``entries``, mark all but the largest 8-connected component.

    Of equally large components the one whose first pixel comes first, row by row, is kept.
    """
    if entries.size == 0:
        return
    masks, numbers = cover.masks[entries], cover.segments[entries]
    starts, stops = segments.bounds[numbers], segments.bounds[numbers + 1]
    columns = starts // segments.height
    # Adjoining segments of a column become one run.
    is_head = np.ones(entries.size, np.bool_)
    is_head[1:] = (masks[1:] != masks[:-1]) | (starts[1:] != stops[:-1]) | (columns[1:] != columns[:-1])
    heads = np.flatnonzero(is_head)
    feet = np.concatenate((heads[1:], [entries.size])) - 1
    run_mask, run_column = masks[heads], columns[heads]
    # Columns padded by two keep neighbours in the next column apart from those in the one after it.
    tall = segments.height + 2
    top = starts[heads] - run_column * segments.height + 1
    line = (run_mask * (segments.width + 2) + run_column) * tall + top
    end = line + (stops[feet] - starts[heads])
    # An instance with one run a column, each touching the one before, hangs together: no need to look further.
    follows = (line[1:] <= end[:-1] + tall) & (end[1:] >= line[:-1] + tall)
    doubtful = np.zeros(cover.n_masks, np.bool_)
    doubtful[run_mask[1:][(run_mask[1:] == run_mask[:-1]) & ~follows]] = True
    chosen = np.flatnonzero(doubtful[run_mask])
    if chosen.size == 0:
        return
    heads, feet, line, end, top = heads[chosen], feet[chosen], line[chosen], end[chosen], top[chosen]
    run_mask, run_column = run_mask[chosen], run_column[chosen]
    first = np.searchsorted(end, line + tall, side="left")
    last = np.searchsorted(line, end + tall, side="right")
    n_right = np.maximum(last - first, 0)
    # Where only one run of an instance has no neighbour on its left (or right), all hang together.
    linked = n_right > 0
    change = np.zeros(heads.size + 1, np.int64)
    np.add.at(change, first[linked], 1)
    np.add.at(change, last[linked], -1)
    n_left = np.cumsum(change[:-1])
    loose_left = np.bincount(run_mask, weights=n_left == 0, minlength=cover.n_masks)
    loose_right = np.bincount(run_mask, weights=n_right == 0, minlength=cover.n_masks)
    open_question = ((loose_left > 1) & (loose_right > 1))[run_mask]
    if not open_question.any():
        return
    runs = np.flatnonzero(open_question)
    number = np.full(heads.size, -1)
    number[runs] = np.arange(runs.size)
    neighbours = number[expand(first[runs], n_right[runs])]
    component = _components(runs.size, np.repeat(np.arange(runs.size), n_right[runs]), neighbours)
    sizes = np.bincount(component, weights=(end - line)[runs], minlength=runs.size)
    raster = (top[runs] - 1) * segments.width + run_column[runs]
    first_pixel = np.full(runs.size, np.iinfo(np.int64).max)
    np.minimum.at(first_pixel, component, raster)
    order = np.lexsort((first_pixel[component], -sizes[component], run_mask[runs]))
    is_first = np.ones(runs.size, np.bool_)
    is_first[1:] = run_mask[runs][order][1:] != run_mask[runs][order][:-1]
    kept = np.zeros(runs.size, np.bool_)
    kept[component[order[is_first]]] = True
    lost_runs = runs[~kept[component]]
    lost = expand(heads[lost_runs], feet[lost_runs] - heads[lost_runs] + 1)
    surrendered[entries[lost]] = True


def _components(count: int, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """The connected components of a graph: for each node the smallest node of its component."""
    root: NDArray[np.int64] = np.arange(count)
    while True:
        low = np.minimum(root[left], root[right])
        new = root.copy()
        np.minimum.at(new, root[left], low)
        np.minimum.at(new, root[right], low)
        new = new[new]
        if np.array_equal(new, root):
            return root
        root = new
