"""What a generator is, and how what it makes gets to disk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.data import png
from bench.data.system import write_whole


@dataclass(frozen=True)
class Planned:
    """One image that a generator will make.

    Attributes:
        part: of the data set: "train", "val", "test", ...
        group: the sequence, line or culture it belongs to.
        frame: its place in the group, from 0.
    """

    part: str
    group: str
    frame: int

    @property
    def stem(self) -> str:
        """Its file name without suffix."""
        return f"{self.group}_{self.frame:03d}"


@dataclass(frozen=True)
class Picture:
    """One generated image, (H, W) uint8 or uint16, and its truth: a label image, (H, W) uint16, for each class.

    Label images of two classes may cover the same pixels (a nucleus lies in its cell).
    """

    image: NDArray[Any]
    labels: Mapping[str, NDArray[np.uint16]]


class Generator(ABC):
    """Makes a stand-in. An image follows from the seed, the parameters and its place in the plan, from nothing else.

    As it stands, an image goes to ``<part>/images/<group>_<frame>.png`` and its one label image to
    ``<part>/labels/<group>_<frame>.png``; a generator that imitates another layout says so in :meth:`paths`,
    :meth:`files` and :meth:`closing_files`.

    Attributes:
        name: that of its module.
        version: raised whenever a pixel changes; it is part of the stand-in's folder name.
        Params: a msgspec struct of the parameters a card may set.
        format: the ``[format]`` table by which the files are read; None: as the card's real files are.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    Params: ClassVar[type[msgspec.Struct]]
    format: ClassVar[Mapping[str, Any] | None] = {
        "name": "label_pairs",
        "images": ["{part}/images/{group}_{frame}.png"],
        "labels": ["{part}/labels/{group}_{frame}.png"],
        "id": "{group}_{frame}",
    }

    def __init__(self, seed: int, params: Any) -> None:
        self.seed = seed
        self.params = params

    @abstractmethod
    def plan(self) -> tuple[Planned, ...]:
        """All images, in order."""

    @abstractmethod
    def make(self, item: Planned) -> Picture:
        """Make one image and its truth."""

    def paths(self, item: Planned) -> tuple[str, ...]:
        """Where the files of an image go, relative to the stand-in's folder."""
        return f"{item.part}/images/{item.stem}.png", f"{item.part}/labels/{item.stem}.png"

    def files(self, item: Planned) -> tuple[bytes, ...]:
        """The files of an image, in the order of :meth:`paths`."""
        picture = self.make(item)
        (labels,) = picture.labels.values()
        return png.encode(picture.image), png.encode(labels)

    def closing_files(self, folder: Path) -> Mapping[str, bytes]:
        """Files made of all the others once those are in ``folder``, by their relative path."""
        return {}


def is_written(generator: Generator, item: Planned, folder: Path) -> bool:
    """Whether the files of an image are there; each is put there whole or not at all."""
    return all((folder / path).is_file() for path in generator.paths(item))


def write_item(generator: Generator, item: Planned, folder: Path) -> bool:
    """Make one image and write its files, unless they are there.

    Returns:
        whether it was made.

    Raises:
        OutputError: a file cannot be written.
    """
    if is_written(generator, item, folder):
        return False
    for path, content in zip(generator.paths(item), generator.files(item), strict=True):
        write_whole(folder / path, content)
    return True
