"""From settings and a task to the config of the network. Plain Python: nothing heavy is imported here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.api import Task
from methods._proposals import ASSIGNED_ON_GPU, nms_iou

if TYPE_CHECKING:
    from methods.yi2018 import Yi2018

STRIDES = (8, 16, 32, 64, 128)
"""Input pixels a cell of blocks 3 to 7."""
REFERENCE_SIDE = 512
"""Side of the published input in pixels, of which the default boxes' scales are fractions."""
PUBLISHED_NMS = 0.3
"""Box IoU above which the weaker of two detections is dropped."""
EVERY_BOX = 2**31 - 1
"""MMDetection's limit a map; ours is over all maps together."""
RESNET_WEIGHTS = {"type": "Pretrained", "checkpoint": "mmcls://resnet101", "prefix": "backbone"}
VGG16_WEIGHTS = "mmcls://vgg16"


@dataclass(frozen=True)
class Needs:
    """What a task needs of the numbers that were chosen for the neural cells.

    Attributes:
        side: of the square input, pixels.
        finer: so many times the smallest default box is halved, further boxes on block 3.
        candidates: boxes of a class that enter suppression, an image.
        nms_iou: between detections of a class.
    """

    side: int
    finer: int
    candidates: int
    nms_iou: float


def needs(task: Task, params: Yi2018.Params) -> Needs:
    """The numbers for a task: the published ones wherever its objects fit them.

    Args:
        task: its image size and its objects.
        params: the method's settings; with ``fit_to_task`` off they are taken as they are.
    """
    side, candidates = params.input_side, params.candidates
    if not params.fit_to_task:
        return Needs(side, 0, candidates, params.nms_iou or PUBLISHED_NMS)
    overlap = nms_iou(task, params.nms_iou, PUBLISHED_NMS)
    if task.objects is None:
        return Needs(side, 0, max(candidates, params.candidates_per_object * task.max_detections), overlap)
    candidates = max(candidates, params.candidates_per_object * task.objects.per_image_max)
    if task.image_shape is None:
        return Needs(side, 0, candidates, overlap)
    # A box finds an object whose area is half of its own or more (IoU 0.5).
    least = smallest_object(params)
    native = math.sqrt(task.image_shape[0] * task.image_shape[1])
    wanted = native * min(least / task.objects.size_p05, params.most_enlarged)
    if wanted > side:
        side = max(side, min(STRIDES[-1] * math.ceil(wanted / STRIDES[-1] - 1e-9), params.largest_side))
    size = task.objects.size_p05 * side / native
    finer = 0 if size >= least else min(params.most_finer, math.ceil(math.log2(least / size) - 1e-9))
    return Needs(side, finer, candidates, overlap)


def smallest_object(params: Yi2018.Params) -> float:
    """Side of the smallest square that a published default box can overlap by an IoU of 0.5, pixels of the input."""
    return params.box_scales[0] * REFERENCE_SIDE / math.sqrt(2)


def input_shape(height: int, width: int, side: int, params: Yi2018.Params) -> tuple[int, int]:
    """(height, width) in pixels that an image is resized into.

    A square, or, of an image that this would squeeze too much, its own aspect ratio at the area of the square.

    Args:
        height: of the image, pixels.
        width: of the image, pixels.
        side: of the square that a typical image of the task becomes; of one so small that this would be more than
            ``params.most_enlarged`` times its own size, less, but never less than ``params.input_side``.
        params: the method's settings.
    """
    native = math.sqrt(height * width)
    side = max(params.input_side, min(side, math.ceil(params.most_enlarged * native)))
    if max(height, width) <= params.most_squeezed * min(height, width):
        return side, side
    factor = side / native
    return max(1, round(height * factor)), max(1, round(width * factor))


