"""Nuclei of many laboratories: fluorescence at several scales, bright field, stained tissue: imitates DSB 2018."""

from __future__ import annotations

from itertools import accumulate
from types import MappingProxyType

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.data import png
from bench.data.synthetic._base import Generator, Picture, Planned
from bench.data.synthetic._exact import Draws, Field, smooth_noise
from bench.data.synthetic._nuclei import Stain, haze, shot_noise, stain
from bench.data.synthetic._paint import Labels

# fmt: off
KINDS = MappingProxyType(
    {
        "small": (50, (256, 256), Stain((4, 60), (34, 62), (5, 80), (50, 900), together=80)),
        "medium": (22, (256, 320), Stain((6, 60), (54, 100), (5, 85), (50, 800), together=85)),
        "screen": (12, (520, 696), Stain((30, 160), (74, 122), (5, 95), (50, 700), together=85)),
        "large": (6, (360, 360), Stain((4, 24), (150, 260), (5, 40), (70, 800), together=80, focus=2)),
        "bright field": (3, (520, 696), Stain((10, 60), (80, 140), (5, 60), (300, 900), together=40)),
        "tissue": (7, (256, 320), Stain((15, 60), (50, 95), (10, 90), (300, 900), together=40)),
    }
)
# fmt: on
"""Kind of experiment -> its share in percent, height and width of its images, and how its nuclei look."""


class Dsb2018(Generator):
    """The stand-in of the Data Science Bowl 2018: images of several kinds and sizes, as RGB.

    The first images of a part are those of the first kind, and so on, in the shares of :data:`KINDS`; the group of
    an image is its experiment.
    """

    name = "dsb2018"
    version = 3

    class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """Images of the parts ``train`` and ``test``."""

        images: int = 670
        test: int = 0

    def plan(self) -> tuple[Planned, ...]:
        """All images, in order; see :meth:`Generator.plan`."""
        parts = (("train", self.params.images), ("test", self.params.test))
        return tuple(
            Planned(part, f"{part}{_kind_at(i * 100 // count)}", i) for part, count in parts for i in range(count)
        )

    def make(self, item: Planned) -> Picture:
        """Make one image; see :meth:`Generator.make`."""
        seed = f"{self.name} {self.version} {self.seed} {item.stem}"
        kind = list(KINDS)[int(item.group.removeprefix(item.part))]
        _, shape, style = KINDS[kind]
        light, labels = stain(style, seed, shape)
        draws = Draws(f"{seed} light")
        if kind == "tissue":
            return Picture(_tissue(light, labels, draws), {"nucleus": labels})
        gray = _bright_field(light, draws) if kind == "bright field" else _fluorescence(light, draws)
        return Picture(np.repeat(gray[..., None], 3, axis=2), {"nucleus": labels})

    def files(self, item: Planned) -> tuple[bytes, ...]:
        """The files of an image; see :meth:`Generator.files`."""
        picture = self.make(item)
        return png.encode(picture.image), png.encode(picture.labels["nucleus"])


def _kind_at(percent: int) -> int:
    """The number of the kind at a place among a hundred images."""
    ends = accumulate(share for share, _, _ in KINDS.values())
    return next(number for number, end in enumerate(ends) if percent < end)


def _fluorescence(light: Field, draws: Draws) -> NDArray[np.uint8]:
    height, width = light.shape
    light = light * (1000 + smooth_noise(draws, (height, width), 90, 250)) // 1000 + haze(light, draws.integer(4, 20))
    image = light * draws.integer(60, 240) // 1000 + draws.integer(2, 20)
    return np.clip(image + shot_noise(image, draws, 120, draws.integer(2, 12)), 0, 255).astype(np.uint8)


def _bright_field(light: Field, draws: Draws) -> NDArray[np.uint8]:
    height, width = light.shape
    shade = smooth_noise(draws, (height, width), 23, 5, coarser=5, coarse_amplitude=14)
    image = draws.integer(190, 215) + shade - light * 110 // 1000
    return np.clip(image + draws.noise((height, width)), 0, 255).astype(np.uint8)


def _tissue(light: Field, labels: Labels, draws: Draws) -> NDArray[np.uint8]:
    """Haematoxylin (blue-violet) in the nuclei, eosin (pink) in what lies between."""
    shape = light.shape[0], light.shape[1]
    fibres = smooth_noise(draws, shape, 5, 26, coarser=4, coarse_amplitude=40)
    colours = ((205, 130), (150, 120), (200, 60))  # of the tissue, and what a nucleus takes from it
    channels = []
    for base, taken in colours:
        values = base + fibres * base // 300 - light * taken // 1000 + draws.noise(shape) * 3
        channels.append(np.clip(values, 0, 255).astype(np.uint8))
    return np.dstack(channels)
