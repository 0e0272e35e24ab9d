"""The detector's head: default boxes, offsets and confidences on five maps, and its loss."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.dense_heads import SSDHead
from mmdet.models.task_modules.prior_generators import SSDAnchorGenerator
from mmdet.registry import MODELS, TASK_UTILS
from torch import Tensor


@TASK_UTILS.register_module()
class Yi2018DefaultBoxes(SSDAnchorGenerator):
    """SSD's default boxes, and on the first map as many again for each halving of its smallest box.

    Args:
        finer: so many halvings; 0 as published.
        arguments: of MMDetection's ``SSDAnchorGenerator``.
    """

    def __init__(self, finer: int = 0, **arguments: Any) -> None:
        self.finer = finer
        super().__init__(**arguments)

    def gen_base_anchors(self) -> list[Tensor]:
        """The boxes of a cell of each map, (A, 4) x0, y0, x1, y1 in pixels of the input."""
        boxes: list[Tensor] = super().gen_base_anchors()
        side = self.base_sizes[0]
        for halving in range(1, self.finer + 1):
            # As in SSD: the halved side at every ratio, and a square of the mean between it and the next larger one.
            finer = self.gen_single_level_base_anchors(
                side / 2**halving,
                scales=torch.tensor([1.0, 2**0.5]),
                ratios=self.ratios[0],
                center=self.centers[0],
            )
            boxes[0] = torch.cat([boxes[0], finer[: len(self.ratios[0]) + 1]])
        return boxes


@MODELS.register_module()
class Yi2018Head(SSDHead):
    """SSD's head with the weight of the confidence loss and the limit on candidates that the paper has.

    Args:
        conf_weight: alpha of the paper's equation 1.
        init_std: deviation of the initial weights.
        arguments: of MMDetection's ``SSDHead``; ``test_cfg.candidates`` boxes of a class, the surest, enter
            suppression.
    """

    loss_cls = None
    """MMDetection's base class asks for it when it predicts; SSD's loss is no module."""

    def __init__(self, conf_weight: float = 1.0, init_std: float = 0.001, **arguments: Any) -> None:
        super().__init__(init_cfg={"type": "Normal", "layer": "Conv2d", "std": init_std, "bias": 0}, **arguments)
        self.conf_weight = conf_weight

    def loss_by_feat_single(self, *arguments: Any, **named: Any) -> tuple[Tensor, Tensor]:
        """Confidence loss times its weight, and localisation loss, of one image."""
        confidence, localisation = super().loss_by_feat_single(*arguments, **named)
        return self.conf_weight * confidence, localisation

    def _bbox_post_process(self, results: Any, cfg: Any, *arguments: Any, **named: Any) -> Any:
        """As MMDetection, after the surest candidates of each class are chosen over all maps together."""
        order = results.scores.argsort(descending=True, stable=True)
        labels = results.labels[order]
        kept = [order[labels == label][: cfg["candidates"]] for label in range(self.num_classes)]
        return super()._bbox_post_process(results[torch.cat(kept)], cfg, *arguments, **named)
