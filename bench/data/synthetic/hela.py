"""HeLa cells in differential interference contrast, packed, as two films: imitates DIC-C2DH-HeLa."""

from __future__ import annotations

from bench.data.synthetic._colony import Style, fill
from bench.data.synthetic._exact import Draws, Field, smooth_noise
from bench.data.synthetic._film import Film
from bench.data.synthetic._optics import background, dot, relief
from bench.data.synthetic._paint import Labels


class Hela(Film):
    """The stand-in of DIC-C2DH-HeLa: two films of 84 frames of 512 x 512 pixels, 8 bit.

    Thickness is shown by its slope, as if lit from the upper left; the inside of a cell is as gray as the background,
    and where two touch only the texture tells them apart.
    """

    name = "hela"
    version = 3
    shape = (512, 512)
    frames = 84
    style = Style(
        (42, 48), (340, 480), (0, 40), (230, 330), flatness=2, lobes=(0, 2), processes=(0, 1), process_length=(80, 200),
        nucleus=80, texture=8, together=45, spacing=57, outline=16, seam=60, tries=40,
    )  # fmt: skip
    speed = 6

    def picture(self, scene: str, frame: int) -> tuple[Field, Labels]:
        """Grey levels and labels of a frame; see :meth:`Film.picture`."""
        seed = f"{scene} {frame // 3}"
        thickness, labels = fill(self.style, self.cells(scene, frame), seed, self.shape, smallest=150)
        grains = Draws(f"{seed} grains")
        fine = smooth_noise(grains, self.shape, 3, 15, coarser=3, coarse_amplitude=24)
        thickness = thickness + (labels > 0) * fine
        for _ in range(520):  # vesicles
            y, x = grains.integer(0, self.shape[0] - 1), grains.integer(0, self.shape[1] - 1)
            if labels[y, x]:
                dot(thickness, y, x, grains.integer(1, 3), grains.integer(-60, 110))
        shade = background(Draws(f"{scene} background"), self.shape, level=(118, 132), shadow=5, grain=2)
        return relief(thickness, 15) + shade, labels
