"""Crowded DAPI-stained nuclei of breast epithelium under a confocal microscope: imitates the MCF10A set."""

from __future__ import annotations

import msgspec
import numpy as np

from bench.data.synthetic._base import Generator, Picture, Planned
from bench.data.synthetic._exact import Draws, smooth_noise
from bench.data.synthetic._nuclei import Stain, haze, shot_noise, stain

SHAPE = (448, 448)
STYLE = Stain((85, 130), (78, 124), (5, 55), (180, 900), together=70, fragments=3)


class Mcf10a(Generator):
    """The stand-in of the private MCF10A set: 448 x 448 pixels, 8 bit, about a hundred nuclei an image."""

    name = "mcf10a"
    version = 2

    class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """Images of each part."""

        train: int = 484
        val: int = 8
        test: int = 8

    def plan(self) -> tuple[Planned, ...]:
        """All images, in order; see :meth:`Generator.plan`."""
        return tuple(
            Planned(part, f"{part}{i // 4:03d}", i % 4)
            for part in ("train", "val", "test")
            for i in range(getattr(self.params, part))
        )

    def make(self, item: Planned) -> Picture:
        """Make one image; see :meth:`Generator.make`."""
        seed = f"{self.name} {self.version} {self.seed} {item.stem}"
        draws = Draws(f"{seed} light")
        light, labels = stain(STYLE, seed, SHAPE)
        light = light * (1000 + smooth_noise(draws, SHAPE, 90, 350)) // 1000 + haze(light, 14)
        image = light * draws.integer(150, 215) // 1000 + draws.integer(4, 14)
        image = image + shot_noise(image, draws, 180, 14)
        return Picture(np.clip(image, 0, 255).astype(np.uint8), {"nucleus": labels})
