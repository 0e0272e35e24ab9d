"""What a dense method learns from each image, computed once and kept on disk. No torch."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.api import Sample


class TargetCache:
    """Arrays of each image, computed at its first use and memory-mapped from then on.

    A distance transform or a weight map costs more than a training step of a small network; a large data set's maps
    exceed the memory. So they go to a folder, one file an array, and the operating system keeps in memory what fits.
    An image is there whole or not at all, so a kill leaves nothing half written, and several loader processes may
    share the folder.

    Args:
        folder: made at the first use.
        compute: the arrays of a sample by name, each (..., H, W).
    """

    def __init__(self, folder: Path, compute: Callable[[Sample], dict[str, NDArray[Any]]]) -> None:
        self._folder, self._compute = folder, compute

    def __getitem__(self, sample: Sample) -> dict[str, NDArray[Any]]:
        """The arrays of ``sample``, memory-mapped and read-only."""
        place = self._folder / hashlib.sha256(sample.id.encode()).hexdigest()[:32]
        if not place.is_dir():
            self._write(place, self._compute(sample))
        return {file.stem: np.load(file, mmap_mode="r", allow_pickle=False) for file in sorted(place.iterdir())}

    def clear(self) -> None:
        """Remove the folder."""
        if self._folder.is_dir():
            shutil.rmtree(self._folder)

    def _write(self, place: Path, arrays: dict[str, NDArray[Any]]) -> None:
        partial = place.with_name(f"{place.name}.{os.getpid()}.partial")
        if partial.is_dir():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        for name, array in arrays.items():
            np.save(partial / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)
        try:
            partial.rename(place)
        except OSError:
            if not place.is_dir():
                raise
            shutil.rmtree(partial)  # another process was first, with the same arrays
