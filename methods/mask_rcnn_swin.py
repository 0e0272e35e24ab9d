"""Mask R-CNN with a Swin transformer, MMDetection's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from bench.api import Paper, Schedule
from methods._proposals import DEVIATIONS_FOR_CELLS
from methods._zoo import SMOKE, ZooMethod
from methods.mask_rcnn import fit_to_cells


class SwinMaskRCNN(ZooMethod):
    """Mask R-CNN on the pyramid of a Swin-T: MMDetection's stock config, fitted to small, dense cells."""

    name = "mask_rcnn"
    title = "Mask R-CNN Swin-T"
    summary = "Mask R-CNN whose features come from a hierarchical transformer with shifted windows."
    paper = Paper(
        "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
        "Liu, Lin, Cao, Hu, Wei, Zhang, Lin, Guo",
        2021,
        "ICCV",
        "https://arxiv.org/abs/2103.14030",
    )
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"swin": {}}
    variant_titles: ClassVar[Mapping[str, str]] = {"swin": title}
    coco_config = "swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco"
    schedules: ClassVar[Mapping[str, Schedule]] = {
        "paper": Schedule(epochs=12, batch_size=16, note="MMDetection's 1x schedule: 12 epochs, batch 16, AdamW 1e-4"),
        "short": Schedule(iterations=1500, batch_size=2, note="learning rate scaled linearly with the batch"),
        "smoke": SMOKE,
    }
    deviations = (
        "Anchors start below 32 px where the data set's objects are smaller; proposals, sampled RoIs and detections "
        "are capped by the data set's needs instead of 1000, 512 and 100.",
        *DEVIATIONS_FOR_CELLS,
    )

    @dataclass(frozen=True)
    class Params(ZooMethod.Params):
        """Settings, those of every stock network beside them.

        Attributes:
            embed_dims: channels of the first stage (96).
            depths: blocks of the four stages (2, 2, 6, 2).
            samples: RoIs sampled an image in training; 0: 512, or what the densest image needs.
            nms_iou: box IoU above which the weaker of two detections is dropped; 0: 0.5 as published, 0.6 where the
                data set's objects are slender.
        """

        embed_dims: int = 96
        depths: tuple[int, ...] = (2, 2, 6, 2)
        samples: int = 0
        nms_iou: float = 0.0

    def adapt(self, model: Any) -> None:
        """Anchors, samplers and caps for cells; the size of the transformer."""
        p = self.params
        model.backbone.update(embed_dims=p.embed_dims, depths=list(p.depths))
        model.neck.in_channels = [p.embed_dims * 2**level for level in range(4)]
        fit_to_cells(model, self.task, self.smallest_anchor(32.0), samples=p.samples, overlap=p.nms_iou)
        if p.score_threshold >= 0:
            model.test_cfg.rcnn.score_thr = p.score_threshold
