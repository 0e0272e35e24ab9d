"""Region proposals on one feature map, fitted to small, dense objects. Plain Python: nothing heavy is imported."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bench.api import Task

ANY_SIDES = (16.0, 32.0, 64.0, 128.0, 256.0)
"""Sides of the anchors where the sizes of the objects are unknown, pixels."""
SMALLEST_SIDE = 8.0
"""No anchor is smaller: half a feature cell at stride 16."""
SLENDER = 3.0
"""Longer over shorter side of a box from which objects count as slender."""
SLENDER_NMS = 0.6
"""Box IoU above which the weaker of two detections is dropped where objects are slender: where they cross, boxes do."""
MOST_ROIS = 2048
"""RoIs, and anchors, sampled an image in training, at most: the masks of a quarter of them are held as floats."""
ASSIGNED_ON_GPU = 200
"""With more objects in an image, anchors are compared with them on the CPU, whose memory holds the table."""
CROWDED = 500
"""Objects in the densest image from which a data set is crowded."""
CROWDED_PROPOSALS = 3000
"""Proposals of a crowded image, and candidates for them a level, at least."""

DEVIATIONS_FOR_CELLS = (
    "Where the data set's objects are slender (95th percentile of the longer over the shorter side of their boxes "
    "above 3), anchors of 1:4 and 4:1 join the three ratios (the last layers of a published RPN then do not fit), and "
    "detections are suppressed from a box IoU of 0.6 instead of 0.5: boxes overlap where slender cells cross.",
    "At most 2048 RoIs and anchors are sampled; proposals in prediction follow the number of objects, 3000 at least "
    "from 500 an image on; in training, images whose masks would fill more than 512 MiB are cropped.",
)
"""Of the two-stage methods of MMDetection that these rules are for."""


def is_slender(task: Task) -> bool:
    """Whether the data set's longest objects are slender."""
    return task.objects is not None and task.objects.aspect_p95 > SLENDER


def nms_iou(task: Task, asked: float, published: float, slender: float = SLENDER_NMS) -> float:
    """Box IoU above which the weaker of two detections is dropped.

    Args:
        task: its objects' shape.
        asked: the setting; 0: the published value, or ``slender`` where objects are slender.
        published: what the paper or its code has.
        slender: see above.
    """
    return asked or (max(published, slender) if is_slender(task) else published)


def mask_nms_iou(task: Task, asked: float, published: float) -> float:
    """Mask IoU above which the weaker of two detections is dropped, for methods that vote on masks; 1: none is.

    Where boxes are suppressed late, because slender cells cross (see :func:`nms_iou`), most of what that leaves are
    copies: the published threshold then holds for the masks, by which crossing cells are told apart.
    """
    return published if is_slender(task) and not asked else 1.0


def fitted_ratios(task: Task, ratios: Sequence[float]) -> tuple[float, ...]:
    """Anchor ratios, height over width, with 1:4 and 4:1 where objects are slender."""
    return tuple(sorted({*ratios, 0.25, 4.0})) if is_slender(task) else tuple(ratios)


def sampled_rois(task: Task, asked: int = 0) -> int:
    """RoIs sampled an image in training: those asked for, or what the densest image needs, from 512 to 2048.

    A quarter of the samples are objects, so that four times the objects are needed.
    """
    return asked or min(MOST_ROIS, max(512, 4 * _densest(task)))


def sampled_anchors(task: Task) -> int:
    """Anchors sampled an image in training: 256 as published, or twice the objects of the densest image, up to 2048."""
    return min(MOST_ROIS, max(256, 2 * _densest(task)))


def proposals(task: Task) -> int:
    """Proposals of an image in prediction: 1000 as published, or half as many again as it may have detections.

    A data set with few objects needs no more than ten for each of its densest image, however many detections its card
    allows; a crowded one has :data:`CROWDED_PROPOSALS` at least.
    """
    wanted = 3 * task.max_detections // 2
    if task.objects is None:
        return max(1000, wanted)
    if task.objects.per_image_max >= CROWDED:
        return max(CROWDED_PROPOSALS, wanted)
    return max(1000, min(wanted, 10 * task.objects.per_image_max))


