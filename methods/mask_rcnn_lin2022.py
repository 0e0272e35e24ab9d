"""Mask R-CNN with the three mask losses of Lin and Norouzi 2022."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from bench.api import Paper, Schedule, UsageError
from methods._mmdet import Training
from methods._proposals import DEVIATIONS_FOR_CELLS
from methods.mask_rcnn import MaskRCNN

LOSSES = ("bce", "focal", "shape")


class MaskRCNNByPixel(MaskRCNN):
    """Mask R-CNN R50-FPN whose mask loss weighs pixels by how near they are to a boundary, and its two rivals.

    Optimised as the paper has it: Adam, the learning rate divided by ten every three epochs, horizontal flips, and
    training ended by the validation loss.
    """

    name = "mask_rcnn"
    title = "Mask R-CNN"
    summary = "Mask R-CNN R50-FPN with cross-entropy, focal or shape-aware mask loss."
    paper = Paper(
        "An Effective Deep Learning Framework for Cell Segmentation in Microscopy Images",
        "S. Lin, N. Norouzi",
        2022,
        "EMBC",
    )
    origin = "reimplementation"
    modules = ("methods._mask_losses",)
    inits = ("random", "coco", "imagenet")
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {loss: {"mask_loss": loss} for loss in LOSSES}
    variant_titles: ClassVar[Mapping[str, str]] = {
        "bce": "Mask R-CNN, BCE loss",
        "focal": "Mask R-CNN, focal loss",
        "shape": "Mask R-CNN, shape-aware loss",
    }
    schedules: ClassVar[Mapping[str, Schedule]] = {
        "paper": Schedule(
            epochs=30, batch_size=2, note="early stopping is the paper's; the batch and the most epochs are ours"
        ),
        "short": Schedule(iterations=1500, batch_size=2, note="at most; the validation loss may end it before"),
        "smoke": Schedule(
            iterations=6,
            batch_size=1,
            train_images=16,
            eval_images=6,
            settings={"image_scale": (512, 512), "samples": 128, "patience": 0},
            note="shows that it runs; says nothing about accuracy",
        ),
    }
    deviations = (
        "The paper starts from published weights (of COCO, presumably): that is --init coco. The default is random "
        "weights, with group normalisation everywhere, since no weights travel with this project.",
        "Early stopping watches the loss on the validation split, measured after every epoch, with a patience of 5 "
        "epochs, and keeps the best weights: the paper does not say what it watches, or for how long.",
        "Where a data set has no validation split, as the paper's two have none here, a tenth of the training images "
        "is held out for early stopping, by the seed: whole sequences, or, where these are too few, the last tenth of "
        "each. The paper validates on its test images. patience=0 trains on all, to the schedule's end.",
        "Batches of 2 and at most 30 epochs: the paper gives neither.",
        "The distance to the boundary is in pixels of the resized image, taken after all augmentation.",
        "D is measured to the outermost pixels of each cell, both sides of a shared border included, w_c is 1 where an "
        "image has no foreground or no background, and the focal loss has gamma 2 and alpha 0.25, as in unet: the "
        "paper defines none of these.",
        "The mask loss is the mean over RoIs and pixels, so weights of up to 10 + w_c count against the box losses as "
        "much more; normalise=true divides by the mean weight.",
        "With several classes, one weight map for all: the paper has one class.",
        "From random weights, the box head has four convolutions with group normalisation and one fully connected "
        "layer instead of two fully connected ones (1.3 million weights more), also as in He et al. 2019.",
        "Anchors start below 32 px where the data set's objects are smaller; proposals and detections are capped by "
        "the data set's needs instead of 1000 and 100, and 512 sampled RoIs become as many as its densest image needs.",
        *DEVIATIONS_FOR_CELLS,
    )

    @dataclass(frozen=True)
    class Params(MaskRCNN.Params):
        """Settings; of Mask R-CNN's own, ``learning_rate`` is 0.0005 for any batch and ``optimizer`` Adam (Lin 2022).

        Attributes:
            mask_loss: ``bce``, ``focal`` or ``shape``.
            alpha: weight of the boundary term (Lin 2022: 10).
            sigma: its reach, pixels of the resized image (Lin 2022: 5).
            focal_gamma: Lin 2017: 2.
            focal_alpha: Lin 2017: 0.25.
            normalise: divide the mask loss by the mean weight, so that it does not drown the box losses.
            decay_epochs: epochs after which the learning rate falls to a tenth, again and again (Lin 2022: 3);
                0: never.
            patience: epochs without a lower validation loss after which training ends; 0: the whole schedule.
        """

        learning_rate: float = 0.0005
        optimizer: str = "Adam"
        mask_loss: str = "bce"
        alpha: float = 10.0
        sigma: float = 5.0
        focal_gamma: float = 2.0
        focal_alpha: float = 0.25
        normalise: bool = False
        decay_epochs: int = 3
        patience: int = 5

        def __post_init__(self) -> None:
            if self.mask_loss not in LOSSES:
                raise UsageError(f"mask_rcnn: mask_loss cannot be {self.mask_loss!r}", f"one of {', '.join(LOSSES)}")
            if self.sigma <= 0:
                raise UsageError(f"mask_rcnn: sigma must be above 0, not {self.sigma}")
            for name in ("decay_epochs", "patience"):
                if getattr(self, name) < 0:
                    raise UsageError(f"mask_rcnn: {name} must be 0 or more, not {getattr(self, name)}")

    params: Params

    def config(self, init: str) -> dict[str, Any]:
        """Mask R-CNN's config with the mask loss and Kaiming-normal predictors."""
        p = self.params
        model = super().config(init)
        roi = model["roi_head"]
        roi["type"] = "PixelLossRoIHead"
        roi["mask_head"].update(
            type="PixelLossMaskHead",
            pixel_loss=p.mask_loss,
            focal_gamma=p.focal_gamma,
            focal_alpha=p.focal_alpha,
            normalise=p.normalise,
        )
        kaiming = {"type": "Kaiming", "distribution": "normal", "mode": "fan_in"}
        roi["bbox_head"]["init_cfg"] = [
            {**kaiming, "override": [{"name": "fc_cls"}, {"name": "fc_reg"}]},
            {"type": "Xavier", "distribution": "uniform", "override": [{"name": "shared_fcs"}]},
        ]
        return model

    def packing(self) -> dict[str, Any]:
        """With the map of weights, where the loss needs it."""
        p = self.params
        if p.mask_loss != "shape":
            return super().packing()
        return {"type": "PackShapeWeights", "alpha": p.alpha, "sigma": p.sigma}

    def optimisation(self, steps: int, batch_size: int, steps_a_pass: int) -> Training:
        """Adam, a tenth of the learning rate every few epochs, early stopping."""
        p = self.params
        return Training(
            optimizer={"type": p.optimizer, "lr": p.learning_rate},
            schedulers=[{"type": "StepLR", "step_size": p.decay_epochs * steps_a_pass, "gamma": 0.1, "by_epoch": False}]
            if p.decay_epochs
            else [],
            patience=p.patience,
        )
