"""Networks that predict every mask over the whole image: RTMDet-Ins, SOLOv2 and Mask2Former, within a memory bound.

mmdet enlarges all N masks to the image as floats at once: 500 masks of 2000 x 2000 pixels are 8 GB, twice. Here the
masks that survive stay as small as the network made them, and a few at a time are enlarged, cut and encoded. The
values are mmdet's own (tests hold the one against the other).

Imports torch and mmdet: import it inside the methods that need it, never at the top of a method's module.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from mmcv.ops import batched_nms
from mmdet.models.dense_heads import RTMDetInsHead, SOLOV2Head
from mmdet.models.detectors import MaskFormer
from mmdet.models.layers import mask_matrix_nms
from mmdet.structures.bbox import scale_boxes
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn import functional

from bench.rle import encode_masks

BYTES = 64 * 2**20
"""Float pixels of enlarged masks held at a time."""

Phase = Callable[[str], Any]
Step = tuple[tuple[int, int], tuple[int, int]]
"""Enlarge to (height, width), then keep the first (height, width) of it."""


def encode_in_parts(network: Any, phase: Phase) -> None:
    """Put the bounded ends in place of mmdet's, wherever ``network`` has one of these heads.

    Args:
        network: a detector of mmdet.
        phase: times what runs inside, see :meth:`bench.api.Method.phase`.
    """
    for module in network.modules():
        if isinstance(module, RTMDetInsHead):
            module._bbox_mask_post_process = _RTMDetEnd(module, phase)
        elif isinstance(module, SOLOV2Head):
            module._predict_by_feat_single = _SOLOEnd(module, phase)
        elif isinstance(module, MaskFormer):
            module.panoptic_head.predict = _small_masks(module.panoptic_head)
            module.panoptic_fusion_head.predict = _MaskFormerEnd(module.panoptic_fusion_head, phase)


def enlarged(maps: Tensor, steps: Sequence[Step]) -> Tensor:
    """Maps (N, h, w) after bilinear enlargement and cutting, step by step: (N, H, W)."""
    for size, kept in steps:
        maps = functional.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
        maps = maps[:, : kept[0], : kept[1]]
    return maps


def at_once(steps: Sequence[Step]) -> int:
    """How many masks may be enlarged at a time."""
    return max(1, BYTES // (4 * max(math.prod(size) for size, _ in steps)))


def _parts(indices: Tensor, most: int) -> Iterator[Tensor]:
    """Indices, at most so many at a time; nothing where there are none."""
    if len(indices):
        yield from indices.split(most)


class _RTMDetEnd:
    """``RTMDetInsHead._bbox_mask_post_process``: suppression by box, then a mask for each box that is left."""

    def __init__(self, head: Any, phase: Phase) -> None:
        self._head, self._phase = head, phase

    def __call__(
        self,
        results: Any,
        mask_feat: Tensor,
        cfg: Any,
        rescale: bool = False,
        with_nms: bool = True,
        img_meta: Any = None,
    ) -> Any:
        with self._phase("postprocess"):
            stride = self._head.prior_generator.strides[0][0]
            inverse = [1 / s for s in img_meta["scale_factor"]] if rescale else [1.0, 1.0]
            results.bboxes = scale_boxes(results.bboxes, inverse)
            if hasattr(results, "score_factors"):
                results.scores = results.scores * results.pop("score_factors")
            if cfg.get("min_bbox_size", -1) >= 0:
                results = results[((results.bboxes[:, 2:] - results.bboxes[:, :2]) > cfg.min_bbox_size).all(dim=1)]
            if len(results):
                kept, order = batched_nms(results.bboxes, results.scores, results.labels, cfg.nms)
                results = results[order]
                results.scores = kept[:, -1]
                results = results[: cfg.max_per_img]
            height, width = (mask_feat.shape[-2] * stride, mask_feat.shape[-1] * stride)
            steps: list[Step] = [((height, width), (height, width))]
            if rescale:
                size = math.ceil(height * inverse[1]), math.ceil(width * inverse[0])
                steps.append((size, tuple(img_meta["ori_shape"][:2])))
            rles: list[bytes] = []
            for part in _parts(torch.arange(len(results), device=mask_feat.device), at_once(steps)):
                logits = self._head._mask_predict_by_feat_single(mask_feat, results.kernels[part], results.priors[part])
                rles += _encode(enlarged(logits, steps).sigmoid() > cfg.mask_thr_binary)
            results.rles = rles
            return results


class _SOLOEnd:
    """``SOLOV2Head._predict_by_feat_single``: a mask for each grid cell that has a class, then matrix suppression."""

    def __init__(self, head: Any, phase: Phase) -> None:
        self._head, self._phase = head, phase

    def __call__(
        self, kernel_preds: Tensor, cls_scores: Tensor, mask_feats: Tensor, img_meta: Any, cfg: Any = None
    ) -> Any:
        with self._phase("postprocess"):
            head = self._head
            cfg = head.test_cfg if cfg is None else cfg
            chosen = (cls_scores > cfg.score_thr).nonzero()
            cells, labels = chosen[:, 0], chosen[:, 1]
            scores = cls_scores[cells, labels]
            least = torch.cat(
                [mask_feats.new_full((n**2,), s) for n, s in zip(head.num_grids, head.strides, strict=True)]
            )

            def masks_of(which: Tensor) -> Tensor:
                kernels = kernel_preds[cells[which]].reshape(
                    len(which), -1, head.dynamic_conv_size, head.dynamic_conv_size
                )
                return functional.conv2d(mask_feats, kernels)[0].sigmoid()

            areas, maskness = torch.zeros_like(scores), torch.zeros_like(scores)
            few = max(1, BYTES // (4 * mask_feats.shape[-2] * mask_feats.shape[-1]))
            for part in _parts(torch.arange(len(scores), device=scores.device), few):
                probabilities = masks_of(part)
                inside = probabilities > cfg.mask_thr
                areas[part] = inside.sum((1, 2)).to(areas)
                maskness[part] = (probabilities * inside).sum((1, 2)) / areas[part].clamp(min=1)
            scores = scores * maskness
            # Matrix suppression looks at the best nms_pre only; masks of the others are never made again.
            best = (areas > least[cells]).nonzero()[:, 0]
            best = best[scores[best].argsort(descending=True, stable=True)[: cfg.nms_pre]]
            if len(best) == 0:
                return _instances(scores[:0], labels[:0], [])
            inside = torch.cat([masks_of(part) > cfg.mask_thr for part in _parts(best, few)])
            kept_scores, kept_labels, _, kept = mask_matrix_nms(
                inside,
                labels[best],
                scores[best],
                mask_area=areas[best],
                nms_pre=cfg.nms_pre,
                max_num=cfg.max_per_img,
                kernel=cfg.kernel,
                sigma=cfg.sigma,
                filter_thr=cfg.filter_thr,
            )
            if len(kept) == 0:
                return _instances(scores[:0], labels[:0], [])
            size = mask_feats.shape[-2] * head.mask_stride, mask_feats.shape[-1] * head.mask_stride
            original = tuple(img_meta["ori_shape"][:2])
            steps: list[Step] = [(size, tuple(img_meta["img_shape"][:2])), (original, original)]
            rles: list[bytes] = []
            for part in _parts(best[kept], at_once(steps)):
                rles += _encode(enlarged(masks_of(part), steps) > cfg.mask_thr)
            return _instances(kept_scores, kept_labels, rles)


def _small_masks(head: Any) -> Callable[..., tuple[Tensor, Tensor]]:
    """``MaskFormerHead.predict`` without its enlargement."""

    def predict(features: Any, samples: Any) -> tuple[Tensor, Tensor]:
        scores, masks = head(features, samples)
        return scores[-1], masks[-1]

    return predict


class _MaskFormerEnd:
    """``MaskFormerFusionHead.predict`` for instances: the best queries, each scored by its class and its mask."""

    def __init__(self, head: Any, phase: Phase) -> None:
        self._head, self._phase = head, phase

    def __call__(self, logits: Tensor, masks: Tensor, samples: Any, rescale: bool = False, **_: Any) -> list[Any]:
        with self._phase("postprocess"):
            return [
                {"ins_results": self._one(logits[n], masks[n], sample.metainfo, rescale)}
                for n, sample in enumerate(samples)
            ]

    def _one(self, logits: Tensor, masks: Tensor, meta: Any, rescale: bool) -> Any:
        probabilities = logits.softmax(dim=-1)[:, :-1]
        count = min(self._head.test_cfg.get("max_per_image", 100), probabilities.numel())
        scores, best = probabilities.flatten().topk(count)
        queries, labels = best // self._head.num_classes, best % self._head.num_classes
        steps: list[Step] = [(tuple(meta["batch_input_shape"]), tuple(meta["img_shape"][:2]))]
        if rescale:
            original = tuple(meta["ori_shape"][:2])
            steps.append((original, original))
        rles: list[bytes] = []
        confidence = []
        for part in _parts(queries, at_once(steps)):
            whole = enlarged(masks[part], steps)
            inside = whole > 0
            confidence.append((whole.sigmoid() * inside).sum((1, 2)) / (inside.sum((1, 2)) + 1e-6))
            rles += _encode(inside)
        return _instances(scores * torch.cat(confidence), labels, rles)


def _encode(masks: Tensor) -> list[bytes]:
    return [encode_masks(mask[None])[0] for mask in masks.cpu().numpy()]


def _instances(scores: Tensor, labels: Tensor, rles: list[bytes]) -> Any:
    return InstanceData(scores=scores, labels=labels, bboxes=scores.new_zeros(len(scores), 4), rles=rles)