def _densest(task: Task) -> int:
    return task.objects.per_image_max if task.objects else 100


def octaves(low: float, high: float) -> tuple[float, ...]:
    """Sides from ``low`` to ``high``, evenly spaced in the logarithm, at most a factor of two apart; one if equal."""
    low = max(low, SMALLEST_SIDE)
    high = max(high, low)
    if high < 1.1 * low:
        return (round(math.sqrt(low * high), 2),)
    steps = math.ceil(math.log2(high / low) - 1e-9)
    return tuple(round(low * (high / low) ** (i / steps), 2) for i in range(steps + 1))


def enlargement(task: Task, image_scale: Sequence[int], smallest: float, most: float) -> float:
    """By how much more than to ``image_scale`` images are enlarged, so that small objects span a feature cell.

    Args:
        task: its image size and its objects.
        image_scale: (long, short) side in pixels that images would be resized into.
        smallest: what the 5th percentile of the objects' sides should measure, pixels of the network's input.
        most: no image is enlarged beyond this times its own size for that.

    Returns:
        a factor, 1 or more; 1 where the sizes are unknown.
    """
    if task.objects is None or task.image_shape is None:
        return 1.0
    height, width = task.image_shape
    factor = min(max(image_scale) / max(height, width), min(image_scale) / min(height, width))
    return max(1.0, min(smallest / task.objects.size_p05, most) / factor)


def fitted_anchors(
    task: Task, sizes: tuple[float, float, float] | None, sides: Sequence[float], ratios: Sequence[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Anchors for a task: those asked for, else by the sizes of its objects.

    Args:
        task: its objects' shape.
        sizes: 5th percentile, median and 95th percentile of the objects' sides in pixels of the network's input, or
            None where unknown.
        sides: of square anchors, pixels; empty: by the objects.
        ratios: height over width; 1:4 and 4:1 are added where objects are slender.

    Returns:
        sides and ratios.
    """
    return tuple(sides) or (ANY_SIDES if sizes is None else octaves(sizes[0], sizes[2])), fitted_ratios(task, ratios)


def rpn_head(
    *,
    stride: int,
    in_channels: int,
    channels: int,
    sides: Sequence[float],
    ratios: Sequence[float],
    positive_iou: float,
    negative_iou: float,
    samples: int,
    sigma: float,
    **more: Any,
) -> dict[str, Any]:
    """Config of a region proposal network on one feature map, as Faster R-CNN trains it.

    Args:
        stride: input pixels a feature cell.
        in_channels: of the feature map.
        channels: of the 3 x 3 convolution.
        sides: of square anchors, pixels of the network's input.
        ratios: of the anchors, height over width.
        positive_iou: anchors from here on are positive, as is each object's best.
        negative_iou: anchors below are negative.
        samples: anchors trained on, an image, half of them positive at most.
        sigma: of the smooth L1 loss.
        more: further arguments of the head; ``type`` chooses it.
    """
    return {
        "type": "OneMapRPNHead",
        "in_channels": in_channels,
        "feat_channels": channels,
        "anchor_generator": {
            "type": "AnchorGenerator",
            "strides": [stride],
            "scales": [side / stride for side in sides],
            "ratios": list(ratios),
            "center_offset": 0.5,
        },
        "bbox_coder": {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": [1.0] * 4},
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
        "loss_bbox": {"type": "SmoothL1Loss", "beta": 1 / sigma**2, "loss_weight": 1.0},
        "train_cfg": {
            "assigner": {
                "type": "MaxIoUAssigner",
                "pos_iou_thr": positive_iou,
                "neg_iou_thr": negative_iou,
                # The best anchor of an object is positive however little it overlaps, but it must overlap.
                "min_pos_iou": 0.01,
                "match_low_quality": True,
                "ignore_iof_thr": 0.5,
                "gpu_assign_thr": ASSIGNED_ON_GPU,
            },
            "sampler": {
                "type": "RandomSampler",
                "num": samples,
                "pos_fraction": 0.5,
                "neg_pos_ub": -1,
                "add_gt_as_proposals": False,
            },
            "allowed_border": 0,
            "pos_weight": -1,
            "debug": False,
        },
        **more,
    }
