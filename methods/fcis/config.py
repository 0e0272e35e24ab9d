"""From settings and a task to the config of the network. Plain Python: nothing heavy is imported here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.api import Task, UsageError
from methods._mmdet import preprocessor
from methods._proposals import fitted_anchors, mask_nms_iou, nms_iou, rpn_head

if TYPE_CHECKING:
    from methods.fcis import FCIS

STRIDE = 16
"""Input pixels a feature cell, of res4 and of the dilated res5."""
CAFFE_MEAN = (103.53, 116.28, 123.675)
"""Of ImageNet in BGR: what the ImageNet weights of a ResNet with Caffe's strides expect, with a deviation of 1."""
CAFFE_DEPTHS = (50, 101)
"""Of ResNets whose ImageNet weights with Caffe's strides MMDetection can fetch."""


PUBLISHED_NMS = 0.3
"""Box IoU above which the weaker of two detections of a class is dropped, before mask voting."""


@dataclass(frozen=True)
class Recipe:
    """What the authors' two configurations have for the photographs of each data set, beside the variants' settings.

    Attributes:
        anchor_sides: of square anchors, pixels.
        smallest_side: shorter proposals and candidates are dropped, pixels.
    """

    anchor_sides: tuple[float, ...]
    smallest_side: float


RECIPES = {"coco": Recipe((64.0, 128.0, 256.0, 512.0), 2.0), "voc": Recipe((128.0, 256.0, 512.0), 16.0)}


@dataclass(frozen=True)
class Needs:
    """What a task needs of the numbers that FCIS's authors chose for photographs.

    Attributes:
        anchor_sides: sides of square anchors, pixels of the network's input.
        anchor_ratios: height over width.
        rpn_samples: anchors trained on, an image.
        proposals: RoIs whose maps are pooled.
        rois: of these and the true boxes, so many are trained on.
        nms_iou: of boxes, between detections of a class.
        mask_nms_iou: of their masks; 1: none is suppressed by it.
        smallest_side: shorter proposals and candidates are dropped, pixels of the network's input.
    """

    anchor_sides: tuple[float, ...]
    anchor_ratios: tuple[float, ...]
    rpn_samples: int
    proposals: int
    rois: int
    nms_iou: float
    mask_nms_iou: float
    smallest_side: float


def needs(task: Task, params: FCIS.Params, sizes: tuple[float, float, float] | None) -> Needs:
    """The numbers for a task: those of the settings, raised or refined where its objects ask for it.

    Args:
        task: its objects' number and shape.
        params: the method's settings; with ``fit_to_task`` off they are taken as they are.
        sizes: 5th percentile, median and 95th percentile of the objects' sides in pixels of the network's input, or
            None where unknown.
    """
    p, published = params, RECIPES[params.recipe]
    if not p.fit_to_task:
        return Needs(
            anchor_sides=p.anchor_sides or published.anchor_sides,
            anchor_ratios=p.anchor_ratios,
            rpn_samples=p.rpn_samples,
            proposals=p.proposals,
            rois=p.rois,
            nms_iou=p.nms_iou or PUBLISHED_NMS,
            mask_nms_iou=1.0,
            smallest_side=p.smallest_side or published.smallest_side,
        )
    sides, ratios = fitted_anchors(task, sizes, p.anchor_sides, p.anchor_ratios)
    # Above the IoU from which candidates vote, two neighbours would be given one mask.
    overlap = nms_iou(task, p.nms_iou, PUBLISHED_NMS, slender=p.vote_iou)
    of_masks = mask_nms_iou(task, p.nms_iou, PUBLISHED_NMS)
    smallest = p.smallest_side or RECIPES["coco"].smallest_side
    if task.objects is None:
        proposals = max(p.proposals, task.max_detections)
        return Needs(sides, ratios, p.rpn_samples, proposals, p.rois, overlap, of_masks, smallest)
    typical = math.ceil(task.objects.per_image_median)
    # Every object of a median image shall find room among the RoIs trained on, within reason.
    crowd = 2 * typical if p.ohem else math.ceil(typical / p.foreground_share)
    return Needs(
        anchor_sides=sides,
        anchor_ratios=ratios,
        rpn_samples=max(p.rpn_samples, min(1024, 2 * typical)),
        proposals=max(p.proposals, 2 * task.objects.per_image_max),
        rois=max(p.rois, min(p.most_rois, crowd)),
        nms_iou=overlap,
        mask_nms_iou=of_masks,
        smallest_side=smallest,
    )


