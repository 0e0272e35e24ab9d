"""Boards as files: one table, or a folder of web pages."""

from __future__ import annotations

from pathlib import Path

from bench.api import OutputError, UsageError
from bench.data.reported import papers
from bench.report.bibtex import bibliography
from bench.report.boards import leaderboard_table
from bench.report.site import write_site
from bench.report.tables import render
from bench.store import open_store


def board(
    db: str | None,
    *,
    dataset: str | None = None,
    split: str | None = None,
    schedule: str | None = None,
    protocol: str | None = None,
    metric: str | None = None,
    stand_in: bool | None = None,
    form: str = "csv",
) -> str:
    """One board as text.

    Args:
        db: of the store.
        dataset: default the only one, or the one run last.
        split: default ``test`` where it has runs.
        schedule: only runs of it.
        protocol: the ranking one.
        metric: of that protocol.
        stand_in: only the stand-in (True) or the real files (False).
        form: a format of :func:`bench.report.tables.render`, or ``bibtex``.

    Raises:
        UsageError: no such board.
    """
    source = None if stand_in is None else "synthetic" if stand_in else "real"
    with open_store(db, read_only=True) as store:
        if dataset is None:
            stored = [d for d in store.datasets() if d.splits and source in (None, d.source)]
            if not stored:
                raise UsageError("there is no finished run to export", "start with `bench run`")
            dataset = stored[0].name
        frame = store.leaderboard(
            dataset,
            split=split,
            schedule=schedule,
            protocol=protocol,
            metric=metric,
            source=source,  # type: ignore[arg-type]
        )
        if form != "bibtex":
            return render(leaderboard_table(frame), form)
        said = [store.provenance(int(run_id)) for run_id in frame["run_id"]]
    cards = [{"name": dataset, "title": frame.attrs["title"], **s.card} for s in said[:1]]
    return bibliography([s.method.paper for s in said if s.method.paper], cards)


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
        )


def write(text: str, path: Path) -> None:
    """Write a file as a whole.

    Raises:
        OutputError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}", "name another place") from error
