"""RTMDet-Ins, MMDetection's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from bench.api import Paper, Schedule
from methods._zoo import SMOKE, ZooMethod


class RTMDetIns(ZooMethod):
    """RTMDet-Ins-m: one stage, a mask by dynamic convolution for each box that survives suppression."""

    name = "rtmdet_ins"
    title = "RTMDet-Ins-m"
    summary = "One-stage detector whose masks are dynamic convolutions, made for speed."
    paper = Paper(
        "RTMDet: An Empirical Study of Designing Real-Time Object Detectors",
        "Lyu, Zhang, Huang, Zhou, Wang, Liu, Zhang, Chen",
        2022,
        "arXiv",
        "https://arxiv.org/abs/2212.07784",
    )
    coco_config = "rtmdet/rtmdet-ins_m_8xb32-300e_coco"
    inits = ("random", "coco")
    schedules: ClassVar[Mapping[str, Schedule]] = {
        "paper": Schedule(epochs=300, batch_size=16, note="MMDetection's 300 epochs, AdamW 0.004 for a batch of 256"),
        "short": Schedule(iterations=1500, batch_size=4, note="learning rate scaled linearly with the batch"),
        "smoke": SMOKE,
    }
    deviations = (
        "No mosaic, mix-up or moving average of the weights: resize and flip, as for every method here, so that a "
        "killed training ends in the same weights.",
        "Images are padded with the mean to a multiple of 32 pixels, not with gray to a square.",
        "Detections are capped by the data set's needs instead of 100, and candidates before suppression with them.",
        "In training, images whose masks would fill more than 512 MiB are cropped.",
    )

    @dataclass(frozen=True)
    class Params(ZooMethod.Params):
        """Settings, those of every stock network beside them.

        Attributes:
            image_scale: (long, short) side in pixels (640, 640).
            widen: channels, against those of RTMDet-l (0.75).
            deepen: blocks of the backbone, against those of RTMDet-l (0.67).
        """

        image_scale: tuple[int, ...] = (640, 640)
        widen: float = 0.75
        deepen: float = 0.67

    def adapt(self, model: Any) -> None:
        """The size of the network."""
        p = self.params
        model.backbone.update(widen_factor=p.widen, deepen_factor=p.deepen)
        channels = round(256 * p.widen)
        model.neck.update(in_channels=[channels, 2 * channels, 4 * channels], out_channels=channels)
        model.bbox_head.update(in_channels=channels, feat_channels=channels)
