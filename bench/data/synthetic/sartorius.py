"""Three neuronal cell types that look different: imitates the Sartorius competition."""

from __future__ import annotations

from types import MappingProxyType

import msgspec

from bench.data import png
from bench.data.synthetic._base import Generator, Picture, Planned
from bench.data.synthetic._colony import Style, fill, grow
from bench.data.synthetic._exact import Draws
from bench.data.synthetic._optics import background, phase_contrast, specks, to_gray8

HEIGHT, WIDTH = 520, 704
UNLABELLED = ("unlabelled", "competition")
"""The parts without truth."""

# fmt: off
STYLES = MappingProxyType(
    {
        # neuroblastoma line: crowded small spindles
        "shsy5y": Style(
            (150, 560), (34, 62), (20, 120), (120, 260), lobes=(0, 1), processes=(0, 2), process_length=(60, 240),
            together=55, spacing=70,
        ),
        # astrocytes: large, flat, of every form, faint
        "astro": Style(
            (25, 130), (60, 130), (10, 110), (50, 130), flatness=3, lobes=(1, 4), processes=(1, 4),
            process_length=(100, 420), together=30, outline=18, optics={"edge": 40},
        ),
        # cortical neurons: small, round, bright, with a thin process or none
        "cort": Style(
            (10, 60), (44, 62), (0, 30), (330, 460), processes=(0, 2), process_length=(40, 300), texture=30,
            together=25, outline=7, nucleus=0, optics={"edge": 70},
        ),
    }
)
# fmt: on
"""Cell type -> how it looks."""

_OF_TEN = ("shsy5y",) * 3 + ("astro",) * 2 + ("cort",) * 5


class Sartorius(Generator):
    """The stand-in of the Sartorius competition: 520 x 704 pixels, 8 bit, 606 annotated and 1975 other images.

    An image holds one cell type; of ten images three, two and five show shsy5y, astro and cort. Unlike the real
    truth, that of the stand-in does not overlap.
    """

    name = "sartorius"
    version = 2
    format = MappingProxyType(
        {
            "name": "label_pairs",
            "images": ["{part}/images/{type}-{group}_{frame}.png"],
            "labels": {"{type}": ["{part}/labels/{type}-{group}_{frame}.png"]},
            "id": "{type}-{group}_{frame}",
            "unlabelled": list(UNLABELLED),
        }
    )

    class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """Images of each part."""

        train: int = 606
        unlabelled: int = 1972
        competition: int = 3

    def plan(self) -> tuple[Planned, ...]:
        """All images, in order; see :meth:`Generator.plan`."""
        return tuple(
            Planned(part, f"{_OF_TEN[i % 10]}-{part[0]}{i // 30:03d}", i % 30)
            for part in ("train", *UNLABELLED)
            for i in range(getattr(self.params, part))
        )

    def make(self, item: Planned) -> Picture:
        """Make one image; see :meth:`Generator.make`."""
        kind = item.group.partition("-")[0]
        style = STYLES[kind]
        seed = f"{self.name} {self.version} {self.seed} {item.stem}"
        shape = HEIGHT, WIDTH
        thickness, labels = fill(style, grow(style, seed, shape), seed, shape)
        specks(thickness, Draws(f"{seed} specks"), 50)
        image = phase_contrast(thickness, **style.optics) + background(Draws(f"{seed} background"), shape, shadow=8)
        return Picture(to_gray8(image, Draws(f"{seed} noise"), 90), {kind: labels})

    def paths(self, item: Planned) -> tuple[str, ...]:
        """Where the files of an image go; see :meth:`Generator.paths`."""
        return super().paths(item)[:1] if item.part in UNLABELLED else super().paths(item)

    def files(self, item: Planned) -> tuple[bytes, ...]:
        """The files of an image; see :meth:`Generator.files`."""
        return (png.encode(self.make(item).image),) if item.part in UNLABELLED else super().files(item)
