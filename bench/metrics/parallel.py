"""Images measured in several processes, in order."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any
from typing import Protocol as Interface

from bench.api import DataError, UsageError
from bench.metrics.evidence import ImageEvidence, measure
from bench.metrics.protocol import Protocol


class ImageSource(Interface):
    """Images by position. They are read where they are measured, so an item may be as lazy as it likes."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[str, Any, Any, str | None]:
        """Key, truth, prediction, group."""

    def explained(self, index: int, error: DataError) -> DataError:
        """An error of that image with its file, and what else a reader must know to find it."""


_source: ImageSource
_protocols: Sequence[Protocol]
_min_score: float | None


def measure_all(
    protocols: Sequence[Protocol], source: ImageSource, workers: int, min_score: float | None = None
) -> Iterator[ImageEvidence]:
    """The evidence of every image, in order.

    Args:
        protocols: to measure for.
        source: the images; picklable, for systems that cannot fork.
        workers: processes; 1 stays in this one.
        min_score: see :class:`bench.metrics.matching.Match`.

    Raises:
        BenchError: whatever an image raises.
        UsageError: a process was killed.
    """
    count = len(source)
    if workers <= 1 or count <= 1:
        for index in range(count):
            yield _measure(protocols, source, index, min_score)
        return
    # A forked child has the images already; but forking a process in which torch runs threads can lock it up.
    forks = sys.platform == "linux" and "torch" not in sys.modules
    context = multiprocessing.get_context("fork" if forks else "spawn")
    chunk = max(1, min(16, count // (4 * workers)))
    with ProcessPoolExecutor(workers, context, _start, (source, protocols, min_score)) as pool:
        try:
            yield from pool.map(_measure_here, range(count), chunksize=chunk)
        except BrokenProcessPool:
            raise UsageError(
                f"one of {workers} worker processes was killed, most likely because memory ran out", "use fewer workers"
            ) from None


def _start(source: ImageSource, protocols: Sequence[Protocol], min_score: float | None) -> None:
    global _source, _protocols, _min_score
    _source, _protocols, _min_score = source, protocols, min_score


def _measure_here(index: int) -> ImageEvidence:
    return _measure(_protocols, _source, index, _min_score)


def _measure(protocols: Sequence[Protocol], source: ImageSource, index: int, min_score: float | None) -> ImageEvidence:
    key, truth, prediction, group = source[index]
    try:
        return measure(protocols, key, truth, prediction, group, min_score)
    except DataError as error:
        raise source.explained(index, error) from None
