"""``semantic``: cells against background, pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.api import overlap_policy
from bench.metrics.matching import Match
from bench.metrics.protocol import SumProtocol, ratio
from bench.metrics.types import MetricSpec


@dataclass(frozen=True)
class SemanticParams:
    """Parameters of :class:`Semantic`.

    Attributes:
        overlap: the policy that makes predictions and truths label images, whose union is compared.
    """

    overlap: str = "score"

    def __post_init__(self) -> None:
        overlap_policy(self.overlap)


class Semantic(SumProtocol):
    """Pixel error, mean IU and RMSE of the binary masks, pooled over all pixels of all images.

    Pixel error is the share of pixels that are wrong, mean IU the mean of the IoU of foreground and that of background,
    RMSE the root of the mean squared difference of the two binary masks, hence the root of the pixel error. A set
    predicted empty keeps its background right, so its mean IU is not 0.
    """

    name = "semantic"
    version = "1"
    title = "Binary masks"
    source = "Instance-U-Net with watershed, section on evaluation; Long et al., CVPR 2015, section 5 (mean IU)"
    empties = (
        "pooled over pixels; mean IU is undefined where neither truth nor prediction has foreground (or background)"
    )
    overlaps: ClassVar[bool] = False
    Params = SemanticParams
    params: SemanticParams

    @property
    def metrics(self) -> tuple[MetricSpec, ...]:
        """Pixel error, mean IU, RMSE."""
        no_pixels = "undefined: the images have no pixels"
        return (
            MetricSpec("pixel_error", False, "share of pixels that are wrong", no_pixels),
            MetricSpec(
                "mean_iou",
                True,
                "mean of the IoU of foreground and that of background",
                "undefined: foreground or background is in neither truth nor prediction",
            ),
            MetricSpec("rmse", False, "root mean squared error of the binary masks", no_pixels),
        )

    def measure(self, match: Match) -> tuple[float, ...]:
        """Pixels: foreground in both, in the prediction alone, in the truth alone, in neither."""
        flat = match.flat(self.params.overlap)
        truth, prediction = int(flat.truth_areas.sum()), int(flat.prediction_areas.sum())
        both = int(flat.pairs.shared.sum())
        size = match.truth.runs.height * match.truth.runs.width
        return both, prediction - both, truth - both, size - truth - prediction + both

    def ratios(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Pixel error, mean IU, RMSE."""
        both, extra, missed, neither = sums
        wrong = extra + missed
        error = ratio(wrong, both + wrong + neither)
        mean_iou = (ratio(both, both + wrong) + ratio(neither, neither + wrong)) / 2
        return {"pixel_error": error, "mean_iou": mean_iou, "rmse": np.sqrt(error)}
