"""Stages 2 to 5: the RoI head, run twice with the same weights, and the bridge between the two rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor
from torch.nn import functional

from methods import _raster as raster
from methods._rois import IGNORED, Labels, SamplingRule, Truth, label_rois, sample_rois
from methods.mnc.heads import MaskedClassifier, MaskRegression
from methods.mnc.warp import limit_gradient, roi_warp


@dataclass(frozen=True)
class Answers:
    """What one round says of N RoIs.

    Attributes:
        masks: (N, m, m), foreground logits.
        classes: (N, C + 1), logits by box, background last.
        mask_classes: (N, C + 1), logits by mask, background last.
        deltas: (N, 4 (C + 1)), box regression for each class.
    """

    masks: Tensor
    classes: Tensor
    mask_classes: Tensor
    deltas: Tensor


@MODELS.register_module()
class MNCRoIHead(BaseModule):
    """The multi-task cascade behind the proposals (Dai et al. 2016, sections 3.2, 3.3 and 4).

    Args:
        in_channels: of the feature map.
        num_classes: C, without the background.
        stride: input pixels a feature cell.
        trunk: config of stage 3's trunks, see :class:`~methods.mnc.heads.MaskedClassifier`.
        roi_size: side of a RoI's features.
        mask_hidden: units of stage 2.
        mask_size: m.
        mask_threshold: foreground from here on, in targets and in the predicted masks that stage 3 is judged by.
        mask_iou: a predicted mask that overlaps its object by this is right.
        mask_weight: of the mask loss; the others weigh 1.
        sampling: see :class:`~methods._rois.SamplingRule`.
        bridge_truths: so many true boxes are added at the bridge in training, at most.
        gradient_limit: gradients into the box deltas at the bridge are clipped to this.
        box_stds: deviations by which box deltas are divided.
        chunk: RoIs that prediction holds at a time.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        trunk: Mapping[str, Any],
        stride: int = 16,
        roi_size: int = 14,
        mask_hidden: int = 256,
        mask_size: int = 21,
        mask_threshold: float = 0.4,
        mask_iou: float = 0.5,
        mask_weight: float = 2.0,
        sampling: Mapping[str, Any] | None = None,
        bridge_truths: int = 64,
        gradient_limit: float = 1 / 512,
        box_stds: Sequence[float] = (0.1, 0.1, 0.2, 0.2),
        chunk: int = 128,
    ) -> None:
        super().__init__()
        self.background = num_classes
        self.stride, self.roi_size, self.chunk = stride, roi_size, chunk
        self.mask_threshold, self.mask_iou, self.mask_weight = mask_threshold, mask_iou, mask_weight
        self.sampling = SamplingRule(**(sampling or {}))
        self.bridge_truths, self.gradient_limit = bridge_truths, gradient_limit
        self.box_coder = DeltaXYWHBBoxCoder(target_stds=tuple(box_stds))
        self.mask_regression = MaskRegression(in_channels, roi_size, mask_hidden, mask_size)
        self.classifier = MaskedClassifier(in_channels, num_classes, trunk)

    # -- training -----------------------------------------------------------------------------------

    def loss(self, features: Tensor, proposals: Tensor, truth: Truth, img_shape: tuple[int, int]) -> dict[str, Tensor]:
        """Losses of stages 2 to 5 on one image.

        Args:
            features: (C, H, W).
            proposals: (N, 4), with gradient.
            truth: see :class:`Truth`.
            img_shape: (height, width) in pixels of the network's input.

        Returns:
            ``loss_mask``, ``loss_cls``, ``loss_seg_cls`` and ``loss_bbox``, each with its stage's number.
        """
        pool = torch.cat([truth.boxes, proposals])
        boxes = pool[sample_rois(self._label(pool, truth), self.background, self.sampling)]
        first, answers = self._round(features, boxes, truth)
        second, _ = self._round(features, self.second_rois(boxes, answers, truth, img_shape), truth)
        losses = {}
        for losses_of_round, mask_stage in ((first, 2), (second, 4)):
            for name, value in losses_of_round.items():
                losses[f"{name}_{mask_stage if name == 'loss_mask' else mask_stage + 1}"] = value
        return losses

    def _label(self, boxes: Tensor, truth: Truth) -> Labels:
        return label_rois(
            boxes,
            truth.boxes,
            truth.classes,
            background=self.background,
            foreground_iou=self.sampling.foreground_iou,
            ignored_boxes=truth.ignored,
        )

    def _round(self, features: Tensor, boxes: Tensor, truth: Truth) -> tuple[dict[str, Tensor], Answers]:
        """One pass through mask regression and classification: its losses and its answers."""
        labels = self._label(boxes, truth)
        foreground = (labels.classes != self.background) & (labels.classes != IGNORED)
        rois = self._warp(features, boxes)
        masks = self.mask_regression(rois)
        right = self.right_masks(masks, boxes, labels.truth, foreground, truth)
        classes, mask_classes, deltas = self.classifier(rois, masks.sigmoid(), right)
        answers = Answers(masks, classes, mask_classes, deltas)
        mask_labels = torch.where(foreground & ~right, self.background, labels.classes)
        losses = {
            "loss_mask": self.mask_weight * self._mask_loss(masks, boxes, labels.truth, foreground, truth),
            "loss_cls": _cross_entropy(classes, labels.classes),
            "loss_seg_cls": _cross_entropy(mask_classes, mask_labels),
            "loss_bbox": self._box_loss(deltas, boxes, labels, foreground, truth),
        }
        return losses, answers

    def right_masks(self, masks: Tensor, boxes: Tensor, chosen: Tensor, foreground: Tensor, truth: Truth) -> Tensor:
        """Which foreground RoIs have a mask that overlaps their object enough, bool (N,).

        The predicted mask is pasted into the image and binarised; the IoU is with the whole object, also with what
        of it lies outside the box.

        Args:
            masks: (N, m, m), logits.
            boxes: (N, 4).
            chosen: int64 (N,), the object of each RoI.
            foreground: bool (N,), the RoIs that are asked about.
            truth: see :class:`Truth`.
        """
        rows = torch.nonzero(foreground).flatten()
        soft = masks.detach()[rows].sigmoid().float().cpu().numpy()
        where = boxes.detach()[rows].float().cpu().numpy()
        objects = chosen[rows].cpu().numpy()
        right = np.array(
            [
                raster.mask_overlap(mask, box, truth.masks[index], self.mask_threshold) >= self.mask_iou
                for mask, box, index in zip(soft, where, objects, strict=True)
            ],
            dtype=np.bool_,
        )
        result = torch.zeros_like(foreground)
        result[rows] = torch.from_numpy(right).to(foreground.device)
        return result

    def _mask_loss(self, masks: Tensor, boxes: Tensor, chosen: Tensor, foreground: Tensor, truth: Truth) -> Tensor:
        """Mean binary cross entropy over the samples of the foreground RoIs' masks."""
        rows = torch.nonzero(foreground).flatten()
        if len(rows) == 0:
            return masks.sum() * 0
        targets = raster.mask_targets(
            truth.masks,
            boxes.detach()[rows].float().cpu().numpy(),
            chosen[rows].cpu().numpy(),
            self.mask_regression.mask_size,
            self.mask_threshold,
        )
        wanted = torch.from_numpy(targets).to(masks)
        return functional.binary_cross_entropy_with_logits(masks[rows], wanted)

    def _box_loss(self, deltas: Tensor, boxes: Tensor, labels: Labels, foreground: Tensor, truth: Truth) -> Tensor:
        """Smooth L1 of the true class's deltas, summed over the foreground RoIs, over the number of all RoIs."""
        rows = torch.nonzero(foreground).flatten()
        if len(rows) == 0:
            return deltas.sum() * 0
        said = deltas.view(len(deltas), -1, 4)[rows, labels.classes[rows]]
        wanted = self.box_coder.encode(boxes.detach()[rows], truth.boxes[labels.truth[rows]])
        return functional.smooth_l1_loss(said, wanted, reduction="sum") / len(deltas)

    def second_rois(self, boxes: Tensor, answers: Answers, truth: Truth, img_shape: tuple[int, int]) -> Tensor:
        """The regressed boxes, and true boxes; where there are more than may be added, a random choice of them."""
        added = truth.boxes
        if len(added) > self.bridge_truths:
            added = added[torch.randperm(len(added))[: self.bridge_truths].to(added.device)]
        return torch.cat([self.bridge(boxes, answers, img_shape), added])

    # -- both ---------------------------------------------------------------------------------------

    def bridge(self, boxes: Tensor, answers: Answers, img_shape: tuple[int, int]) -> Tensor:
        """RoIs of the second round: each box moved by the regressor of its likeliest foreground class, and clipped.

        Gradients of the second round reach the box deltas (clipped), not the boxes that they start from.

        Args:
            boxes: (N, 4).
            answers: of the first round.
            img_shape: (height, width) in pixels.

        Returns:
            (N, 4).
        """
        if len(boxes) == 0:
            return boxes
        best = answers.mask_classes[:, : self.background].argmax(dim=1)
        chosen = answers.deltas.view(len(boxes), -1, 4)[torch.arange(len(boxes), device=boxes.device), best]
        deltas = limit_gradient(chosen.float(), self.gradient_limit)
        return self.box_coder.decode(boxes.detach(), deltas, max_shape=img_shape)

    def _warp(self, features: Tensor, boxes: Tensor) -> Tensor:
        return roi_warp(features, boxes, self.stride, self.roi_size)

    # -- prediction ---------------------------------------------------------------------------------

    def predict(self, features: Tensor, proposals: Tensor, img_shape: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """The candidates of one image from both rounds, 2 N of N proposals.

        Args:
            features: (C, H, W).
            proposals: (N, 4).
            img_shape: (height, width) in pixels of the network's input.

        Returns:
            boxes (2 N, 4) in pixels of the network's input, masks (2 N, m, m) and class scores (2 N, C), both
            probabilities.
        """
        first = self._answers(features, proposals)
        moved = self.bridge(proposals, first, img_shape)
        second = self._answers(features, moved)
        return (
            torch.cat([proposals, moved]),
            torch.cat([first.masks, second.masks]).sigmoid(),
            torch.cat([a.mask_classes.softmax(dim=1)[:, : self.background] for a in (first, second)]),
        )

    def _answers(self, features: Tensor, boxes: Tensor) -> Answers:
        parts = []
        for some in boxes.split(self.chunk):
            rois = self._warp(features, some)
            masks = self.mask_regression(rois)
            parts.append((masks, *self.classifier(rois, masks.sigmoid())))
        masks, classes, mask_classes, deltas = (torch.cat(part) for part in zip(*parts, strict=True))
        return Answers(masks, classes, mask_classes, deltas)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the RoIs that are not ignored; zero where there is none."""
    counted = int((labels != IGNORED).sum())
    total = functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    return total / max(counted, 1)
