"""Sequences of the Cell Tracking Challenge: frames, gold truth for some of them, silver truth for all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from bench.data.folders import nothing_in, visible
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
    Truth without its frames is left out too; both are noted. Gold truth need not hold every cell of its frame. Other
    folders (``01_GT/TRA``, ``01_ERR_SEG``) are not looked at.
    """

    format = "ctc"

    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """Options of the format.

        Attributes:
            truth: which truths to read; those that are not there are left out.
            dense: truths that have every frame of a sequence of which they are there; where they have not, the frames
                are those of another film, and are refused.
        """

        truth: tuple[Truths, ...] = ("gold", "silver")
        dense: tuple[Truths, ...] = ()

    options: Options

    def index(self) -> Index:
        """List the annotated frames; see :meth:`Reader.index`."""
        entries: list[Entry] = []
        notes: list[str] = []
        for sequence in (p for p in visible(self.root) if p.is_dir() and _SEQUENCE.fullmatch(p.name)):
            frames = _numbered(sequence, _FRAME, notes)
            annotated: set[int] = set()
            for kind in self.options.truth:
                found = list(self._truth_of(sequence, frames, kind, notes))
                if kind in self.options.dense and found and (without := len(frames) - len(found)):
                    raise DataError(
                        f"{sequence}: {without} of its {len(frames)} frames are not in the {kind} truth, which has all",
                        "the test set has folders of the same names: if it was unpacked over the training set, unpack "
                        "that again, into a new folder",
                    )
                annotated.update(entry.key for entry in found)
                entries += found
            if without := len(frames) - len(annotated):
                notes.append(f"{sequence}: {without} of its {len(frames)} frames have no truth, left out")
        notes += self._truth_without_frames()
        if not entries:
            raise nothing_in(
                self.root,
                "no annotated frame",
                "01/tNNN.tif with 01_GT/SEG/man_segNNN.tif or 01_ST/SEG/man_segNNN.tif",
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
                if masks := len(_numbered(folder, _MASK, [])):
                    yield f"{folder}: {masks} label images without the folder {sequence} of their frames, left out"

    def _truth_of(self, sequence: Path, frames: dict[int, Path], kind: Truths, notes: list[str]) -> Iterator[Entry]:
        folder = self.root / f"{sequence.name}{_FOLDERS[kind]}" / "SEG"
        if not folder.is_dir():
            return
        for number, mask in sorted(_numbered(folder, _MASK, notes).items()):
            if number not in frames:
                notes.append(f"{mask}: the frame {number} is not in {sequence}, left out")
                continue
            image = frames[number]
            part = f"{sequence.name}-{kind}"
            yield Entry(f"{part}/{image.stem}", image, (mask,), part, sequence.name, number)


def _numbered(folder: Path, pattern: re.Pattern[str], notes: list[str]) -> dict[int, Path]:
    """Number in the name -> file; files of other names are noted.

    Raises:
        DataError: two files of one number, such as ``t001.tif`` and ``t0001.tif``.
    """
    found: dict[int, Path] = {}
    others: list[str] = []
    for path in visible(folder):
        match = pattern.fullmatch(path.name)
        if match is None:
            others.append(path.name)
            continue
        number = int(match[1])
        if number in found:
            raise DataError(f"{path}: the frame {number} is also {found[number].name}")
        found[number] = path
    if others:
        notes.append(f"{folder}: {len(others)} files with other names (the first: {others[0]}), left out")
    return found
