"""Boards as files: one table, or a folder of web pages."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.api import OutputError, UsageError
from bench.data.reported import papers
from bench.records import Source
from bench.report.bibtex import bibliography
from bench.report.boards import leaderboard_table
from bench.report.site import write_site
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
        said = [store.provenance(int(run_id)) for run_id in frame["run_id"]]
    cards = [{"name": frame.attrs["dataset"], "title": frame.attrs["title"], **s.card} for s in said[:1]]
    return bibliography([s.method.paper for s in said if s.method.paper], cards)


def _board(store: Store, *, dataset: str | None = None, stand_in: bool | None = None, **asked: Any) -> pd.DataFrame:
    source: Source | None = None if stand_in is None else "synthetic" if stand_in else "real"
    if dataset is None:
        stored = [d for d in store.datasets() if d.splits and source in (None, d.source)]
        if not stored:
            raise UsageError("there is no finished run to export", "start with `bench run`")
        dataset = stored[0].name
    return store.leaderboard(dataset, source=source, **asked)


def site(db: str | None, folder: Path) -> int:
    """Every board and every run as web pages; returns how many pages.

    Raises:
        UsageError: the folder holds something else.
        OutputError: it cannot be written.
    """
    with open_store(db, read_only=True) as store:
        return write_site(
            store,
            folder,
            lambda version, split: store.leaderboard(version.name, content_hash=version.content_hash, split=split),
            reported={paper.paper: paper.bibtex for paper in papers()},
            charts=_svgs if importlib.util.find_spec("vl_convert") else None,
        )


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
    pictures = _speed(frame, form)
    if not pictures:
        raise UsageError("no run of this board has both a time and the ranking number", "name another board")
    write(pictures[0], path)


def _speed(frame: pd.DataFrame, form: str) -> list[bytes]:
    """The picture of a board, if it has timed runs."""
    from bench.report import speed

    timed = frame[speed.timed(frame)]
    if timed.empty:
        return []
    from bench.report import charts

    machine = timed["machine"].value_counts().index[0]
    chosen = timed[timed["machine"] == machine]
    chosen.attrs = frame.attrs
    return [
        charts.picture(charts.speed(speed.points(chosen), speed.axis_title(chosen), True).properties(width=560), form)
    ]


def _svgs(frame: pd.DataFrame) -> list[str]:
    return [picture.decode() for picture in _speed(frame, "svg")]


def write(text: str | bytes, path: Path) -> None:
    """Write a file as a whole.

    Raises:
        OutputError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(text.encode() if isinstance(text, str) else text)
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}", "name another place") from error
