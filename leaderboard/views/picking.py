"""Pickers that several pages share: which board, which runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from bench.report.bibtex import bibliography
from bench.report.boards import leaderboard_table
from bench.report.tables import Table, render
from bench.store import StoredDataset, StoredRun
from leaderboard import data, state

SCHEDULES = ("all", "paper", "short", "smoke")

EXPORTS = {"csv": ("CSV", "csv"), "markdown": ("Markdown", "md"), "latex": ("LaTeX", "tex")}
"""Format of :mod:`bench.report.tables` to its name and the ending of its files."""


def version_picker(where: Any = st) -> StoredDataset:
    """Which data set version; those with finished runs only, unless there is no other."""
    versions = [v for v in state.versions() if v.splits] or state.versions()
    return state.choose(
        "data set version",
        versions,
        "data",
        shown=data.version_label,
        written=lambda v: f"{v.name}.{v.content_hash[:12]}",
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
    splits = sorted(version.splits, key=lambda s: (s != "test", -version.splits[s], s))
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


def run_picker(
    label: str, name: str, runs: list[StoredRun], *, where: Any = st, none: bool = False
) -> StoredRun | None:
    """One run of a list."""
    by_id = {run.id: run for run in runs}
    options: list[int | None] = [*([None] if none else []), *by_id]
    chosen = state.choose(
        label,
        options,
        name,
        shown=lambda i: "none" if i is None else data.run_label(by_id[i]),
        written=lambda i: "none" if i is None else str(i),
        always=not none,
        where=where,
        width=220,
    )
    return None if chosen is None else by_id[chosen]


def export(table: Table, name: str, key: str, run_ids: Sequence[int] = ()) -> None:
    """Buttons that give a table to take away; with ``run_ids``, what it cites as well."""
    with st.popover("Export", icon=":material/download:"):
        for format_, (title, ending) in EXPORTS.items():
            st.download_button(
                title,
                lambda format_=format_: render(table, format_),
                file_name=f"{name}.{ending}",
                mime="text/plain",
                key=f"{key}-{format_}",
                on_click="ignore",
                width="stretch",
            )
        if len(run_ids):
            st.download_button(
                "BibTeX",
                lambda: bibliography(*state.store().cited(run_ids)),
                file_name=f"{name}.bib",
                mime="text/plain",
                key=f"{key}-bibtex",
                on_click="ignore",
                width="stretch",
                help="the methods' papers and the data set",
            )


def board_export(frame: pd.DataFrame, key: str) -> None:
    """The same of a board."""
    about = frame.attrs
    shown = frame.assign(badges=frame["badges"].map(", ".join))
    shown.attrs = about
    export(
        leaderboard_table(shown),
        f"{about['dataset']}-{about['split']}-{about['protocol']}",
        key,
        frame["run_id"].tolist(),
    )
