"""MU-Lux-CZ: a U-Net that finds cells and a marker in each, and a watershed from the markers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.api import SMOKE, Instances, Paper, Sample, Schedule, Task, UsageError
from methods._augmentation import Augmentation
from methods._dense import DenseMapMethod

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Recipe:
    """What the authors did differently from one data set of the Cell Tracking Challenge to another.

    Attributes:
        normalisation: ``equalisation`` of the histogram, or ``illumination`` removal.
        post_processing: ``circular`` or ``non_circular`` cells.
        marker_threshold: of 255.
        mask_threshold: of 255.
        dome: depth of the domes in circular post-processing, of 255.
        border: cells of which more than half lies so near the edge of the image were left out, pixels.
    """

    normalisation: str
    post_processing: str
    marker_threshold: int
    mask_threshold: int
    dome: int
    border: int


RECIPES: Mapping[str, Recipe] = {
    "DIC-C2DH-HeLa": Recipe("equalisation", "non_circular", 240, 216, 5, 15),
    "PhC-C2DL-PSC": Recipe("illumination", "circular", 240, 156, 3, 12),
    "Fluo-N2DH-SIM+": Recipe("equalisation", "circular", 240, 229, 5, 1),
}
"""The entry's data sets; another one takes that of its modality."""
CHOICES = {
    "recipe": ("auto", *RECIPES),
    "normalisation": ("auto", "equalisation", "illumination"),
    "post_processing": ("auto", "circular", "non_circular"),
}
"""What the settings that are words may be."""


def recipe_for(modality: str) -> str:
    """The recipe for images of a modality: DIC, phase contrast, and for all others that of fluorescence."""
    words = modality.lower()
    if "dic" in words or "interference" in words:
        return "DIC-C2DH-HeLa"
    return "PhC-C2DL-PSC" if "phase" in words else "Fluo-N2DH-SIM+"


