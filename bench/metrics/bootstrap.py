"""Bootstrap over images, or over groups of them: how far a number could be off for want of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
"""Of every interval."""
MIN_GROUPS = 5
"""With fewer groups than this, images are resampled by themselves: redrawing two sequences gives three outcomes, not a
spread. Such an interval speaks of these sequences only, and not of others like them."""
MIN_DEFINED = 0.9
"""Share of the resamples in which a number must be defined for an interval to be given."""


def resample_weights(groups: Sequence[str], resamples: int, seed: int) -> NDArray[np.int64] | None:
    """How often each image counts in each resample: groups are drawn with replacement, as many as there are.

    Args:
        groups: of each image; images of one group are drawn together, because they are not independent, unless there
            are fewer than :data:`MIN_GROUPS` groups.
        resamples: R.
        seed: of the draw.

    Returns:
        (R, n_images), or None where there is only one image: it says nothing of the spread.
    """
    names, of_image = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    if names.size < MIN_GROUPS:
        names, of_image = np.arange(of_image.size).astype(np.str_), np.arange(of_image.size)
    first = np.full(names.size, of_image.size)
    np.minimum.at(first, of_image, np.arange(of_image.size))
    place = np.empty(names.size, np.int64)
    place[np.argsort(first)] = np.arange(names.size)  # numbered as they first occur, so that names do not matter
    if names.size < 2:
        return None
    draws = np.random.default_rng(seed).multinomial(names.size, np.full(names.size, 1 / names.size), size=resamples)
    return draws[:, place[of_image]]


def interval(values: NDArray[np.float64] | None) -> tuple[float | None, float | None]:
    """The 95 % percentile interval of resampled values; (None, None) where too few are defined."""
    if values is None or not values.size:
        return None, None
    defined = values[~np.isnan(values)]
    if defined.size < MIN_DEFINED * values.size:
        return None, None
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)
