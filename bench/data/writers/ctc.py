"""Results as the Cell Tracking Challenge wants them: ``01_RES/maskNNN.tif`` and ``res_track.txt``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from bench.data import tiff
from bench.data.system import write_whole
from bench.data.writers.base import MOST_LABELS, Annotated
from bench.data.writers.labels import label_image
from bench.errors import DataError


def write_ctc_results(
    folder: Path, sequence: str, frames: Iterable[tuple[int, Annotated]], policy: str = "score", digits: int = 3
) -> list[Path]:
    """The results of a sequence. Nothing is tracked: every object is a track of one frame, with a label of its own.

    Args:
        folder: in which ``<sequence>_RES`` is made.
        sequence: such as ``01``.
        frames: number of the frame and its instances, one after the other.
        policy: what becomes of overlaps, which the format cannot hold.
        digits: of the frame's number in the file names.

    Returns:
        the label images, in the order of the frames.

    Raises:
        DataError: more than 65,535 objects in all, or a frame that comes twice.
        OutputError: a file cannot be written.
    """
    target = folder / f"{sequence}_RES"
    tracks: list[str] = []
    written: dict[int, Path] = {}
    for frame, image in frames:
        if frame in written:
            raise DataError(f"frame {frame} of {sequence} comes twice")
        labels = label_image(image, policy)
        found = np.unique(labels[labels > 0])
        if len(tracks) + len(found) > MOST_LABELS:
            raise DataError(
                f"sequence {sequence} has more than {MOST_LABELS} objects, which 16-bit labels cannot tell apart"
            )
        renumbered = np.zeros(int(labels.max()) + 1, np.uint16)
        renumbered[found] = np.arange(len(tracks) + 1, len(tracks) + len(found) + 1)
        tracks += [f"{label} {frame} {frame} 0\n" for label in renumbered[found].tolist()]
        written[frame] = target / f"mask{frame:0{digits}d}.tif"
        write_whole(written[frame], tiff.encode(renumbered[labels]))
    write_whole(target / "res_track.txt", "".join(tracks).encode())
    return list(written.values())
