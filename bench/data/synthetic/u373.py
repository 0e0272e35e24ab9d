"""Glioblastoma cells in phase contrast, few and large, as two films: imitates PhC-C2DH-U373."""

from __future__ import annotations

from bench.data.synthetic._colony import Style, fill
from bench.data.synthetic._exact import Draws, Field
from bench.data.synthetic._film import Film
from bench.data.synthetic._optics import background, phase_contrast, specks
from bench.data.synthetic._paint import Labels


class U373(Film):
    """The stand-in of PhC-C2DH-U373: two films of 115 frames of 520 x 696 pixels, 8 bit.

    Thick bodies with a bright halo, wide lamellipodia that are hardly darker than the background, and long tails.
    """

    name = "u373"
    version = 2
    shape = (520, 696)
    frames = 115
    style = Style(
        (8, 12), (150, 230), (10, 60), (110, 200), lobes=(3, 6), processes=(1, 3), process_length=(120, 420),
        nucleus=70, texture=26, together=10, spacing=120, outline=22, optics={"edge": 34, "body": 40, "bright": 210},
    )  # fmt: skip
    speed = 9

    def picture(self, scene: str, frame: int) -> tuple[Field, Labels]:
        """Grey levels and labels of a frame; see :meth:`Film.picture`."""
        thickness, labels = fill(
            self.style, self.cells(scene, frame), f"{scene} {frame // 3}", self.shape, smallest=150
        )
        specks(thickness, Draws(f"{scene} specks"), 40)
        shade = background(Draws(f"{scene} background"), self.shape, level=(96, 112), shadow=6)
        return phase_contrast(thickness, **self.style.optics) + shade, labels
