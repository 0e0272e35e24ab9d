"""Crowded images in training: crops of them whose masks fit into a bound. No torch.

MMDetection holds the truth of an image as N masks, first of its own size and then of the network's, and compares every
anchor with every object: 3000 cells on 800 x 1083 pixels are 2.6 GB of masks and several times as much of overlaps. A
crop of half the sides has a sixteenth of both.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from bench.api import Sample, to_rgb8
from bench.rle import boxes
from methods._windows import Window, window_of_sample

MASK_BYTES = 512 * 2**20
"""Pixels of the masks of one training example, at its own or at the network's resolution, at most."""
LEAST_SIDE = 32
"""A crop is not made smaller, pixels of the image."""
SHRINK = 0.85
"""A crop that has more than its share of the objects is made smaller by this, again and again."""


def mask_bytes(objects: int, height: int, width: int, factor: float) -> float:
    """Bytes of the masks of an example.

    Args:
        objects: how many.
        height: of the image, pixels.
        width: of the image, pixels.
        factor: by how much it is enlarged before the network sees it.
    """
    return objects * (height * factor) * (width * factor)


def within_bound(sample: Sample, factor: float, rng: np.random.Generator, bound: float = MASK_BYTES) -> Sample:
    """The sample, or a window of it at a random place whose masks fit into the bound.

    The window keeps the aspect ratio. Its sides follow from the mean density, and shrink further where it falls into a
    denser part.

    Args:
        sample: an image with its truth.
        factor: by how much it is enlarged before the network sees it; a window must be enlarged by no more.
        rng: chooses the place.
        bound: bytes.
    """
    if sample.instances is None or mask_bytes(len(sample.instances), *sample.shape, factor) <= bound:
        return sample
    height, width = sample.shape
    tight = boxes(sample.instances.rles, height, width)
    # Objects and pixels both grow with the area, so that bytes grow with the fourth power of the sides.
    share = (bound / mask_bytes(len(tight), height, width, factor)) ** 0.25
    across, down = rng.random(2)
    while True:
        tall, wide = (max(min(LEAST_SIDE, side), math.floor(share * side)) for side in (height, width))
        top, left = round(down * (height - tall)), round(across * (width - wide))
        window = Window(top, left, top + tall, left + wide)
        reaching = (
            (tight[:, 0] < window.right)
            & (tight[:, 2] > window.left)
            & (tight[:, 1] < window.bottom)
            & (tight[:, 3] > window.top)
        )
        fits = mask_bytes(int(np.count_nonzero(reaching)), tall, wide, factor) <= bound
        if fits or max(tall, wide) <= LEAST_SIDE:
            break
        share *= SHRINK
    # As in prediction, the grey levels are those of the whole image.
    return window_of_sample(replace(sample, image=to_rgb8(sample.image)), window)
