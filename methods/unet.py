"""U-Net with the three losses of Lin and Norouzi 2022, its instances the connected components of the foreground."""

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

CHOICES = {
    "loss": ("bce", "focal", "shape"),
    "decoder": ("components", "watershed"),
    "score": ("none", "mean_probability"),
    "norm": ("none", "batch", "group"),
    "up": ("transposed", "bilinear"),
}
"""What the settings that are words may be."""


class UNetMethod(DenseMapMethod):
    """A U-Net tells foreground from background; what hangs together in the foreground is an instance.

    One sigmoid map a class: for one class the same model as the paper's softmax over cell and background, whose
    probability depends on the difference of its two logits only.

    A component has no confidence of its own, so predictions carry no scores and AP is not applicable. With
    ``score=mean_probability`` each instance is scored by the mean foreground probability of its pixels: a summary of
    the network's own output, but not part of the published method, so it has to be asked for.
    """

    name = "unet"
    title = "U-Net"
    summary = "Foreground by a U-Net, instances by connected components."
    paper = Paper(
        title="An Effective Deep Learning Framework for Cell Segmentation in Microscopy Images",
        authors="S. Lin, N. Norouzi",
        year=2022,
        venue="EMBC",
    )
    scored = False
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "bce": {"loss": "bce"},
        "focal": {"loss": "focal"},
        "shape": {"loss": "shape"},
        "shape-watershed": {"loss": "shape", "decoder": "watershed"},
    }
    variant_titles: ClassVar[Mapping[str, str]] = {
        "bce": "U-Net, BCE loss",
        "focal": "U-Net, focal loss",
        "shape": "U-Net, shape-aware loss",
        "shape-watershed": "U-Net, shape-aware loss, watershed",
    }
    schedules: ClassVar[Mapping[str, Schedule]] = {
        "paper": Schedule(epochs=200, batch_size=4, note="at most; Adam 1e-3 is the paper's, the rest ours"),
        "short": Schedule(
            iterations=2500,
            batch_size=4,
            settings={"patience": 0},
            note="18 % of the paper schedule on 280 images, without early stopping",
        ),
        "smoke": replace(SMOKE, settings={"patience": 0}),
    }
    deviations = (
        "Training stops after 20 passes without a lower loss on one fixed crop of each validation image, and the best"
        " weights count: the paper stops early and says no more.",
        "Random 256 x 256 crops in batches of 4, each image scaled to zero mean and unit deviation: the paper names no"
        " crop, batch size or normalisation.",
        "Convolutions keep the image size (the original U-Net's lose a border), so that every pixel gets an answer.",
        "No dropout: the paper does not mention that of the original U-Net.",
        "The loss is the mean over pixels where equation 2 has their sum, so that it does not grow with the crop.",
        "Focal loss with gamma 2 and alpha 0.25, the values of its own paper: Lin and Norouzi give none.",
        "D is measured to the outermost pixels of each cell, both sides of a shared border included: the paper does not"
        " define the boundary.",
        "w_c is 1 where an image has no foreground or no background: the paper's ratio is undefined or zero there.",
        "Threshold 0.5, holes filled, components under 10 pixels dropped, 4-connected: the paper does not say how its"
        " U-Nets' instances were read off.",
        "With several classes, one sigmoid map a class: the paper has one.",
        "The variant shape-watershed is ours.",
    )

    after_network: ClassVar[tuple[str, ...]] = (
        *DenseMapMethod.after_network,
        "decoder",
        "threshold",
        "min_area",
        "summit_depth",
        "score",
    )

    augmentation = Augmentation(flip_horizontal=True)

    @dataclass(frozen=True)
    class Params(DenseMapMethod.Params):
        """Settings of the U-Net; those of every dense method beside them.

        Attributes:
            loss: ``bce``, ``focal`` or ``shape`` (Lin 2022, section III-A).
            widths: channels of each level; the default is Ronneberger 2015.
            norm: ``none`` (Ronneberger 2015), ``batch`` or ``group``.
            up: ``transposed`` (Ronneberger 2015) or ``bilinear``.
            alpha: weight of the boundary term of the shape-aware loss (Lin 2022: 10).
            sigma: its reach, pixels (Lin 2022: 5).
            focal_gamma: Lin 2017: 2.
            focal_alpha: Lin 2017: 0.25.
            decoder: ``components``, or ``watershed`` on the distance to background, which cuts merged cells apart.
            threshold: foreground above this probability.
            min_area: smaller instances are dropped, pixels (our choice).
            summit_depth: how far a cell's distance to background must rise above the waist between it and the next
                for the watershed to cut there, pixels (our choice).
            score: ``none`` (as published), or ``mean_probability`` of the foreground over an instance.
            patience: passes without a lower validation loss after which a training ends (our choice); 0: never.
        """

        loss: str = "bce"
        widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
        norm: str = "none"
        up: str = "transposed"
        alpha: float = 10.0
        sigma: float = 5.0
        focal_gamma: float = 2.0
        focal_alpha: float = 0.25
        decoder: str = "components"
        threshold: float = 0.5
        min_area: int = 10
        summit_depth: float = 1.0
        score: str = "none"
        patience: int = 20

        def __post_init__(self) -> None:
            super().__post_init__()
            for key, choices in CHOICES.items():
                if getattr(self, key) not in choices:
                    raise UsageError(f"unet: {key} cannot be {getattr(self, key)!r}", f"one of {', '.join(choices)}")
            for key in ("sigma", "summit_depth"):
                if getattr(self, key) <= 0:
                    raise UsageError(f"unet: {key} must be above 0, not {getattr(self, key)}")
            if self.patience < 0:
                raise UsageError(f"unet: patience must be 0 or more, not {self.patience}")
            if not self.widths or min(self.widths) < 1:
                raise UsageError("unet: widths must be one or more positive numbers", "for example 64,128,256")

    @property
    def patience(self) -> int:  # type: ignore[override]
        """See :attr:`DenseMapMethod.patience`."""
        return int(self.params.patience)

    def __init__(self, task: Task, params: Any = None, device: str = "cpu") -> None:
        super().__init__(task, params, device)
        self.scored = self.params.score != "none"  # the setting decides, not the class

    def network(self) -> nn.Module:
        """One gray channel to one map of logits a class."""
        from methods._unet import UNet

        p = self.params
        return UNet(1, p.widths, {"foreground": len(self.task.classes)}, norm=p.norm, up=p.up)

    def encode(self, sample: Sample) -> dict[str, NDArray[Any]]:
        """``foreground`` uint8 and ``weight``, both (classes, H, W); the weight of crowd regions is 0."""
        from methods._encoders import known, label_maps, shape_aware_weights

        assert sample.instances is not None
        p = self.params
        labels = label_maps(sample.instances, len(self.task.classes))
        weight = np.broadcast_to(known(sample.instances), labels.shape).astype(np.uint8)
        if p.loss == "shape":
            weight = weight * np.stack([shape_aware_weights(m, alpha=p.alpha, sigma=p.sigma) for m in labels])
        return {"foreground": (labels != 0).astype(np.uint8), "weight": weight}

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy, weighted by shape in the variant ``shape``, or focal loss."""
        from methods._losses import binary_cross_entropy, focal

        p = self.params
        arguments = outputs["foreground"], targets["foreground"], targets["weight"]
        if p.loss == "focal":
            return {"loss_focal": focal(*arguments, gamma=p.focal_gamma, alpha=p.focal_alpha)}
        return {f"loss_{p.loss}": binary_cross_entropy(*arguments)}

    def decode(self, maps: Mapping[str, NDArray[np.float32]], image: NDArray[Any]) -> Instances:
        """Threshold, fill holes, take components (or cut them by the watershed), drop the small."""
        from methods._decoders import connected_components, fill_holes, from_label_maps, watershed_of_distance

        p = self.params
        probability = maps["foreground"]
        masks = [fill_holes(plane > p.threshold) for plane in probability]
        if p.decoder == "watershed":
            labels = [watershed_of_distance(mask, p.min_area, p.summit_depth) for mask in masks]
        else:
            labels = [connected_components(mask, p.min_area) for mask in masks]
        return from_label_maps(labels, list(probability) if p.score == "mean_probability" else None)
