"""FCIS: class and mask of every proposal, read together from position-sensitive score maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from bench.api import Paper, Schedule, UsageError
from methods._mmdet import MMDetMethod, Training
from methods._proposals import enlargement
from methods.fcis.config import RECIPES, STRIDE, model_config

NORMS = ("auto", "frozen", "group")
OPTIMIZERS = ("SGD", "AdamW")


class FCIS(MMDetMethod):
    """Fully convolutional instance segmentation: inside and outside scores for each class and part of a RoI."""

    name = "fcis"
    title = "FCIS ResNet-101"
    summary = "Position-sensitive inside and outside scores give class and mask at once; two rounds, mask voting."
    paper = Paper(
        "Fully Convolutional Instance-aware Semantic Segmentation",
        "Li, Qi, Dai, Ji, Wei",
        2017,
        "CVPR",
        "https://arxiv.org/abs/1611.07709",
    )
    inits = ("random", "imagenet")
    modules = ("methods._rpn", "methods.fcis.head", "methods.fcis.detector")
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "": {},
        "voc": {"recipe": "voc", "ohem": False, "images_per_update": 4, "warmup_updates": 0, "drop_after": 14 / 22},
    }
    variant_titles: ClassVar[Mapping[str, str]] = {"voc": "FCIS ResNet-101, VOC recipe"}
    schedules: ClassVar[Mapping[str, Schedule]] = {
        "paper": Schedule(
            iterations=240_000,
            batch_size=1,
            note="240,000 images in updates of 8 (voc: of 4), as the authors' 22 passes over 5,623 images and their "
            "mirror images on PASCAL VOC come to; the learning rate a tenth after two thirds (voc: after 14/22)",
        ),
        "short": Schedule(
            iterations=12_000,
            batch_size=1,
            settings={"images_per_update": 2},
            note="6,000 updates of 2 images each, the drop after two thirds of them",
        ),
        "smoke": Schedule(
            iterations=2,
            batch_size=1,
            train_images=16,
            eval_images=4,
            settings={"images_per_update": 2},
            note="one update of 2 images; shows that it runs and says nothing about accuracy",
        ),
    }
    deviations = (
        "From random weights, group normalisation in the backbone, every stage trained, and RGB normalised by "
        "ImageNet's deviations: frozen batch statistics of random weights cannot be trained. With --init imagenet the "
        "backbone is as published, from MMDetection's conversion of the Caffe weights.",
        "Anchors follow the sizes of the data set's objects, an octave apart at most, instead of 64 (not with the "
        "VOC recipe), 128, 256 and 512 px, which are larger than most cells; ratios 1:4 and 4:1 are added where "
        "objects are slender.",
        "The number of proposals grows to twice that of the densest image's objects where 300 are too few; RoIs and "
        "anchors in training grow with the median image's objects.",
        "Detections an image are limited by the data set instead of 100. Where its objects are slender, whose boxes "
        "overlap where they cross, they are suppressed from a box IoU of 0.5 instead of 0.3 (from there on candidates "
        "vote for each other) and, once voted on, from a mask IoU of 0.3.",
        "In training, images whose masks would fill more than 512 MiB are cropped.",
        "Images are enlarged beyond a short side of 600 px where small objects would not span a feature cell.",
        "Boxes are continuous, without the pixel that the authors' code adds to each width and height.",
        "The box maps of the background, which the authors' code has but neither trains nor reads, are left out "
        "(200,900 of its parameters).",
        "The mask of a candidate is that of its likeliest foreground class, also where the background is likelier.",
        "Training lasts as long as the authors' on PASCAL VOC also with the COCO recipe, whose 8 passes over COCO are "
        "not those of a data set of a few hundred images.",
        "The variant voc keeps proposals and candidates from 2 px on as the COCO recipe does; on VOC the authors "
        "dropped those below 16 px, as large as many a cell.",
    )

    @dataclass(frozen=True)
    class Params(MMDetMethod.Params):
        """Settings. "Code" is the authors' public implementation, "choice" ours where the sources are silent.

        Attributes:
            depth: of the ResNet, 101; shallower ones serve tests and small data sets.
            base_channels: of its first stage, 64; narrower ones only serve tests.
            norm: of the backbone: ``frozen`` (as published: frozen batch statistics), ``group``, or ``auto``: ``group``
                from random weights, else ``frozen``. Choice.
            frozen_stages: first stages after the stem that are not trained, nor is the stem, unless from random
                weights. Code.
            image_scale: (long, short) side in pixels that images are resized into, (1000, 600). Code.
            enlarge: by how much more than that; 0: as much as the data set's small objects need. Choice.
            fit_to_task: raise or refine the numbers below by the data set's objects; off: take them as they are.
                Choice.
            recipe: ``coco`` or ``voc``: which of the code's configurations gives ``anchor_sides`` and
                ``smallest_side`` without ``fit_to_task``.
            anchor_sides: of square anchors, pixels of the network's input; empty: by the objects, or, without
                ``fit_to_task``, 64, 128, 256, 512 (COCO) or 128, 256, 512 (VOC), as in the code.
            anchor_ratios: height over width. Code.
            rpn_channels: of the RPN's 3 x 3 convolution. Code.
            rpn_positive_iou: anchors from here on are positive, as is each object's best. Code.
            rpn_negative_iou: anchors below are negative. Code.
            rpn_samples: anchors trained on, an image, half of them positive at most. Code.
            rpn_sigma: of the RPN's smooth L1 loss. Code.
            rpn_nms_iou: between proposals. Code.
            candidates: best anchors before suppression, in training and in prediction. Code. Grows with
                ``proposals``.
            proposals: after suppression, in training and in prediction. Code.
            smallest_side: shorter proposals and candidates are dropped, pixels of the network's input; 0: 2, or,
                without ``fit_to_task``, 2 (COCO) or 16 (VOC), as in the code.
            reduced_channels: of the 1 x 1 convolution behind res5, which learns ``reduction_rate`` times as fast.
                Code.
            reduction_rate: see above. Code.
            group: k, parts of a RoI a side. Paper.
            mask_size: side of the predicted masks, a multiple of ``group``. Code.
            mask_threshold: foreground from here on: targets and voted masks. Code.
            mask_weight: of the mask loss. Code.
            ohem: train on the RoIs of highest loss among all proposals and true boxes (COCO); off: on a random
                sample (VOC). Code.
            rois: RoIs trained on, an image. Code.
            most_rois: as far as ``fit_to_task`` raises ``rois``. Choice.
            foreground_iou: box IoU from which a RoI is its object. Code.
            foreground_share: of the sampled RoIs, at most; without ``ohem``. Code (VOC).
            near_iou: background RoIs of the sample have this IoU or more, as far as there are such; without
                ``ohem``. Code (VOC).
            nms_iou: of boxes, between detections of a class; 0: 0.3 as in the code; where the data set's objects are
                slender 0.5, and 0.3 of their masks (choice).
            vote_iou: box IoU from which a candidate votes. Code.
            score_threshold: detections below are dropped. Code.
            images_per_update: images whose gradients make an update. Code: one on each of 8 GPUs (COCO) or 4 (VOC).
            optimizer: SGD with momentum 0.9 as in the code, or AdamW.
            learning_rate: for each image of an update, whose gradients the code adds up; here they are averaged, and
                SGD's rate is this times ``images_per_update``. AdamW's is this. Code: 0.0005.
            warmup_updates: at a tenth of the rate, a tenth of all updates at most. Code: 250 on COCO, 0 on VOC.
            drop_after: share of the training after which the rate is a tenth. Code: 5.33 of 8 passes on COCO, 14 of
                22 on VOC.
            weight_decay: 0.0005, of weights, not of biases. Code.
        """

        depth: int = 101
        base_channels: int = 64
        norm: str = "auto"
        frozen_stages: int = 1
        image_scale: tuple[int, ...] = (1000, 600)
        enlarge: float = 0.0
        fit_to_task: bool = True
        recipe: str = "coco"
        anchor_sides: tuple[float, ...] = ()
        anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
        rpn_channels: int = 512
        rpn_positive_iou: float = 0.7
        rpn_negative_iou: float = 0.3
        rpn_samples: int = 256
        rpn_sigma: float = 3.0
        rpn_nms_iou: float = 0.7
        candidates: int = 6000
        proposals: int = 300
        smallest_side: float = 0.0
        reduced_channels: int = 1024
        reduction_rate: float = 3.0
        group: int = 7
        mask_size: int = 21
        mask_threshold: float = 0.4
        mask_weight: float = 10.0
        ohem: bool = True
        rois: int = 128
        most_rois: int = 512
        foreground_iou: float = 0.5
        foreground_share: float = 0.25
        near_iou: float = 0.1
        nms_iou: float = 0.0
        vote_iou: float = 0.5
        score_threshold: float = 0.001
        images_per_update: int = 8
        optimizer: str = "SGD"
        learning_rate: float = 0.0005
        warmup_updates: int = 250
        drop_after: float = 2 / 3
        weight_decay: float = 0.0005

        def __post_init__(self) -> None:
            for field, known in (
                ("norm", NORMS),
                ("recipe", tuple(RECIPES)),
                ("optimizer", OPTIMIZERS),
                ("depth", (18, 34, 50, 101, 152)),
            ):
                if getattr(self, field) not in known:
                    raise UsageError(
                        f"fcis: {field} cannot be {getattr(self, field)!r}",
                        f"it is one of {', '.join(map(str, known))}",
                    )
            if self.group < 1 or self.mask_size < 1 or self.mask_size % self.group:
                raise UsageError(
                    f"fcis: mask_size {self.mask_size} is no multiple of group {self.group}", "for instance 21 and 7"
                )
            try:
                object.__setattr__(self, "anchor_sides", tuple(float(side) for side in self.anchor_sides))
            except ValueError:
                raise UsageError("fcis: anchor_sides must be numbers", "for instance 16,32,64") from None

    params: Params

    def image_scale(self) -> tuple[int, int]:
        """(long, short) side in pixels that images are resized into; the published one times the enlargement."""
        p = self.params
        factor = p.enlarge
        if factor == 0:
            factor = enlargement(self.seen, p.image_scale, STRIDE, 2.0) if p.fit_to_task else 1.0
        return round(max(p.image_scale) * factor), round(min(p.image_scale) * factor)

    def config(self, init: str) -> dict[str, Any]:
        """The published network with the changes of :attr:`deviations`."""
        return model_config(self.params, self.task, self.object_sizes(), init)

    def training(self, steps: int, batch_size: int) -> Training:
        """The authors' schedule stretched over ``steps``; ``images_per_update`` images make an update."""
        p = self.params
        accumulate = max(1, p.images_per_update // batch_size)
        optimizer: dict[str, Any] = {"type": p.optimizer, "lr": p.learning_rate, "weight_decay": p.weight_decay}
        if p.optimizer == "SGD":
            optimizer.update(lr=p.learning_rate * accumulate * batch_size, momentum=0.9)
        warmup = min(p.warmup_updates * accumulate, steps // 10)
        drop = {"type": "MultiStepLR", "by_epoch": False, "begin": 0, "end": steps, "gamma": 0.1}
        schedulers = [{**drop, "milestones": [max(1, round(steps * p.drop_after))]}]
        if warmup:
            schedulers.insert(0, {"type": "ConstantLR", "factor": 0.1, "by_epoch": False, "begin": 0, "end": warmup})
        reduction = {"lr_mult": p.reduction_rate}
        return Training(
            optimizer=optimizer,
            schedulers=schedulers,
            accumulate=accumulate,
            paramwise={
                "bias_decay_mult": 0.0,
                "norm_decay_mult": 0.0,
                "custom_keys": {
                    "roi_head.reduce.weight": reduction,
                    "roi_head.reduce.bias": {**reduction, "decay_mult": 0.0},
                },
            },
        )
