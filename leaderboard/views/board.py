"""The board: every run on one data set version and split, ranked, with what a reader must know of it."""

from __future__ import annotations

import zlib
from typing import Any
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from bench.report.numbers import number, shown_unit
from bench.store import Store, StoredDataset
from leaderboard import data, state
from leaderboard.theme import BADGES
from leaderboard.views import compare, picking

ABOUT = {
    "latency_median_ms": ("time an image [ms] ↓", "median, end to end, batch 1; compare within one machine only"),
    "latency_p95_ms": ("time, 95th percentile [ms] ↓", "of single images"),
    "machine": ("machine", "GPU, else CPU, that it was timed on"),
    "n_parameters": ("parameters [million]", "of the network as built for this data set"),
    "settings": ("settings", "in which it differs from other runs of its method"),
    "init": ("initialisation", "what the weights started from"),
    "seed": ("seed", "of the run"),
    "schedule": ("schedule", "how long was trained"),
    "train_seconds": ("training [s]", "wall time"),
    "peak_memory_bytes": ("peak memory [MiB]", "while predicting"),
    "n_images": ("images", "that were evaluated"),
    "started": ("started (UTC)", ""),
    "submitted_by": ("submitted by", ""),
    "note": ("note", ""),
    "run_id": ("run", "its number"),
}
"""Columns that are no numbers of a protocol: title and meaning."""

NAMED = {"rank": "rank", "title": "method"}
"""Columns that are always shown."""

BETTER = {"started": True}
"""Columns of which the largest stands first, though it is no better."""

DEFAULT = ("settings", "latency_median_ms", "n_parameters", "init", "seed", "run_id", "machine")
CONTROLS = 172
"""Pixels that the controls above the table are high, in a wide window."""

FIRST_METRICS = 4
"""Numbers of the ranking protocol that are shown unless others are chosen."""


def show() -> None:
    """Draw the page."""
    st.title("Board", anchor=False)
    room = state.hold_controls(CONTROLS)
    above = st.container()
    row = st.container(horizontal=True, vertical_alignment="bottom")
    beside = row.container(width=300)
    text = state.write_text("filter", "filter", placeholder="words: method, badge, note, run 12", where=beside)
    options = row.popover("Columns and order", icon=":material/view_column:")
    sorting = options.container(horizontal=True, vertical_alignment="bottom")
    superseded = state.switch("superseded runs", "superseded", where=options)
    each = state.switch("a rank for every number", "ranks", where=options)
    with above:
        picked = picking.board_picker(superseded=superseded)
    if picked is None:
        state.draw_controls(room)
        return
    version, _, frame = picked
    columns = _columns(frame, options)
    shown = data.matching(_sorted(frame, columns, sorting), text)
    _title(version, frame, len(shown))
    known = set(frame["run_id"])
    ticked = [i for i in state.numbers_in_address("tick") if i in known]
    clicked = _table(shown, columns, each, ticked)
    state.draw_controls(room)
    if clicked is not None:
        _actions(shown, columns, ticked, *clicked)
    _reported(state.store(), frame)


def _name(column: str) -> str:
    """Of a column, where columns are chosen."""
    return ABOUT[column][0] if column in ABOUT else NAMED.get(column) or column.replace("/", " ", 1)


def _sorted(frame: pd.DataFrame, columns: list[str], where: Any) -> pd.DataFrame:
    """The rows in the order that is chosen; that of the ranks is how they come."""
    column = state.choose("sort by", ["rank", "title", *columns], "sort", shown=_name, where=where, width=260)
    reverse = state.switch("reversed", "reversed", where=where, width="content")
    if column == "rank":
        shown = frame.iloc[::-1] if reverse else frame
        shown.attrs = frame.attrs
        return shown
    better = frame.attrs["columns"].get(column, {}).get("higher_is_better", BETTER.get(column))
    return data.in_order(frame, column, better, reverse)


def _columns(frame: pd.DataFrame, where: Any) -> list[str]:
    """The columns that are chosen."""
    about = frame.attrs
    definitions = about["columns"]
    first = f"{about['protocol']}/{about['metric']}"
    own = [c for c, d in definitions.items() if d["protocol"] == about["protocol"] and c != first]
    default = [first, *own[: FIRST_METRICS - 1], *DEFAULT]
    if frame["schedule"].nunique() > 1:
        default.insert(-3, "schedule")
    options = data.unique([first, *own, *definitions, *ABOUT])
    return state.choose_some(
        "columns",
        options,
        "column",
        default=default,
        shown=_name,
        where=where,
    )


