"""Cascade Mask R-CNN as MMDetection configures it, fitted to a task: what the methods built on it share."""

from __future__ import annotations

from typing import Any

from bench.api import Task
from methods import _proposals

STOCK = "cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco"
"""MMDetection's config: three stages at IoU 0.5, 0.6, 0.7, loss weights 1, 0.5, 0.25, box deltas of shrinking scale."""


SHORTEST = 0.8
"""Of the short side that images are resized into in prediction, the least in training: 640 of 800."""
SCALES = 6
"""Sizes of training images, evenly spaced: 640, 672, 704, 736, 768 and 800, as in Detectron2's COCO configs."""


def many_scales(image_scale: tuple[int, int], shortest: float) -> dict[str, Any]:
    """The mmdet transform that resizes a training image into one of several sizes, by chance.

    Args:
        image_scale: (long, short) side in pixels that images are resized into in prediction.
        shortest: share of the short side that the smallest size has; 1: all are of ``image_scale``.
    """
    long, short = max(image_scale), min(image_scale)
    sides = [round(short * (shortest + (1 - shortest) * step / (SCALES - 1))) for step in range(SCALES)]
    # Of square input the long side bounds the size, so it shrinks along; of the others it stays, as in the configs.
    scales = [(side if long == short else long, side) for side in sides]
    return {"type": "RandomChoiceResize", "scales": scales, "resize_type": "ResizeAsWhole"}


def set_heads(model: Any, task: Task, *, pyramid_channels: int, head_channels: int) -> None:
    """Give every head the task's classes and the wanted widths, in place.

    Args:
        model: the ``model`` part of :data:`STOCK`.
        task: whose classes are predicted.
        pyramid_channels: of the feature pyramid, and of every convolution of a head.
        head_channels: of the box heads' fully connected layers.
    """
    roi = model.roi_head
    for part in (model.neck, roi.bbox_roi_extractor, roi.mask_roi_extractor):
        part.out_channels = pyramid_channels
    for part in (model.rpn_head, roi.mask_head, *roi.bbox_head):
        part.in_channels = pyramid_channels
    model.rpn_head.feat_channels = roi.mask_head.conv_out_channels = pyramid_channels
    roi.mask_head.num_classes = len(task.classes)
    for head in roi.bbox_head:
        head.update(fc_out_channels=head_channels, num_classes=len(task.classes))


def set_caps(model: Any, task: Task, *, samples: int, score_threshold: float, nms_iou: float) -> None:
    """Fit samplers, ratios of anchors, proposals, suppression and detections to the task's objects, in place.

    Args:
        model: the ``model`` part of :data:`STOCK`.
        task: its objects and its largest number of detections.
        samples: RoIs sampled an image and stage; 0: what the densest image needs.
        score_threshold: detections below are dropped.
        nms_iou: box IoU above which the weaker of two detections is dropped; 0: by the objects.
    """
    samples = _proposals.sampled_rois(task, samples)
    model.train_cfg.rpn.sampler.num = _proposals.sampled_anchors(task)
    model.train_cfg.rpn.assigner.gpu_assign_thr = _proposals.ASSIGNED_ON_GPU
    for stage in model.train_cfg.rcnn:
        stage.sampler.num = samples
        stage.assigner.gpu_assign_thr = _proposals.ASSIGNED_ON_GPU
    model.train_cfg.rpn_proposal.update(nms_pre=max(2000, 2 * samples), max_per_img=max(2000, samples))
    anchors = model.rpn_head.anchor_generator
    anchors.ratios = list(_proposals.fitted_ratios(task, anchors.ratios))
    proposals = _proposals.proposals(task)
    model.test_cfg.rpn.update(nms_pre=proposals, max_per_img=proposals)
    overlap = _proposals.nms_iou(task, nms_iou, model.test_cfg.rcnn.nms.iou_threshold)
    model.test_cfg.rcnn.update(
        score_thr=score_threshold,
        nms={"type": "nms", "iou_threshold": overlap},
        max_per_img=task.max_detections,
    )


def set_normalisation(model: Any, norm: dict[str, Any]) -> None:
    """Trainable normalisation in backbone, pyramid and mask head, and nothing frozen, in place; for random weights."""
    model.backbone.update(
        frozen_stages=-1, norm_cfg=dict(norm), norm_eval=False, zero_init_residual=False, init_cfg=None
    )
    model.neck.norm_cfg = dict(norm)
    model.roi_head.mask_head.norm_cfg = dict(norm)


def plain(model: Any) -> dict[str, Any]:
    """A config as plain dictionaries."""
    return model.to_dict() if hasattr(model, "to_dict") else dict(model)
