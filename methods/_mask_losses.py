"""Mask losses by pixel for Mask R-CNN: the shape-aware weights of Lin and Norouzi 2022 on their way to the mask head.

The map of weights is made from the masks as every augmentation has left them, travels beside the image as a float
field, and is cut and resampled for each RoI as the mask targets are, but without making it binary.

Imports torch and mmdet: import it inside the methods that need it, never at the top of a method's module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmcv.ops import roi_align
from mmdet.datasets.transforms import PackDetInputs
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.registry import MODELS, TRANSFORMS
from mmengine.structures import PixelData
from numpy.typing import NDArray
from torch import Tensor

from bench.api import Instances
from methods._encoders import shape_aware_weights
from methods._losses import binary_cross_entropy, focal


def weight_map(masks: NDArray[np.uint8], ignored: NDArray[np.bool_], *, alpha: float, sigma: float) -> NDArray[Any]:
    """Pixel weights of an image, see :func:`methods._encoders.shape_aware_weights`.

    Args:
        masks: (N, H, W), 0 or 1; where they overlap the smaller one counts.
        ignored: (N,), crowd regions: their pixels weigh nothing, unless an object lies there.
        alpha: weight of the boundary term.
        sigma: its reach, pixels.

    Returns:
        float32 (H, W).
    """
    truth = Instances.from_masks(masks.astype(np.bool_))
    labels = truth.take(~ignored).to_label_map("smallest")
    weights = shape_aware_weights(labels, alpha=alpha, sigma=sigma)
    weights[masks[ignored].any(axis=0) & (labels == 0)] = 0
    return weights


@TRANSFORMS.register_module(force=True)
class PackShapeWeights(PackDetInputs):  # type: ignore[misc]
    """Pack a training example with the weights of its pixels, ``gt_shape_weights`` float32 (1, H, W).

    Args:
        alpha: weight of the boundary term.
        sigma: its reach, pixels of the resized image.
    """

    def __init__(self, alpha: float, sigma: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._alpha, self._sigma = alpha, sigma

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """See :class:`mmdet.datasets.transforms.PackDetInputs`."""
        packed: dict[str, Any] = super().transform(results)
        weights = weight_map(
            results["gt_masks"].masks,
            np.asarray(results["gt_ignore_flags"], dtype=np.bool_),
            alpha=self._alpha,
            sigma=self._sigma,
        )
        packed["data_samples"].gt_shape_weights = PixelData(data=torch.from_numpy(weights)[None])
        return packed


@MODELS.register_module(force=True)
class PixelLossRoIHead(StandardRoIHead):  # type: ignore[misc]
    """mmdet's RoI head, which hands the weights of each image on to its mask head."""

    def loss(self, x: Any, rpn_results_list: Any, batch_data_samples: Any) -> dict[str, Tensor]:
        """See :class:`mmdet.models.roi_heads.StandardRoIHead`."""
        self.mask_head.weight_maps = [
            sample.gt_shape_weights.data if "gt_shape_weights" in sample else None for sample in batch_data_samples
        ]
        losses: dict[str, Tensor] = super().loss(x, rpn_results_list, batch_data_samples)
        self.mask_head.weight_maps = None
        return losses


@MODELS.register_module(force=True)
class PixelLossMaskHead(FCNMaskHead):  # type: ignore[misc]
    """mmdet's mask head with another loss.

    Args:
        pixel_loss: ``bce``, ``focal`` or ``shape``.
        focal_gamma: of the focal loss.
        focal_alpha: of the focal loss.
        normalise: divide the shape-aware loss by the mean weight.
        arguments: of the head.
    """

    def __init__(
        self, pixel_loss: str, focal_gamma: float, focal_alpha: float, normalise: bool, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self._kind, self._gamma, self._alpha, self._normalise = pixel_loss, focal_gamma, focal_alpha, normalise
        self.weight_maps: list[Tensor | None] | None = None

    def init_weights(self) -> None:
        """Kaiming-normal by the number of inputs; mmdet's goes by the outputs, which for one class is far too wide."""
        super().init_weights()
        torch.nn.init.kaiming_normal_(self.conv_logits.weight, mode="fan_in", nonlinearity="relu")

    def loss_and_target(
        self, mask_preds: Tensor, sampling_results: Any, batch_gt_instances: Any, rcnn_train_cfg: Any
    ) -> dict[str, Any]:
        """See :class:`mmdet.models.roi_heads.mask_heads.FCNMaskHead`."""
        targets = self.get_targets(sampling_results, batch_gt_instances, rcnn_train_cfg)
        if len(mask_preds) == 0:
            return {"loss_mask": {"loss_mask": mask_preds.sum()}, "mask_targets": targets}
        labels = torch.cat([result.pos_gt_labels for result in sampling_results])
        logits = mask_preds[torch.arange(len(labels), device=labels.device), 0 if self.class_agnostic else labels]
        weight = torch.ones_like(logits)
        if self._kind == "shape":
            assert self.weight_maps is not None
            weight = torch.cat(
                [
                    weights_of_rois(one, result.pos_priors, targets.shape[-2:])
                    for one, result in zip(self.weight_maps, sampling_results, strict=True)
                ]
            )
        if self._kind == "focal":
            loss = focal(logits, targets, weight, gamma=self._gamma, alpha=self._alpha)
        else:
            loss = binary_cross_entropy(logits, targets, weight)
        if self._normalise:
            loss = loss / weight.mean().clamp(min=torch.finfo(weight.dtype).eps)
        return {"loss_mask": {"loss_mask": loss}, "mask_targets": targets}


def weights_of_rois(weights: Tensor | None, boxes: Tensor, size: Sequence[int]) -> Tensor:
    """The weights of an image, cut and resampled as mmdet cuts and resamples mask targets.

    Args:
        weights: float (1, H, W), of the image without its padding.
        boxes: (N, 4) x0, y0, x1, y1, pixels.
        size: (height, width) of the targets.

    Returns:
        float (N, height, width).
    """
    if weights is None:
        raise ValueError("the shape-aware loss needs examples packed by PackShapeWeights")
    boxes = boxes.detach().clone()
    boxes[:, 0::2] = boxes[:, 0::2].clamp(0, weights.shape[-1])
    boxes[:, 1::2] = boxes[:, 1::2].clamp(0, weights.shape[-2])
    rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], dim=1)
    resampled: Tensor = roi_align(weights[None].to(boxes), rois, tuple(size), 1.0, 0, "avg", True)
    return resampled[:, 0]
