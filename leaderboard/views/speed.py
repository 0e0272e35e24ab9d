"""Speed against accuracy: which run is worth its time, on one machine."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from bench.report.numbers import shown_unit
from leaderboard import data, plots, state
from leaderboard.views import picking

MOST = 400
"""Runs that are drawn; of more, the best."""


def show() -> None:
    """Draw the page."""
    st.title("Speed against accuracy", anchor=False)
    picked = picking.board_picker()
    if picked is None:
        return
    _, _, frame = picked
    about = frame.attrs
    column = f"{about['protocol']}/{about['metric']}"
    timed = frame[frame["latency_median_ms"].notna() & frame[column].notna() & (frame["latency_median_ms"] > 0)]
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
    definition = about["columns"][column]
    drawn = _points(chosen.head(MOST), column, definition)
    arrow = "↑" if definition["higher_is_better"] else "↓"
    unit = shown_unit(definition["unit"])[1]
    title = f"{about['protocol']} {about['metric']} [{unit}] {arrow}"
    event = st.altair_chart(
        plots.speed(drawn, title, logarithmic), on_select="rerun", key="speed", selection_mode="run"
    )
    st.caption(
        "The dashed line is the Pareto front: no other run is both faster and better. Bars are 95 % intervals: over "
        "images upwards, of the median time sideways. Wheel to zoom, drag to move, double click to go back; click a "
        "point to open its run."
    )
    if len(chosen) > MOST:
        st.caption(f"The best {MOST} of {len(chosen)} runs are drawn.")
    for point in event.selection.get("run", []):
        state.go("run", run=int(point["run_id"]))
    with st.expander("As a table"):
        st.dataframe(drawn.drop(columns="badge"), hide_index=True)
    picking.board_export(chosen.pipe(_with_attrs, about), "speed")


def _with_attrs(frame: pd.DataFrame, about: dict[str, object]) -> pd.DataFrame:
    frame.attrs = about
    return frame


def _points(frame: pd.DataFrame, column: str, definition: dict[str, object]) -> pd.DataFrame:
    """One row a run, in the units that are shown."""
    factor, _ = shown_unit(str(definition["unit"]))
    x = frame["latency_median_ms"].to_numpy(dtype=float)
    time = "timing/latency_median"
    lows, highs = (
        frame[f"{time}:{end}"].fillna(frame["latency_median_ms"])
        if f"{time}:{end}" in frame
        else frame["latency_median_ms"]
        for end in ("low", "high")
    )
    value = frame[column].to_numpy(dtype=float) * factor
    points = pd.DataFrame(
        {
            "run_id": frame["run_id"].to_numpy(),
            "method": frame["title"].to_numpy(),
            "badge": frame["badges"].map(", ".join).to_numpy(),
            "x": x,
            "x_low": lows.to_numpy(dtype=float),
            "x_high": highs.to_numpy(dtype=float),
            "y": value,
            "y_low": (frame[f"{column}:low"].astype(float) * factor).fillna(pd.Series(value, frame.index)).to_numpy(),
            "y_high": (frame[f"{column}:high"].astype(float) * factor).fillna(pd.Series(value, frame.index)).to_numpy(),
        }
    )
    front = set(data.pareto(x.tolist(), value.tolist(), bool(definition["higher_is_better"])))
    points["front"] = [i in front for i in range(len(points))]
    return points
