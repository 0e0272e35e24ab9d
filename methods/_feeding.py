"""What of the truth never reached the network while training, and why: counted, written down and said. No torch.

A training that silently learns from fewer cells than its data set has is judged as if it had seen them all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.api import Instances, Sample
from bench.progress import say

DROPPED = "dropped.json"
"""In the training folder, once it is over: see :class:`Dropped`. :class:`bench.store.files.RunFiles` reads it."""

NO_PIXEL = "without a pixel in the truth"
AUGMENTED = "cut or shrunk away by the augmentation"
UNSEEN = "without a pixel at the network's resolution"
HIDDEN = "hidden under other instances"
SMALL_BOX = 3
"""Only of boxes with a side below this can a mask be lost by resizing, pixels of the network's input."""


@dataclass
class Dropped:
    """How many instances were to be learned from, and how many were not.

    Attributes:
        counted: what an example is: ``drawn examples``, an image as often as it was drawn, or ``images``.
        examples: how many.
        instances: in them, crowd regions not counted.
        dropped: reason -> instances.
    """

    counted: str
    examples: int = 0
    instances: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def add(self, instances: int, dropped: Mapping[str, int], examples: int = 1) -> None:
        """Count an example or several."""
        self.examples += examples
        self.instances += instances
        for reason, count in dropped.items():
            if count:
                self.dropped[reason] += count

    def plain(self) -> dict[str, Any]:
        """As it is written."""
        return {
            "counted": self.counted,
            "examples": self.examples,
            "instances": self.instances,
            "dropped": dict(sorted(self.dropped.items())),
        }

    def text(self) -> str:
        """One line for a reader."""
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.dropped.items()))
        return f"of {self.instances:,} instances in {self.examples:,} {self.counted}: {reasons or 'none dropped'}"

    def finish(self, folder: Path, name: str) -> None:
        """Write :data:`DROPPED` and, if anything was dropped, tell the user.

        Args:
            folder: of the training.
            name: of the method, for the message.
        """
        partial = folder / (DROPPED + ".partial")
        partial.write_text(json.dumps(self.plain(), indent=2) + "\n")
        partial.replace(folder / DROPPED)
        if self.dropped:
            say(f"{name}: not learned from, {self.text()}")


class Tally:
    """Counts while examples of mmdet are drawn in this process; it travels in the checkpoint, see :meth:`state`.

    Args:
        limits: text -> how many objects of one example a network can learn from at most.
    """

    def __init__(self, limits: Mapping[str, int]) -> None:
        self._limits = dict(limits)
        self.total = Dropped("drawn examples")

    def drawn(self, sample: Sample) -> None:
        """Count the truth of an image that was drawn and is given whole.

        An instance outside the window that is cut of a large image is not lost: another draw has it.
        """
        truth = objects_of(sample)
        self.total.add(len(truth), {NO_PIXEL: int((truth.areas == 0).sum())})

    def packed(self, given: int, packed: Mapping[str, Any]) -> None:
        """Count what mmdet's pipeline made of an example, and what the network can take of it.

        Args:
            given: objects that went in, crowd regions not counted.
            packed: what ``PackDetInputs`` gives.
        """
        objects = packed["data_samples"].gt_instances
        count = len(objects)
        over = {f"beyond {text}": max(count - limit, 0) for text, limit in self._limits.items()}
        self.total.add(0, {AUGMENTED: given - count, UNSEEN: _without_pixel(objects), **over}, examples=0)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return self.total.plain()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint: what was drawn after it will be drawn again."""
        self.total = Dropped(state["counted"], state["examples"], state["instances"], Counter(state["dropped"]))


def objects_of(sample: Sample) -> Instances:
    """The truth of a sample without its crowd regions, from which nothing is learned by rule."""
    truth = sample.instances if sample.instances is not None else Instances.empty(*sample.shape)
    return truth.take(~truth.crowd)


def _without_pixel(objects: Any) -> int:
    """Objects whose mask, resized with the image, has no pixel left."""
    boxes = np.asarray(objects.bboxes.numpy() if hasattr(objects.bboxes, "numpy") else objects.bboxes.tensor.numpy())
    small = np.flatnonzero((boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf) < SMALL_BOX)
    return sum(not objects.masks.masks[i].any() for i in small)


class ImageTally:
    """Counts once an image, in a file each, so that a resumed training and loader processes count nothing twice.

    Args:
        folder: of the files; made at the first.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def count(self, sample: Sample, classes: int, least_box: int = 0) -> None:
        """Count what is lost where a pixel belongs to one instance of its class: the smaller one.

        Args:
            sample: as the encoder is given it.
            classes: how many there are.
            least_box: pixels from which an instance is an object to a method that learns boxes, too.
        """
        from methods._encoders import label_maps

        truth = objects_of(sample)
        areas = np.concatenate([np.unique(m[m > 0], return_counts=True)[1] for m in label_maps(truth, classes)])
        empty = int((truth.areas == 0).sum())
        lost = {
            NO_PIXEL: empty,
            HIDDEN: len(truth) - empty - len(areas),
            f"without a box, of fewer than {least_box} pixels": int((areas < least_box).sum()),
        }
        self._write(sample.id, {"instances": len(truth), "dropped": lost})

    def total(self) -> Dropped:
        """Of all images so far."""
        total = Dropped("images")
        for path in sorted(self._folder.glob("*.json")):
            one = json.loads(path.read_text())
            total.add(one["instances"], one["dropped"])
        return total

    def clear(self) -> None:
        """Remove the folder."""
        if self._folder.is_dir():
            shutil.rmtree(self._folder)

    def _write(self, image_id: str, content: Mapping[str, Any]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{hashlib.sha256(image_id.encode()).hexdigest()[:32]}.json"
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        partial.write_text(json.dumps(content))
        partial.replace(path)
