"""Cascade Mask R-CNN as MMDetection configures it, fitted to a task: what the methods built on it share."""

from __future__ import annotations

from typing import Any

from bench.api import Task

STOCK = "cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco"
"""MMDetection's config: three stages at IoU 0.5, 0.6, 0.7, loss weights 1, 0.5, 0.25, box deltas of shrinking scale."""


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
    """Let samplers, proposals and detections hold what the task's densest image needs, in place.

    Args:
        model: the ``model`` part of :data:`STOCK`.
        task: its objects and its largest number of detections.
        samples: RoIs sampled an image and stage; 0: 512, or four times the objects of the densest image, since a
            quarter of the samples are objects.
        score_threshold: detections below are dropped.
        nms_iou: box IoU above which the weaker of two detections is dropped.
    """
    densest = task.objects.per_image_max if task.objects else 100
    samples = samples or max(512, 4 * densest)
    for stage in model.train_cfg.rcnn:
        stage.sampler.num = samples
    model.train_cfg.rpn.sampler.num = max(256, 2 * densest)
    # Anchors x objects is compared on the CPU where it would fill a GPU's memory.
    model.train_cfg.rpn.assigner.gpu_assign_thr = 500
    proposals = max(2000, samples)
    model.train_cfg.rpn_proposal.update(nms_pre=max(2000, 2 * samples), max_per_img=proposals)
    proposals = max(1000, 3 * task.max_detections // 2)
    model.test_cfg.rpn.update(nms_pre=proposals, max_per_img=proposals)
    model.test_cfg.rcnn.update(
        score_thr=score_threshold,
        nms={"type": "nms", "iou_threshold": nms_iou},
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
