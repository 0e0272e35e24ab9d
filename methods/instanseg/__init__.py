"""InstanSeg, called: trained from scratch by the package's own parts, or with a published model by path."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bench.api import Paper, Schedule, UsageError
from methods._environment import locked
from methods._external import ExternalMethod
from methods._external_training import TrainedTool

_HERE = Path(__file__).parent
_LOCK = locked(_HERE / "lock.txt")


class InstanSeg(TrainedTool):
    """InstanSeg: seeds and per-cell embeddings from one network, exported with its own postprocessing."""

    name = "instanseg"
    title = "InstanSeg"
    summary = "The InstanSeg package: its network trained from scratch, or a TorchScript model that the user brings."
    paper = Paper(
        "InstanSeg: an embedding-based instance segmentation algorithm optimized for accurate, efficient and portable "
        "cell segmentation",
        "T. Goldsborough, B. Philps, A. O'Callaghan and others",
        2024,
        "arXiv",
        "https://arxiv.org/abs/2408.15954",
    )
    modules = ("instanseg", "monai", "edt", "torchvision")
    distributions: ClassVar[Mapping[str, str]] = {"instanseg-torch": "0.1"}
    requirements = _LOCK
    script = _HERE / "tool.py"
    validates = True
    schedules: ClassVar[Mapping[str, Schedule]] = {
        "paper": Schedule(
            iterations=170_340, batch_size=3, note="the package's default: 10 + 500 epochs of 1,000 crops, batch 3"
        ),
        "short": Schedule(iterations=1500, batch_size=3),
        "smoke": Schedule(iterations=6, batch_size=1, train_images=6, eval_images=6, note="shows that it runs"),
    }
    deviations = (
        "Trained from random weights on the data set alone, with the package's network, losses, loop, augmentation and"
        " TorchScript export. With --weights, a published model (instanseg.pt) is used as it is instead.",
        "One kind of object is learned: the package's case of nuclei alone. Of a published model that gives nuclei and"
        " cells the first output is taken, nuclei.",
        "As in the package, the second stage's weights with the best F1 on random crops of validation images are kept,"
        " looked at after every 1,000 crops and at the end; the package also keeps each of its first six looks. At most"
        " 200 validation images serve, and a tenth of the training images where a data set has none; where no crop has"
        " a cell, the last weights are kept.",
        "The first stage (cross entropy and Dice, which starts faster) takes at most a third of the training, so that"
        " a short training has the second, too.",
        "Where the pixel size is unknown (the setting pixel_size), images are not resized to 0.5 micrometres a pixel;"
        " they are shrunk only if their objects would not fit into the window around a seed.",
        "An image that is smaller than this window, where the package fails, is padded with its own edge.",
        "Masks carry no score, so average precision is not applicable.",
        "A training that was killed begins anew, with the same seed.",
    )

    @dataclass(frozen=True)
    class Params(ExternalMethod.Params):
        """Settings of InstanSeg; the defaults are those of the package's training script unless said otherwise.

        Attributes:
            python: interpreter that has the tool; empty to find one.
            timeout: seconds an image may take.
            start_timeout: seconds the tool may take to start and to load its weights.
            widths: channels of the network's levels.
            crop: side of a training crop, pixels.
            learning_rate: of Adam.
            hotstart: steps of the first stage; the default is 10 epochs of 334 steps.
            pixel_size: of the images, micrometres; 0 where unknown.
            model_pixel_size: micrometres a pixel that images of a known pixel size are resized to for the training;
                0.5 as in the published models.
            largest: where the pixel size is unknown, images are shrunk for the network until the 95th percentile of
                their objects' longer sides is at most this, pixels (our choice; the package cuts out 64 around a seed).
            environment: hash of its pinned environment; part of a run's identity.
        """

        widths: tuple[int, ...] = (32, 64, 128, 256)
        crop: int = 256
        learning_rate: float = 0.001
        hotstart: int = 3340
        pixel_size: float = 0.0
        model_pixel_size: float = 0.5
        largest: float = 48.0
        environment: str = hashlib.sha256("\n".join(_LOCK).encode()).hexdigest()[:12]

        def __post_init__(self) -> None:
            super().__post_init__()
            if not self.widths or min(self.widths) < 1:
                raise UsageError(f"setting widths must be channels above 0, not {self.widths}")
            stride = 2 ** (len(self.widths) - 1)
            if self.crop < 16 or self.crop % stride or self.crop % 2:
                raise UsageError(
                    f"setting crop must be a multiple of {max(2, stride)} pixels from 16 on, not {self.crop}"
                )
            if self.hotstart < 0 or self.pixel_size < 0:
                raise UsageError("settings hotstart and pixel_size must not be negative")
            if not (self.model_pixel_size > 0 and self.largest > 0 and self.learning_rate > 0):
                raise UsageError("settings model_pixel_size, largest and learning_rate must be above 0")