class MULuxCZ(DenseMapMethod):
    """Two maps of one U-Net, cells and the inner part of each cell; each marker floods the cells around it."""

    name = "mu_lux_cz"
    title = "MU-Lux-CZ"
    summary = "Cells and markers by a U-Net, instances by a marker-controlled watershed."
    paper = Paper(
        title="DIC Image Segmentation of Dense Cell Populations by Combining Deep Learning and Watershed",
        authors="F. Lux, P. Matula",
        year=2019,
        venue="ISBI, 236-239",
        note="what it leaves open follows the same authors' later arXiv:2004.01607",
    )
    scored = False
    schedules: ClassVar[Mapping[str, Schedule]] = {
        "paper": Schedule(epochs=400, batch_size=8, note="Adam 1e-4 is the authors'; length and batch size are ours"),
        "short": Schedule(iterations=2000, batch_size=8, note="30 % of the paper schedule on 134 images"),
        "smoke": replace(SMOKE, eval_images=3, settings={"crop": 128}),
    }
    deviations = (
        "The weights of the squared error are one of those in the authors' later DeepWater code, with 1 added so that"
        " no pixel is without: those of the 2019 entry are not published. They weigh both maps.",
        "Targets are those of DeepWater; a marker that its median filter erases is kept.",
        "Random 256 x 256 crops in batches of 8 for 400 epochs: the entry gives none of these.",
        "Xavier-normal initial weights and Adam's usual betas: not stated.",
        "Cells at the edge of the image are kept (--set border=-1 drops them as the entry did): its rule serves the"
        " challenge, which does not score them.",
        "Other data sets take thresholds and style of the entry's data set of the same modality.",
        "16-bit images are stretched between percentiles to 8 bits; the Gaussian of the illumination removal, a window"
        " of 501 pixels, has the standard deviation that OpenCV gives to it, 75.5.",
        "Instances under 10 pixels are dropped: the entry names no limit.",
        "With several classes, a pair of maps each.",
    )
    after_network: ClassVar[tuple[str, ...]] = (
        *DenseMapMethod.after_network,
        "post_processing",
        "marker_threshold",
        "mask_threshold",
        "dome",
        "opening",
        "border",
        "min_area",
    )

    augmentation = Augmentation(flip_horizontal=True, flip_vertical=True, rotation=180.0, zoom=0.3)

    @dataclass(frozen=True)
    class Params(DenseMapMethod.Params):
        """Settings; those of every dense method beside them. "Entry" is the one to the Cell Tracking Challenge.

        Attributes:
            learning_rate: of Adam (entry).
            widths: channels of each level (entry).
            recipe: of which of the entry's data sets, or ``auto``: by the modality.
            normalisation: ``equalisation``, ``illumination`` or ``auto``: the recipe's.
            post_processing: ``circular``, ``non_circular`` or ``auto``: the recipe's.
            marker_threshold: of 255; 0: the recipe's.
            mask_threshold: of 255; 0: the recipe's.
            dome: depth of a dome in circular post-processing, of 255; 0: the recipe's.
            opening: side of the ellipse in non-circular post-processing, pixels (entry).
            border: cells with more than half their area so near the image's edge are dropped, pixels; 0 keeps all, -1
                is the recipe's.
            min_area: smaller instances are dropped, pixels (our choice).
            illumination_sigma: of the Gaussian in illumination removal, pixels (derived from its window of 501).
            marker_share: of the way to a cell's centre that its marker may fill, percent (DeepWater).
            marker_median: side of the window that smooths markers, pixels (DeepWater).
            weight_reach: how near a cell must be to count in the weights, pixels (DeepWater).
            weight_strength: of a cell's nearness, a pixel (DeepWater).
        """

        learning_rate: float = 1e-4
        widths: tuple[int, ...] = (32, 64, 128, 256, 512)
        recipe: str = "auto"
        normalisation: str = "auto"
        post_processing: str = "auto"
        marker_threshold: int = 0
        mask_threshold: int = 0
        dome: int = 0
        opening: int = 8
        border: int = 0
        min_area: int = 10
        illumination_sigma: float = 75.5
        marker_share: int = 70
        marker_median: int = 5
        weight_reach: float = 20.0
        weight_strength: float = 0.075

        def __post_init__(self) -> None:
            super().__post_init__()
            for key, choices in CHOICES.items():
                if getattr(self, key) not in choices:
                    raise UsageError(
                        f"mu_lux_cz: {key} cannot be {getattr(self, key)!r}", f"one of {', '.join(choices)}"
                    )
            for key in ("marker_threshold", "mask_threshold", "dome"):
                if not 0 <= getattr(self, key) < 255:
                    raise UsageError(f"mu_lux_cz: {key} must be from 0 to 254, not {getattr(self, key)}")
            for key, least in (("opening", 1), ("border", -1), ("marker_median", 1), ("illumination_sigma", 0)):
                if getattr(self, key) < least:
                    raise UsageError(f"mu_lux_cz: {key} must be at least {least}, not {getattr(self, key)}")
            if not 1 <= self.marker_share <= 100:
                raise UsageError(f"mu_lux_cz: marker_share must be from 1 to 100, not {self.marker_share}")

    def __init__(self, task: Task, params: Any = None, device: str = "cpu") -> None:
        super().__init__(task, params, device)
        p = self.params
        recipe = RECIPES[recipe_for(task.modality) if p.recipe == "auto" else p.recipe]
        self.recipe = Recipe(
            normalisation=recipe.normalisation if p.normalisation == "auto" else p.normalisation,
            post_processing=recipe.post_processing if p.post_processing == "auto" else p.post_processing,
            marker_threshold=p.marker_threshold or recipe.marker_threshold,
            mask_threshold=p.mask_threshold or recipe.mask_threshold,
            dome=p.dome or recipe.dome,
            border=recipe.border if p.border == -1 else p.border,
        )

    def prepare(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """One gray channel, its histogram equalised or its illumination removed."""
        from methods._grey_levels import equalised, evenly_lit, gray8

        gray = gray8(image)
        if self.recipe.normalisation == "equalisation":
            return equalised(gray)[None]
        return evenly_lit(gray, self.params.illumination_sigma)[None]

    def network(self) -> nn.Module:
        """One gray channel to a two-way softmax of cells and one of markers, for each class."""
        from methods._unet import UNet

        pairs = 2 * len(self.task.classes)
        return UNet(1, self.params.widths, {"marker": pairs, "mask": pairs}, up="bilinear")

    def encode(self, sample: Sample) -> dict[str, NDArray[Any]]:
        """``marker`` and ``mask`` uint8 and ``weight`` float32, all (classes, H, W); crowd regions weigh 0."""
        from methods._encoders import crowding_weights, inner_markers, known, label_maps

        assert sample.instances is not None
        p = self.params
        labels = label_maps(sample.instances, len(self.task.classes))
        markers = np.stack([inner_markers(m, share=p.marker_share, median=p.marker_median) for m in labels])
        weight = np.stack(
            [
                crowding_weights(m, marker, reach=p.weight_reach, strength=p.weight_strength)
                for m, marker in zip(labels, markers, strict=True)
            ]
        )
        return {
            "marker": markers.astype(np.uint8),
            "mask": (labels != 0).astype(np.uint8),
            "weight": weight * known(sample.instances),
        }

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weighted squared error of both maps."""
        from methods._losses import foreground_logits, squared_error

        return {
            f"loss_{name}": squared_error(foreground_logits(outputs[name]), targets[name], targets["weight"])
            for name in ("marker", "mask")
        }

    def activate(self, outputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Softmax probability of marker and of cell, for each class."""
        from methods._losses import foreground_logits

        return {name: foreground_logits(pairs).sigmoid() for name, pairs in outputs.items()}

    def decode(self, maps: Mapping[str, NDArray[np.float32]], image: NDArray[Any]) -> Instances:
        """Markers in the style of the cells' shape, each flooding the cells around it."""
        from methods._decoders import domed_markers, flood, from_label_maps, plain_markers, without_border

        p, recipe = self.params, self.recipe
        threshold = recipe.marker_threshold / 255
        found = []
        for marker, mask in zip(maps["marker"], maps["mask"], strict=True):
            if recipe.post_processing == "circular":
                markers = domed_markers(marker, threshold, recipe.dome / 255)
            else:
                markers = plain_markers(marker, threshold, p.opening)
            labels = flood(markers, mask, mask > recipe.mask_threshold / 255, p.min_area)
            found.append(without_border(labels, recipe.border))
        return from_label_maps(found)
