"""CALT-US: a U-Net that also learns where cells touch and what lies between them, with J regularisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.api import SMOKE, Instances, Paper, Sample, Schedule, UsageError
from methods._augmentation import Augmentation
from methods._dense import DenseMapMethod

if TYPE_CHECKING:
    from torch import Tensor, nn

DECODERS = ("map", "threshold", "watershed")
TURNS = (1, 2, 4)


class CALTUS(DenseMapMethod):
    """Background, cell, touching and gap: cells are what is left of the foreground without where they touch.

    The three variants differ only in how the instances are read off the maps, so they share one training.
    """

    name = "calt_us"
    title = "CALT-US"
    summary = "Four classes by a U-Net with J regularisation: background, cell, touching, gap."
    paper = Paper(
        title="J Regularization Improves Imbalanced Multiclass Segmentation",
        authors="F. A. Guerrero Pena, P. D. Marrero Fernandez, P. T. Tarr, T. I. Ren, E. M. Meyerowitz, A. Cunha",
        year=2020,
        venue="ISBI",
        url="https://arxiv.org/abs/1910.09783",
    )
    scored = False
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "": {"decoder": "map"},
        "th": {"decoder": "threshold"},
        "wts": {"decoder": "watershed"},
    }
    variant_titles: ClassVar[Mapping[str, str]] = {
        "": "CALT-US, MAP",
        "th": "CALT-US, thresholds",
        "wts": "CALT-US, watershed",
    }
    schedules: ClassVar[Mapping[str, Schedule]] = {
        "paper": Schedule(epochs=1000, batch_size=4, note="the package's 1,000 epochs; the batch size is ours"),
        "short": Schedule(iterations=2000, batch_size=4, note="6 % of the paper schedule on 134 images"),
        "smoke": replace(SMOKE, eval_images=3, settings={"crop": 128, "turns": 1}),
    }
    deviations = (
        "Trained from random weights with the defaults of the authors' package jcell (Adam 1e-4, 1,000 epochs, strength"
        " 0.5 of the regularisation): the challenge entry began with a general model that is not available.",
        "Random 256 x 256 crops in batches of 4: the package's crop, our batch size.",
        "Touching and gap are drawn with the radii of the challenge entry, 1 and 7 pixels.",
        "With thresholds, a pixel is touching only where background is not the likelier: the bare threshold of 0.05"
        " would let cells grow over background.",
        "Cells grow over touching pixels until nothing changes; of two that arrive together the higher label wins.",
        "The height that the watershed floods is not rounded to 255 levels, as jcell rounds it.",
        "Instances under 10 pixels are dropped; jcell's default keeps all.",
        "Crowd regions are left out of both terms of the loss.",
        "With several classes, four maps each.",
    )
    after_network: ClassVar[tuple[str, ...]] = (
        *DenseMapMethod.after_network,
        "decoder",
        "cell_threshold",
        "touching_threshold",
        "seed_threshold",
        "background_threshold",
        "turns",
        "min_area",
    )

    augmentation = Augmentation(flip_horizontal=True, flip_vertical=True, rotation=180.0)

    @dataclass(frozen=True)
    class Params(DenseMapMethod.Params):
        """Settings; those of every dense method beside them. "Entry" is the one to the Cell Tracking Challenge.

        Attributes:
            learning_rate: of Adam (jcell).
            widths: channels of each level (jcell).
            low_percentile: of the grey levels that becomes 0 (jcell).
            high_percentile: that becomes 1 (jcell).
            touching_radius: by which touching pixels are widened, pixels (entry).
            gap_radius: of the closing that finds gaps, pixels (entry).
            min_gap: smaller gaps are background, pixels (jcell).
            regularisation: strength of J, for every pair of classes (jcell; entry: 0.05).
            decoder: ``map`` (the maximum a posteriori, mended; entry), ``threshold`` or ``watershed``.
            cell_threshold: of decoder ``threshold`` (jcell).
            touching_threshold: of decoder ``threshold`` (jcell).
            seed_threshold: of decoder ``watershed`` (jcell).
            background_threshold: of decoder ``watershed`` (jcell).
            turns: predictions averaged, of the image turned by right angles: 1, 2 or 4 (jcell's command line: 4).
            min_area: smaller instances are dropped, pixels (our choice; jcell keeps all).
        """

        learning_rate: float = 1e-4
        widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
        low_percentile: float = 1.0
        high_percentile: float = 99.0
        touching_radius: float = 1.0
        gap_radius: float = 7.0
        min_gap: int = 8
        regularisation: float = 0.5
        decoder: str = "map"
        cell_threshold: float = 0.49
        touching_threshold: float = 0.05
        seed_threshold: float = 0.95
        background_threshold: float = 0.9
        turns: int = 4
        min_area: int = 10

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.decoder not in DECODERS:
                raise UsageError(f"calt_us: decoder cannot be {self.decoder!r}", f"one of {', '.join(DECODERS)}")
            if self.turns not in TURNS:
                raise UsageError(f"calt_us: turns must be 1, 2 or 4, not {self.turns}")
            for key in ("touching_radius", "gap_radius", "regularisation"):
                if getattr(self, key) < 0:
                    raise UsageError(f"calt_us: {key} must be at least 0, not {getattr(self, key)}")
            if not 0 <= self.low_percentile < self.high_percentile <= 100:
                raise UsageError("calt_us: low_percentile must be below high_percentile, both from 0 to 100")

    def prepare(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """One gray channel, its 1st percentile at 0 and its 99th at 1."""
        from methods._grey_levels import between_percentiles

        return between_percentiles(image, self.params.low_percentile, self.params.high_percentile)[None]

    def network(self) -> nn.Module:
        """One gray channel to four maps a class."""
        from methods._unet import UNet

        return UNet(1, self.params.widths, {"semantic": 4 * len(self.task.classes)}, up="bilinear")

    def encode(self, sample: Sample) -> dict[str, NDArray[Any]]:
        """``semantic`` uint8 (classes, H, W), 0 to 3, or 255 in crowd regions."""
        from methods._encoders import four_classes, known, label_maps

        assert sample.instances is not None
        p = self.params
        labels = label_maps(sample.instances, len(self.task.classes))
        semantic = np.stack(
            [
                four_classes(m, touching_radius=p.touching_radius, gap_radius=p.gap_radius, min_gap=p.min_gap)
                for m in labels
            ]
        )
        semantic[:, ~known(sample.instances)] = 255
        return {"semantic": semantic}

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy and J regularisation, each the mean over the task's classes."""
        from methods._losses import cross_entropy, j_regularisation

        logits, truth = outputs["semantic"], targets["semantic"]
        pairs = list(zip(logits.split(4, dim=1), truth.unbind(dim=1), strict=True))
        strength = self.params.regularisation
        return {
            "loss_cross_entropy": sum(cross_entropy(x, y) for x, y in pairs) / len(pairs),  # type: ignore[dict-item]
            "loss_j": sum(j_regularisation(x, y, strength=strength) for x, y in pairs) / len(pairs),  # type: ignore[dict-item]
        }

    def activate(self, outputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The logits as they are: :meth:`infer` takes their mean before the softmax."""
        return outputs

    def infer(self, prepared: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
        """Softmax over the four maps of each class, of the mean over the image turned by right angles (jcell)."""
        from scipy.special import softmax

        turns = range(0, 4, 4 // self.params.turns)
        found = []
        for turn in turns:
            maps = super().infer(np.rot90(prepared, turn, axes=(1, 2)).copy())
            found.append(np.rot90(maps["semantic"], -turn, axes=(1, 2)))
        logits = np.mean(found, axis=0, dtype=np.float32)
        by_class = logits.reshape(-1, 4, *logits.shape[1:])
        return {"semantic": softmax(by_class, axis=1).reshape(logits.shape)}

    def decode(self, maps: Mapping[str, NDArray[np.float32]], image: NDArray[Any]) -> Instances:
        """By the maximum a posteriori, by thresholds or by a watershed."""
        from methods._decoders import (
            flooded_cells,
            from_label_maps,
            grown_cells,
            likeliest_of_three,
            thresholded_three,
        )

        p = self.params
        found = []
        for probability in np.split(maps["semantic"], len(self.task.classes)):
            if p.decoder == "watershed":
                found.append(flooded_cells(probability, p.seed_threshold, p.background_threshold, p.min_area))
            elif p.decoder == "map":
                found.append(grown_cells(likeliest_of_three(probability), p.min_area))
            else:
                classes = thresholded_three(probability, p.cell_threshold, p.touching_threshold)
                found.append(grown_cells(classes, p.min_area))
        return from_label_maps(found)
