"""What is true of an image, which RoIs of it are trained on, and as what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from mmdet.structures.bbox import bbox_overlaps
from numpy.typing import NDArray
from torch import Tensor

IGNORED = -100
"""Label of a RoI that is neither foreground nor background; no loss is taken from it."""


@dataclass(frozen=True)
class Truth:
    """What is true of one image, in pixels of the network's input.

    Attributes:
        boxes: (G, 4) x0, y0, x1, y1.
        classes: int64 (G,).
        masks: uint8 (G, H, W) {0, 1}, on the host.
        ignored: (I, 4), regions from which nothing is learned.
    """

    boxes: Tensor
    classes: Tensor
    masks: NDArray[np.uint8]
    ignored: Tensor


@dataclass(frozen=True)
class SamplingRule:
    """How many RoIs of an image are trained on, and how they are mixed.

    Attributes:
        count: RoIs an image.
        foreground_share: of ``count``, at most, with IoU of ``foreground_iou`` or more.
        foreground_iou: see above.
        near_share: of the others, with IoU in ``[near_iou, foreground_iou)``; the rest has less.
        near_iou: see above.
    """

    count: int = 64
    foreground_share: float = 0.3
    foreground_iou: float = 0.5
    near_share: float = 0.85
    near_iou: float = 0.1


@dataclass(frozen=True)
class Labels:
    """What RoIs are trained to say.

    Attributes:
        classes: int64 (N,); the number of classes is the background, :data:`IGNORED` no one's business.
        truth: int64 (N,), the object that each overlaps most; meaningless without objects.
        overlap: float (N,), box IoU with it.
    """

    classes: Tensor
    truth: Tensor
    overlap: Tensor


def label_rois(
    boxes: Tensor,
    truth_boxes: Tensor,
    truth_classes: Tensor,
    *,
    background: int,
    foreground_iou: float,
    ignored_boxes: Tensor | None = None,
) -> Labels:
    """Label RoIs by the object that their box overlaps most.

    Args:
        boxes: (N, 4) x0, y0, x1, y1.
        truth_boxes: (G, 4).
        truth_classes: int64 (G,).
        background: the label of RoIs that overlap no object by ``foreground_iou``.
        foreground_iou: box IoU from which a RoI is its object.
        ignored_boxes: (I, 4), regions in which nobody knows; a RoI more than half in one is ignored, unless it is
            an object.
    """
    boxes = boxes.detach()
    count = len(boxes)
    if len(truth_boxes) == 0:
        overlap = boxes.new_zeros(count)
        truth = torch.zeros(count, dtype=torch.long, device=boxes.device)
        classes = torch.full((count,), background, dtype=torch.long, device=boxes.device)
    else:
        overlap, truth = bbox_overlaps(boxes, truth_boxes).max(dim=1)
        classes = torch.where(overlap >= foreground_iou, truth_classes[truth], background)
    if ignored_boxes is not None and len(ignored_boxes) and count:
        inside = bbox_overlaps(boxes, ignored_boxes, mode="iof").max(dim=1).values > 0.5
        classes = torch.where(inside & (classes == background), IGNORED, classes)
    return Labels(classes, truth, overlap)


def sample_rois(labels: Labels, background: int, rule: SamplingRule) -> Tensor:
    """Choose the RoIs to train on, at random from torch's generator.

    Where a kind has too few RoIs, the kinds of background fill in for each other; foreground never exceeds its share.

    Returns:
        int64 (at most ``rule.count``,), indices, foreground first.
    """
    is_background = labels.classes == background
    foreground = torch.nonzero(~is_background & (labels.classes != IGNORED)).flatten()
    near = torch.nonzero(is_background & (labels.overlap >= rule.near_iou)).flatten()
    far = torch.nonzero(is_background & (labels.overlap < rule.near_iou)).flatten()

    n_foreground = min(round(rule.count * rule.foreground_share), len(foreground))
    wanted = rule.count - n_foreground
    n_near = min(round(wanted * rule.near_share), len(near))
    n_far = min(wanted - n_near, len(far))
    n_near = min(wanted - n_far, len(near))
    return torch.cat([_some(foreground, n_foreground), _some(near, n_near), _some(far, n_far)])


def _some(indices: Tensor, count: int) -> Tensor:
    # The generator of the CPU on every device, so that a seed means the same everywhere.
    return indices[torch.randperm(len(indices))[:count].to(indices.device)]
