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
    for exception in exceptions:
        st.caption(state.safe(exception))
    bibtex = picking.cited([run_id for method in methods for run_id in overview.runs[method]])
    picking.export(
        "values", "values", lambda: simple(list(shown.columns), shown.values.tolist(), notes=exceptions), bibtex=bibtex
    )
    found = overview.across(methods)
    if not found.datasets:
        st.info(
            "These methods have no data set in common, so they are not ranked. Missing: "
            + "; ".join(
                f"{state.safe(name)} lacks {state.safe(_written(lack, titles))}"
                for name, lack in found.left_out.items()
            )
        )
        return
    st.subheader(
        f"Mean rank over {len(found.datasets)} data set{'s' * (len(found.datasets) > 1)} in common", anchor=False
    )
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
    if found.left_out:
        st.caption(
            "Left out, because a method has no value there: "
            + "; ".join(
                f"{state.safe(name)} (lacks {state.safe(_written(lack, titles))})"
                for name, lack in found.left_out.items()
            )
        )
    chart = None if found.critical_difference is None else charts.critical_difference(found, titles)
    pictures = [] if chart is None else [picking.Picture.chart("Critical difference", "critical-difference", chart)]
    with place:
        picking.export("across", "across", lambda: simple(heads, rows, title=title), pictures=pictures, bibtex=bibtex)
    if chart is None:
        st.info("A critical difference needs two methods and two data sets in common, or more.")
        return
    st.subheader("Critical difference", anchor=False)
    st.altair_chart(chart)
    st.caption(
        f"Mean ranks that differ by less than {found.critical_difference:.2f} cannot be told apart at 95 % (Nemenyi); "
        f"such methods are joined by a bar. Friedman's test of all being equal: p = {found.friedman_p:.3g}. After "
        "Demšar, JMLR 7 (2006); with few data sets the test is weak."
    )


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
