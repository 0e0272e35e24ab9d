"""From settings and a task to the config of the network. Plain Python: nothing heavy is imported here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.api import Task
from methods._proposals import fitted_anchors, mask_nms_iou, nms_iou, rpn_head

if TYPE_CHECKING:
    from methods.mnc import MNC

STRIDE = 16
"""Input pixels a feature cell, of both backbones."""
PUBLISHED_SIDES = (128.0, 256.0, 512.0)
"""Sides of the published anchors, pixels."""
VGG16_WEIGHTS = "mmcls://vgg16"
RESNET101_WEIGHTS = {"type": "Pretrained", "checkpoint": "mmcls://resnet101", "prefix": "backbone"}


PUBLISHED_NMS = 0.3
"""Box IoU above which the weaker of two detections of a class is dropped, before mask voting."""


@dataclass(frozen=True)
class Needs:
    """What a task needs of the numbers that MNC's authors chose for photographs.

    Attributes:
        anchor_sides: sides of square anchors, pixels of the network's input.
        anchor_ratios: height over width.
        rpn_samples: anchors trained on, an image.
        proposals: RoIs that stage 2 is given.
        rois: RoIs trained on, an image.
        nms_iou: of boxes, between detections of a class.
        mask_nms_iou: of their masks; 1: none is suppressed by it.
    """

    anchor_sides: tuple[float, ...]
    anchor_ratios: tuple[float, ...]
    rpn_samples: int
    proposals: int
    rois: int
    nms_iou: float
    mask_nms_iou: float


def needs(task: Task, params: MNC.Params, sizes: tuple[float, float, float] | None) -> Needs:
    """The numbers for a task: those of the settings, raised or refined where its objects ask for it.

    Args:
        task: its objects' number and shape.
        params: the method's settings; with ``fit_to_task`` off they are taken as they are.
        sizes: 5th percentile, median and 95th percentile of the objects' sides in pixels of the network's input, or
            None where unknown.
    """
    p, objects = params, task.objects
    if not p.fit_to_task:
        sides = p.anchor_sides or PUBLISHED_SIDES
        return Needs(sides, p.anchor_ratios, p.rpn_samples, p.proposals, p.rois, p.nms_iou or PUBLISHED_NMS, 1.0)
    sides, ratios = fitted_anchors(task, sizes, p.anchor_sides, p.anchor_ratios)
    # Above the IoU from which candidates vote, two neighbours would be given one mask.
    overlap = nms_iou(task, p.nms_iou, PUBLISHED_NMS, slender=p.vote_iou)
    of_masks = mask_nms_iou(task, p.nms_iou, PUBLISHED_NMS)
    if objects is None:
        return Needs(sides, ratios, p.rpn_samples, max(p.proposals, task.max_detections), p.rois, overlap, of_masks)
    # Every object of a median image shall find room in the foreground share of the RoIs, within reason.
    crowd = math.ceil(objects.per_image_median / params.foreground_share)
    return Needs(
        anchor_sides=sides,
        anchor_ratios=ratios,
        rpn_samples=max(params.rpn_samples, min(1024, 2 * math.ceil(objects.per_image_median))),
        proposals=max(params.proposals, 2 * objects.per_image_max),
        rois=max(params.rois, min(params.most_rois, crowd)),
        nms_iou=overlap,
        mask_nms_iou=of_masks,
    )


def model_config(
    params: MNC.Params, task: Task, sizes: tuple[float, float, float] | None, init: str, preprocessor: dict[str, Any]
) -> dict[str, Any]:
    """The network, as MMDetection builds it.

    Args:
        params: settings.
        task: see :func:`needs`.
        sizes: see :func:`needs`.
        init: ``random``, ``imagenet`` or ``checkpoint``, one that does not descend from random weights.
        preprocessor: config of the data preprocessor.
    """
    need = needs(task, params, sizes)
    backbone, trunk, channels = _layers(params, init)
    # What several images average out of one update also averages the gradients that are clipped.
    gradient_limit = params.gradient_limit / params.images_per_update
    proposals = {
        "nms_iou": params.rpn_nms_iou,
        "max_per_img": need.proposals,
        "min_bbox_size": params.min_proposal_side,
    }
    more = max(1.0, need.proposals / params.proposals)
    return {
        "type": "MNCDetector",
        "data_preprocessor": preprocessor,
        "backbone": backbone,
        "vgg16_weights": VGG16_WEIGHTS if init == "imagenet" and params.backbone == "vgg16" else None,
        "rpn_head": rpn_head(
            type="MNCRPNHead",
            gradient_limit=gradient_limit,
            stride=STRIDE,
            in_channels=channels,
            channels=params.rpn_channels,
            sides=need.anchor_sides,
            ratios=need.anchor_ratios,
            positive_iou=params.rpn_positive_iou,
            negative_iou=params.rpn_negative_iou,
            samples=need.rpn_samples,
            sigma=params.rpn_sigma,
        ),
        "roi_head": {
            "type": "MNCRoIHead",
            "in_channels": channels,
            "num_classes": len(task.classes),
            "stride": STRIDE,
            "trunk": trunk,
            "mask_hidden": params.mask_hidden,
            "mask_size": params.mask_size,
            "mask_threshold": params.mask_threshold,
            "mask_iou": params.mask_iou,
            "mask_weight": params.mask_weight,
            "gradient_limit": gradient_limit,
            "bridge_truths": need.rois,
            "sampling": {
                "count": need.rois,
                "foreground_share": params.foreground_share,
                "foreground_iou": params.foreground_iou,
                "near_share": params.near_share,
                "near_iou": params.near_iou,
            },
        },
        "train_cfg": {"proposals": {**proposals, "nms_pre": round(params.train_candidates * more)}},
        "test_cfg": {
            "proposals": {**proposals, "nms_pre": round(params.test_candidates * more)},
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


def _layers(params: MNC.Params, init: str) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Backbone, trunk of stage 3, and the channels of the feature map."""
    grouped = params.norm == "group" or (params.norm == "auto" and init == "random")
    groups = {"type": "GN", "num_groups": 32, "requires_grad": True} if grouped else None
    frozen = params.frozen_stages if init != "random" else 0
    if params.backbone == "vgg16":
        channels = params.vgg_channels
        return (
            {"type": "MNCVGG16", "channels": list(channels), "norm_cfg": groups, "frozen_stages": frozen},
            {"type": "MNCFullyConnectedTrunk", "channels": params.fc_channels},
            channels[-1],
        )
    norm = groups or {"type": "BN", "requires_grad": False}
    common = {
        "depth": params.resnet_depth,
        "style": "pytorch",
        "norm_cfg": norm,
        "norm_eval": True,
        "init_cfg": RESNET101_WEIGHTS if init == "imagenet" else None,
    }
    backbone = {
        "type": "ResNet",
        **common,
        "num_stages": 3,
        "strides": (1, 2, 2),
        "dilations": (1, 1, 1),
        "out_indices": (2,),
        # mmdet counts the stem as stage 0, and -1 is "nothing".
        "frozen_stages": frozen - 1,
    }
    return backbone, {"type": "MNCConv5Trunk", **common}, 256 if params.resnet_depth < 50 else 1024
