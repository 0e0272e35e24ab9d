"""What a writer takes: an image's id, its file's name, and its instances."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.errors import DataError
from bench.instances import Instances, Sample

MOST_LABELS = 65_535
"""Instances that a 16-bit label image can hold."""


@dataclass(frozen=True)
class Annotated:
    """An image as a writer needs it.

    Attributes:
        id: of the image.
        instances: truth or prediction.
        file: its file name; the id where there is none.
        group: the sequence, donor or slide it comes from, or None.
    """

    id: str
    instances: Instances
    file: str = ""
    group: str | None = None


def from_samples(samples: Iterable[Sample], folder: Path | None = None) -> Iterator[Annotated]:
    """The truth of samples, as of a split.

    Args:
        samples: with truth.
        folder: file names are given relative to it; None: as they are.

    Raises:
        DataError: a sample without truth.
    """
    for sample in samples:
        if sample.instances is None:
            raise DataError(f"image {sample.id} is not annotated", "write a split that is")
        path = str(sample.meta.get("path", sample.id))
        if folder is not None and Path(path).is_relative_to(folder):
            path = Path(path).relative_to(folder).as_posix()
        yield Annotated(sample.id, sample.instances, path, sample.group)
