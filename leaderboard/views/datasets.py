"""Across data sets: which method does well on all of them, and which differences mean something."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from bench.report import charts
from bench.report.tables import simple
from leaderboard import data, state
from leaderboard.views import picking

MOST = 12
"""Methods that are compared at first, at most: those on most data sets."""


def show() -> None:
    """Draw the page."""
    st.title("Across data sets", anchor=False)
    left, right = st.columns([3, 7], vertical_alignment="bottom")
    schedule = state.choose("schedule", ["paper", "short", "smoke"], "schedule", where=left)
    synthetic = state.switch("generated images instead of real ones", "synthetic", where=right)
    overview = data.overview(state.store(), schedule, synthetic)
    if not overview.methods:
        st.info(
            "No complete run of this schedule is stored on "
            + ("generated" if synthetic else "real")
            + " images. Controls never rank; smoke and limited runs are no complete ones. Submissions are shown with "
            "the schedule paper."
        )
        return
    titles = overview.titles
    methods = state.choose_some(
        "methods",
        overview.methods,
        "method",
        default=_widest(overview),
        shown=titles.__getitem__,
        help="ranked over the data sets that all of them have",
    )
    if not methods:
        st.info("Choose one method or more.")
        return
    table = pd.DataFrame(
        {label: {m: found.get(m) for m in methods} for label, found in overview.values.items()},
        index=methods,
        dtype=float,
    )
    st.subheader("Every value", anchor=False)
    shown = (100 * table).rename(
        columns={
            label: f"{label}: {overview.measure[label]} [%] {'↑' if up else '↓'}"
            for label, up in overview.better.items()
        }
    )
    shown.insert(0, "method", [titles[method] for method in methods])
    number = st.column_config.NumberColumn
    st.dataframe(
        shown,
        hide_index=True,
        column_config={name: number(format="%.1f", width="medium") for name in shown.columns[1:]}
        | {"method": st.column_config.TextColumn(pinned=True)},
        placeholder="missing",
        alt="Values of every method on every data set",
    )
    st.caption("Mean over seeds, by the number that ranks each data set. Missing: no complete run there.")
    exceptions = _exceptions(overview, methods)
    if overview.parts:
        said = "; ".join(f"{label}: {part}" for label, part in overview.parts.items())
        exceptions.append(f"Only a part of a data set was here: {said}")
    for exception in exceptions:
        st.caption(state.safe(exception))
    bibtex = picking.cited([run_id for method in methods for run_id in overview.runs[method]])
    picking.export(
        "values", "values", lambda: simple(list(shown.columns), shown.values.tolist(), notes=exceptions), bibtex=bibtex
    )
    if len(methods) == 1:
        st.info("A ranking needs two methods or more.")
        return
    found = overview.across(methods)
    lacking = "; ".join(f"{name} lacks {_written(lack, titles)}" for name, lack in found.left_out.items())
    if not found.datasets:
        st.info(f"These methods have no data set in common, so they are not ranked: {state.safe(lacking)}.")
        return
    if len(found.datasets) == 1:
        _one_in_common(overview, found.datasets[0], schedule, lacking)
        return
    st.subheader(f"Mean rank over {len(found.datasets)} data sets in common", anchor=False)
    means = [s.mean_rank for s in found.standings]
    rows = [
        (1 + means.index(s.mean_rank), titles[s.method], s.mean_rank, s.borda, *s.ranks.values())
        for s in found.standings
    ]
    heads = ["place", "method", "mean rank", "Borda", *found.datasets]
    st.dataframe(
        pd.DataFrame(rows, columns=heads),
        hide_index=True,
        column_config={name: number(format="%.2f") for name in ("mean rank",)}
        | {name: number(format="%.1f") for name in ("Borda", *found.datasets)},
        alt="Mean ranks",
    )
    place = st.container()
    title = f"Mean rank over {', '.join(found.datasets)}"
    if lacking:
        st.caption(f"Left out: {state.safe(lacking)}.")
    chart = charts.critical_difference(found, titles)
    pictures = [picking.Picture.chart("Critical difference", "critical-difference", chart)]
    with place:
        picking.export("across", "across", lambda: simple(heads, rows, title=title), pictures=pictures, bibtex=bibtex)
    st.subheader("Critical difference", anchor=False)
    st.altair_chart(chart, alt="Mean ranks on a line; methods that cannot be told apart are joined by a bar")
    st.caption(
        f"Mean ranks that differ by less than {found.critical_difference:.2f} cannot be told apart at 95 % (Nemenyi); "
        f"such methods are joined by a bar. Friedman's test of all being equal: p = {found.friedman_p:.3g}. After "
        "Demšar, JMLR 7 (2006); with few data sets the test is weak."
    )


def _one_in_common(overview: data.Overview, label: str, schedule: str, lacking: str) -> None:
    """A mean over a single data set would be a rank that passes over every interval; its board does not."""
    version, split = overview.boards[label]
    st.info(
        f"A mean rank needs two data sets in common, or more; these methods share {state.safe(label)} alone. "
        "Its board has them with their intervals." + (f" Elsewhere, {state.safe(lacking)}." if lacking else "")
    )
    shown = None if schedule == "paper" else schedule
    picking.board_link(f"Board of {state.safe(label)}", version.name, version.content_hash, split, shown)


def _written(methods: Sequence[str], titles: Mapping[str, str]) -> str:
    return ", ".join(titles[method] for method in methods)


def _exceptions(overview: data.Overview, methods: list[str]) -> list[str]:
    """Which values are not of a method's default settings, and which are left out; a line each."""
    found = []
    other = [
        f"{overview.titles[name]} on {label}: {', '.join(f'{setting}={value}' for setting, value in changed.items())}"
        for label, by_method in overview.changed.items()
        for name, changed in by_method.items()
        if name in methods
    ]
    if other:
        found.append("Not with the default settings, of which there is no run: " + "; ".join(other))
    known = [f"{_written(names, overview.titles)} on {label}" for label, names in overview.left_out.items() if names]
    if known:
        found.append("Left out, said to be trained on the data set beyond its training split: " + "; ".join(known))
    return found


def _widest(overview: data.Overview) -> list[str]:
    """The methods that are on as many data sets as any; all, where that would leave one alone."""
    counts = {m: sum(m in found for found in overview.values.values()) for m in overview.methods}
    most = max(counts.values(), default=0)
    widest = [m for m in overview.methods if counts[m] == most]
    return (widest if len(widest) > 1 else overview.methods)[:MOST]
