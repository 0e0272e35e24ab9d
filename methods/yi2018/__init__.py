"""Yi et al. 2018: a single-shot detector whose detections are segmented from crops of its own feature maps."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from bench.api import FitContext, Paper, SampleSource, Schedule, UsageError
from methods._mmdet import IMAGENET_MEAN, MMDetMethod, Training, preprocessor
from methods._stages import Stage, run_stages
from methods.yi2018.config import STRIDES, model_config, needs

CHOICES = {
    "backbone": ("resnet", "vgg16"),
    "norm": ("auto", "batch", "group"),
    "training": ("two-step", "end-to-end"),
    "optimizer": ("SGD", "AdamW"),
}
"""What the settings that are names can be."""
MASK_EPOCHS = 100
"""Epochs over which the mask head's learning rate falls as published, whatever their length here."""


class Yi2018(MMDetMethod):
    """SSD on ResNet-101 with fused maps, and a mask head on crops of the image and the maps at each detection."""

    name = "yi2018"
    title = "Yi 2018 ResNet-101"
    summary = "Single-shot detector on fused maps; detections are segmented from crops of the image and the maps."
    paper = Paper("Instance Segmentation of Neural Cells", "Yi, Wu, Jiang, Hoeppner, Metaxas", 2018, "ECCV Workshops")
    inits = ("random", "imagenet")
    modules = (
        "methods.yi2018.transforms",
        "methods.yi2018.backbone",
        "methods.yi2018.neck",
        "methods.yi2018.head",
        "methods.yi2018.mask",
        "methods.yi2018.detector",
    )
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "": {},
        "end-to-end": {"training": "end-to-end"},
        "vgg16": {"backbone": "vgg16"},
    }
    variant_titles: ClassVar[Mapping[str, str]] = {
        "end-to-end": "Yi 2018 ResNet-101, end to end",
        "vgg16": "Yi 2018 VGG-16",
    }
    schedules: ClassVar[Mapping[str, Schedule]] = {
        "paper": Schedule(
            epochs=500,
            batch_size=2,
            note="the numbers of the authors' later code: detector 500 epochs, batch 2, SGD 0.001, a tenth of it after "
            "450; then the mask head alone, 100 epochs, batch 8, Adam 0.001, times 0.98 an epoch",
        ),
        "short": Schedule(
            iterations=6000,
            batch_size=2,
            note="the detector's steps; the mask head sees a fifth as many images, in batches of 8",
        ),
        "smoke": Schedule(
            iterations=3,
            batch_size=1,
            train_images=16,
            eval_images=4,
            settings={"mask_share": 1.0, "mask_batch_size": 1, "input_side": 256, "most_enlarged": 1.0},
            note="three steps of the detector and three of the mask head on small inputs; shows that it runs and says "
            "nothing about accuracy",
        ),
    }
    deviations = (
        "The paper's text gives neither default boxes nor a schedule nor all channels: they are those of its authors' "
        "later code for the same detector (ANCIS), and blocks 5 to 7 those of SSD; see the settings.",
        "From random weights, group normalisation in place of batch normalisation, which batches of two cannot train, "
        "and after each convolution of VGG-16. With --init imagenet the network is as published.",
        "New layers start from Kaiming's distribution, the last ones from a deviation of 0.01 and 0.001: the standard "
        "Gaussian that the paper names diverges.",
        "From random weights the detector's gradients are clipped, without which the published learning rate diverges.",
        "Images whose sides differ by more than the factor most_squeezed keep their aspect ratio, at the area of the "
        "square; the paper resizes all of its 640 x 512 images to 512 x 512.",
        "Where the data set's objects are too small for the smallest default box, images are enlarged, at most to "
        "twice their own size and to largest_side; where that is not enough, block 3 has further, smaller boxes.",
        "More than 200 boxes enter suppression, ten for each object of the densest image, where that is more; "
        "detections an image are limited by the data set.",
        "Detections are suppressed from a box IoU of 0.6 instead of 0.3 where the data set's objects are slender, "
        "whose boxes overlap where they cross.",
        "In training, images whose masks would fill more than 512 MiB are cropped.",
        "The mask head is trained on a random choice of mask_objects detections an image where there are more, which "
        "bounds the memory.",
        "Where a box covers fewer than three cells of block 1, that block is used nevertheless: no detection is left "
        "without a mask.",
        "The mask loss is the mean over all detections of a batch that are an object, each with the object it overlaps "
        "most (the paper's equation 4); the later code takes the mean of the images' means.",
        "A pixel-sized mask is put back where its crop was cut, to the pixel; the later code resizes it to the "
        "rounded box.",
        "Early stopping, which the paper names without its rule, is off: the later code has none, and keeps the last "
        "weights. The setting patience turns it on, with a tenth of the training images held out where there is no "
        "validation split.",
        "The later code also exchanges colour channels in training; stains would not survive that, and gray images do "
        "not feel it.",
        "Variant vgg16: the paper compares the detectors' speed only; here VGG-16 has fusion and mask head, too.",
    )

    @dataclass(frozen=True)
    class Params(MMDetMethod.Params):
        """Settings. "Paper" is its text, "code" the authors' later code (ANCIS), "derived" follows from both.

        Attributes:
            backbone: ``resnet`` (conv1 to conv4; paper) or ``vgg16`` (SSD's; the paper's comparison of speeds).
            norm: ``batch`` (trained, as in the code), ``group``, or ``auto``: ``group`` from random weights, else
                ``batch``. VGG-16 itself has none with ``batch``. Choice.
            norm_eval: keep batch statistics while training. Off in the code.
            training: ``two-step``: the detector, then the mask head with the detector frozen (paper), or
                ``end-to-end``: both at once, by the detector's schedule (paper: possible).
            fit_to_task: adapt the input, the boxes and the limits by the data set's objects where the published ones
                do not fit; off: take them as they are. Choice.
            input_side: of the square that images are resized into, pixels. 512: paper.
            most_squeezed: images with a longer side of more than this times the shorter keep their aspect ratio.
                Choice; the paper's are 1.25.
            most_enlarged: no image is enlarged beyond this times its own size for its small objects. Choice.
            largest_side: nor beyond this square, pixels. Choice.
            box_scales: of square default boxes, fractions of 512 px: smallest of blocks 3 to 7, and largest of
                block 7. Code up to 0.58; 0.74 derived (paper: below 0.1 on block 3, up to 0.75 on block 7).
            most_finer: so often at most the smallest box is halved for small objects. Choice: its quarter, 5 px, is
                already less than a cell of block 3.
            box_ratios: longer over shorter side; block 3 has only the first. Code.
            box_variances: by which offsets of centres and of sides are divided. Code.
            reduced_channels: of each map before the fusion. Paper.
            fused_channels: of the fused map. Paper.
            extra_channels: of blocks 5 to 7. Derived from SSD; the figure is lost.
            patch_channels: of the image's features in the mask head. Derived from the code.
            least_cells: a map of which a box covers fewer rows or columns is left out of its mask, and all deeper ones
                with it. Code.
            init_std: deviation of the initial offsets and confidences. Choice, see the deviations.
            conf_weight: alpha, the weight of the confidence loss. Code; the paper gives none.
            positive_iou: default boxes from here on are an object, as is each object's best. Paper.
            negatives_per_positive: the boxes of highest loss that count as background. Code, after SSD.
            mask_iou: box IoU from which a detection's mask is trained. Code; the paper: "a certain threshold".
            mask_objects: masks trained on, an image, at most. Choice.
            mask_threshold: a pixel is foreground from this probability on. Code.
            score_threshold: detections below are dropped. Code.
            nms_iou: between detections of a class; 0: 0.3 as in the code, 0.6 where the data set's objects are slender
                (choice).
            candidates: boxes of a class that enter suppression. Code.
            candidates_per_object: where that is more, so many for each object of the densest image. Choice.
            brightness: added grey levels at most, in half of the examples. Code.
            contrast: least and largest factor, in half of the examples. Code.
            most_expanded: largest factor by which half of the examples are set into a larger canvas. Code; filled with
                ImageNet's mean (choice).
            least_crop: least share of each side that is kept. Code; objects cut by it stay (choice).
            optimizer: of the detector: SGD with momentum 0.9 (code), or AdamW.
            learning_rate: of the detector, a tenth of it after nine tenths of the steps. Code.
            weight_decay: none in the code.
            gradient_norm: of the detector's gradients, at most, from random weights; 0: not clipped. Choice.
            mask_learning_rate: of the mask head's Adam. Code.
            mask_decay: its factor after each hundredth of the mask head's steps. Code: an epoch of 100.
            mask_share: images that the mask head's training sees, over those that the detector's sees. Code: 100 epochs
                and 500.
            mask_batch_size: images a step of the mask head's training. Code.
            patience: passes over the training images without a lower validation loss after which a step of the
                training ends, its best weights kept; 0: never. Choice; the paper stops early, by what rule it
                does not say.
            resnet_depth: 101 (paper); shallower ones only serve tests.
            resnet_width: channels of conv1; narrower ones only serve tests.
        """

        backbone: str = "resnet"
        norm: str = "auto"
        norm_eval: bool = False
        training: str = "two-step"
        fit_to_task: bool = True
        input_side: int = 512
        most_squeezed: float = 1.5
        most_enlarged: float = 2.0
        largest_side: int = 1536
        box_scales: tuple[float, ...] = (0.04, 0.10, 0.26, 0.42, 0.58, 0.74)
        most_finer: int = 2
        box_ratios: tuple[int, ...] = (2, 3)
        box_variances: tuple[float, ...] = (0.1, 0.2)
        reduced_channels: int = 256
        fused_channels: int = 512
        extra_channels: tuple[int, ...] = (512, 256, 256)
        patch_channels: int = 64
        least_cells: int = 3
        init_std: float = 0.001
        conf_weight: float = 1.0
        positive_iou: float = 0.5
        negatives_per_positive: int = 3
        mask_iou: float = 0.5
        mask_objects: int = 128
        mask_threshold: float = 0.5
        score_threshold: float = 0.3
        nms_iou: float = 0.0
        candidates: int = 200
        candidates_per_object: int = 10
        brightness: float = 32.0
        contrast: tuple[float, ...] = (0.5, 1.5)
        most_expanded: float = 2.0
        least_crop: float = 0.9
        optimizer: str = "SGD"
        learning_rate: float = 0.001
        weight_decay: float = 0.0
        gradient_norm: float = 10.0
        mask_learning_rate: float = 0.001
        mask_decay: float = 0.98
        mask_share: float = 0.2
        mask_batch_size: int = 8
        patience: int = 0
        resnet_depth: int = 101
        resnet_width: int = 64

        def __post_init__(self) -> None:
            for field, known in CHOICES.items():
                if getattr(self, field) not in known:
                    raise UsageError(
                        f"yi2018: {field} cannot be {getattr(self, field)!r}", f"it is one of {', '.join(known)}"
                    )
            for field, count in (("box_scales", 6), ("extra_channels", 3), ("box_variances", 2), ("contrast", 2)):
                if len(getattr(self, field)) != count:
                    raise UsageError(f"yi2018: {field} has {len(getattr(self, field))} numbers", f"give {count}")
            if not all(low < high for low, high in zip(self.box_scales, self.box_scales[1:], strict=False)):
                raise UsageError("yi2018: box_scales must grow from each to the next", "block 3 has the smallest")
            for field in ("input_side", "mask_batch_size", "mask_objects", "candidates"):
                if getattr(self, field) < 1:
                    raise UsageError(f"yi2018: {field} cannot be {getattr(self, field)}", "it is 1 or more")

    params: Params
    _part = "all"
    _from_random = False

    # -- what is trained, and how -------------------------------------------------------------------

    def fit(self, train: SampleSource, val: SampleSource | None, context: FitContext) -> Path:
        """Train the detector and then the mask head (the paper's two steps), or both at once."""
        if self.params.training == "end-to-end":
            return MMDetMethod.fit(self._training_only("all", context.init), train, val, context)
        schedules = {"detector": context.schedule, "mask": self.mask_schedule(context.schedule, len(train))}
        return run_stages(
            [
                Stage(part, schedule, partial(MMDetMethod.fit, self._training_only(part, context.init), train, val))
                for part, schedule in schedules.items()
            ],
            context,
        )

    def mask_schedule(self, detector: Schedule, n_images: int) -> Schedule:
        """How long the mask head trains, given the detector's schedule and the number of training images."""
        p = self.params
        seen = detector.steps(n_images) * detector.batch_size * p.mask_share
        return Schedule(iterations=max(1, round(seen / p.mask_batch_size)), batch_size=p.mask_batch_size)

    def _training_only(self, part: str, init: str) -> Yi2018:
        """The same method with only a part of its network trained, from ``init``."""
        other = copy.copy(self)
        other._part, other._from_random = part, init == "random"
        return other

    def _initialised(self, init: str) -> Any:
        network = super()._initialised(init)
        network.train_part(self._part)
        return network

    def training(self, steps: int, batch_size: int) -> Training:
        """The code's schedules stretched over ``steps``, of the part that is trained."""
        p = self.params
        if self._part == "mask":
            gamma = p.mask_decay ** (MASK_EPOCHS / steps)
            return Training(
                optimizer={"type": "Adam", "lr": p.mask_learning_rate},
                schedulers=[{"type": "ExponentialLR", "gamma": gamma, "by_epoch": False}],
                patience=p.patience,
            )
        optimizer: dict[str, Any] = {"type": p.optimizer, "lr": p.learning_rate, "weight_decay": p.weight_decay}
        if p.optimizer == "SGD":
            optimizer["momentum"] = 0.9
        return Training(
            optimizer=optimizer,
            schedulers=[
                {
                    "type": "MultiStepLR",
                    "by_epoch": False,
                    "begin": 0,
                    "end": steps,
                    "milestones": [max(1, steps * 9 // 10)],
                    "gamma": 0.1,
                }
            ],
            clip_grad={"max_norm": p.gradient_norm} if self._from_random and p.gradient_norm > 0 else None,
            patience=p.patience,
        )

    # -- the network, and what it sees --------------------------------------------------------------

    def config(self, init: str) -> dict[str, Any]:
        """The published network with the changes of :attr:`deviations`."""
        return model_config(self.params, self.task, init, preprocessor(STRIDES[-1]))

    def image_scale(self) -> tuple[int, int]:
        """(long, short) side in pixels of the square that images are resized into."""
        side = needs(self.task, self.params).side
        return side, side

    def resize_factor(self) -> float:
        """By how much a typical image of the task is enlarged: the square root of its area's factor."""
        if self.task.image_shape is None:
            return 1.0
        return self.image_scale()[0] / math.sqrt(self.task.image_shape[0] * self.task.image_shape[1])

    def largest_factor(self, height: int, width: int) -> float:
        """Into the square, and into a larger canvas."""
        return needs(self.task, self.params).side / math.sqrt(height * width) * self.params.most_expanded

    def augmentations(self) -> list[dict[str, Any]]:
        """Those of the code: light, a larger canvas, a crop, both flips; in a canvas of the input's size."""
        p = self.params
        return [
            self._resize(),
            {"type": "Yi2018Light", "brightness": p.brightness, "contrast": tuple(p.contrast)},
            {"type": "Expand", "mean": IMAGENET_MEAN, "to_rgb": False, "ratio_range": (1, p.most_expanded)},
            {
                "type": "RandomCrop",
                "crop_size": (p.least_crop, p.least_crop),
                "crop_type": "relative_range",
                "allow_negative_crop": True,
                "recompute_bbox": True,
            },
            {"type": "RandomFlip", "prob": 0.5, "direction": "horizontal"},
            {"type": "RandomFlip", "prob": 0.5, "direction": "vertical"},
            self._resize(),
            {"type": "FilterAnnotations", "min_gt_bbox_wh": (1.0, 1.0), "keep_empty": False},
        ]

    def _resize(self) -> dict[str, Any]:
        return {"type": "Yi2018Resize", "side": needs(self.task, self.params).side, "params": self.params}
