"""``kaggle``: mean precision over IoU thresholds, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.api import UsageError, overlap_policy
from bench.metrics.assignment import true_positives
from bench.metrics.matching import Match
from bench.metrics.protocol import SumProtocol, check_thresholds, ratio
from bench.metrics.types import MetricSpec


@dataclass(frozen=True)
class KaggleParams:
    """Parameters of :class:`Kaggle`.

    Attributes:
        thresholds: IoU thresholds, from 0.5.
        strict: whether a match needs IoU > t (the competitions' wording) or IoU >= t (``stardist.matching``). The
            two differ only where an IoU is exactly a threshold.
        overlap: the policy that makes the predictions (and, unless kept, the truths) a label image.
        truth_overlap: ``flat`` makes the truths a label image too, as every public scorer that takes label images does;
            ``keep`` scores against truths that overlap as they are.
    """

    thresholds: tuple[float, ...] = tuple(k / 20 for k in range(10, 20))
    strict: bool = True
    overlap: str = "score"
    truth_overlap: str = "flat"

    def __post_init__(self) -> None:
        check_thresholds("kaggle", self.thresholds, low=0.5)
        overlap_policy(self.overlap)
        if self.truth_overlap not in ("flat", "keep"):
            raise UsageError(f"protocol kaggle: truth_overlap={self.truth_overlap!r}", "it is flat or keep")


class Kaggle(SumProtocol):
    """Of each image, the mean over t of TP / (TP + FP + FN); then the mean over images. Classes do not matter.

    A prediction and a truth match at t if their IoU exceeds t; each matches once. Predictions of which more than
    half lies in a crowd region are left out.
    """

    name = "kaggle"
    version = "1"
    title = "Data Science Bowl precision"
    source = (
        "Data Science Bowl 2018 and Sartorius Cell Instance Segmentation, evaluation pages; "
        "Caicedo et al., Nature Methods 16 (2019), Methods, evaluation metrics; Guo 2022, section 3"
    )
    empties = "an image without truth scores 1 if nothing is predicted on it, else 0"
    overlaps: ClassVar[bool] = False
    Params = KaggleParams
    params: KaggleParams

    METRIC: ClassVar[str] = "mAP@.5:.95"

    @property
    def metrics(self) -> tuple[MetricSpec, ...]:
        """Mean precision."""
        return (
            MetricSpec(
                self._metric(),
                True,
                "mean over images of the mean over IoU thresholds of TP / (TP + FP + FN)",
                "no image was scored",
            ),
        )

    def _metric(self) -> str:
        thresholds = self.params.thresholds
        if thresholds == KaggleParams().thresholds:
            return self.METRIC
        return "mAP@" + ",".join(f"{t:g}" for t in thresholds)

    def measure(self, match: Match) -> tuple[float, ...]:
        """Score, 1 for the image, and TP, FP, FN at the lowest threshold."""
        if self.params.truth_overlap == "keep":
            truth_areas, prediction_areas, pairs = match.flat_prediction(self.params.overlap)
            n_truth, n_prediction = len(truth_areas), len(prediction_areas)
        else:
            flat = match.flat(self.params.overlap)
            n_truth, n_prediction, pairs = flat.n_truth, flat.n_prediction, flat.pairs
        tp = true_positives(pairs, self.params.thresholds, strict=self.params.strict)
        found = n_truth + n_prediction - tp
        score = 1.0 if not (n_truth or n_prediction) else float(np.mean(tp / found))
        first = int(tp[int(np.argmin(self.params.thresholds))])
        return score, 1, first, n_prediction - first, n_truth - first

    def ratios(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Mean over images."""
        return {self._metric(): ratio(sums[0], sums[1])}

    def image_counts(self, row: Sequence[float], metric: str) -> tuple[int, int, int]:
        """At the lowest threshold."""
        return int(row[2]), int(row[3]), int(row[4])
