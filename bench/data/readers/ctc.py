"""Sequences of the Cell Tracking Challenge: frames, gold truth for some of them, silver truth for all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from bench.data.images import read_labels
from bench.data.readers.base import Entry, Index, Reader, Truth
from bench.errors import DataError
from bench.instances import Instances

Truths = Literal["gold", "silver"]

_SEQUENCE = re.compile(r"\d+")
_FRAME = re.compile(r"t(\d+)\.tiff?", re.IGNORECASE)
_MASK = re.compile(r"man_seg(\d+)\.tiff?", re.IGNORECASE)
_FOLDERS = {"gold": "_GT", "silver": "_ST"}


class CellTrackingChallenge(Reader):
    """``01/tNNN.tif`` with ``01_GT/SEG/man_segNNN.tif`` (gold) and ``01_ST/SEG/man_segNNN.tif`` (silver).

    Every annotated frame is an image of the part ``<sequence>-gold`` or ``<sequence>-silver``, so that a frame with
    both truths is there twice; its group is the sequence. Frames without truth are left out: they are not scored.
    Truth without its frames is left out too; both are noted. Gold truth need not hold every cell of its frame.
    """

    format = "ctc"

    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """Options of the format.

        Attributes:
            truth: which truths to read; those that are not there are left out.
        """

        truth: tuple[Truths, ...] = ("gold", "silver")

    options: Options

    def index(self) -> Index:
        """List the annotated frames; see :meth:`Reader.index`."""
        entries: list[Entry] = []
        notes: list[str] = []
        for sequence in sorted(p for p in self.root.iterdir() if p.is_dir() and _SEQUENCE.fullmatch(p.name)):
            frames = _numbered(sequence, _FRAME)
            annotated: set[int] = set()
            for kind in self.options.truth:
                found = list(self._truth_of(sequence, frames, kind, notes))
                annotated.update(entry.key for entry in found)
                entries += found
            if without := len(frames) - len(annotated):
                notes.append(f"{sequence}: {without} of its {len(frames)} frames have no truth, left out")
        notes += self._truth_without_frames()
        if not entries:
            raise DataError(
                f"{self.root}: no annotated frame in it",
                "expected 01/tNNN.tif with 01_GT/SEG/man_segNNN.tif or 01_ST/SEG/man_segNNN.tif",
            )
        return Index(tuple(sorted(entries, key=lambda e: e.id)), tuple(notes))

    def truth(self, entry: Entry, height: int, width: int) -> Truth:
        """Read the label image of one frame; see :meth:`Reader.truth`."""
        path = entry.truth[0]
        labels = read_labels(path)
        if labels.shape != (height, width):
            shape = " x ".join(map(str, labels.shape))
            raise DataError(
                f"{path}: the label image is {shape} pixels, its frame {entry.image.name} is {height} x {width}"
            )
        return Truth(Instances.from_label_map(labels))

    def _truth_without_frames(self) -> Iterator[str]:
        """A note for each folder of truth whose sequence is not there."""
        for kind in self.options.truth:
            for folder in sorted(self.root.glob(f"*{_FOLDERS[kind]}/SEG")):
                sequence = folder.parent.name.removesuffix(_FOLDERS[kind])
                if not _SEQUENCE.fullmatch(sequence) or (self.root / sequence).is_dir():
                    continue
                if masks := len(_numbered(folder, _MASK)):
                    yield f"{folder}: {masks} label images without the folder {sequence} of their frames, left out"

    def _truth_of(self, sequence: Path, frames: dict[int, Path], kind: Truths, notes: list[str]) -> Iterator[Entry]:
        folder = self.root / f"{sequence.name}{_FOLDERS[kind]}" / "SEG"
        if not folder.is_dir():
            return
        for number, mask in sorted(_numbered(folder, _MASK).items()):
            if number not in frames:
                notes.append(f"{mask}: the frame {number} is not in {sequence}, left out")
                continue
            image = frames[number]
            part = f"{sequence.name}-{kind}"
            yield Entry(f"{part}/{image.stem}", image, (mask,), part, sequence.name, number)


def _numbered(folder: Path, pattern: re.Pattern[str]) -> dict[int, Path]:
    """Number in the name -> file.

    Raises:
        DataError: two files of one number, such as ``t001.tif`` and ``t0001.tif``.
    """
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        match = pattern.fullmatch(path.name)
        if match is None:
            continue
        number = int(match[1])
        if number in found:
            raise DataError(f"{path}: the frame {number} is also {found[number].name}")
        found[number] = path
    return found
