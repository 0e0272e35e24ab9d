"""Boards as files: one table, or a folder of web pages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.api import UnknownNameError, UsageError
from bench.data.system import write_whole
from bench.metrics.registry import where_is
from bench.records import Source
from bench.report import stored_site
from bench.report.bibtex import bibliography, submissions
from bench.report.boards import leaderboard_table
from bench.report.tables import render
from bench.store import Store, open_store

if TYPE_CHECKING:
    import pandas as pd


def board(db: str | None, *, form: str = "csv", **asked: Any) -> str:
    """One board as text.

    Args:
        db: of the store.
        form: a format of :func:`bench.report.tables.render`, or ``bibtex``.
        asked: which board: ``dataset`` (default the one run last), ``stand_in``, and ``split``, ``schedule``,
            ``protocol`` and ``metric`` of :meth:`bench.store.Store.leaderboard`.

    Raises:
        UsageError: no such board.
    """
    with open_store(db, read_only=True) as store:
        frame = _board(store, **asked)
        if form != "bibtex":
            return render(leaderboard_table(frame), form)
        papers, cards = store.cited(frame["run_id"].tolist())
        return bibliography([*papers, *submissions(frame)], cards)


def _board(store: Store, *, dataset: str | None = None, stand_in: bool | None = None, **asked: Any) -> pd.DataFrame:
    source: Source | None = None if stand_in is None else "synthetic" if stand_in else "real"
    if dataset is None:
        stored = [d for d in store.datasets() if d.splits and source in (None, d.source)]
        if not stored:
            raise UsageError("there is no finished run to export", "start with `bench run`")
        dataset = stored[0].name
    try:
        return store.leaderboard(dataset, source=source, **asked)
    except UnknownNameError as error:
        hint = where_is(error.name) if error.kind.startswith("metric of") else None
        if hint is None:
            raise
        raise UsageError(error.message, hint) from None


def site(db: str | None, folder: Path) -> int:
    """Every board and every run as web pages; returns how many pages.

    Raises:
        UsageError: the folder holds something else.
        OutputError: it cannot be written.
    """
    with open_store(db, read_only=True) as store:
        return stored_site.write(store, folder)


def plot(db: str | None, path: Path, **asked: Any) -> None:
    """The picture of speed against accuracy of a board's machine with most timed runs, as ``.svg`` or ``.png``.

    Args:
        db: of the store.
        path: of the picture; its ending says the format.
        asked: as of :func:`board`.

    Raises:
        UsageError: another ending, no such board, or no run on it that has a time.
        MissingDependencyError: what draws it is not installed.
        OutputError: it cannot be written.
    """
    form = path.suffix.lower().removeprefix(".")
    if form not in ("svg", "png"):
        raise UsageError(f"{path.name} is neither .svg nor .png", "name the picture by its format")
    with open_store(db, read_only=True) as store:
        frame = _board(store, **asked)
    picture = stored_site.speed_picture(frame, form)
    if picture is None:
        raise UsageError("no run of this board has both a time and the ranking number", "name another board")
    write(picture, path)


def write(text: str | bytes, path: Path) -> None:
    """Write a file as a whole.

    Raises:
        OutputError: it cannot be written.
    """
    write_whole(path, text.encode() if isinstance(text, str) else text)
