"""Speed against accuracy: which run is worth its time, on one machine."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from bench.report import charts, speed
from bench.report.palette import SERIES
from leaderboard import data, state
from leaderboard.views import picking

MOST = 400
"""Runs that are drawn; of more, the best."""

LEGEND_ROW = 32
"""Pixels of two names beside a chart: they must not take the room of its points."""


def show() -> None:
    """Draw the page."""
    st.title("Speed against accuracy", anchor=False)
    picked = picking.board_picker()
    if picked is None:
        return
    version, _, frame = picked
    picking.partial(version, frame)
    about = frame.attrs
    timed = frame[speed.timed(frame)]
    if timed.empty:
        st.info(
            "No run here has both a time and this number. Controls are not timed, nor is what was submitted as files."
        )
        return
    store = state.store()
    machines = store.machines()
    counts = timed["machine"].value_counts()
    row = st.container(horizontal=True, vertical_alignment="bottom")
    machine = state.choose(
        "machine",
        counts.index.tolist(),
        "machine",
        shown=lambda m: f"{data.machine_name(machines.get(m), m)}: {counts[m]} runs",
        written=lambda m: m[:12],
        where=row,
        width=420,
        help="times are compared within one machine only",
    )
    logarithmic = state.switch("logarithmic time", "log", default=True, where=row, width="content")
    partial = state.switch("smoke and partial runs", "partial", default=True, where=row, width="content")
    chosen = timed[timed["machine"] == machine]
    if not partial:
        chosen = chosen[chosen["rank"].notna()]
    if chosen.empty:
        st.info("No complete run of the paper's schedule was timed on this machine.")
        return
    best = _with_attrs(chosen.head(MOST), about)
    drawn = speed.points(best)
    chart = charts.speed(drawn, speed.axis_title(best), logarithmic)
    event = st.altair_chart(
        chart,
        on_select="rerun",
        key="speed",
        selection_mode="run",
        height=charts.HEIGHT + LEGEND_ROW * _rows_of_names(drawn),
        alt="Points with intervals: time an image against the ranking number, a run each; the table below lists them",
    )
    front = drawn[drawn["front"]]
    if len(front) == 1:
        best_of_both = f"No run is faster or better than run {front['run_id'].iloc[0]}: it alone is the Pareto front. "
    else:
        best_of_both = "The dashed line is the Pareto front: no other run is both faster and better. "
    shapes = "The shape of a point says its badges. " if drawn["badge"].nunique() > 1 else ""
    if len(drawn) <= charts.NUMBERED:
        shapes += "Beside each point stands the number of its run. "
    st.caption(
        f"{best_of_both}{shapes}Bars are 95 % intervals: over "
        "images upwards, of the median time sideways. Wheel to zoom, drag to move, double click to go back; click a "
        "point to open its run."
    )
    if len(chosen) > MOST:
        st.caption(f"The best {MOST} of {len(chosen)} runs are drawn.")
    for point in event.selection.get("run", []):
        state.go("run", run=int(point["run_id"]))
    with st.expander("As a table"):
        st.dataframe(drawn.drop(columns="badge"), hide_index=True, alt="The points of the chart")
    picture = picking.Picture.chart("Speed against accuracy", f"{picking.board_stem(about)}-speed", chart)
    picking.board_export(chosen.pipe(_with_attrs, about), "speed", pictures=[picture])


def _rows_of_names(drawn: pd.DataFrame) -> int:
    """Below the chart, and above it where its points have several shapes."""
    methods, badges = min(drawn["method"].nunique(), len(SERIES)), drawn["badge"].nunique()
    return -(-methods // 2) + (-(-badges // 2) if badges > 1 else 0)


def _with_attrs(frame: pd.DataFrame, about: dict[str, object]) -> pd.DataFrame:
    frame.attrs = about
    return frame
