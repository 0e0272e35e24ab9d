"""Eight cell lines in phase contrast at every density, up to a thousand cells an image: imitates LIVECell."""

from __future__ import annotations

from types import MappingProxyType

import msgspec

from bench.data.synthetic._base import Generator, Picture, Planned
from bench.data.synthetic._colony import Style, fill, grow
from bench.data.synthetic._exact import Draws
from bench.data.synthetic._optics import background, phase_contrast, specks, to_gray8

HEIGHT, WIDTH = 520, 704

# fmt: off
STYLES = MappingProxyType(
    {
        # flat glioblastoma cells of every form
        "A172": Style(
            (30, 230), (78, 148), (20, 130), (50, 130), flatness=3, lobes=(1, 4), processes=(0, 3), tip=80,
            pieces=2, taper=1, outline=15, texture=34, together=30, optics={"edge": 42},
        ),
        # flat epithelial islands with bright seams
        "BT474": Style(
            (60, 420), (74, 118), (0, 50), (70, 150), flatness=4, texture=24, islands=5, together=80, spacing=60,
            optics={"edge": 44, "body": 16},
        ),
        # small round microglia with bright centres, the densest of all
        "BV2": Style(
            (150, 1300), (36, 60), (0, 40), (330, 470), texture=25, together=25, outline=6, nucleus=0, tries=7,
            optics={"edge": 70},
        ),
        # large flat hepatocytes with clear nuclei
        "Huh7": Style(
            (30, 210), (108, 176), (0, 70), (50, 110), flatness=4, lobes=(0, 3), islands=4, together=70, spacing=62,
            nucleus=60, outline=15, texture=26, optics={"edge": 40, "body": 16},
        ),
        # small epithelial cells in clusters
        "MCF7": Style(
            (100, 760), (44, 74), (0, 60), (90, 200), flatness=3, texture=30, islands=9, together=70, spacing=64,
        ),
        # neuroblastoma with thin processes
        "SHSY5Y": Style(
            (80, 620), (44, 74), (10, 90), (110, 230), lobes=(0, 1), processes=(0, 2), process_length=(80, 260),
            texture=34, together=45,
        ),
        # round, bright, loosely attached
        "SkBr3": Style((60, 520), (44, 70), (0, 30), (330, 480), texture=30, together=35, outline=7, nucleus=0),
        # large spindle-shaped cells
        "SKOV3": Style(
            (24, 180), (92, 160), (30, 130), (60, 150), flatness=3, lobes=(0, 3), processes=(0, 2),
            process_length=(60, 160), tip=80, pieces=2, taper=1, texture=32, together=30, outline=15,
            optics={"edge": 46},
        ),
    }
)
# fmt: on
"""Cell line -> how it looks."""


class LiveCell(Generator):
    """The stand-in of LIVECell: 520 x 704 pixels, 8 bit; every line at every density in each part.

    The real images are crops of wells that were watched for days: here too the images of a group (line and well)
    become denser with time. Cells compete for a pixel and the thicker one has it, so that truth never overlaps.
    """

    name = "livecell"
    version = 2
    format = MappingProxyType(
        {
            "name": "label_pairs",
            "images": ["{part}/images/{group}_Phase_{well}_{frame}.png"],
            "labels": ["{part}/labels/{group}_Phase_{well}_{frame}.png"],
            "id": "{group}_Phase_{well}_{frame}",
        }
    )

    class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """Images of each part."""

        train: int = 3253
        val: int = 570
        test: int = 1564

    def plan(self) -> tuple[Planned, ...]:
        """All images, in order; see :meth:`Generator.plan`."""
        lines = tuple(STYLES)
        return tuple(
            Planned(part, f"{lines[i % 8]}_Phase_{row}{i // 64:02d}", i // 8 % 8)
            for row, part in (("A", "train"), ("B", "val"), ("C", "test"))
            for i in range(getattr(self.params, part))
        )

    def make(self, item: Planned) -> Picture:
        """Make one image; see :meth:`Generator.make`."""
        line = item.group.partition("_")[0]
        style = STYLES[line]
        seed = f"{self.name} {self.version} {self.seed} {item.stem}"
        shape = HEIGHT, WIDTH
        cells = grow(style, seed, shape, crowding=25 + 75 * item.frame // 7)
        thickness, labels = fill(style, cells, seed, shape)
        specks(thickness, Draws(f"{seed} specks"), 25)
        image = phase_contrast(thickness, **style.optics) + background(Draws(f"{seed} background"), shape, shadow=8)
        return Picture(to_gray8(image, Draws(f"{seed} noise"), 80), {line: labels})
