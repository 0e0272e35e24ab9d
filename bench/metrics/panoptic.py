"""``panoptic``: panoptic quality, detection rates, AJI, Dice, counts and boundaries of label images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.api import UsageError, overlap_policy
from bench.metrics.assignment import true_positives
from bench.metrics.boundary import boundary_f1
from bench.metrics.matching import Flat, Match
from bench.metrics.protocol import SumProtocol, check_thresholds, ratio, threshold_name
from bench.metrics.types import INSTANCES, MetricSpec


@dataclass(frozen=True)
class PanopticParams:
    """Parameters of :class:`Panoptic`.

    Attributes:
        thresholds: IoU thresholds of F1@t, at least 0.5.
        strict: whether F1@t asks for IoU > t, or IoU >= t as ``stardist.matching`` does. PQ always asks for > 0.5.
        average: ``image`` (mean over images) or ``pooled`` (sums over the set): for AJI and Dice.
        boundary: pixels by which a boundary may be off in the boundary F1; 0 leaves it out.
        overlap: the policy that makes predictions and truths label images.
    """

    thresholds: tuple[float, ...] = (0.5, 0.75, 0.9)
    strict: bool = True
    average: str = "image"
    boundary: int = 2
    overlap: str = "score"

    def __post_init__(self) -> None:
        check_thresholds("panoptic", self.thresholds, low=0.5)
        overlap_policy(self.overlap)
        if self.average not in ("image", "pooled"):
            raise UsageError(f"protocol panoptic: average={self.average!r}", "it is image or pooled")
        if self.boundary < 0:
            raise UsageError(f"protocol panoptic: boundary={self.boundary}", "pixels, or 0 to leave it out")


class Panoptic(SumProtocol):
    """PQ, SQ, RQ, F1@t, precision, recall, AJI, Dice, count error and boundary F1. Classes do not matter.

    Truth and prediction match at an IoU above 0.5, which no other pair of the two can reach. Over the whole set, SQ is
    the mean IoU of the matches, RQ = TP / (TP + FP/2 + FN/2), PQ = SQ * RQ; precision and recall are those of the
    matches. AJI gives every truth the prediction with the highest IoU, which may serve several, and divides the sum of
    the intersections by the sum of the unions and of the predictions that serve none (Kumar's definition, not AJI+).
    Dice is that of the binary masks. The count error is the mean over images of the absolute difference of the
    numbers of instances. Boundary F1 compares the pixels on the edge of instances, see :mod:`bench.metrics.boundary`.
    """

    name = "panoptic"
    version = "1"
    title = "Panoptic quality and relatives"
    source = (
        "Kirillov et al., CVPR 2019, section 4 (PQ); Kumar et al., IEEE TMI 36 (2017), algorithm 1 (AJI); "
        "Csurka et al., BMVC 2013, section 2 (boundary F1)"
    )
    empties = (
        "pooled (PQ, SQ, RQ, F1, precision, recall): undefined with nothing to count; mean over images (AJI, Dice, "
        "boundary F1): an image without truth scores 1 if nothing is predicted on it, else 0"
    )
    overlaps: ClassVar[bool] = False
    Params = PanopticParams
    params: PanopticParams

    @property
    def metrics(self) -> tuple[MetricSpec, ...]:
        """PQ first."""
        nothing = "undefined: there is neither truth nor prediction"
        above = ">" if self.params.strict else ">="
        specs = [
            MetricSpec("PQ", True, "panoptic quality: SQ * RQ", nothing),
            MetricSpec("SQ", True, "segmentation quality: mean IoU of the matches", "undefined: nothing matches"),
            MetricSpec("RQ", True, "recognition quality: F1 at IoU > 0.5", nothing),
        ]
        specs += [
            MetricSpec(f"F1@{threshold_name(t)}", True, f"F1 at IoU {above} {t:g}", nothing)
            for t in self.params.thresholds
        ]
        specs += [
            MetricSpec("precision", True, "matches per prediction, IoU > 0.5", "undefined: nothing is predicted"),
            MetricSpec("recall", True, "matches per truth, IoU > 0.5", "undefined: there is no truth instance"),
            MetricSpec("AJI", True, "aggregated Jaccard index", nothing),
            MetricSpec("dice", True, "Dice of the binary masks", nothing),
            MetricSpec(
                "count_error", False, "mean absolute error of the number of instances an image", nothing, INSTANCES
            ),
        ]
        if self.params.boundary:
            specs.append(
                MetricSpec("boundary_f1", True, f"F1 of boundary pixels within {self.params.boundary} px", nothing)
            )
        return tuple(specs)

    def measure(self, match: Match) -> tuple[float, ...]:
        """One row; see :meth:`ratios` for its columns."""
        flat = match.flat(self.params.overlap)
        pairs = flat.pairs
        n_truth, n_prediction = flat.n_truth, flat.n_prediction
        matched = pairs.iou[pairs.iou > 0.5]
        aji_above, aji_below = _aji(flat)
        truth, prediction = int(flat.truth_areas.sum()), int(flat.prediction_areas.sum())
        dice_above, dice_below = 2.0 * int(pairs.shared.sum()), float(truth + prediction)
        if self.params.average == "image":
            aji_above, aji_below = _or_one(aji_above, aji_below), 1.0
            dice_above, dice_below = _or_one(dice_above, dice_below), 1.0
        found = true_positives(pairs, self.params.thresholds, strict=self.params.strict)
        return (
            1,
            n_truth,
            n_prediction,
            matched.size,
            math.fsum(matched),
            aji_above,
            aji_below,
            dice_above,
            dice_below,
            abs(n_prediction - n_truth),
            boundary_f1(flat, self.params.boundary) if self.params.boundary else 0.0,
            *found.tolist(),
        )

    def ratios(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """The metrics of sums of rows."""
        images, n_truth, n_prediction, matched, iou = sums[:5]
        aji_above, aji_below, dice_above, dice_below, count_error, boundary = sums[5:11]
        half = (n_truth + n_prediction) / 2
        found = {
            "PQ": ratio(iou, half),
            "SQ": ratio(iou, matched),
            "RQ": ratio(matched, half),
            "precision": ratio(matched, n_prediction),
            "recall": ratio(matched, n_truth),
            "AJI": ratio(aji_above, aji_below),
            "dice": ratio(dice_above, dice_below),
            "count_error": ratio(count_error, images),
        }
        for threshold, hits in zip(self.params.thresholds, sums[11:], strict=True):
            found[f"F1@{threshold_name(threshold)}"] = ratio(hits, half)
        if self.params.boundary:
            found["boundary_f1"] = ratio(boundary, images)
        return found

    def image_counts(self, row: Sequence[float], metric: str) -> tuple[int, int, int] | None:
        """Matches, predictions and truths without match, at the threshold of the metric."""
        hits = {"PQ": row[3], "SQ": row[3], "RQ": row[3], "precision": row[3], "recall": row[3]}
        hits |= {f"F1@{threshold_name(t)}": n for t, n in zip(self.params.thresholds, row[11:], strict=True)}
        if metric not in hits:
            return None
        tp = int(hits[metric])
        return tp, int(row[2]) - tp, int(row[1]) - tp


def _or_one(above: float, below: float) -> float:
    """The ratio of one image, 1 where it has neither truth nor prediction."""
    return above / below if below else 1.0


def _aji(flat: Flat) -> tuple[float, float]:
    """Sum of intersections, and sum of unions with the predictions that serve no truth."""
    pairs = flat.pairs
    union = flat.truth_areas[pairs.truth] + flat.prediction_areas[pairs.prediction] - pairs.shared
    # Of equal IoU the larger overlap, of equal overlap the one further left: nothing depends on the order of instances.
    ranked = np.lexsort((-flat.first_segment[pairs.prediction], pairs.shared, pairs.iou, pairs.truth))
    best = ranked[np.flatnonzero(np.diff(pairs.truth[ranked], append=-1))]
    alone = np.ones(flat.n_truth, np.bool_)
    alone[pairs.truth[best]] = False
    unused = np.ones(flat.n_prediction, np.bool_)
    unused[pairs.prediction[best]] = False
    below = union[best].sum() + flat.truth_areas[alone].sum() + flat.prediction_areas[unused].sum()
    return float(pairs.shared[best].sum()), float(below)
