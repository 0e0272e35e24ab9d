"""Methods that do what a test needs; found through BENCH_METHODS."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy import ndimage

from bench.api import Instances, Method, Schedule


class Threshold(Method):
    """Trains a threshold (the mean gray level), one image a step, and can be told to be slow."""

    name = "threshold"
    title = "Threshold"
    schedules: ClassVar = {"paper": Schedule(epochs=1), "smoke": Schedule(iterations=3, train_images=2, eval_images=2)}

    @dataclass(frozen=True)
    class Params:
        """Settings."""

        offset: float = 30.0
        wrong: str = ""

    def fit(self, train, val, context):
        """The mean over the training images; what is done is on disk after every step."""
        context.folder.mkdir(parents=True, exist_ok=True)
        weights, partial = context.folder / "weights.pth", context.folder / "sums.txt"
        if weights.is_file():
            return weights
        sums = [float(line) for line in partial.read_text().split()] if partial.is_file() else []
        steps = context.schedule.steps(len(train))
        for step in range(len(sums), steps):
            time.sleep(float(os.environ.get("SLOW", "0")))
            with partial.open("a") as file:
                file.write(f"{train[step % len(train)].image.mean()}\n")
            context.progress(step + 1, steps, "")
        sums = [float(line) for line in partial.read_text().split()]
        weights.write_text(str(np.mean(sums)))
        return weights

    def load(self, weights: Path) -> None:
        """Read the threshold."""
        self.level = float(weights.read_text())

    def predict(self, image):
        """Components above the threshold; or something wrong, as asked."""
        time.sleep(float(os.environ.get("SLOW", "0")))
        with self.phase("network"):
            labels, count = ndimage.label(image > self.level + self.params.offset)
        wrong = self.params.wrong
        if wrong == "crash":
            raise RuntimeError("the network fell over\nsecond line")
        if wrong == "memory":
            raise MemoryError
        if wrong == "type":
            return labels
        if wrong == "size":
            return Instances.empty(3, 4, scored=True)
        if wrong == "masks":
            return Instances(*image.shape, (b"5",), scores=[0.5], boxes=[[0, 0, 1, 1]])
        if wrong == "scores":
            return Instances.from_label_map(labels)
        if wrong == "class":
            return Instances.from_label_map(
                labels, scores=dict.fromkeys(range(1, count + 1), 0.5), class_of=dict.fromkeys(range(1, count + 1), 3)
            )
        with self.phase("postprocess"):
            return Instances.from_label_map(labels, scores=dict.fromkeys(range(1, count + 1), 0.5))
