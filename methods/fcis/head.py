"""Class, mask and box of every RoI, read from the same position-sensitive maps without a weight of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional

from methods import _raster as raster
from methods._rois import IGNORED, Labels, SamplingRule, Truth, label_rois, sample_rois
from methods.fcis.pooling import SummedMaps, ps_roi_pool

OUTSIDE, INSIDE = 0, 1
"""Order of the two scores of a class: in the RoI but not of its object, and of its object."""
BOX_OUTPUTS = 4


@dataclass(frozen=True)
class Answers:
    """What the maps say of N RoIs.

    Attributes:
        parts: (N, C + 1, 2, m, m), scores of each class at each bin, background last; outside, then inside.
        deltas: (N, 4), box deltas, of no class.
    """

    parts: Tensor
    deltas: Tensor

    def classes(self) -> Tensor:
        """Logits of the classes (N, C + 1): the mean over the bins of the larger of outside and inside."""
        return self.parts.amax(dim=2).mean(dim=(2, 3))

    def masks(self, chosen: Tensor) -> Tensor:
        """Foreground logits (N, m, m) of one class each, whose sigmoid is the softmax of inside over outside.

        Args:
            chosen: int64 (N,), the classes.
        """
        pair = self.parts[torch.arange(len(chosen), device=chosen.device), chosen]
        return pair[:, INSIDE] - pair[:, OUTSIDE]


@dataclass(frozen=True)
class Targets:
    """What N RoIs should say.

    Attributes:
        classes: int64 (N,); the number of classes is the background, ``IGNORED`` no one's business.
        foreground: bool (N,), the RoIs that are an object.
        masks: float (N, m, m) {0, 1}; zeros where a RoI is none.
        deltas: (N, 4), in units of the box coder's deviations; zeros where a RoI is none.
    """

    classes: Tensor
    foreground: Tensor
    masks: Tensor
    deltas: Tensor

    def take(self, rows: Tensor) -> Targets:
        """Those of the RoIs at ``rows``."""
        return Targets(self.classes[rows], self.foreground[rows], self.masks[rows], self.deltas[rows])


@dataclass(frozen=True)
class RoILosses:
    """Losses of N RoIs, each (N,) and before any weight.

    Attributes:
        classes: cross entropy; 0 where the RoI is ignored.
        masks: binary cross entropy, the mean over the bins; 0 where the RoI is no object.
        boxes: smooth L1, the sum over the four deltas; 0 where the RoI is no object.
    """

    classes: Tensor
    masks: Tensor
    boxes: Tensor


def roi_losses(answers: Answers, targets: Targets) -> RoILosses:
    """The losses of each RoI. The mask is that of the true class, also where another class is likelier."""
    chosen = torch.where(targets.foreground, targets.classes, 0)
    masks = functional.binary_cross_entropy_with_logits(answers.masks(chosen), targets.masks, reduction="none")
    boxes = functional.smooth_l1_loss(answers.deltas, targets.deltas, reduction="none")
    zero = masks.new_zeros(())
    return RoILosses(
        functional.cross_entropy(answers.classes(), targets.classes, ignore_index=IGNORED, reduction="none"),
        torch.where(targets.foreground, masks.mean(dim=(1, 2)), zero),
        torch.where(targets.foreground, boxes.sum(dim=1), zero),
    )


def hardest(losses: Tensor, classes: Tensor, count: int) -> Tensor:
    """The RoIs of highest loss, ignored ones aside (online hard example mining).

    Args:
        losses: (N,).
        classes: int64 (N,), labels.
        count: so many at most.

    Returns:
        int64 (at most ``count``,), indices, hardest first; ties by index.
    """
    candidates = torch.nonzero(classes != IGNORED).flatten()
    order = losses[candidates].sort(descending=True, stable=True).indices
    return candidates[order[:count]]


@MODELS.register_module()
class FCISRoIHead(BaseModule):
    """Joint mask and class scores of RoIs (Li et al. 2017, sections 2.1 to 2.3).

    A convolution reduces the features, two more give the maps; what follows has no weights. The maps come class by
    class (background last), outside before inside, each with its ``group`` x ``group`` maps row by row; then four
    box deltas in the same way.

    Args:
        in_channels: of the feature map.
        num_classes: C, without the background.
        channels: after the reduction.
        stride: input pixels a feature cell.
        group: k, parts of a RoI a side.
        mask_size: m, bins of a RoI a side, a multiple of ``group``.
        mask_threshold: foreground from here on, in targets.
        mask_weight: of the mask loss; the others weigh 1.
        hard_examples: train on the RoIs of highest loss; else on a sample.
        rois: RoIs trained on, an image; mask and box losses are divided by it.
        sampling: see :class:`~methods._rois.SamplingRule`, whose ``count`` is ``rois``.
        box_stds: deviations by which box deltas are divided.
        smallest: candidates with a shorter side are dropped, pixels of the network's input.
        chunk: RoIs that are held at a time where no gradient is wanted.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        channels: int = 1024,
        stride: int = 16,
        group: int = 7,
        mask_size: int = 21,
        mask_threshold: float = 0.4,
        mask_weight: float = 10.0,
        hard_examples: bool = True,
        rois: int = 128,
        sampling: Mapping[str, Any] | None = None,
        box_stds: Sequence[float] = (0.2, 0.2, 0.5, 0.5),
        smallest: float = 2.0,
        chunk: int = 128,
    ) -> None:
        super().__init__({"type": "Normal", "layer": "Conv2d", "std": 0.01})
        if mask_size % group:
            raise ValueError(f"a mask of {mask_size} bins a side cannot be divided into {group} parts a side")
        self.background = num_classes
        self.stride, self.group, self.mask_size, self.chunk = stride, group, mask_size, chunk
        self.mask_threshold, self.mask_weight = mask_threshold, mask_weight
        self.hard_examples, self.rois, self.smallest = hard_examples, rois, smallest
        self.sampling = SamplingRule(**{**(sampling or {}), "count": rois})
        self.box_coder = DeltaXYWHBBoxCoder(target_stds=tuple(box_stds))
        self.reduce = nn.Conv2d(in_channels, channels, 1)
        self.class_maps = nn.Conv2d(channels, 2 * (num_classes + 1) * group**2, 1)
        self.box_maps = nn.Conv2d(channels, BOX_OUTPUTS * group**2, 1)

    def maps(self, features: Tensor) -> Tensor:
        """(B, C_in, H, W) to the maps (B, (2 (C + 1) + 4) k^2, H, W)."""
        reduced = functional.relu(self.reduce(features))
        return torch.cat([self.class_maps(reduced), self.box_maps(reduced)], dim=1)

    def answers(self, maps: SummedMaps, boxes: Tensor) -> Answers:
        """Pool the maps over RoIs (N, 4), pixels of the network's input."""
        pooled = ps_roi_pool(maps, boxes, self.stride, self.mask_size)
        scores, deltas = pooled[:, :-BOX_OUTPUTS], pooled[:, -BOX_OUTPUTS:]
        return Answers(scores.unflatten(1, (self.background + 1, 2)), deltas.mean(dim=(2, 3)))

    # -- training -----------------------------------------------------------------------------------

    def loss(self, maps: Tensor, proposals: Tensor, truth: Truth, img_shape: tuple[int, int]) -> dict[str, Tensor]:
        """Losses on one image.

        Args:
            maps: ((2 (C + 1) + 4) k^2, H, W).
            proposals: (N, 4).
            truth: see :class:`~methods._rois.Truth`.
            img_shape: (height, width) in pixels of the network's input.

        Returns:
            ``loss_cls``, the mean over the RoIs trained on; ``loss_mask`` and ``loss_bbox``, sums over them divided
            by ``rois``.
        """
        summed = SummedMaps.of(maps, self.group)
        boxes = torch.cat([proposals.detach(), truth.boxes])
        labels = label_rois(
            boxes,
            truth.boxes,
            truth.classes,
            background=self.background,
            foreground_iou=self.sampling.foreground_iou,
            ignored_boxes=truth.ignored,
        )
        targets = self.targets(boxes, labels, truth)
        chosen = self.chosen(summed, boxes, labels, targets)
        found = roi_losses(self.answers(summed, boxes[chosen]), targets.take(chosen))
        nothing = maps.sum() * 0  # an image without a RoI has a gradient, too
        return {
            "loss_cls": found.classes.sum() / max(len(chosen), 1) + nothing,
            "loss_mask": self.mask_weight * found.masks.sum() / self.rois + nothing,
            "loss_bbox": found.boxes.sum() / self.rois + nothing,
        }

    def targets(self, boxes: Tensor, labels: Labels, truth: Truth) -> Targets:
        """What RoIs (N, 4) should say: class, object cut off at the box and resized, and way to the object's box."""
        foreground = (labels.classes != self.background) & (labels.classes != IGNORED)
        masks = boxes.new_zeros((len(boxes), self.mask_size, self.mask_size))
        deltas = torch.zeros_like(boxes)
        rows = torch.nonzero(foreground).flatten()
        if len(rows):
            objects = labels.truth[rows]
            cut = raster.mask_targets(
                truth.masks,
                boxes[rows].float().cpu().numpy(),
                objects.cpu().numpy(),
                self.mask_size,
                self.mask_threshold,
            )
            masks[rows] = torch.from_numpy(cut).to(masks)
            deltas[rows] = self.box_coder.encode(boxes[rows], truth.boxes[objects])
        return Targets(labels.classes, foreground, masks, deltas)

    def chosen(self, maps: SummedMaps, boxes: Tensor, labels: Labels, targets: Targets) -> Tensor:
        """Which RoIs are trained on, as indices: those of highest loss, or a sample."""
        if not self.hard_examples:
            return sample_rois(labels, self.background, self.sampling)
        losses = [boxes.new_zeros(0)]
        with torch.no_grad():
            for rows in torch.arange(len(boxes), device=boxes.device).split(self.chunk):
                found = roi_losses(self.answers(maps, boxes[rows]), targets.take(rows))
                losses.append(found.classes + self.mask_weight * found.masks + found.boxes)
        return hardest(torch.cat(losses), labels.classes, self.rois)

    # -- prediction ---------------------------------------------------------------------------------

    def predict(self, maps: Tensor, proposals: Tensor, img_shape: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """The candidates of one image: its proposals, and again where the first answers have moved them.

        Args:
            maps: ((2 (C + 1) + 4) k^2, H, W).
            proposals: (N, 4).
            img_shape: (height, width) in pixels of the network's input.

        Returns:
            boxes (at most 2 N, 4) in pixels of the network's input, masks (2 N, m, m) of the likeliest foreground
            class and class scores (2 N, C), both probabilities.
        """
        summed = SummedMaps.of(maps, self.group)
        masks, scores, moved = self._round(summed, proposals, img_shape)
        later_masks, later_scores, _ = self._round(summed, moved, img_shape)
        boxes = torch.cat([proposals, moved])
        kept = ((boxes[:, 2:] - boxes[:, :2]) >= self.smallest).all(dim=1)
        return boxes[kept], torch.cat([masks, later_masks])[kept], torch.cat([scores, later_scores])[kept]

    def _round(self, maps: SummedMaps, boxes: Tensor, img_shape: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Masks, class scores and regressed boxes of RoIs."""
        parts = []
        for some in boxes.split(self.chunk):
            answers = self.answers(maps, some)
            scores = answers.classes().softmax(dim=1)[:, : self.background]
            moved = self.box_coder.decode(some, answers.deltas.to(some), max_shape=img_shape)
            parts.append((answers.masks(scores.argmax(dim=1)).sigmoid(), scores, moved))
        masks, scores, moved = (torch.cat(part) for part in zip(*parts, strict=True))
        return masks, scores, moved
