"""Thirty cell cultures with cells and their nuclei, sharp and blurred, partly annotated: imitates EVICAN."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench.data import png
from bench.data.synthetic._base import Generator, Picture, Planned
from bench.data.synthetic._colony import Style, fill, grow
from bench.data.synthetic._exact import Draws, Field, blur
from bench.data.synthetic._optics import background, phase_contrast, relief, specks, to_gray8
from bench.data.synthetic._paint import Labels, paint, tidy
from bench.data.synthetic._shapes import Rod
from bench.instances import Instances

SHAPE = (480, 640)
CULTURES = (
    "769p", "786-O", "A549", "BHK-21", "C2C12", "CAKI-2", "CHO", "COS-7", "Caco-2", "Colo", "DLD-1", "DU-145",
    "HCT116", "HEK293", "HT1080", "HT29", "HaCaT", "HeLa", "Hel299", "HepG2", "MCC26", "MCF-7", "MDA-MB", "NIH-3T3",
    "PC-3", "RKO", "SH-SY5Y", "SK-BR-3", "SW-480", "hMSC",
)  # fmt: skip
BACKGROUND = "Background"
_BLUR = {"easy": 0, "medium": 2, "difficult": 4}
_TRUTH = ".truth"


class Evican(Generator):
    """The stand-in of EVICAN in its own layout: 480 x 640 pixels, 8 bit, one annotation file for each part.

    Each culture has a look of its own; one image in twelve shows background only. In the parts ``train`` and ``val``
    some cells are left out of the truth, as they are in the real set; the three parts of the evaluation are fully
    annotated and more and more out of focus.
    """

    name = "evican"
    version = 2
    format = None

    class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """Images of each part, and how many of 100 cells are annotated in ``train`` and ``val``."""

        train: int = 3714
        val: int = 926
        easy: int = 33
        medium: int = 33
        difficult: int = 32
        annotated: int = 80

    def plan(self) -> tuple[Planned, ...]:
        """All images, in order; see :meth:`Generator.plan`."""
        planned = []
        for part in ("train", "val", *_BLUR):
            for i in range(getattr(self.params, part)):
                empty = part not in _BLUR and i % 12 == 11
                planned.append(Planned(part, BACKGROUND if empty else CULTURES[i % len(CULTURES)], i))
        return tuple(planned)

    def make(self, item: Planned) -> Picture:
        """Make one image; see :meth:`Generator.make`."""
        seed = f"{self.name} {self.version} {self.seed} {item.part} {item.frame}"
        draws = Draws(f"{seed} light")
        thickness: Field = np.zeros(SHAPE, np.int32)
        cells: Labels = np.zeros(SHAPE, np.uint16)
        nuclei: Labels = np.zeros(SHAPE, np.uint16)
        look = Draws(f"{self.name} {self.version} look of {item.group}")
        style, slanted = _style(look), look.chance(30)
        if item.group != BACKGROUND:
            grown = grow(style, seed, SHAPE)
            thickness, cells = fill(style, grown, seed, SHAPE, smallest=120)
            rods = [[Rod(y, x, size, y, x, size, 100, 2)] for y, x, size in (cell.nucleus for cell in grown)]
            nuclei = tidy(np.where(cells > 0, paint(rods, SHAPE, None)[1], 0).astype(np.uint16), 25)
        specks(thickness, Draws(f"{seed} specks"), 60)
        shown = relief(thickness, 13) if slanted else phase_contrast(thickness, **style.optics)
        image = shown + background(draws, SHAPE, level=(90, 160), tilt=40, shadow=16, grain=5)
        if radius := _BLUR.get(item.part, draws.pick((70, 20, 10))):
            image = blur(image, radius, 2)
        if item.part not in _BLUR:
            cells, nuclei = _partly(cells, nuclei, self.params.annotated, draws)
        return Picture(to_gray8(image, Draws(f"{seed} noise"), 90), {"Cell": cells, "Nucleus": nuclei})

    def paths(self, item: Planned) -> tuple[str, ...]:
        """Where the files of an image go; see :meth:`Generator.paths`."""
        folder = "EVICAN_eval2019" if item.part in _BLUR else f"EVICAN_{item.part}2019"
        return f"{folder}/{_name(item)}", f"{_TRUTH}/{item.part}_{item.frame:05d}.json"

    def files(self, item: Planned) -> tuple[bytes, ...]:
        """The image, and its annotations without numbers; see :meth:`Generator.files`."""
        picture = self.make(item)
        annotations = []
        for kind, labels in picture.labels.items():
            instances = Instances.from_label_map(labels)
            for counts in instances.rles:
                segmentation = {"size": list(SHAPE), "counts": counts.decode()}
                annotations.append({"kind": kind, "segmentation": segmentation})
        return png.encode(picture.image), msgspec.json.encode(annotations)

    def closing_files(self, folder: Path) -> Mapping[str, bytes]:
        """The annotation files of EVICAN2 and EVICAN60; see :meth:`Generator.closing_files`."""
        result = {}
        for part in ("train", "val", *_BLUR):
            split = f"eval2019_{part}" if part in _BLUR else f"{part}2019"
            items = [item for item in self.plan() if item.part == part]
            annotations = [msgspec.json.decode((folder / self.paths(item)[1]).read_bytes()) for item in items]
            for family in ("EVICAN2", "EVICAN60"):
                content = _annotation_file(items, annotations, family)
                result[f"instances_{split}_{family}.json"] = msgspec.json.encode(content)
        return result


def _name(item: Planned) -> str:
    """As the real ones: ``10_C2C12.png``; what part it belongs to is said by its folder, or its number."""
    offset = {"medium": 100, "difficult": 200}.get(item.part, 0)
    return f"{item.frame + offset}_{item.group}.png"


def _style(look: Draws) -> Style:
    """The look of a culture."""
    size = look.integer(90, 210)
    return Style(
        (3, look.integer(6, 16)), (size * 3 // 4, size), (0, look.integer(20, 120)),
        (look.integer(60, 140), look.integer(170, 320)), flatness=look.integer(1, 3), lobes=(0, look.integer(0, 4)),
        processes=(0, look.integer(0, 3)), process_length=(60, look.integer(120, 320)), nucleus=look.integer(50, 100),
        texture=look.integer(20, 50), together=look.integer(20, 70), spacing=look.integer(70, 100),
        outline=look.integer(8, 20), optics={"edge": look.integer(32, 60)},
    )  # fmt: skip


def _partly(cells: Labels, nuclei: Labels, percent: int, draws: Draws) -> tuple[Labels, Labels]:
    """Truth from which some cells are missing, and their nuclei with them."""
    count = int(cells.max())
    kept = np.array([False, *(draws.chance(percent) for _ in range(count))])
    annotated = kept[cells]
    return np.where(annotated, cells, 0).astype(np.uint16), np.where(annotated, nuclei, 0).astype(np.uint16)


def _annotation_file(items: list[Planned], truths: list[list[dict[str, Any]]], family: str) -> dict[str, Any]:
    kinds = ("Cell", "Nucleus")
    names = kinds if family == "EVICAN2" else tuple(f"{c}_{kind}" for kind in kinds for c in CULTURES)
    number = {name: i + 1 for i, name in enumerate(names)}

    def annotations() -> Iterator[dict[str, Any]]:
        count = 0
        for image, (item, truth) in enumerate(zip(items, truths, strict=True), 1):
            for annotation in truth:
                count += 1
                kind = annotation["kind"]
                category = number[kind if family == "EVICAN2" else f"{item.group}_{kind}"]
                yield {
                    "id": count, "image_id": image, "category_id": category, "iscrowd": 0,
                    "segmentation": annotation["segmentation"],
                }  # fmt: skip

    return {
        "images": [
            {"id": i, "file_name": _name(item), "height": SHAPE[0], "width": SHAPE[1]}
            for i, item in enumerate(items, 1)
            if item.group != BACKGROUND
        ],
        "categories": [{"id": i, "name": name} for name, i in number.items()],
        "annotations": list(annotations()),
    }
