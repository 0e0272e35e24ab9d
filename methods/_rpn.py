"""MMDetection's region proposal network on one feature map, in images of any size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmcv.ops import nms
from mmdet.models.dense_heads import RPNHead
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from mmdet.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class OneMapRPNHead(RPNHead):
    """RPN on one feature map; its arguments are those of MMDetection's ``RPNHead``."""

    train_cfg: Any

    def proposals(self, cls_scores: Tensor, bbox_preds: Tensor, img_shape: tuple[int, int], cfg: Any) -> Tensor:
        """The proposals of one image.

        Which boxes are taken is decided without gradient; :meth:`passed_on` decides what their coordinates carry.

        Args:
            cls_scores: (A * K, H, W), logits of A anchors a place (K is 1 with a sigmoid, 2 with a softmax).
            bbox_preds: (A * 4, H, W), box deltas.
            img_shape: (height, width) of the image without its padding, pixels.
            cfg: ``nms_pre``, ``nms_iou``, ``max_per_img`` and ``min_bbox_size``.

        Returns:
            (N, 4) x0, y0, x1, y1, surest first.
        """
        (anchors,) = self.prior_generator.grid_priors(
            [cls_scores.shape[-2:]], dtype=torch.float32, device=bbox_preds.device
        )
        deltas = bbox_preds.permute(1, 2, 0).reshape(-1, 4).float()
        with torch.no_grad():
            logits = cls_scores.permute(1, 2, 0).reshape(-1, self.cls_out_channels).float()
            scores = logits.sigmoid()[:, 0] if self.use_sigmoid_cls else logits.softmax(-1)[:, 0]
            scores, order = scores.sort(descending=True, stable=True)
            scores, order = scores[: cfg["nms_pre"]], order[: cfg["nms_pre"]]
            boxes = self.bbox_coder.decode(anchors[order], deltas[order], max_shape=img_shape)
            sides = boxes[:, 2:] - boxes[:, :2]
            large = (sides >= cfg["min_bbox_size"]).all(dim=1)
            boxes, scores, order = boxes[large], scores[large], order[large]
            if len(order):
                _, kept = nms(boxes, scores, cfg["nms_iou"], max_num=cfg["max_per_img"])
                order = order[kept]
        return self.bbox_coder.decode(anchors[order], self.passed_on(deltas[order]), max_shape=img_shape)

    def passed_on(self, deltas: Tensor) -> Tensor:
        """The box deltas (N, 4) of the chosen proposals as later stages see them: here without gradient."""
        return deltas.detach()

    def _get_targets_single(
        self,
        flat_anchors: Tensor,
        valid_flags: Tensor,
        gt_instances: Any,
        img_meta: Mapping[str, Any],
        *args: Any,
        **kw: Any,
    ) -> tuple[Any, ...]:
        """As MMDetection; in an image that is smaller than every anchor, those that cross its border count, too."""
        border = self.train_cfg["allowed_border"]
        inside = anchor_inside_flags(flat_anchors, valid_flags, img_meta["img_shape"][:2], border)
        if inside.any():
            return super()._get_targets_single(flat_anchors, valid_flags, gt_instances, img_meta, *args, **kw)
        published = self.train_cfg
        self.train_cfg = {**published, "allowed_border": -1}
        try:
            return super()._get_targets_single(flat_anchors, valid_flags, gt_instances, img_meta, *args, **kw)
        finally:
            self.train_cfg = published
