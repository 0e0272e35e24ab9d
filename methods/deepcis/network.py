"""The parts of DeepCIS that MMDetection lacks: a cascade with one mask head, at its end, and a trainable ResNeSt.

Imports torch and mmdet; :meth:`methods._mmdet.MMDetMethod` imports it before the network is built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmdet.models.backbones import ResNeSt
from mmdet.models.roi_heads import CascadeRoIHead
from mmdet.models.utils import empty_instances
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox2roi
from torch import Tensor, nn


class GroupNorm16(nn.GroupNorm):
    """Group normalisation with (about) 16 channels a group, whatever the width.

    With 32 groups, as usual, the squeezed maps inside split attention (32 channels of one pixel) would be normalised
    value by value to nothing. Wu & He 2018, Group Normalization, section 4.1, compares both.

    Args:
        channels: of the map.
        eps: added to the variance.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(_groups(channels), channels, eps)


def _groups(channels: int) -> int:
    wanted = max(1, channels // 16)
    return next(groups for groups in range(wanted, 0, -1) if channels % groups == 0)


def register() -> None:
    """Make :class:`GroupNorm16` known to mmcv's configs; once is enough."""
    from mmengine.registry import MODELS as LAYERS

    LAYERS.register_module(name="GroupNorm16", module=GroupNorm16, force=True)


register()


@MODELS.register_module(force=True)
class DeformableResNeSt(ResNeSt):
    """ResNeSt whose deformable convolutions begin as plain ones.

    MMDetection initialises every convolution of a backbone, those that predict the offsets too; these must begin at 0.
    """

    def init_weights(self) -> None:
        """Initialise, then set all offsets to zero unless they were loaded."""
        super().init_weights()
        loaded = isinstance(self.init_cfg, dict) and self.init_cfg.get("type") == "Pretrained"
        for module in self.modules():
            if hasattr(module, "init_offset") and not loaded:
                module.init_offset()


@MODELS.register_module(force=True)
class LastStageMaskCascadeRoIHead(CascadeRoIHead):
    """A cascade of box heads with one mask head, trained on the samples of the last stage and run on final boxes.

    Khalid et al. 2022, section II-C.

    Args:
        mask_loss_weight: of the mask loss; the stage weights of the cascade weigh boxes and classes only.
        arguments: of mmdet's ``CascadeRoIHead``, with one mask head and one mask RoI extractor.
    """

    def __init__(self, *, mask_loss_weight: float = 1.0, **arguments: Any) -> None:
        self._mask_loss_weight = mask_loss_weight
        super().__init__(**arguments)

    @property
    def last(self) -> int:
        """The stage that has the mask head."""
        return self.num_stages - 1

    def init_mask_head(self, mask_roi_extractor: Mapping[str, Any], mask_head: Mapping[str, Any]) -> None:
        """Build the one mask head and its RoI extractor."""
        self.share_roi_extractor = False
        self.mask_head = nn.ModuleList([MODELS.build(mask_head)])
        self.mask_roi_extractor = nn.ModuleList([MODELS.build(mask_roi_extractor)])

    def _mask_forward(self, stage: int, x: Sequence[Tensor], rois: Tensor) -> dict[str, Tensor]:
        extractor, head = self.mask_roi_extractor[0], self.mask_head[0]
        return {"mask_preds": head(extractor(x[: extractor.num_inputs], rois))}

    def mask_loss(
        self, stage: int, x: Sequence[Tensor], sampling_results: list[Any], batch_gt_instances: list[Any]
    ) -> dict[str, Any]:
        """The mask loss of the last stage; of the others nothing."""
        if stage != self.last:
            return {"loss_mask": {}}
        found = self._mask_forward(stage, x, bbox2roi([result.pos_priors for result in sampling_results]))
        losses = self.mask_head[0].loss_and_target(
            mask_preds=found["mask_preds"],
            sampling_results=sampling_results,
            batch_gt_instances=batch_gt_instances,
            rcnn_train_cfg=self.train_cfg[stage],
        )
        # The caller multiplies by the stage's weight, which is not meant for masks here.
        weight = self._mask_loss_weight / self.stage_loss_weights[stage]
        losses["loss_mask"] = {name: weight * value for name, value in losses["loss_mask"].items()}
        return {**found, **losses}

    def predict_mask(
        self, x: Sequence[Tensor], batch_img_metas: list[dict[str, Any]], results_list: list[Any], rescale: bool = False
    ) -> list[Any]:
        """The masks of final boxes, by the one mask head."""
        rois = bbox2roi([result.bboxes for result in results_list])
        if len(rois) == 0:
            found: list[Any] = empty_instances(
                batch_img_metas,
                rois.device,
                task_type="mask",
                instance_results=results_list,
                mask_thr_binary=self.test_cfg.mask_thr_binary,
            )
            return found
        masks = self._mask_forward(self.last, x, rois)["mask_preds"].split([len(r) for r in results_list], 0)
        found = self.mask_head[0].predict_by_feat(
            mask_preds=masks,
            results_list=results_list,
            batch_img_metas=batch_img_metas,
            rcnn_test_cfg=self.test_cfg,
            rescale=rescale,
        )
        return found

    def forward(self, x: Sequence[Tensor], rpn_results_list: list[Any], batch_data_samples: list[Any]) -> tuple:
        """Class scores, box deltas and mask logits of every proposal, without post-processing."""
        metas = [sample.metainfo for sample in batch_data_samples]
        proposals = [result.bboxes for result in rpn_results_list]
        counts = tuple(len(p) for p in proposals)
        rois, scores, deltas = self._refine_roi(x, bbox2roi(proposals), metas, counts)
        masks = self._mask_forward(self.last, x, torch.cat(rois))["mask_preds"].split(counts, 0)
        return scores, deltas, masks
