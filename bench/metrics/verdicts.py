"""What became of each single instance of an image: found, missed, merged, split; right or false.

The label images are those of the protocols without overlap (:meth:`bench.metrics.matching.Match.flat`), so that the
counts at an IoU threshold are the true positives, false positives and misses that ``kaggle`` and ``panoptic`` report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.metrics.matching import Flat, Match

TruthVerdict = Literal["found", "missed", "merged", "split"]
PredictionVerdict = Literal["right", "false", "merges", "piece"]

LOWEST = 0.5
"""Below, a label image may match two ways, and no protocol asks."""


@dataclass(frozen=True, eq=False)
class BestMatches:
    """How well each instance of an image is matched, whatever the threshold.

    Attributes:
        truth_iou: float64 (T,), the highest IoU of each truth with a prediction.
        truth_areas: int64 (T,), pixels.
        prediction_iou: float64 (P,), the highest IoU of each prediction with a truth.
        prediction_areas: int64 (P,), pixels.
    """

    truth_iou: NDArray[np.float64]
    truth_areas: NDArray[np.int64]
    prediction_iou: NDArray[np.float64]
    prediction_areas: NDArray[np.int64]

    @classmethod
    def of(cls, match: Match) -> BestMatches:
        """Of a measured image."""
        flat = match.flat()
        truth_iou, prediction_iou = np.zeros(flat.n_truth), np.zeros(flat.n_prediction)
        np.maximum.at(truth_iou, flat.pairs.truth, flat.pairs.iou)
        np.maximum.at(prediction_iou, flat.pairs.prediction, flat.pairs.iou)
        return cls(truth_iou, flat.truth_areas, prediction_iou, flat.prediction_areas)

    def counts(self, threshold: float) -> tuple[int, int, int]:
        """True positives, false positives and misses at IoU > ``threshold``, which is at least 0.5."""
        tp = int(np.count_nonzero(self.truth_iou > threshold))
        return tp, len(self.prediction_iou) - tp, len(self.truth_iou) - tp


@dataclass(frozen=True, eq=False)
class Verdicts:
    """A verdict on every instance of an image.

    Attributes:
        truth: of each truth. *Found*: some prediction has an IoU with it above the threshold. Else *merged*: the
            prediction that covers more than half of it covers more than half of another truth too; *split*: two
            predictions or more lie in it with more than half of their area; *missed*: anything else.
        prediction: of each prediction. *Right*: it is what some truth was found by. Else *merges*: it covers more than
            half of two truths or more; *piece*: it is one of two or more that lie mostly in one truth; *false*.
        best: the IoU behind them.
    """

    truth: tuple[TruthVerdict, ...]
    prediction: tuple[PredictionVerdict, ...]
    best: BestMatches

    @classmethod
    def of(cls, match: Match, threshold: float) -> Verdicts:
        """Of a measured image at IoU > ``threshold``.

        Raises:
            ValueError: a threshold below 0.5.
        """
        if threshold < LOWEST:
            raise ValueError(f"a threshold of {threshold}, which is below {LOWEST}")
        flat, best = match.flat(), BestMatches.of(match)
        merges = flat.majority_count >= 2
        merged = np.zeros(flat.n_truth, np.bool_)
        owned = flat.majority >= 0
        merged[owned] = merges[flat.majority[owned]]
        split, piece = _pieces(flat)
        truth = np.select([best.truth_iou > threshold, merged, split], ["found", "merged", "split"], "missed")
        prediction = np.select([best.prediction_iou > threshold, merges, piece], ["right", "merges", "piece"], "false")
        return cls(tuple(truth.tolist()), tuple(prediction.tolist()), best)


def _pieces(flat: Flat) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which truths hold two predictions or more, and which predictions are among them."""
    pairs = flat.pairs
    inside = 2 * pairs.shared > flat.prediction_areas[pairs.prediction]
    held = np.bincount(pairs.truth[inside], minlength=flat.n_truth)
    split = held >= 2
    piece = np.zeros(flat.n_prediction, np.bool_)
    piece[pairs.prediction[inside][split[pairs.truth[inside]]]] = True
    return split, piece
