"""Pickers that several pages share: which board, which runs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from bench.report import charts
from bench.report.bibtex import bibliography, submissions
from bench.report.boards import leaderboard_table
from bench.report.tables import Table, render
from bench.store import StoredDataset, StoredRun
from bench.store.queries import KEY_SHOWN
from leaderboard import data, state

NO_RUN = 0
"""Stands for none among the numbers of runs; what Streamlit takes for nothing chosen has no name on a page."""

SCHEDULES = ("all", "paper", "short", "smoke")

EXPORTS = {"csv": ("CSV", "csv"), "markdown": ("Markdown", "md"), "latex": ("LaTeX", "tex")}
"""Format of :mod:`bench.report.tables` to its name and the ending of its files."""


MOST_RUNS = 1000
"""Runs up to which all boards are packed on request: some seven seconds and 4 MB."""


def _finished() -> list[StoredDataset]:
    """The versions that are offered: those with finished runs, unless there is no other."""
    return [v for v in state.versions() if v.splits] or state.versions()


def _splits(version: StoredDataset) -> list[str]:
    return sorted(version.splits, key=lambda s: (s != "test", -version.splits[s], s))


def first_board() -> None:
    """Have the board remembered that an address without a word opens.

    Raises:
        BenchError: there is no database, or none of ours.
    """
    for version in _finished()[:1]:
        for split in _splits(version)[:1]:
            state.board(data.Asked(version.name, version.content_hash, split))


def _version(dataset: str, content_hash: str) -> str:
    """How a data set version stands in the address."""
    return f"{dataset}.{content_hash[:KEY_SHOWN]}"


def board_link(label: str, dataset: str, content_hash: str, split: str, schedule: str | None = None) -> None:
    """A link to the board of a data set version and split."""
    version = _version(dataset, content_hash)
    state.link("board", label, ":material/leaderboard:", data=version, split=split, schedule=schedule)


def version_picker(where: Any = st) -> StoredDataset:
    """Which data set version."""
    versions = _finished()
    return state.choose(
        "data set version",
        versions,
        "data",
        shown=data.version_label,
        written=lambda v: _version(v.name, v.content_hash),
        always=True,
        where=where,
        width=240,
    )


def board_picker(*, superseded: bool = False) -> tuple[StoredDataset, data.Asked, pd.DataFrame] | None:
    """Data set version, split, protocol, number and schedule; None where nothing has finished there."""
    row = st.container(horizontal=True, vertical_alignment="bottom")
    version = version_picker(row)
    if not version.splits:
        st.info(f"No run on {state.safe(version.title)} has finished. Why they failed is on the Run page.")
        return None
    splits = _splits(version)
    split = state.choose(
        "split", splits, "split", shown=lambda s: f"{s} ({version.splits[s]})", always=True, where=row, width=120
    )
    schedule = state.choose(
        "schedule",
        SCHEDULES,
        "schedule",
        where=row,
        width=110,
        help="how long was trained; smoke only shows that it runs",
    )
    asked = data.Asked(
        version.name,
        version.content_hash,
        split,
        None if schedule == "all" else schedule,
        superseded=superseded,
    )
    frame = state.board(asked)
    definitions = frame.attrs["columns"]
    protocols = data.unique([*version.protocols, *(d["protocol"] for d in definitions.values())])
    protocols = [p for p in protocols if any(d["protocol"] == p for d in definitions.values())]
    if not protocols:
        st.info(
            "These runs have no numbers." if len(frame) else f"No run of the schedule {schedule} has finished here."
        )
        return None
    protocol = state.choose("protocol", protocols, "protocol", where=row, width=120)
    metrics = [
        d["metric"] for d in definitions.values() if d["protocol"] == protocol and d["higher_is_better"] is not None
    ]
    if not metrics:
        st.info(f"No number of {state.safe(protocol)} has a direction to rank by.")
        return None
    metric = state.choose("rank by", metrics, "metric", where=row, width=155)
    if (protocol, metric) != (frame.attrs["protocol"], frame.attrs["metric"]):
        asked = data.Asked(asked.dataset, asked.content_hash, split, asked.schedule, protocol, metric, superseded)
        frame = state.board(asked)
    return version, asked, frame


def partial(version: StoredDataset, frame: pd.DataFrame) -> None:
    """Say so where a board's runs did not have the whole data set before them."""
    here = None if frame.empty else data.images_here(state.store(), version, int(frame["run_id"].iloc[0]))
    if here is not None:
        st.info(
            f"A part of the data set: {here} were here when these runs were made. Numbers of the whole are others.",
            icon=":material/warning:",
        )


