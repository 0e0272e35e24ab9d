"""The pixels behind a number: image by image, what was found, what was not, and where two runs differ."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from bench.errors import BenchError
from bench.imaging import HIGH_PERCENTILE, LOW_PERCENTILE
from bench.metrics.verdicts import LOWEST
from bench.report.escape import visible
from bench.report.numbers import shown_unit
from bench.report.tables import Table, simple
from bench.store import StoredRun
from leaderboard import data, state, viewer
from leaderboard.theme import VERDICTS
from leaderboard.views import picking

OFFERED = 300
"""Runs that a picker offers; the newest on the same images."""

LEAST_CONTRAST = 1.0
"""Percentiles between black and white, at least."""

ORDERS = {
    "worst": "worst first",
    "best": "best first",
    "difference": "largest difference first",
    "name": "by name",
}


def show() -> None:
    """Draw the page."""
    st.title("Images", anchor=False)
    first, others = _runs()
    if first is None:
        st.info("No run has finished yet, so there is nothing to look at.")
        return
    row = st.container(horizontal=True, vertical_alignment="bottom")
    runs = data.unique([first, *others])
    labels = data.run_labels(state.store(), runs)
    run = picking.run_picker("run A", "run", runs, labels, where=row) or first
    rest = [other for other in runs if other.id != run.id and (other.content_hash, other.split) == _images_of(run)]
    other = picking.run_picker("run B", "other", rest, labels, where=row, none=True)
    metrics = state.store().image_metrics(run.id)
    if not metrics:
        st.info("This run has no numbers of single images.")
        return
    protocol, metric, higher = _metric(metrics, run, row)
    orders = [order for order in data.ORDERS if other is not None or order != "difference"]
    order = state.choose("order", orders, "order", shown=ORDERS.__getitem__, where=row, width=150)
    table = state.image_table(run.id, None if other is None else other.id, protocol, metric)
    if table.empty:
        st.info("This run has no numbers of single images under this metric.")
        return
    table = data.ordered(table, order, higher)
    image = _image(table, run, other, metric)
    _pictures(run, other, image, labels)


def _images_of(run: StoredRun) -> tuple[str, str]:
    return run.content_hash, run.split


def _runs() -> tuple[StoredRun | None, list[StoredRun]]:
    """The run that the address names, else the newest that ranks; and the others on the same images."""
    store = state.store()
    key = "images/run"
    named = state.number_in_address("run")
    wanted = named if named is not None else getattr(st.session_state.get(key), "id", st.session_state.get(key))
    chosen = [] if not isinstance(wanted, int) else store.runs_by_id([wanted])
    first = chosen[0] if chosen and chosen[0].status == "ok" else None
    if first is None:
        if named is not None:
            st.warning(f"There is no finished run {named} in this database.", icon=":material/warning:")
        newest = store.runs(status="ok", limit=OFFERED)
        first = next((run for run in newest if run.badge != "control"), newest[0] if newest else None)
    if first is None:
        return None, []
    others = store.runs(
        dataset=first.dataset, content_hash=first.content_hash, split=first.split, status="ok", limit=OFFERED
    )
    second = state.number_in_address("other")
    further = store.runs_by_id([second]) if second is not None else []
    return first, [*others, *(run for run in further if run.status == "ok")]


def _metric(metrics: list[tuple[str, str, bool | None]], run: StoredRun, where: Any) -> tuple[str, str, bool | None]:
    """Protocol and number; the address may name either."""
    wanted = (st.query_params.get("protocol"), st.query_params.get("metric"))
    default = next((m for m in metrics if (m[0], m[1]) == wanted), None)
    default = default or next((m for m in metrics if m[0] == wanted[0]), metrics[0])
    names = {f"{protocol} {name}": (protocol, name, higher) for protocol, name, higher in metrics}
    chosen = state.choose(
        "number",
        list(names),
        "number",
        default=f"{default[0]} {default[1]}",
        where=where,
        width=172,
        help="of a single image",
    )
    if wanted[1] and wanted != names[chosen][:2] and "number" not in st.query_params:
        st.caption(f"{state.safe(wanted[0] or '')} {state.safe(wanted[1])} is not defined for single images.")
    return names[chosen]


def _image(table: pd.DataFrame, run: StoredRun, other: StoredRun | None, metric: str) -> str:
    """The image that is chosen: by the list, by the buttons, or by the address."""
    definition = next((r for r in state.store().provenance(run.id).results if r.metric == metric), None)
    factor, unit = shown_unit(definition.unit if definition else "")
    names = table["image"].tolist()
    step = st.session_state.pop("images/step", 0)
    key = "images/image"
    given = st.query_params.get("image")
    if given in names:
        st.session_state[key] = given
    if st.session_state.get(key) not in names:
        st.session_state[key] = names[0]
    at = (names.index(st.session_state[key]) + step) % len(names)
    shown = table.assign(**{name: table[name] * factor for name in ("a", "b", "difference")})
    columns = ["image", "a", *(["b", "difference"] if other is not None else []), "truths", "tp", "fp", "fn"]
    config = st.column_config
    value = {"format": "%.1f", "width": "small"}
    counts = [c for c in ("tp", "fp", "fn") if shown[c].notna().any()]
    with st.expander(f"All {len(names)} images, with their numbers", expanded=False):
        event = st.dataframe(
            shown[[c for c in columns if c not in ("tp", "fp", "fn") or c in counts]],
            hide_index=True,
            on_select="rerun",
            selection_mode="single-row",
            key=f"images-{run.id}-{getattr(other, 'id', '')}-{metric}-{names[0]}",
            column_config={
                "a": config.NumberColumn(f"run {run.id} [{unit}]", **value),
                "b": config.NumberColumn(f"run {getattr(other, 'id', '')} [{unit}]", **value),
                "difference": config.NumberColumn(f"difference [{unit}]", format="%+.1f"),
                "truths": config.NumberColumn("cells"),
                "tp": config.NumberColumn("right"),
                "fp": config.NumberColumn("false"),
                "fn": config.NumberColumn("not found"),
            },
            height=min(38 + 35 * len(names), 300),
            placeholder="–",
            alt="Images with their numbers",
        )
        picked = list(event.selection.rows)
        if picked != st.session_state.get("images/picked", []):
            st.session_state["images/picked"] = picked
            if picked and picked[0] < len(names):
                at = picked[0]
        _list_export(shown, run, other, metric, unit)
    line = st.container(horizontal=True, vertical_alignment="center")
    back = line.button("Previous", icon=":material/arrow_back:", help="the next worse, or whatever comes before")
    forth = line.button("Next", icon=":material/arrow_forward:")
    if back or forth:
        st.session_state["images/step"] = -1 if back else 1
        st.query_params.pop(viewer.ZOOM, None)
        st.session_state[key] = names[at]
        st.query_params["image"] = names[at]
        st.rerun()
    row = shown.iloc[at]
    st.session_state[key] = names[at]
    st.query_params["image"] = names[at]
    words = [f"**{state.safe(names[at])}**", f"{at + 1} of {len(names)}", f"{row['truths']} cells"]
    for name, of in (("a", run), ("b", other)):
        if of is not None:
            number = "undefined" if pd.isna(row[name]) else f"{row[name]:.1f} {unit}"
            words.append(f"run {of.id}: {state.safe(metric)} {number}")
    line.markdown(" · ".join(words))
    return names[at]


def _list_export(shown: pd.DataFrame, run: StoredRun, other: StoredRun | None, metric: str, unit: str) -> None:
    heads = ["image", "cells", f"run {run.id}", "right", "false", "not found"]
    columns = ["image", "truths", "a", "tp", "fp", "fn"]
    if other is not None:
        heads, columns = [*heads, f"run {other.id}", "difference"], [*columns, "b", "difference"]
    runs = [run.id] if other is None else [run.id, other.id]

    def table() -> Table:
        plain = shown[columns].astype(object).where(shown[columns].notna(), None)
        return simple(heads, plain.values.tolist(), title=f"{run.dataset}, {metric} [{unit}], image by image")

    picking.export("-".join([run.dataset, "images", *map(str, runs)]), "images", table, bibtex=picking.cited(runs))


def _pictures(run: StoredRun, other: StoredRun | None, image: str, labels: Mapping[int, str]) -> None:
    line = st.container(horizontal=True, vertical_alignment="bottom")
    threshold = state.slide(
        "right if IoU is above", LOWEST, 0.95, "iou", default=LOWEST, step=0.05, where=line, width=260
    )
    runs = [run] if other is None else [run, other]
    try:
        shown = data.shown_image(state.dataset(run), runs, image)
    except BenchError as error:
        state.problem(error)
        st.info("The numbers above are in the database; the pictures need the files of the data set.")
        return
    default = (0.0, 100.0) if shown.sample.image.dtype == np.uint8 else (LOW_PERCENTILE, HIGH_PERCENTILE)
    low, high = state.slide(
        "grey levels from black to white [percentile]",
        0.0,
        100.0,
        "contrast",
        default=default,
        step=0.1,
        gap=LEAST_CONTRAST,
        where=line,
        width=300,
    )
    alone = state.switch("annotation alone", "truth", default=True, where=line, width="content")
    panels: list[dict[str, Any]] = [viewer.truth_panel(shown.truth)] if alone else []
    for letter, of in zip("AB", runs, strict=False):
        if of.id in shown.found:
            title = visible(f"{letter}: {labels[of.id]}")
            panels.append(viewer.run_panel(title, shown.truth, shown.found[of.id], threshold))
        else:
            st.warning(state.safe(f"{letter}, run {of.id}: {shown.missing[of.id]}"), icon=":material/warning:")
    content = viewer.content(image, viewer.stretched(shown.sample.image, low, high), panels)
    viewer.show(content, key="viewer")
    _legend(panels)
    st.caption(
        "Wheel or + and - to zoom, drag or arrow keys to move, 0 or a double click to see all, o to hide the outlines; "
        "hold the pointer over a cell for its IoU. Overlaps are resolved as the protocols for label images do."
        + "".join(
            f" {letter} is drawn from confidence {shown.counted[of.id]:g} on, from where it counts in them."
            for letter, of in zip("AB", runs, strict=False)
            if of.id in shown.counted
        )
    )
    _export(content, panels, run.dataset, image)


def _export(content: dict[str, Any], panels: list[dict[str, Any]], dataset: str, image: str) -> None:
    """The pictures as files: all side by side as they are shown, and each by itself."""
    stem = f"{dataset}-{re.sub(r'[^A-Za-z0-9_-]+', '-', image).strip('-')[:60] or 'image'}"
    sets = [("As shown, side by side", stem, panels)] if len(panels) > 1 else []
    sets += [(panel["title"], f"{stem}-{number}", [panel]) for number, panel in enumerate(panels, start=1)]
    pictures = [
        picking.Picture(title, name, lambda form, chosen=chosen: viewer.picture(content, chosen, form))
        for title, name, chosen in sets
    ]
    picking.export(stem, "pictures", pictures=pictures)


def _legend(panels: list[dict[str, Any]]) -> None:
    used = data.unique(layer["verdict"] for panel in panels for layer in panel["layers"])
    parts = []
    for name in VERDICTS:
        if name in used:
            parts.append(
                f'<span style="white-space:nowrap;margin-right:1.1em"><img src="{viewer.swatch(name)}" alt="" '
                f'style="margin-right:.35em;vertical-align:-2px">{VERDICTS[name][2]}</span>'
            )
    st.html(f'<div style="font-size:.85rem;line-height:1.8">{"".join(parts)}</div>')
