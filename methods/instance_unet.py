"""Instance-U-Net: a U-Net and a region proposal network on one encoder, and a watershed from the boxes' centres."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.api import SMOKE, Instances, Paper, Sample, Schedule, Task, UsageError
from methods._anchors import AnchorSampling, AnchorShapes
from methods._augmentation import Augmentation
from methods._dense import DenseMapMethod

if TYPE_CHECKING:
    from torch import Tensor, nn

CHOICES = {"loss": ("bce", "dice", "bce-dice"), "decoder": ("components", "watershed")}
"""What the settings that are words may be."""
UNKNOWN_SIZE = 32.0
"""Pixels; the size of objects in an image without any, where the data set's is unknown too."""


class InstanceUNet(DenseMapMethod):
    """What a U-Net calls foreground, cut between the centres of the boxes that its encoder proposes.

    The variants are the six rows of the paper's table: U or IU, without or with the region proposal network; W with the
    watershed, which begins after the network, so that the row shares the training of its sibling; and the loss.
    """

    name = "instance_unet"
    title = "Instance-U-Net"
    summary = "U-Net with a region proposal network on its encoder; watershed from the boxes' centres."
    paper = Paper(
        title="Instance-U-Net with watershed",
        authors="",
        year=None,
        note="unpublished report without names; the same lineage as L. Yang et al., NuSeT, PLOS Computational Biology "
        "16, e1008193 (2020)",
    )
    scored = False
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "u-bce": {"loss": "bce", "proposals": False, "decoder": "components"},
        "iu-dice": {"loss": "dice", "decoder": "components"},
        "iu-bce": {"loss": "bce", "decoder": "components"},
        "iuw-bce": {"loss": "bce", "decoder": "watershed"},
        "iu-bce-dice": {"loss": "bce-dice", "decoder": "components"},
        "iuw-bce-dice": {"loss": "bce-dice", "decoder": "watershed"},
    }
    variant_titles: ClassVar[Mapping[str, str]] = {
        "u-bce": "U-Net, BCE",
        "iu-dice": "Instance-U-Net, Dice",
        "iu-bce": "Instance-U-Net, BCE",
        "iuw-bce": "Instance-U-Net + watershed, BCE",
        "iu-bce-dice": "Instance-U-Net, BCE + Dice",
        "iuw-bce-dice": "Instance-U-Net + watershed, BCE + Dice",
    }
    schedules: ClassVar[Mapping[str, Schedule]] = {
        "paper": Schedule(epochs=100, batch_size=4, note="Adam 1e-4 is the paper's; length and batch size are ours"),
        "short": Schedule(iterations=2500, batch_size=4, note="21 % of the paper schedule on 484 images"),
        "smoke": replace(SMOKE, eval_images=3, settings={"crop": 128}),
    }
    deviations = (
        "Training has a fixed length of 100 epochs in batches of 4: the paper gives neither.",
        "Two 3 x 3 convolutions a level, the first of which changes the number of channels, as in NuSeT and in the"
        " original U-Net: the paper's text has two, and a third that doubles the channels.",
        "The watershed's distance is taken with holes filled, as in NuSeT; the holes themselves stay background, as in"
        " the rows without watershed.",
        "Xavier-normal initial weights: not stated.",
        "Dice is taken of the softmax, as the formula says; NuSeT's code feeds it logits.",
        "The border term of the weights holds for all pixels, as the formula says; NuSeT's code limits it to the"
        " background. Distances are 0 inside a cell, so both sides of a shared border weigh most.",
        "w_c is inverse to the class's frequency with a maximum of 1; the paper leaves its scale open.",
        "A 3 x 3 convolution of 512 channels precedes the two 1 x 1 convolutions of the region proposal network, as in"
        " Faster R-CNN and NuSeT; the paper names the two only.",
        "Both losses of the region proposal network are divided by the number of sampled anchors and added with weight"
        " 1: the paper gives no weights.",
        "Boxes are those of the cells as they appear in the augmented crop; a cell of several pieces gives several.",
        "All four skips are kept, as in the paper's figure; NuSeT's code leaves the deepest out.",
        "Centres so near that their disks touch are one marker: else one cell proposed twice would be cut in two.",
        "Components under 10 pixels are dropped in all rows, NuSeT's limit for a component without marker.",
        "Instances are the watershed's labels; the lines between them stay background, as in the paper's masks.",
        "Where images are not 448 x 448, crops are; they are filled by reflection where an image is smaller.",
        "With several classes, one segmentation map each and one region proposal network for all.",
    )
    after_network: ClassVar[tuple[str, ...]] = (
        *DenseMapMethod.after_network,
        "decoder",
        "threshold",
        "min_score",
        "nms_iou",
        "candidates",
        "boxes",
        "edge",
        "marker_radius",
    )

    augmentation = Augmentation(flip_horizontal=True, flip_vertical=True, rotation=180.0, zoom=0.2)

    @dataclass(frozen=True)
    class Params(DenseMapMethod.Params):
        """Settings; those of every dense method beside them. "NuSeT" is that project's public code.

        Attributes:
            crop: side of a training crop, pixels (paper: images of 448).
            learning_rate: of Adam (paper).
            widths: channels of each level (paper); the last but one is what the region proposal network reads.
            loss: ``bce``, ``dice`` or their sum ``bce-dice`` (paper).
            proposals: whether there is a region proposal network (paper: not in U-BCE).
            border_weight: w_0 (paper).
            border_sigma: of the weights' border term, pixels (paper).
            rpn_channels: of the region proposal network's first convolution (NuSeT).
            anchor_scales: sides, as multiples of the median object of the image (paper, with NuSeT's base size).
            anchor_ratios: height over width (paper).
            positive_iou: an anchor is an object from here on (Faster R-CNN).
            negative_iou: it is none below (Faster R-CNN).
            anchors_sampled: an image, half of them objects at most (Faster R-CNN).
            rpn_sigma: of the smooth L1 loss (Faster R-CNN).
            decoder: ``components``, or ``watershed`` from the boxes' centres (paper).
            threshold: foreground above this probability (paper: the likelier class).
            min_area: smaller components and cells are dropped, pixels (NuSeT).
            min_score: boxes above this probability give a centre (NuSeT's code; less in its programs).
            nms_iou: a box goes that overlaps a surer one by more (paper).
            candidates: boxes that take part in the suppression (NuSeT).
            boxes: that remain, at most (NuSeT).
            edge: centres so near the image's edge count nothing, pixels (NuSeT).
            marker_radius: of the disk around a centre, pixels (NuSeT).
        """

        crop: int = 448
        learning_rate: float = 1e-4
        widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
        loss: str = "bce"
        proposals: bool = True
        border_weight: float = 10.0
        border_sigma: float = 5.0
        rpn_channels: int = 512
        anchor_scales: tuple[float, ...] = (0.5, 1.0, 2.0)
        anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
        positive_iou: float = 0.7
        negative_iou: float = 0.3
        anchors_sampled: int = 256
        rpn_sigma: float = 3.0
        decoder: str = "watershed"
        threshold: float = 0.5
        min_area: int = 10
        min_score: float = 0.99
        nms_iou: float = 0.3
        candidates: int = 6000
        boxes: int = 800
        edge: int = 20
        marker_radius: float = 3.0

        def __post_init__(self) -> None:
            super().__post_init__()
            for key, choices in CHOICES.items():
                if getattr(self, key) not in choices:
                    raise UsageError(
                        f"instance_unet: {key} cannot be {getattr(self, key)!r}", f"one of {', '.join(choices)}"
                    )
            if self.decoder == "watershed" and not self.proposals:
                raise UsageError(
                    "instance_unet: the watershed begins at proposals, and there are none", "set decoder=components"
                )
            if len(self.widths) < 2 or min(self.widths) < 1:
                raise UsageError("instance_unet: widths must be two or more positive numbers", "for example 64,128,256")
            for key in ("anchor_scales", "anchor_ratios"):
                if not getattr(self, key) or min(getattr(self, key)) <= 0:
                    raise UsageError(f"instance_unet: {key} must be one or more positive numbers")
            for key in ("border_sigma", "rpn_sigma", "rpn_channels", "anchors_sampled", "candidates", "boxes"):
                if getattr(self, key) <= 0:
                    raise UsageError(f"instance_unet: {key} must be above 0, not {getattr(self, key)}")

    def __init__(self, task: Task, params: Any = None, device: str = "cpu") -> None:
        super().__init__(task, params, device)
        p = self.params
        self._anchors = AnchorShapes(p.anchor_scales, p.anchor_ratios, stride=1 << (len(p.widths) - 1))
        self._sampling = AnchorSampling(p.positive_iou, p.negative_iou, p.anchors_sampled)
        self._size = task.objects.size_median if task.objects else UNKNOWN_SIZE
        if p.proposals:
            self.reductions = {"objectness": self._anchors.stride, "deltas": self._anchors.stride}

    # -- network and loss -----------------------------------------------------------------------------

    def network(self) -> nn.Module:
        """One gray channel to a two-way softmax a class and, on the encoder's last map, objectness and box deltas."""
        from methods._unet import UNet
        from methods._unet_proposals import ProposingUNet

        p = self.params
        unet = UNet(1, p.widths, {"segmentation": 2 * len(self.task.classes)})
        return ProposingUNet(unet, p.widths[-2], p.rpn_channels, self._anchors.count) if p.proposals else unet

    @property
    def least_box(self) -> int:  # type: ignore[override]
        """Smaller cells are foreground, but no object to the proposals."""
        return self.params.min_area if self.params.proposals else 0

    def encode(self, sample: Sample) -> dict[str, NDArray[Any]]:
        """``foreground`` uint8 and ``weight`` float32 and, for the proposals, ``labels`` int32: (classes, H, W)."""
        from methods._encoders import between_cells_weights, known, label_maps

        assert sample.instances is not None
        p = self.params
        labels = label_maps(sample.instances, len(self.task.classes))
        weight = np.broadcast_to(known(sample.instances), labels.shape).astype(np.float32)
        if "bce" in p.loss:
            weight = weight * np.stack(
                [between_cells_weights(m, strength=p.border_weight, sigma=p.border_sigma) for m in labels]
            )
        targets = {"foreground": (labels != 0).astype(np.uint8), "weight": weight}
        if p.proposals:
            targets["labels"] = labels
        return targets

    def encode_crop(self, crop: dict[str, NDArray[Any]], rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """The cells' labels become what each anchor is to learn: their boxes change with every turn of the crop."""
        from methods._anchors import boxes_of_labels, label_anchors, typical_size

        if not self.params.proposals:
            return crop
        labels = crop.pop("labels")
        shape = labels.shape[-2:]
        boxes = np.concatenate([boxes_of_labels(m, self.params.min_area) for m in labels])
        rows, columns = (-(-side // self._anchors.stride) for side in shape)
        anchors = self._anchors.grid(typical_size(boxes, self._size), rows, columns)
        label, deltas = label_anchors(anchors, boxes, shape, self._sampling, rng)
        return {**crop, "anchor_label": label, "anchor_deltas": deltas}

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy weighted between cells, Dice, and the two losses of the region proposal network."""
        from methods import _losses

        p = self.params
        logits = _losses.foreground_logits(outputs["segmentation"])
        truth, weight = targets["foreground"], targets["weight"]
        losses = {}
        if "bce" in p.loss:
            losses["loss_bce"] = _losses.binary_cross_entropy(logits, truth, weight)
        if "dice" in p.loss:
            losses["loss_dice"] = _losses.dice(logits, truth, weight > 0)
        if p.proposals:
            losses["loss_objectness"], losses["loss_boxes"] = _losses.proposals(
                outputs["objectness"],
                outputs["deltas"],
                targets["anchor_label"],
                targets["anchor_deltas"],
                sigma=p.rpn_sigma,
            )
        return losses

    # -- from maps to instances -----------------------------------------------------------------------

    def activate(self, outputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Softmax probability of foreground, for each class, and of an object, for each anchor; deltas as they are."""
        from methods._losses import foreground_logits

        maps = {
            name: foreground_logits(pairs).sigmoid()
            for name, pairs in outputs.items()
            if name in ("segmentation", "objectness")
        }
        return {**maps, "deltas": outputs["deltas"]} if "deltas" in outputs else maps

    def decode(self, maps: Mapping[str, NDArray[np.float32]], image: NDArray[Any]) -> Instances:
        """Components of the foreground, or the foreground cut between the centres of the proposed boxes."""
        from methods._decoders import connected_components, cut_between_centres, from_label_maps

        p = self.params
        masks = [plane > p.threshold for plane in maps["segmentation"]]
        if p.decoder == "components":
            return from_label_maps([connected_components(mask, p.min_area) for mask in masks])
        centres = self._centres(maps, masks)
        return from_label_maps(
            [
                cut_between_centres(mask, centres, edge=p.edge, radius=p.marker_radius, min_area=p.min_area)
                for mask in masks
            ]
        )

    def _centres(
        self, maps: Mapping[str, NDArray[np.float32]], masks: list[NDArray[np.bool_]]
    ) -> list[tuple[int, int]]:
        """(row, column) of the proposed boxes' centres; the base size is that of the predicted components."""
        from methods._anchors import boxes_of_labels, centres_of, propose, typical_size
        from methods._decoders import connected_components

        p = self.params
        found = np.concatenate([boxes_of_labels(connected_components(mask), p.min_area) for mask in masks])
        anchors = self._anchors.grid(typical_size(found, self._size), *maps["objectness"].shape[1:])
        boxes, _ = propose(
            maps["objectness"],
            maps["deltas"],
            anchors,
            masks[0].shape,
            min_score=p.min_score,
            candidates=p.candidates,
            nms_iou=p.nms_iou,
            count=p.boxes,
        )
        return centres_of(boxes)
