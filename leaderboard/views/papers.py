"""Reported against measured: do the published tables hold?"""

from __future__ import annotations

import pandas as pd
import streamlit as st

from bench.data.reported import papers as printed
from bench.report import charts
from bench.report.bibtex import bibliography
from bench.report.numbers import shown_unit
from bench.report.tables import simple
from leaderboard import data, state
from leaderboard.views import picking


def show() -> None:
    """Draw the page."""
    st.title("Reported against measured", anchor=False)
    found = data.reported(None if state.empty() else state.store())
    if found.empty:
        st.info("No number of a paper is stored in this database yet.")
        return
    columns = st.columns([3, 3, 4], vertical_alignment="bottom")
    paper = state.choose("paper", ["all", *data.unique(found["paper"])], "paper", where=columns[0])
    dataset = state.choose("data set", ["all", *data.unique(found["dataset"])], "data", where=columns[1])
    only = state.switch("only what was measured here too", "measured", where=columns[2])
    for column, chosen in (("paper", paper), ("dataset", dataset)):
        if chosen != "all":
            found = found[found[column] == chosen]
    if only:
        found = found[found["measured"].notna()]
    if found.empty:
        st.info("No number fits.")
        return
    factor = found["unit"].map(lambda unit: shown_unit(unit)[0])
    shown = found.assign(
        unit=found["unit"].map(lambda unit: shown_unit(unit)[1]),
        **{name: found[name] * factor for name in ("reported", "measured", "difference")},
    )
    both = shown[shown["measured"].notna() & (shown["unit"] == "%")]
    measured = int(found["measured"].notna().sum())
    st.caption(
        f"{len(found)} printed numbers, {measured} with a complete run here, of the paper's schedule, by the method's "
        "default settings and on real images. A difference stands only where images, split and rule are the same, as "
        "far as the paper says, and where the whole data set was here."
    )
    pictures = []
    if len(both):
        drawn = pd.DataFrame(
            {
                "method": both["method"],
                "number": both["dataset"] + ", " + both["protocol"] + " " + both["metric"],
                "reported": both["reported"],
                "measured": both["measured"],
                "comparable": ["comparable" if c else "not comparable" for c in both["comparable"]],
            }
        )
        chart = charts.reported(drawn, "%")
        st.altair_chart(chart, alt="Points: what was measured against what was reported; the table below lists them")
        pictures.append(picking.Picture.chart("Measured beside reported", "reported", chart))
    columns_shown = [
        *("paper", "table", "method", "dataset", "split", "protocol", "metric", "reported", "measured", "difference"),
        *("unit", "comparable", "runs", "part", "note", "wording", "hardware"),
    ]
    number = st.column_config.NumberColumn
    table = shown[columns_shown]
    event = st.dataframe(
        table,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-cell",
        key="papers",
        column_config={name: number(format="%.1f") for name in ("reported", "measured")}
        | {
            "difference": number(format="%+.1f"),
            "dataset": "data set",
            "method": st.column_config.TextColumn(width=190),
            "runs": number(help="behind the measured mean"),
            "part": st.column_config.TextColumn("part of the data set", help="that was here; empty: the whole"),
        },
        height=min(38 + 35 * len(table), 720),
        placeholder="–",
        alt="Printed numbers beside measured ones",
    )
    st.caption("Click a row that was measured for a link to the last of its runs.")
    for row, _ in event.selection.cells:
        if row < len(found) and not pd.isna(found["run_id"].iloc[row]):
            run_id = int(found["run_id"].iloc[row])
            state.link("run", f"Run {run_id}", ":material/receipt_long:", run=run_id)
    rows = table.astype(object).where(table.notna(), None).values.tolist()
    names = data.unique(found["paper"])
    picking.export(
        "reported",
        "papers",
        lambda: simple(columns_shown, rows, title="Reported against measured"),
        pictures=pictures,
        bibtex=lambda: bibliography([], [], [p.bibtex for p in printed() if p.paper in names]),
    )
