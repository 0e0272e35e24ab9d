"""StarDist, called: trained from scratch in an environment with TensorFlow."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bench.api import Paper, Schedule
from methods._environment import locked
from methods._external import ExternalMethod
from methods._external_training import TrainedTool

_HERE = Path(__file__).parent
_LOCK = locked(_HERE / "lock.txt")


class StarDist(TrainedTool):
    """StarDist: every pixel predicts the distances to its cell's border along rays; non-maximum suppression chooses."""

    name = "stardist"
    title = "StarDist"
    summary = "The StarDist package, its network trained from scratch."
    paper = Paper(
        "Cell Detection with Star-convex Polygons",
        "U. Schmidt, M. Weigert, C. Broaddus, G. Myers",
        2018,
        "MICCAI",
        "https://doi.org/10.1007/978-3-030-00934-2_30",
    )
    scored = True
    modules = ("stardist", "tensorflow")
    distributions: ClassVar[Mapping[str, str]] = {"stardist": "0.9"}
    requirements = _LOCK
    script = _HERE / "tool.py"
    validates = True
    schedules: ClassVar[Mapping[str, Schedule]] = {
        "paper": Schedule(iterations=40_000, batch_size=4, note="the package's default: 400 epochs of 100 steps"),
        "short": Schedule(iterations=1500, batch_size=4),
        "smoke": Schedule(iterations=6, batch_size=1, train_images=6, eval_images=6, note="shows that it runs"),
    }
    deviations = (
        "Trained from random weights on the data set alone.",
        "Every image is one gray channel, scaled from its 1st to its 99.8th percentile, as in the authors' examples.",
        "Of the validation images at most 200 serve to watch the loss, by which the best weights are kept, and at most"
        " 16 of these to choose the thresholds; where a data set has none, a tenth of its training images does, and of"
        " a single training image that image itself.",
        "A training that was killed begins anew, with the same seed.",
    )

    @dataclass(frozen=True)
    class Params(ExternalMethod.Params):
        """Settings of StarDist; the defaults are those of the package unless said otherwise.

        Attributes:
            python: interpreter that has the tool; empty to find one.
            timeout: seconds an image may take.
            start_timeout: seconds the tool may take to start and to load its weights.
            rays: distances a pixel predicts.
            grid: pixels a side that share a prediction; 2 as in the authors' examples.
            crop: side of a training crop, pixels; smaller where an image is.
            steps_per_epoch: steps between two looks at the watched loss.
            learning_rate: of Adam.
            environment: hash of its pinned environment; part of a run's identity.
        """

        rays: int = 32
        grid: int = 2
        crop: int = 256
        steps_per_epoch: int = 100
        learning_rate: float = 0.0003
        environment: str = hashlib.sha256("\n".join(_LOCK).encode()).hexdigest()[:12]