def run_picker(
    label: str,
    name: str,
    runs: Sequence[StoredRun],
    labels: Mapping[int, str],
    *,
    where: Any = st,
    none: bool = False,
) -> StoredRun | None:
    """One run of a list, each with its label."""
    by_id = {run.id: run for run in runs}
    chosen = state.choose(
        label,
        [*([NO_RUN] if none else []), *by_id],
        name,
        shown=lambda i: labels[i] if i in by_id else "none",
        written=lambda i: str(i) if i in by_id else "none",
        always=not none,
        where=where,
        width=220,
    )
    return by_id.get(chosen)


@dataclass(frozen=True)
class Picture:
    """A picture that a view shows, and how it is made as a file.

    Attributes:
        title: on its buttons.
        stem: of its files' names.
        make: makes it, given ``svg`` or ``png``; called when somebody takes it away, not before.
    """

    title: str
    stem: str
    make: Callable[[str], bytes]

    @classmethod
    def chart(cls, title: str, stem: str, chart: Any) -> Picture:
        """Of an Altair chart."""
        return cls(title, stem, lambda form: charts.picture(chart, form))


PICTURES = {"png": ("PNG", "image/png"), "svg": ("SVG", "image/svg+xml")}
"""Format of a picture to its name and media type."""


def export(
    name: str,
    key: str,
    table: Callable[[], Table] | None = None,
    *,
    pictures: Sequence[Picture] = (),
    bibtex: Callable[[], str] | None = None,
    site: bool = False,
) -> None:
    """The place where a view is taken away; nothing is made before a button is pressed.

    Args:
        name: of the files, without ending.
        key: of this place on its page.
        table: makes what is listed.
        pictures: what is drawn.
        bibtex: makes the entries of what is shown.
        site: whether all boards are offered as web pages.
    """
    with st.popover("Export", icon=":material/download:"):
        if table is not None:
            st.caption("Table")
            line = st.container(horizontal=True)
            for form, (title, ending) in EXPORTS.items():
                _file(line, title, lambda form=form: render(table(), form), f"{name}.{ending}", f"{key}-{form}")
            if bibtex is not None:
                _file(line, "BibTeX", bibtex, f"{name}.bib", f"{key}-bibtex", help="papers, submissions and data sets")
        drawable = importlib.util.find_spec("vl_convert") is not None
        for number, picture in enumerate(pictures):
            st.caption(state.safe(picture.title))
            line = st.container(horizontal=True)
            for form, (title, mime) in PICTURES.items():
                _file(
                    line,
                    title,
                    lambda picture=picture, form=form: picture.make(form),
                    f"{picture.stem}.{form}",
                    f"{key}-{number}-{form}",
                    mime=mime,
                    disabled=not drawable,
                    help=None if drawable else "needs vl-convert: pip install 'cellseg-bench[board]'",
                )
        if site:
            _site(key)


def _file(where: Any, label: str, make: Callable[[], str | bytes], name: str, key: str, **more: Any) -> None:
    more = {"mime": "text/plain", **more}
    where.download_button(label, make, file_name=name, key=key, on_click="ignore", **more)


def _site(key: str) -> None:
    """Every board as web pages, as long as making them takes seconds."""
    st.caption("All boards and runs as web pages that need no server")
    runs = sum(sum(version.splits.values()) for version in state.versions())
    if runs <= MOST_RUNS:
        _file(st, "ZIP", state.site, "board.zip", f"{key}-zip", mime="application/zip", help=f"{runs} runs")
        return
    st.markdown(f"This database holds {runs} runs; up to {MOST_RUNS} are packed here. Type instead:")
    st.code("bench export --html DIR", language="bash")


def cited(run_ids: Sequence[int]) -> Callable[[], str]:
    """Makes the BibTeX of some runs: their methods' papers, who submitted what, and their data sets."""
    store = state.store()

    def made() -> str:
        papers, cards = store.cited(run_ids)
        runs = store.runs_by_id(run_ids)
        columns = ("title", "submitted_by", "started")
        frame = pd.DataFrame({column: [getattr(run, column) for run in runs] for column in columns})
        return bibliography([*papers, *submissions(frame)], cards)

    return made


def board_export(
    frame: pd.DataFrame,
    key: str,
    *,
    columns: Sequence[str] | None = None,
    pictures: Sequence[Picture] = (),
    site: bool = False,
) -> None:
    """The same of a board's rows, in their order; ``columns`` are those of the Markdown and LaTeX tables."""

    def table() -> Table:
        shown = frame.assign(badges=frame["badges"].map(", ".join))
        shown.attrs = about
        return leaderboard_table(shown, columns=columns)

    about = frame.attrs
    run_ids = frame["run_id"].tolist()
    export(board_stem(about), key, table, pictures=pictures, bibtex=cited(run_ids), site=site)


def board_stem(about: Mapping[Any, Any]) -> str:
    """Of the names of a board's files."""
    return f"{about['dataset']}-{about['split']}-{about['protocol']}"
