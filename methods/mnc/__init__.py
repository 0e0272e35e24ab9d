"""MNC: Multi-task Network Cascades, by proposals, masks in boxes, and classes seen through the masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from bench.api import Paper, Schedule, UsageError
from methods._mmdet import MMDetMethod, Training, preprocessor
from methods._proposals import enlargement
from methods.mnc.config import STRIDE, model_config

BACKBONES = ("vgg16", "resnet101")
NORMS = ("auto", "none", "group")


class MNC(MMDetMethod):
    """Multi-task Network Cascade: five stages, the last two of which repeat two others with the same weights."""

    name = "mnc"
    title = "MNC"
    summary = "Cascade of proposals, box masks and masked classification, run twice, with mask voting."
    paper = Paper(
        "Instance-aware Semantic Segmentation via Multi-task Network Cascades",
        "Dai, He, Sun",
        2016,
        "CVPR",
        "https://arxiv.org/abs/1512.04412",
    )
    compute_options = ("bfloat16", "channels_last", "compile")  # gradient_limit does not know float16's scaled loss
    inits = ("random", "imagenet")
    modules = (
        "methods.mnc.backbone",
        "methods.mnc.rpn",
        "methods.mnc.heads",
        "methods.mnc.cascade",
        "methods.mnc.detector",
    )
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"": {}, "resnet101": {"backbone": "resnet101"}}
    variant_titles: ClassVar[Mapping[str, str]] = {"": "MNC VGG-16", "resnet101": "MNC ResNet-101"}
    schedules: ClassVar[Mapping[str, Schedule]] = {
        "paper": Schedule(
            iterations=200_000,
            batch_size=1,
            note="the authors' 25,000 updates of 8 images each, learning rate 0.001, a tenth of it after 20,000",
        ),
        "short": Schedule(
            iterations=12_000,
            batch_size=1,
            settings={"images_per_update": 2},
            note="6,000 updates of 2 images each, the drop after four fifths of them",
        ),
        "smoke": Schedule(
            iterations=4,
            batch_size=1,
            train_images=16,
            eval_images=4,
            settings={"images_per_update": 4},
            note="one update of 4 images; shows that it runs and says nothing about accuracy",
        ),
    }
    deviations = (
        "From random weights, group normalisation in the backbone: VGG-16 without normalisation and a ResNet with "
        "frozen batch statistics train from ImageNet weights only. With --init imagenet the network is as published, "
        "but its input is RGB normalised by ImageNet's mean and deviation, as the weights that can be fetched expect.",
        "Anchors follow the sizes of the data set's objects, an octave apart at most, instead of 128, 256 and 512 px, "
        "which are larger than most cells; ratios 1:4 and 4:1 are added where objects are slender.",
        "Proposals of 2 px are kept instead of 16 px at least, and their number grows to twice that of the densest "
        "image's objects where 300 are too few; RoIs and anchors in training grow with the median image's objects.",
        "Detections an image are limited by the data set instead of 100. Where its objects are slender, whose boxes "
        "overlap where they cross, they are suppressed from a box IoU of 0.5 instead of 0.3 (from there on candidates "
        "vote for each other) and, once voted on, from a mask IoU of 0.3.",
        "In training, images whose masks would fill more than 512 MiB are cropped.",
        "Images are enlarged beyond a short side of 600 px where small objects would not span a feature cell.",
        "Boxes are continuous, without the pixel that the authors' code adds to each width and height.",
        "The RPN is trained on its own sample of anchors only; the authors' code optionally adds those behind the "
        "sampled RoIs.",
        "The bridge takes the likeliest foreground class in prediction as in training; the authors' code lets the "
        "background win in prediction, and with it an untrained regressor.",
        "At most as many true boxes join the bridge as RoIs are sampled, which bounds the memory in dense images.",
    )

    @dataclass(frozen=True)
    class Params(MMDetMethod.Params):
        """Settings. "Code" is the authors' public implementation, "choice" ours where the sources are silent.

        Attributes:
            backbone: ``vgg16`` (13 convolutions; fc6 and fc7 in stage 3) or ``resnet101`` (conv1 to conv4; conv5 in
                stage 3, recalled from the paper).
            norm: of the backbone: ``none`` (as published: none in VGG-16, frozen batch statistics in ResNet-101),
                ``group``, or ``auto``: ``group`` from random weights, else ``none``. Choice.
            image_scale: (long, short) side in pixels that images are resized into, (1000, 600). Code.
            enlarge: by how much more than that; 0: as much as the data set's small objects need. Choice.
            fit_to_task: raise or refine the numbers below by the data set's objects; off: take them as they are.
                Choice.
            anchor_sides: of square anchors, pixels of the network's input; empty: by the objects. 128, 256, 512 in
                the code, and here without ``fit_to_task``.
            anchor_ratios: height over width. Code.
            rpn_channels: of the RPN's 3 x 3 convolution. Code.
            rpn_positive_iou: anchors from here on are positive, as is each object's best. Code.
            rpn_negative_iou: anchors below are negative. Code.
            rpn_samples: anchors trained on, an image, half of them positive at most. Code.
            rpn_sigma: of the RPN's smooth L1 loss. Code.
            rpn_nms_iou: between proposals. Code.
            train_candidates: best anchors before suppression, in training. Code. Grows with ``proposals``.
            test_candidates: the same in prediction. Code. Grows with ``proposals``.
            proposals: after suppression, in training and in prediction. Code (its configuration file).
            min_proposal_side: pixels of the network's input. 16 in the code; 2 is our choice.
            rois: trained on, an image, true boxes among them. Code.
            most_rois: as far as ``fit_to_task`` raises ``rois``. Choice.
            foreground_share: of the RoIs, at most. Code.
            foreground_iou: box IoU from which a RoI is its object. Code.
            near_share: of the background RoIs, with IoU from ``near_iou``. Code.
            near_iou: see above. Code.
            mask_size: side of the predicted masks; 21 in the code, 28 in the paper as we recall it.
            mask_hidden: units of the layer before. Code.
            mask_threshold: foreground from here on: targets, predicted masks, voted masks. Code.
            mask_iou: with its object, from which a predicted mask counts as right. Code.
            mask_weight: of the mask loss. Code. That it is the mean over a mask's samples is our choice.
            fc_channels: of VGG-16's fc6 and fc7, in both branches. Code.
            gradient_limit: into box deltas through the RoI warp, 1/512. Code. Divided by ``images_per_update`` as the
                losses are, so do not combine with automatic mixed precision's loss scaling.
            nms_iou: of boxes, between detections of a class; 0: 0.3 as in the code; where the data set's objects are
                slender 0.5, and 0.3 of their masks (choice).
            vote_iou: box IoU from which a candidate votes. Code.
            score_threshold: detections below are dropped. Choice, after FCIS.
            frozen_stages: first blocks that are not trained, unless from random weights; recalled from Faster R-CNN.
            images_per_update: images whose gradients are averaged (the code's ``iter_size``). Code.
            optimizer: SGD with momentum 0.9 as in the code, or AdamW.
            learning_rate: 0.001, a tenth of it after four fifths of the steps. Code.
            weight_decay: 0.0005. Code. Biases have none and learn twice as fast, as is Caffe's habit.
            vgg_channels: of VGG-16's five blocks; narrower ones only serve tests.
            resnet_depth: 101; shallower ones only serve tests.
        """

        backbone: str = "vgg16"
        norm: str = "auto"
        image_scale: tuple[int, ...] = (1000, 600)
        enlarge: float = 0.0
        fit_to_task: bool = True
        anchor_sides: tuple[float, ...] = ()
        anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
        rpn_channels: int = 512
        rpn_positive_iou: float = 0.7
        rpn_negative_iou: float = 0.3
        rpn_samples: int = 256
        rpn_sigma: float = 3.0
        rpn_nms_iou: float = 0.7
        train_candidates: int = 12000
        test_candidates: int = 6000
        proposals: int = 300
        min_proposal_side: float = 2.0
        rois: int = 64
        most_rois: int = 256
        foreground_share: float = 0.3
        foreground_iou: float = 0.5
        near_share: float = 0.85
        near_iou: float = 0.1
        mask_size: int = 21
        mask_hidden: int = 256
        mask_threshold: float = 0.4
        mask_iou: float = 0.5
        mask_weight: float = 2.0
        fc_channels: int = 4096
        gradient_limit: float = 1 / 512
        nms_iou: float = 0.0
        vote_iou: float = 0.5
        score_threshold: float = 0.001
        frozen_stages: int = 2
        images_per_update: int = 8
        optimizer: str = "SGD"
        learning_rate: float = 0.001
        weight_decay: float = 0.0005
        vgg_channels: tuple[int, ...] = (64, 128, 256, 512, 512)
        resnet_depth: int = 101

        def __post_init__(self) -> None:
            for field, known in (("backbone", BACKBONES), ("norm", NORMS), ("optimizer", ("SGD", "AdamW"))):
                if getattr(self, field) not in known:
                    raise UsageError(
                        f"mnc: {field} cannot be {getattr(self, field)!r}", f"it is one of {', '.join(known)}"
                    )
            try:
                object.__setattr__(self, "anchor_sides", tuple(float(side) for side in self.anchor_sides))
            except ValueError:
                raise UsageError("mnc: anchor_sides must be numbers", "for instance 16,32,64") from None

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
        return model_config(self.params, self.task, self.object_sizes(), init, preprocessor(STRIDE))

    def training(self, steps: int, batch_size: int) -> Training:
        """The authors' schedule stretched over ``steps``; ``images_per_update`` images make an update."""
        p = self.params
        optimizer = {"type": p.optimizer, "lr": p.learning_rate, "weight_decay": p.weight_decay}
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
                    "milestones": [max(1, steps * 4 // 5)],
                    "gamma": 0.1,
                }
            ],
            accumulate=max(1, p.images_per_update // batch_size),
            paramwise={"bias_lr_mult": 2.0, "bias_decay_mult": 0.0, "norm_decay_mult": 0.0},
        )