def model_config(params: Yi2018.Params, task: Task, init: str, preprocessor: dict[str, Any]) -> dict[str, Any]:
    """The network, as MMDetection builds it.

    Args:
        params: settings.
        task: see :func:`needs`.
        init: ``random``, ``imagenet`` or ``checkpoint``.
        preprocessor: config of the data preprocessor.
    """
    need = needs(task, params)
    grouped = params.norm == "group" or (params.norm == "auto" and init == "random")
    norm = {"type": "GN", "num_groups": min(32, params.resnet_width // 2)} if grouped else {"type": "BN"}
    norm["requires_grad"] = True
    backbone, channels = _backbone(params, init, norm if params.backbone == "resnet" or grouped else None)
    narrow = params.extra_channels
    levels = (params.fused_channels, channels[3], narrow[0], narrow[1], narrow[2])
    edges = [scale * REFERENCE_SIDE for scale in params.box_scales]
    ratios = [list(params.box_ratios[:1])] + [list(params.box_ratios)] * 4
    return {
        "type": "Yi2018Detector",
        "data_preprocessor": preprocessor,
        "backbone": backbone,
        "vgg16_weights": VGG16_WEIGHTS if init == "imagenet" and params.backbone == "vgg16" else None,
        "neck": {
            "type": "Yi2018Neck",
            "in_channels": channels[2:4],
            "extra_channels": narrow,
            "reduced_channels": params.reduced_channels,
            "fused_channels": params.fused_channels,
            "norm_cfg": norm,
        },
        "bbox_head": {
            "type": "Yi2018Head",
            "num_classes": len(task.classes),
            "in_channels": levels,
            "conf_weight": params.conf_weight,
            "init_std": params.init_std,
            "anchor_generator": {
                "type": "Yi2018DefaultBoxes",
                "scale_major": False,
                "strides": list(STRIDES),
                "ratios": ratios,
                "min_sizes": edges[:-1],
                "max_sizes": edges[1:],
                "finer": need.finer,
            },
            "bbox_coder": {
                "type": "DeltaXYWHBBoxCoder",
                "clip_border": True,
                "target_means": [0.0] * 4,
                "target_stds": [params.box_variances[0]] * 2 + [params.box_variances[1]] * 2,
            },
            "train_cfg": {
                "assigner": {
                    "type": "MaxIoUAssigner",
                    "pos_iou_thr": params.positive_iou,
                    "neg_iou_thr": params.positive_iou,
                    "min_pos_iou": 0.0,
                    "gt_max_assign_all": False,
                    "ignore_iof_thr": 0.5,
                    "gpu_assign_thr": ASSIGNED_ON_GPU,
                },
                "sampler": {"type": "PseudoSampler"},
                "smoothl1_beta": 1.0,
                "allowed_border": -1,
                "pos_weight": -1,
                "neg_pos_ratio": params.negatives_per_positive,
                "debug": False,
            },
            "test_cfg": {
                "candidates": need.candidates,
                "nms_pre": EVERY_BOX,
                "score_thr": params.score_threshold,
                "nms": {"type": "nms", "iou_threshold": need.nms_iou},
                "min_bbox_size": 0,
                "max_per_img": task.max_detections,
            },
        },
        "mask_head": {
            "type": "Yi2018MaskHead",
            "in_channels": (channels[0], channels[1], params.fused_channels, channels[3]),
            "patch_channels": params.patch_channels,
            "least_cells": params.least_cells,
        },
        "mask_iou": params.mask_iou,
        "mask_objects": params.mask_objects,
        "mask_threshold": params.mask_threshold,
    }


def _backbone(
    params: Yi2018.Params, init: str, norm: dict[str, Any] | None
) -> tuple[dict[str, Any], tuple[int, int, int, int]]:
    """The backbone, and the channels of its blocks 1 to 4."""
    if params.backbone == "vgg16":
        return {"type": "Yi2018VGG16", "norm_cfg": norm}, (128, 256, 512, 1024)
    width = params.resnet_width
    expansion = 1 if params.resnet_depth < 50 else 4
    config = {
        "type": "Yi2018ResNet",
        "depth": params.resnet_depth,
        "base_channels": width,
        "style": "pytorch",
        "norm_cfg": norm,
        "norm_eval": params.norm_eval,
        "frozen_stages": -1,
        "zero_init_residual": True,
        "init_cfg": RESNET_WEIGHTS if init == "imagenet" else None,
    }
    return config, (width, width * expansion, 2 * width * expansion, 4 * width * expansion)
