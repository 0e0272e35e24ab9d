"""``ctc``: SEG and DET of the Cell Tracking Challenge, on the frames that are annotated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.api import overlap_policy
from bench.metrics.matching import Match
from bench.metrics.protocol import SumProtocol, ratio
from bench.metrics.types import MetricSpec

SPLIT_COST, MISS_COST, EXTRA_COST = 5.0, 10.0, 1.0
"""What DET charges for a prediction that must be split once, a missed truth, and a prediction that should not be."""


@dataclass(frozen=True)
class CtcParams:
    """Parameters of :class:`Ctc`.

    Attributes:
        overlap: the policy that makes predictions and truths label images.
    """

    overlap: str = "score"

    def __post_init__(self) -> None:
        overlap_policy(self.overlap)


class Ctc(SumProtocol):
    """SEG and DET. Classes do not matter.

    A reference object R is matched by the result S that covers more than half of it. SEG is the mean over all reference
    objects of their IoU with S, 0 for those unmatched; results that match nothing cost nothing. DET is
    1 - (5 splits + 10 misses + extra) / (10 reference objects), at least 0: a result that matches k references must
    be split k - 1 times, a reference without result is a miss, a result without reference is extra.
    """

    name = "ctc"
    version = "1"
    title = "Cell Tracking Challenge"
    source = (
        "Maška et al., Bioinformatics 30 (2014), section 2.4 (SEG); Matula et al., PLoS ONE 10 (2015) (AOGM-D, "
        "the base of DET); Lin & Norouzi 2022, section 4"
    )
    empties = "pooled over reference objects: a frame without any adds only its extra results, and only to DET"
    overlaps: ClassVar[bool] = False
    Params = CtcParams
    params: CtcParams

    @property
    def metrics(self) -> tuple[MetricSpec, ...]:
        """SEG, DET."""
        none = "undefined: there is no reference object"
        return (
            MetricSpec("SEG", True, "mean IoU of the reference objects, 0 where none matches", none),
            MetricSpec("DET", True, "1 - cost of correcting the detections / cost of adding all", none),
        )

    def measure(self, match: Match) -> tuple[float, ...]:
        """Sum of IoU, reference objects, splits, misses, extra results, matched results."""
        flat = match.flat(self.params.overlap)
        most = flat.majority[flat.pairs.truth] == flat.pairs.prediction
        times = flat.majority_count
        return (
            math.fsum(flat.pairs.iou[most]),
            flat.n_truth,
            int(np.maximum(times - 1, 0).sum()),
            int(np.count_nonzero(flat.majority < 0)),
            int(np.count_nonzero(times == 0)),
            int(np.count_nonzero(times > 0)),
        )

    def ratios(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """SEG, DET."""
        iou, references, splits, misses, extra = sums[:5]
        cost = SPLIT_COST * splits + MISS_COST * misses + EXTRA_COST * extra
        return {"SEG": ratio(iou, references), "DET": 1 - np.minimum(ratio(cost, MISS_COST * references), 1.0)}

    def image_counts(self, row: Sequence[float], metric: str) -> tuple[int, int, int]:
        """Matched reference objects, extra results, misses."""
        return int(row[1] - row[3]), int(row[4]), int(row[3])
