"""Cellpose, called: version 3 trained from scratch, and Cellpose-SAM with the user's own copy of its weights."""

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
_LOCK, _LOCK_SAM = locked(_HERE / "lock.txt"), locked(_HERE / "lock_sam.txt")


@dataclass(frozen=True)
class _Prediction(ExternalMethod.Params):
    """Settings of every Cellpose; the defaults are those of the package.

    Attributes:
        python: interpreter that has the tool; empty to find one.
        timeout: seconds an image may take.
        start_timeout: seconds the tool may take to start and to load its weights.
        flow_threshold: masks whose flows are off by more are dropped.
        cellprob_threshold: logit above which a pixel belongs to a cell.
        min_size: smaller masks are dropped, pixels.
    """

    flow_threshold: float = 0.4
    cellprob_threshold: float = 0.0
    min_size: int = 15


class Cellpose(TrainedTool):
    """Cellpose 3: a network predicts flows towards the cells' centres, which are followed to masks."""

    name = "cellpose"
    title = "Cellpose 3"
    summary = "The Cellpose package, its network trained from scratch."
    paper = Paper(
        "Cellpose: a generalist algorithm for cellular segmentation",
        "C. Stringer, T. Wang, M. Michaelos, M. Pachitariu",
        2021,
        "Nature Methods 18",
        "https://doi.org/10.1038/s41592-020-01018-x",
    )
    modules = ("cellpose",)
    distributions: ClassVar[Mapping[str, str]] = {"cellpose": "3.1"}
    requirements = _LOCK
    script = _HERE / "tool.py"
    schedules: ClassVar[Mapping[str, Schedule]] = {
        "paper": Schedule(epochs=500, batch_size=8, note="Stringer 2021: 500 epochs, batch 8"),
        "short": Schedule(iterations=1500, batch_size=8),
        "smoke": Schedule(iterations=6, batch_size=2, train_images=6, eval_images=6, note="shows that it runs"),
    }
    deviations = (
        "Trained from random weights on the data set alone; the authors' models saw many data sets.",
        "Every image is one gray channel; the second channel of the network stays empty.",
        "Images with fewer cells than min_train_masks are not trained on (the package drops those under 5, here 1).",
        "Masks carry no score, so average precision is not applicable.",
        "A training that was killed begins anew, with the same seed: the package writes no state to go on from.",
        "The package shuffles by the epoch's number; the seed decides the initial weights alone.",
    )

    @dataclass(frozen=True)
    class Params(_Prediction):
        """Settings of Cellpose 3.

        Attributes:
            optimizer: SGD (Stringer 2021), or AdamW (the package's default).
            learning_rate: 0.2 with SGD (Stringer 2021).
            weight_decay: 1e-5 (Stringer 2021).
            min_train_masks: images with fewer cells are not trained on (our choice).
            crop: side of a training crop, pixels (the package: 224).
            environment: hash of its pinned environment; part of a run's identity.
        """

        optimizer: str = "SGD"
        learning_rate: float = 0.2
        weight_decay: float = 1e-5
        min_train_masks: int = 1
        crop: int = 224
        environment: str = hashlib.sha256("\n".join(_LOCK).encode()).hexdigest()[:12]

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.crop < 16 or self.crop % 8:
                raise UsageError(f"setting crop must be a multiple of 8 pixels from 16 on, not {self.crop}")


class CellposeSAM(ExternalMethod):
    """Cellpose-SAM: Cellpose's flows from the encoder of Segment Anything. It cannot be trained from scratch."""

    name = "cellpose_sam"
    title = "Cellpose-SAM"
    summary = "The Cellpose 4 package with published weights that the user brings."
    paper = Paper(
        "Cellpose-SAM: superhuman generalization for cellular segmentation",
        "M. Pachitariu, M. Rariden, C. Stringer",
        2025,
        "bioRxiv",
        "https://doi.org/10.1101/2025.04.28.651001",
    )
    modules = ("cellpose",)
    distributions: ClassVar[Mapping[str, str]] = {"cellpose": "4"}
    requirements = _LOCK_SAM
    script = _HERE / "tool.py"
    needs_weights = True
    deviations = (
        "Its weights saw data that nobody here can check; it is a generalist beside methods trained on one set.",
    )

    @dataclass(frozen=True)
    class Params(_Prediction):
        """Settings of Cellpose-SAM.

        Attributes:
            environment: hash of its pinned environment; part of a run's identity.
        """

        environment: str = hashlib.sha256("\n".join(_LOCK_SAM).encode()).hexdigest()[:12]