def _title(version: StoredDataset, frame: pd.DataFrame, rows: int) -> None:
    about = frame.attrs
    direction = about["columns"][f"{about['protocol']}/{about['metric']}"]["higher_is_better"]
    facts = [
        f"{rows} of {len(frame)} runs" if rows < len(frame) else f"{rows} runs",
        f"ranked by **{state.safe(about['protocol'])} {state.safe(about['metric'])}** "
        f"({'higher' if direction else 'lower'} is better)",
        "runs share a rank where their 95 % intervals overlap that of its best",
    ]
    picking.partial(version, frame)
    if version.source == "synthetic":
        st.warning("Generated images: these numbers say nothing about real cells.", icon=":material/science:")
    if about["schedule"] == "smoke":
        st.warning("Smoke runs only show that everything runs. Nothing ranks here.", icon=":material/warning:")
    elif frame["rank"].isna().all():
        st.info("Nothing ranks here yet: only complete runs of the paper's schedule do, and controls never do.")
    st.caption(
        " · ".join(facts)
        + ".  \nClick the picture icon or a number, then the link that appears under the table. Tick runs to compare "
        "them; by keyboard, choose them on the page Compare. A click on a head sorts for this visit only; what is set "
        "under Columns and order is in the link."
    )


Cells = list[tuple[int, tuple[str, str] | None]]
"""Runs whose cells were clicked, each with the number of the cell, if it is one."""


def _table(frame: pd.DataFrame, columns: list[str], each: bool, ticked: list[int]) -> tuple[list[int], Cells] | None:
    """Draw the rows; which runs are ticked and clicked, or None where there is no row."""
    if frame.empty:
        st.info("No run fits the filter.")
        return None
    table, config, metric_of = _as_shown(frame, columns, each)
    run_ids = frame["run_id"].tolist()
    about = frame.attrs
    event = st.dataframe(
        table,
        hide_index=True,
        column_config=config,
        on_select="rerun",
        selection_mode=["multi-row", "single-cell"],
        selection_default={"selection": {"rows": [row for row, run_id in enumerate(run_ids) if run_id in ticked]}},
        key=f"board-{about['content_hash'][:8]}-{zlib.crc32(repr(run_ids).encode()):08x}",
        height=min(38 + 35 * len(table), 720),
        placeholder="–",
        alt="Runs with their ranks and numbers",
    )
    cells = [(run_ids[row], metric_of.get(column)) for row, column in event.selection.cells if row < len(run_ids)]
    return [run_ids[row] for row in event.selection.rows if row < len(run_ids)], cells


def _actions(frame: pd.DataFrame, columns: list[str], ticked: list[int], here: list[int], cells: Cells) -> None:
    """What can be done with the rows."""
    about, shown = frame.attrs, set(frame["run_id"])
    hidden = [run_id for run_id in ticked if run_id not in shown]
    chosen = [*hidden, *here]
    state.write_numbers("tick", sorted(chosen))
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.popover("Badges", icon=":material/label:"):
            for name, (colour, meaning) in BADGES.items():
                st.markdown(f":{colour}-badge[{name}] {meaning}")
        picking.board_export(frame, "board", columns=columns, site=True)
        go = st.button(
            f"Compare {len(chosen)} runs" if len(chosen) > 1 else "Compare",
            type="primary",
            icon=":material/compare_arrows:",
            disabled=not 2 <= len(chosen) <= compare.MOST_RUNS,
            help=f"tick two to {compare.MOST_RUNS} runs" + f"; {len(hidden)} are hidden by the filter" * bool(hidden),
        )
        for run_id, metric in cells or [(run_id, None) for run_id in here[:1]]:
            _behind(run_id, metric)
    if go:
        state.go("compare", run=chosen, protocol=about["protocol"], metric=about["metric"])


def _behind(run_id: int, metric: tuple[str, str] | None) -> None:
    """Links to what is behind a cell. Nothing is opened by itself: sorting by a head selects a cell, too."""
    state.link("run", f"Run {run_id}", ":material/receipt_long:", run=run_id)
    if metric is not None and metric[0] != "timing":
        label = f"Images behind {state.safe(' '.join(metric))} of run {run_id}"
        state.link("images", label, ":material/image_search:", run=run_id, protocol=metric[0], metric=metric[1])
    else:
        state.link("images", f"Images of run {run_id}", ":material/image_search:", run=run_id)


def _as_shown(
    frame: pd.DataFrame, columns: list[str], each: bool
) -> tuple[pd.DataFrame, dict[str, Any], dict[str, tuple[str, str]]]:
    """The table as people see it, how its columns look, and which number each column is of."""
    config = st.column_config
    machines = state.store().machines()
    about, frame = frame.attrs, frame.copy(deep=False)
    frame.attrs = {}  # else pandas copies them with every column that is taken
    table: dict[str, Any] = {"rank": frame["rank"], "title": frame["title"]}
    looks: dict[str, Any] = {
        "rank": config.NumberColumn("rank", width=50, pinned=True, help="shared where 95 % intervals overlap"),
        "title": config.TextColumn("method", width=230, pinned=True),
        "badges": config.MultiselectColumn(
            "badges", options=list(BADGES), color=[colour for colour, _ in BADGES.values()], width=230
        ),
    }
    if "settings" in columns and (frame["settings"].fillna("") != "").any():  # beside the name that they tell apart
        table["settings"], looks["settings"] = _about(frame, "settings", machines)
    table["badges"] = frame["badges"]
    named = urlencode({"protocol": about["protocol"], "metric": about["metric"]})
    table["images"] = [f"/images?run={run_id}&{named}" for run_id in frame["run_id"]]
    looks["images"] = config.LinkColumn(
        "images", display_text=":material/image_search:", width=60, help="what was found, image by image (a new tab)"
    )
    metric_of: dict[str, tuple[str, str]] = {}
    definitions = about["columns"]
    for column in columns:
        if column in definitions:
            d = definitions[column]
            name = d["metric"] if d["protocol"] == about["protocol"] else column.replace("/", " ", 1)
            _add_metric(frame, column, name, d, each, table, looks)
            metric_of |= dict.fromkeys((column, f"{column}:interval", f"{column}:rank"), (d["protocol"], d["metric"]))
        elif column in ABOUT and column != "settings":
            table[column], looks[column] = _about(frame, column, machines)
    return pd.DataFrame(table), looks, metric_of


