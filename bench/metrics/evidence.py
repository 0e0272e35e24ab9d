"""What is kept of an image once it is matched: all that its numbers, alone and among others, are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.api import DataError
from bench.metrics.matching import Match, SideError, Source
from bench.metrics.protocol import Protocol


@dataclass(frozen=True, eq=False)
class ImageEvidence:
    """What is kept of a scored image: what each protocol keeps, and counts."""

    key: str
    group: str | None
    n_truth: int
    n_predictions: int
    scored: bool | None  # None: no prediction, so nothing that could lack a score
    of_protocol: tuple[Any, ...]


def measure(
    protocols: Sequence[Protocol],
    key: str,
    truth: Source,
    prediction: Source,
    group: str | None = None,
    min_score: float | None = None,
) -> ImageEvidence:
    """Match one image and keep what the protocols need of it; ``min_score`` as :class:`Match` has it.

    Raises:
        SideError: broken masks, or an array that is no label image.
        DataError: sizes that differ.
    """
    match = Match(truth, prediction, min_score)
    return ImageEvidence(
        key,
        group,
        int(np.count_nonzero(~match.truth.crowd)),
        len(match.prediction),
        None if not len(match.prediction) else match.prediction.scores is not None,
        tuple(protocol.measure(match) for protocol in protocols),
    )


def named(key: str, error: DataError) -> DataError:
    """The error with the image, and the side if it is one side's, in front."""
    side = f"{error.side}: " if isinstance(error, SideError) else ""
    return DataError(f"image {key}: {side}{error.message}", error.hint)
