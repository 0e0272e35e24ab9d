"""What a reader is: it lists the images of a folder, then reads one image, or the truth of one, at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from numpy.typing import NDArray

from bench.data.images import read_image
from bench.instances import Instances

CUT_OFF = "reach outside the image, cut off at its border"
"""How a note ends that tells of truth which reaches outside its image."""


@dataclass(frozen=True)
class Entry:
    """One image of a data set, before anything of it is read.

    Attributes:
        id: unique in the data set.
        image: its file.
        truth: the files that its truth is read from; empty where it has none.
        part: what part of the data set on disk it belongs to ("train"); a card's splits are made of parts.
        group: the sequence, donor or slide it comes from, where the files say it.
        key: whatever the reader needs to find its truth again.
    """

    id: str
    image: Path
    truth: tuple[Path, ...] = ()
    part: str = ""
    group: str | None = None
    key: Any = None


@dataclass(frozen=True)
class Index:
    """The images of a data set in the order of their ids, and what was left out, with the reason, a line each."""

    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Truth:
    """The truth of one image: None where it is not annotated; and what of it was left out, with the reason."""

    instances: Instances | None
    notes: tuple[str, ...] = ()


class NoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a format without options."""


class Reader(ABC):
    """Reads one format. Subclasses give :meth:`index` and :meth:`truth`, and name their options.

    Attributes:
        format: the name by which a card asks for it; also the name of its module.
        Options: a msgspec struct, ``forbid_unknown_fields``: the other keys of a card's ``[format]``; default none.

    Args:
        root: the folder of the data set.
        options: of this reader.
        classes: names of the classes, as in the card's task.
    """

    format: ClassVar[str]
    Options: ClassVar[type[msgspec.Struct]] = NoOptions

    def __init__(self, root: Path, options: Any, classes: tuple[str, ...]) -> None:
        self.root = root
        self.options = options
        self.classes = classes
        """Names of the classes; where the files name them, known once :meth:`index` was called."""

    @classmethod
    def names_classes(cls, options: Any) -> bool:
        """Whether, with these options, the files say which classes there are, and the card does not."""
        return False

    @abstractmethod
    def index(self) -> Index:
        """List the images.

        Raises:
            DataError: files that are missing or contradict each other, or no image at all.
        """

    @abstractmethod
    def truth(self, entry: Entry, height: int, width: int) -> Truth:
        """Read the truth of one image, whose size in pixels is given.

        Raises:
            DataError: broken files, or masks of another size than the image; the message names the file.
        """

    def image(self, entry: Entry) -> NDArray[Any]:
        """Read one image: (H, W) or (H, W, C), uint8 or uint16.

        Raises:
            DataError: the file is missing or broken.
        """
        return read_image(entry.image)