def _add_metric(
    frame: pd.DataFrame,
    column: str,
    name: str,
    definition: dict[str, Any],
    each: bool,
    table: dict[str, Any],
    looks: dict[str, Any],
) -> None:
    config = st.column_config
    factor, unit = shown_unit(definition["unit"])
    arrow = {True: " ↑", False: " ↓", None: ""}[definition["higher_is_better"]]
    places = 1 if unit in ("%", "ms") else 3
    if each:
        table[f"{column}:rank"] = frame[f"{column}:rank"]
        looks[f"{column}:rank"] = config.NumberColumn("#", width=40, help=f"rank by {name}")
    table[column] = frame[column] * factor
    looks[column] = config.NumberColumn(
        f"{name} [{unit}]{arrow}",
        format=f"%.{places}f",
        help="Click a number for a link to its images. Empty: undefined.",
    )
    lows, highs = frame[f"{column}:low"] * factor, frame[f"{column}:high"] * factor
    reasons = frame[f"{column}:reason"]
    table[f"{column}:interval"] = [
        (reason or "") if pd.isna(low) else f"{number(low, places)} to {number(high, places)}"
        for low, high, reason in zip(lows, highs, reasons, strict=True)
    ]
    looks[f"{column}:interval"] = config.TextColumn(
        "95 % interval", width=110, help=f"of {name}; or why it is undefined"
    )


def _about(frame: pd.DataFrame, column: str, machines: dict[str, Any]) -> tuple[Any, Any]:
    title, meaning = ABOUT[column]
    config = st.column_config
    more: dict[str, Any] = {"help": meaning or None}
    values = frame[column]
    if column == "settings":
        return values, config.TextColumn(title, width=140, **more)
    if column == "machine":
        names = {hash_: data.machine_name(machines.get(hash_), hash_) for hash_ in values.unique()}
        return values.map(names), config.TextColumn(title, width="medium", **more)
    if column.startswith("latency"):
        return values, config.NumberColumn(title, format="%.3g", **more)
    if column == "n_parameters":
        return values.astype("Float64") / 1e6, config.NumberColumn(title, format="%.1f", **more)
    if column == "peak_memory_bytes":
        return values.astype("Float64") / 2**20, config.NumberColumn(title, format="%.0f", **more)
    if column == "train_seconds":
        return values, config.NumberColumn(title, format="%.0f", **more)
    if column == "started":
        return values, config.DatetimeColumn(title, format="YYYY-MM-DD HH:mm", **more)
    if column in ("seed", "n_images", "run_id"):
        return values, config.NumberColumn(title, format="%d", width="small", **more)
    return values.fillna(""), config.TextColumn(title, **more)


def _reported(store: Store, frame: pd.DataFrame) -> None:
    """What papers report on the same data set, apart from what was measured."""
    about = frame.attrs
    found = data.reported(store, about["dataset"])
    found = found[found["protocol"] == about["protocol"]]
    if found.empty:
        return
    st.subheader("Printed in papers", anchor=False)
    st.caption("Not measured here, and never ranked with what is. Other images, splits or rules where it says so.")
    factor = [shown_unit(unit) for unit in found["unit"]]
    table = pd.DataFrame(
        {
            "method": found["method"],
            "badges": [["paper-reported"]] * len(found),
            "number": found["metric"],
            "value": [v * f for v, (f, _) in zip(found["reported"], factor, strict=True)],
            "unit": [u for _, u in factor],
            "comparable": found["comparable"],
            "paper": found["paper"] + ", " + found["table"],
            "note": found["note"],
        }
    )
    config = st.column_config
    st.dataframe(
        table,
        hide_index=True,
        column_config={
            "badges": config.MultiselectColumn("badges", options=list(BADGES), color=[c for c, _ in BADGES.values()]),
            "value": config.NumberColumn("value", format="%.1f"),
        },
        alt="Numbers that papers report",
    )
    state.link("papers", "Reported against measured", ":material/menu_book:", data=about["dataset"])
