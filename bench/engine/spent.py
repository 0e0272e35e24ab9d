"""What a run has taken so far, in all the times that it was begun: kept in its folder, so that a kill loses little."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from bench.engine.folder import writing

NAME = "spent.json"
"""In the run folder."""
NOTED_SECONDS = 5.0
"""At least between two notes; a kill loses at most so much of the time."""

Phase = Literal["training", "prediction"]


class Spent:
    """Seconds by phase, and the peak of memory, of a run in every process that was at work on it.

    What was cut off counts as well: a training that goes on from its last checkpoint has taken both times together.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._known: dict[str, Any] = _read(self._path)
        self._phase: Phase | None = None
        self._since = self._noted = 0.0

    @contextmanager
    def counting(self, phase: Phase) -> Iterator[None]:
        """Count the time inside for a phase.

        Raises:
            OutputError: the folder cannot be written.
        """
        self._phase = phase
        self._since = self._noted = time.monotonic()
        try:
            yield
        finally:
            self._note(time.monotonic())
            self._phase = None

    def go_on(self) -> None:
        """Called as often as one likes while time is counted: now and then it is noted.

        Raises:
            OutputError: the folder cannot be written.
        """
        now = time.monotonic()
        if now - self._noted >= NOTED_SECONDS:
            self._note(now)

    def seconds(self, phase: Phase) -> float | None:
        """Of a phase, all together; None where there was none."""
        return self._known.get(phase)

    def used_memory(self, peak_bytes: int | None) -> None:
        """Note a peak of memory.

        Raises:
            OutputError: the folder cannot be written.
        """
        if peak_bytes is not None:
            self._known["peak_memory_bytes"] = max(peak_bytes, self.peak_memory_bytes or 0)
            self._write()

    @property
    def peak_memory_bytes(self) -> int | None:
        """The highest peak that was noted."""
        return self._known.get("peak_memory_bytes")

    def _note(self, now: float) -> None:
        assert self._phase is not None
        self._known[self._phase] = self._known.get(self._phase, 0.0) + now - self._since
        self._since = self._noted = now
        self._write()

    def _write(self) -> None:
        with writing(self._path):
            partial = self._path.with_name(f"{NAME}.partial")
            partial.write_text(json.dumps(self._known) + "\n", encoding="utf-8")
            partial.replace(self._path)


def _read(path: Path) -> dict[str, Any]:
    """What is noted; nothing where there is no note, or a damaged one: it is no part of what is predicted."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    numbers = known.items() if isinstance(known, dict) else ()
    return {name: value for name, value in numbers if isinstance(value, int | float) and not isinstance(value, bool)}