def model_config(
    params: FCIS.Params, task: Task, sizes: tuple[float, float, float] | None, init: str
) -> dict[str, Any]:
    """The network, as MMDetection builds it.

    Args:
        params: settings.
        task: see :func:`needs`.
        sizes: see :func:`needs`.
        init: ``random``, ``imagenet`` or ``checkpoint``, one that does not descend from random weights.

    Raises:
        UsageError: there are no ImageNet weights of the backbone that is asked for.
    """
    need = needs(task, params, sizes)
    frozen = params.norm == "frozen" or (params.norm == "auto" and init != "random")
    width = 1 if params.depth < 50 else 4
    proposals = {
        "nms_iou": params.rpn_nms_iou,
        "max_per_img": need.proposals,
        "min_bbox_size": need.smallest_side,
        "nms_pre": round(params.candidates * max(1.0, need.proposals / params.proposals)),
    }
    return {
        "type": "FCISDetector",
        "data_preprocessor": _preprocessor(caffe=frozen or init != "random"),
        "backbone": _backbone(params, init, frozen),
        "rpn_head": rpn_head(
            stride=STRIDE,
            in_channels=4 * params.base_channels * width,
            channels=params.rpn_channels,
            sides=need.anchor_sides,
            ratios=need.anchor_ratios,
            positive_iou=params.rpn_positive_iou,
            negative_iou=params.rpn_negative_iou,
            samples=need.rpn_samples,
            sigma=params.rpn_sigma,
        ),
        "roi_head": {
            "type": "FCISRoIHead",
            "in_channels": 8 * params.base_channels * width,
            "num_classes": len(task.classes),
            "channels": params.reduced_channels,
            "stride": STRIDE,
            "group": params.group,
            "mask_size": params.mask_size,
            "mask_threshold": params.mask_threshold,
            "mask_weight": params.mask_weight,
            "hard_examples": params.ohem,
            "rois": need.rois,
            "sampling": {
                "foreground_share": params.foreground_share,
                "foreground_iou": params.foreground_iou,
                "near_share": 1.0,
                "near_iou": params.near_iou,
            },
            "smallest": need.smallest_side,
        },
        "train_cfg": {"proposals": proposals},
        "test_cfg": {
            "proposals": proposals,
            "voting": {
                "nms_iou": need.nms_iou,
                "vote_iou": params.vote_iou,
                "threshold": params.mask_threshold,
                "score_threshold": params.score_threshold,
                "max_detections": task.max_detections,
                "mask_nms_iou": need.mask_nms_iou,
            },
        },
    }


def _preprocessor(caffe: bool) -> dict[str, Any]:
    ours = preprocessor(STRIDE)
    if not caffe:
        return ours
    return {**ours, "mean": list(CAFFE_MEAN), "std": [1.0] * 3, "bgr_to_rgb": False, "rgb_to_bgr": True}


def _backbone(params: FCIS.Params, init: str, frozen: bool) -> dict[str, Any]:
    weights = None
    if init == "imagenet":
        if params.depth not in CAFFE_DEPTHS or params.base_channels != 64:
            raise UsageError(
                f"fcis: there are no ImageNet weights of a ResNet-{params.depth} of width {params.base_channels}",
                f"use --init random, or depth {' or '.join(map(str, CAFFE_DEPTHS))} and base_channels 64",
            )
        weights = {"type": "Pretrained", "checkpoint": f"open-mmlab://detectron2/resnet{params.depth}_caffe"}
    # A group of one channel would take each channel's own mean away: groups of two at least.
    groups = {"type": "GN", "num_groups": min(32, params.base_channels // 2), "requires_grad": True}
    return {
        "type": "ResNet",
        "depth": params.depth,
        "base_channels": params.base_channels,
        "style": "caffe",
        "strides": (1, 2, 2, 1),
        "dilations": (1, 1, 1, 2),
        "out_indices": (2, 3),
        "frozen_stages": params.frozen_stages if init != "random" else -1,
        "norm_cfg": {"type": "BN", "requires_grad": False} if frozen else groups,
        "norm_eval": frozen,
        "zero_init_residual": False,
        "init_cfg": weights,
    }
