"""Progress on stderr: a bar on a terminal, a plain line every so often elsewhere, silence when asked."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bench.text import visible

Report = Callable[[int, int, str], None]
"""``report(done, total, text)``: how far a job is; ``text`` may be empty."""

PLAIN_SECONDS = 10.0
"""Between two lines where stderr is no terminal."""

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Show no progress at all from now on."""
    global _quiet
    _quiet = quiet


def say(text: str) -> None:
    """A line for the user on stderr, unless quiet."""
    if not _quiet:
        sys.stderr.write(visible(text) + "\n")
        sys.stderr.flush()


@contextmanager
def reporting(label: str, unit: str = "it") -> Iterator[Report]:
    """A reporter for one job: ``with reporting("predicting", "image") as report: report(3, 10, "")``."""
    label = visible(label)
    if _quiet:
        yield lambda _done, _total, _text: None
    elif sys.stderr.isatty():
        yield from _bar(label, unit)
    else:
        yield from _lines(label, unit)


def _bar(label: str, unit: str) -> Iterator[Report]:
    from tqdm import tqdm

    bar: Any = None

    def report(done: int, total: int, text: str) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(total=total, desc=label, unit=unit, file=sys.stderr, leave=False, initial=max(done - 1, 0))
        bar.total = total
        bar.set_postfix_str(visible(text), refresh=False)
        bar.update(done - bar.n)

    try:
        yield report
    finally:
        if bar is not None:
            bar.close()


def _lines(label: str, unit: str) -> Iterator[Report]:
    begun = last = time.monotonic()
    shown = 0

    def report(done: int, total: int, text: str) -> None:
        nonlocal last, shown
        now = time.monotonic()
        if now - last >= PLAIN_SECONDS or (done == total and now - begun > 2 and done != shown):
            last, shown = now, done
            extra = f" ({text})" if text else ""
            say(f"{label}: {done}/{total} {unit}s, {now - begun:.0f} s{extra}")

    yield report
