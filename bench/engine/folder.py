"""The folder of a run: what is written as the run goes, so that a kill loses at most the image in hand."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.api import BenchError, Instances, OutputError
from bench.errors import writing_hint
from bench.store.files import (
    CURVES,
    CURVES_NAME,
    LOG,
    OPERATING_POINT,
    PLAN,
    PREDICTIONS,
    TIMINGS,
    TRAINING,
    WEIGHTS,
    WEIGHTS_NAME,
    OperatingPoint,
    from_record,
    read_predictions,
    records,
    to_record,
)

__all__ = [
    "ARTIFACTS",
    "LOG",
    "PREDICTIONS",
    "TRAINING",
    "Journal",
    "RunFolder",
    "RunHeldError",
    "from_record",
    "to_record",
    "writing",
]

ARTIFACTS = (
    PLAN,
    PREDICTIONS,
    OPERATING_POINT,
    TIMINGS,
    CURVES,
    WEIGHTS,
    f"{TRAINING}/*/{CURVES_NAME}",
    f"{TRAINING}/*/{WEIGHTS_NAME}",
)
"""What the store keeps a hash of, as patterns: a training in stages has a folder a stage."""


class RunHeldError(BenchError):
    """Another process is at work on the same run. Exit code 8."""

    exit_code = 8


class RunFolder:
    """A folder for one key: created at the first attempt, taken up again at the next.

    Args:
        path: of the folder.

    Raises:
        OutputError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against a second process on the same run.

        Raises:
            RunHeldError: another process holds it.
        """
        lock = FileLock(self.path / ".lock")
        with writing(self.path):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise RunHeldError(
                    f"another process is at work on this run in {self.path}", "wait for it, or run with another --seed"
                ) from None
        try:
            yield
        finally:
            lock.release()

    def clear(self) -> None:
        """Forget everything of earlier attempts (``--force``)."""
        import shutil

        with writing(self.path):
            for entry in self.path.iterdir():
                if entry.name == ".lock":
                    continue
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """What this folder is of, for a reader of it."""
        with writing(self.path):
            (self.path / PLAN).write_text(json.dumps(plan, indent=2, sort_keys=True, default=str) + "\n")

    def log(self, text: str) -> None:
        """Append to the run's log file."""
        with writing(self.path), (self.path / LOG).open("a") as file:
            file.write(text.rstrip() + "\n")

    def predictions(self) -> Journal:
        """The journal of predictions, one line an image."""
        return Journal(self.path / PREDICTIONS)

    def predicted(self) -> dict[str, Instances]:
        """What is in the journal of predictions, by image.

        Raises:
            DataError: it is damaged.
        """
        path = self.path / PREDICTIONS
        return read_predictions(path) if path.is_file() else {}

    def operating_point(self) -> OperatingPoint | None:
        """From which confidence detections count, if that was chosen.

        Raises:
            DataError: its file is damaged.
        """
        path = self.path / OPERATING_POINT
        return OperatingPoint.read(path) if path.is_file() else None

    def write_operating_point(self, point: OperatingPoint) -> None:
        """Keep what was chosen.

        Raises:
            OutputError: it cannot be written.
        """
        path = self.path / OPERATING_POINT
        with writing(path):
            partial = path.with_name(f"{OPERATING_POINT}.partial")
            partial.write_text(json.dumps(asdict(point)) + "\n", encoding="utf-8")
            partial.replace(path)

    def timings(self) -> Journal:
        """The journal of timings, one line an image."""
        return Journal(self.path / TIMINGS)


class Journal:
    """Lines of JSON, each of which is whole or not there: what a kill cut off is dropped when it is opened again.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._drop_cut_line()

    def read(self) -> Iterator[dict[str, Any]]:
        """Every record.

        Raises:
            DataError: a line is not a record: somebody edited the file.
        """
        return records(self._path) if self._path.is_file() else iter(())

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record; it is on its way to the disk when this returns.

        Raises:
            OutputError: the disk is full, or the folder can no longer be written.
        """
        with writing(self._path):
            before = self._path.stat().st_size if self._path.exists() else 0
            line = (json.dumps(record, separators=(",", ":")) + "\n").encode()
            with self._path.open("ab") as file:
                try:
                    file.write(line)
                    file.flush()
                except OSError:
                    os.truncate(self._path, before)
                    raise

    def _drop_cut_line(self) -> None:
        if not self._path.is_file():
            return
        with self._path.open("rb+") as file:
            end = file.seek(0, os.SEEK_END)
            position = end
            while position > 0:
                step = min(65536, position)
                file.seek(position - step)
                newline = file.read(step).rfind(b"\n")
                if newline >= 0:
                    position = position - step + newline + 1
                    break
                position -= step
            if position < end:
                file.truncate(position)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write into one clear line.

    Raises:
        OutputError: full disk, read-only folder, a file in the way.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}",
            writing_hint(error, "choose another folder with --runs"),
        ) from error
