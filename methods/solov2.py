"""SOLOv2, MMDetection's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from bench.api import Paper, Schedule
from methods._zoo import SMOKE, ZooMethod


class SOLOv2(ZooMethod):
    """SOLOv2 R50: no boxes; each cell of a grid over the image makes the mask of the object centred in it."""

    name = "solov2"
    title = "SOLOv2 R50"
    summary = "Box-free: grid cells predict the kernels of dynamic mask convolutions; matrix suppression."
    paper = Paper(
        "SOLOv2: Dynamic and Fast Instance Segmentation",
        "Wang, Zhang, Kong, Li, Shen",
        2020,
        "NeurIPS",
        "https://arxiv.org/abs/2003.10152",
    )
    coco_config = "solov2/solov2_r50_fpn_1x_coco"
    schedules: ClassVar[Mapping[str, Schedule]] = {
        "paper": Schedule(epochs=12, batch_size=16, note="MMDetection's 1x schedule: 12 epochs, batch 16, SGD 0.01"),
        "short": Schedule(iterations=1500, batch_size=2, note="learning rate scaled linearly with the batch"),
        "smoke": SMOKE,
    }
    deviations = (
        "From random weights, group normalisation in the backbone and no frozen stage, as in He et al. 2019.",
        "Grids are finer where the data set's objects are smaller than the 40 x 40 grid can tell apart; detections "
        "are capped by the data set's needs instead of 100, and candidates before suppression with them.",
        "In training, images whose masks would fill more than 512 MiB are cropped.",
    )

    @dataclass(frozen=True)
    class Params(ZooMethod.Params):
        """Settings, those of every stock network beside them.

        Attributes:
            depth: of the ResNet (50).
            pyramid_channels: of the feature pyramid (256).
            head_channels: of the kernel branch (512).
            finest_grid: cells along a side of the finest grid (40), the others in proportion; 0: by the objects.
        """

        depth: int = 50
        pyramid_channels: int = 256
        head_channels: int = 512
        finest_grid: int = 0

    def adapt(self, model: Any) -> None:
        """Grids that tell neighbouring cells apart, and the size of the network."""
        p, head = self.params, model.mask_head
        model.backbone.depth = p.depth
        if p.depth < 50:
            model.neck.in_channels = [64, 128, 256, 512]
        model.neck.out_channels = head.in_channels = p.pyramid_channels
        head.feat_channels = p.head_channels
        finest = p.finest_grid or self.finest_grid(head.num_grids[0])
        head.num_grids = [round(n * finest / head.num_grids[0]) for n in head.num_grids]

    def finest_grid(self, default: int) -> int:
        """So many cells that a small object spans one, between the published number and 100."""
        sizes = self.object_sizes()
        if sizes is None:
            return default
        return min(100, max(default, round(max(self.image_scale()) / max(sizes[0], 1.0))))
