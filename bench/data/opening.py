"""Opening a data set for somebody who waits: what takes time is said before it begins, and as it goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.data.dataset import Dataset, open_dataset, unmade_stand_in
from bench.data.overview import is_partial
from bench.progress import reporting, say


def open_visibly(name: str, data_root: Path | None = None, *, stand_in: bool | None = None, **options: Any) -> Dataset:
    """:func:`bench.data.open_dataset` with progress on stderr.

    A stand-in that has to be generated, which takes minutes and up to some hundred megabytes, is announced with its
    size and its place. Real files with fewer or more images than the card expects are named: a download that was cut
    off opens like a whole one. So is a prepared form of files that have changed since.

    Args:
        name: of a card.
        data_root: default ``$BENCH_DATA_ROOT``, else ``./data``.
        stand_in: True for the stand-in even if real files are there, False for real files only.
        options: the others of :func:`bench.data.open_dataset`.
    """
    announce(name, data_root, stand_in=stand_in)
    with reporting(f"preparing {name}", "image") as progress:
        opened = open_dataset(name, data_root, stand_in=stand_in, progress=progress, **options)
    expected = opened.card.expected.images
    if opened.source == "real" and is_partial(len(opened), expected):
        say(f"note: {name} here has {len(opened)} images, the card expects {expected}: see `bench data check {name}`")
    say_outdated(opened)
    return opened


def say_outdated(opened: Dataset) -> None:
    """Say that the files which were prepared have changed since, if that is so."""
    if opened.outdated:
        say(f"note: {opened.card.name}: {opened.outdated}")


def say_left_out(opened: Dataset, most: int = 20) -> None:
    """Say what was left out of the files of a data set, at most so many lines of it, and who says the rest."""
    name = opened.card.name
    for note in opened.notes[:most]:
        say(f"note: {name}: {note}")
    if (more := len(opened.notes) - most) > 0:
        say(f"note: {name}: and {more} more; `bench data check {name} --json` has all")


def announce(name: str, data_root: Path | None = None, *, stand_in: bool | None = None) -> None:
    """Say that a stand-in has to be generated, if that is so."""
    unmade = unmade_stand_in(name, data_root, stand_in=stand_in)
    if unmade is not None:
        say(f"{name}: {unmade.said}")
