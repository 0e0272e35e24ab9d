"""``touching``: are cells that touch one another told apart?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.api import UsageError, overlap_policy
from bench.metrics.matching import Match
from bench.metrics.neighbours import touching
from bench.metrics.protocol import SumProtocol, ratio
from bench.metrics.types import MetricSpec


@dataclass(frozen=True)
class TouchingParams:
    """Parameters of :class:`Touching`.

    Attributes:
        radius: pixels by which a truth is dilated, 8-connected, to see whether it meets another.
        overlap: the policy that makes predictions and truths label images.
    """

    radius: int = 2
    overlap: str = "score"

    def __post_init__(self) -> None:
        overlap_policy(self.overlap)
        if self.radius < 1:
            raise UsageError(f"protocol touching: radius={self.radius}", "at least 1 pixel")


class Touching(SumProtocol):
    """The share of touching cells that are not told apart, pooled over the set.

    A truth is touching if, dilated by ``radius`` pixels (8-connected), it meets another truth. It is right if some
    prediction covers more than half of it and at most half of every other truth. A wrong one is *merged* if the
    prediction that covers most of it also covers most of another, *missed* if predictions together cover at most half
    of it, else *split*.
    """

    name = "touching"
    version = "1"
    title = "Touching cells"
    source = "Instance-U-Net with watershed, section on evaluation (instance error)"
    empties = "pooled over touching truths; without any it is undefined"
    overlaps: ClassVar[bool] = False
    Params = TouchingParams
    params: TouchingParams

    @property
    def metrics(self) -> tuple[MetricSpec, ...]:
        """Instance error, and its parts."""
        none = "undefined: no truth touches another"
        return (
            MetricSpec("instance_error", False, "share of the touching truths that are not told apart", none),
            MetricSpec("merged", False, "share that one prediction joins to another truth", none),
            MetricSpec("split", False, "share that is cut into pieces of half its area or less", none),
            MetricSpec("missed", False, "share of which at most half is predicted at all", none),
        )

    def measure(self, match: Match) -> tuple[float, ...]:
        """Touching truths, and how many of them are merged, split, missed."""
        flat = match.flat(self.params.overlap)
        touches = touching(flat.segments, flat.truth_owner, flat.n_truth, self.params.radius)
        covered = np.bincount(flat.pairs.truth, weights=flat.pairs.shared, minlength=flat.n_truth)
        found = flat.majority >= 0
        merged = found.copy()
        merged[found] = flat.majority_count[flat.majority[found]] > 1
        missed = 2 * covered <= flat.truth_areas
        split = ~found & ~missed
        return tuple(int(np.count_nonzero(touches & kind)) for kind in (np.True_, merged, split, missed))

    def ratios(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Instance error, and its parts."""
        total, merged, split, missed = sums
        return {
            "instance_error": ratio(merged + split + missed, total),
            "merged": ratio(merged, total),
            "split": ratio(split, total),
            "missed": ratio(missed, total),
        }

    def image_metrics(self) -> tuple[str, ...]:
        """Instance error."""
        return ("instance_error",)

    def image_counts(self, row: Sequence[float], metric: str) -> tuple[int, int, int]:
        """Touching truths that are right, 0 (predictions are not judged), and those that are wrong."""
        wrong = int(row[1] + row[2] + row[3])
        return int(row[0]) - wrong, 0, wrong
