"""A run: where its numbers come from, how to make them again, and why it failed if it did."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from bench.errors import BenchError
from bench.report import charts
from bench.report.boards import results_table
from bench.report.escape import visible
from bench.report.numbers import quantity, shown_unit
from bench.store import Store, StoredRun
from bench.store.files import RunFiles
from bench.store.leaderboard import badges
from bench.store.views import Provenance
from leaderboard import data, state
from leaderboard.theme import BADGES
from leaderboard.views import picking

LISTED = 500
"""Runs that are listed where none is named; the newest."""


def show() -> None:
    """Draw the page of the run that the address names, or the list of runs."""
    store = state.store()
    wanted = state.number_in_address("run")
    run = next(iter(store.runs_by_id([wanted])), None) if wanted is not None else None
    if run is None:
        _list(store, wanted)
        return
    _head(store, run)
    if run.status == "failed":
        _failure(run)
    details = store.provenance(run.id)
    st.subheader("Run it again", anchor=False)
    st.code(visible(run.command), language="bash", wrap_lines=True)
    if run.dirty:
        st.caption("The checkout had changes that were not committed: this commit alone may not give the same numbers.")
    numbers, training, settings, provenance, log = st.tabs(["Numbers", "Training", "Settings", "Provenance", "Log"])
    with numbers:
        _numbers(store, run, details)
    with training:
        _training(run)
    with settings:
        _settings(details)
    with provenance:
        _provenance(run, details)
    with log:
        _log(run)


def _list(store: Store, wanted: int | None) -> None:
    st.title("Runs", anchor=False)
    if wanted is not None:
        st.warning(f"There is no run {wanted} in this database.", icon=":material/warning:")
    left, middle, right = st.columns([3, 2, 2])
    versions = state.versions()
    names = ["all", *data.unique(v.name for v in versions)]
    name = state.choose("data set", names, "data", where=left)
    status = state.choose("status", ["all", "ok", "failed"], "status", where=middle)
    superseded = state.switch("superseded runs", "superseded", where=right)
    runs = store.runs(
        dataset=None if name == "all" else name,
        status=None if status == "all" else status,
        include_superseded=superseded,
        limit=LISTED,
    )
    table = pd.DataFrame(
        {
            "run": [run.id for run in runs],
            "method": [run.title for run in runs],
            "data set": [run.dataset for run in runs],
            "split": [run.split for run in runs],
            "schedule": [run.schedule for run in runs],
            "seed": [run.seed for run in runs],
            "status": [_status(run) for run in runs],
            "badges": [badges(run, run.source) for run in runs],
            "started": [run.started for run in runs],
            "failure": [(run.failure or "").split("\n")[0] for run in runs],
        }
    )
    config = st.column_config
    event = st.dataframe(
        table,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key="runs",
        column_config={
            "badges": config.MultiselectColumn("badges", options=list(BADGES), color=[c for c, _ in BADGES.values()]),
            "started": config.DatetimeColumn("started (UTC)", format="YYYY-MM-DD HH:mm"),
        },
        alt="Runs, the newest first",
    )
    st.caption("Tick a run to open it." + (f" The newest {LISTED} are listed." if len(runs) == LISTED else ""))
    for row in event.selection.rows:
        if row < len(runs):
            state.go("run", run=runs[row].id)


def _status(run: StoredRun) -> str:
    return "ok" if run.failure_kind is None else run.failure_kind.replace("_", " ")


def _head(store: Store, run: StoredRun) -> None:
    st.title(f"Run {run.id}: {state.safe(run.title)}", anchor=False)
    found = badges(run, run.source)
    marks = store.marks([run.id]).get(run.id, {})
    found += ["demo"] if marks.get("demo") else []
    if run.status == "failed":
        found.insert(0, "failed")
    drawn = " ".join(f":{BADGES.get(name, ('red', ''))[0]}-badge[{name}]" for name in found)
    st.markdown(f"{drawn} on **{state.safe(run.dataset)}**, split {state.safe(run.split)}, seed {run.seed}")
    if run.status == "ok":
        left, right, _ = st.columns([2, 2, 6])
        with left:
            state.link("images", "Images of this run", ":material/image_search:", run=run.id)
        with right:
            version = f"{run.dataset}.{run.content_hash[:12]}"
            state.link("board", "Its board", ":material/leaderboard:", data=version, split=run.split)
    facts = [
        ("schedule", run.schedule),
        ("initialisation", run.init),
        ("images", str(run.n_images)),
        ("time an image", _duration(run.latency_median_ms)),
        ("training", quantity(run.train_seconds, "s")),
        ("parameters", None if run.n_parameters is None else f"{run.n_parameters / 1e6:.1f} M"),
    ]
    shown = [(name, value) for name, value in facts if value]
    for column, (name, value) in zip(st.columns(len(shown)), shown, strict=True):
        column.metric(name, visible(value))
    if run.submitted_by or run.note:
        said = [f"submitted by {run.submitted_by}" if run.submitted_by else "", run.note or ""]
        st.caption(state.safe(": ".join(text for text in said if text)))


def _duration(milliseconds: float | None) -> str | None:
    if milliseconds is None:
        return None
    return f"{milliseconds / 1000:.3g} s" if milliseconds >= 1000 else f"{milliseconds:.3g} ms"


def _failure(run: StoredRun) -> None:
    st.error(
        f"**It failed ({state.safe(_status(run))}).** {state.safe(run.failure or 'No reason was stored.')}  \n"
        f"Attempt {run.attempt}. The traceback, if there is one, is under Log.",
        icon=":material/error:",
    )


def _numbers(store: Store, run: StoredRun, details: Provenance) -> None:
    if not details.results:
        st.info("This run has no numbers.")
        return
    rows = []
    for result in details.results:
        factor, unit = shown_unit(result.unit)
        low, high = (None if end is None else end * factor for end in (result.low, result.high))
        rows.append(
            (
                *(result.protocol, result.metric, None if result.value is None else result.value * factor, low, high),
                *(unit, {True: "higher", False: "lower", None: ""}[result.higher_is_better], result.reason or ""),
            )
        )
    table = pd.DataFrame(
        rows, columns=["protocol", "number", "value", "low", "high", "unit", "better", "why undefined"]
    )
    number = st.column_config.NumberColumn
    event = st.dataframe(
        table,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-cell",
        key=f"numbers-{run.id}",
        column_config={name: number(name, format="%.2f") for name in ("value", "low", "high")},
        height=min(38 + 35 * len(table), 560),
        placeholder="–",
        alt="Numbers of the run",
    )
    st.caption("low and high: 95 % interval over images. Click a number for a link to its images.")
    for row, _ in event.selection.cells:
        if row < len(details.results) and details.results[row].protocol != "timing":
            chosen = details.results[row]
            label = f"Images behind {state.safe(chosen.protocol)} {state.safe(chosen.metric)}"
            icon = ":material/image_search:"
            state.link("images", label, icon, run=run.id, protocol=chosen.protocol, metric=chosen.metric)
    frame = store.results(run_ids=[run.id], include_superseded=True)
    picking.export(results_table(frame, title=f"Run {run.id}: {run.title}"), f"run-{run.id}", "run")


def _training(run: StoredRun) -> None:
    try:
        stages = RunFiles(run).curves()
    except BenchError as error:
        state.problem(error)
        return
    rows = [
        (stage, row["step"], name, value)
        for stage, curve in stages.items()
        for row in curve
        if "step" in row
        for name, value in row.items()
        if name.startswith("loss")
    ]
    if not rows:
        st.info("There are no training curves: nothing was trained, or the run's folder is not on this machine.")
        return
    frame = pd.DataFrame(rows, columns=["stage", "step", "name", "value"])
    for stage, part in frame.groupby("stage", sort=False):
        if stage:
            st.markdown(f"**{state.safe(stage)}**")
        step = max(1, len(part) // 4000)
        st.altair_chart(charts.training(part.iloc[::step]))


def _settings(details: Provenance) -> None:
    settings = {str(k): _plain(v) for k, v in details.method.params.items()}
    if not settings:
        st.info("This method has no settings.")
        return
    st.dataframe(
        pd.DataFrame({"setting": list(settings), "value": list(settings.values())}),
        hide_index=True,
        height=min(38 + 35 * len(settings), 560),
    )


def _provenance(run: StoredRun, details: Provenance) -> None:
    facts: dict[str, Mapping[str, Any]] = {
        "run": {
            "key": run.key,
            "started": f"{run.started:%Y-%m-%d %H:%M:%S} UTC",
            "finished": f"{run.finished:%Y-%m-%d %H:%M:%S} UTC",
            "attempt": run.attempt,
            "commit": run.commit and run.commit + (" (with changes)" if run.dirty else ""),
            "weights, sha256": run.weights_sha256,
            "data set version": run.content_hash,
            "peak memory": quantity(run.peak_memory_bytes, "bytes"),
            "also trained on": details.arguments.get("further_data"),
        },
        "method": {
            "name": run.method,
            "origin": details.method.origin,
            "code": details.method.code_hash,
            **{f"paper, {name}": value for name, value in (details.method.paper or {}).items()},
        },
        "machine": {k: v for k, v in dataclasses.asdict(details.machine).items() if k != "hostname"},
        "environment": {k: v for k, v in dataclasses.asdict(details.environment).items() if k != "packages"},
        "packages": dict(details.environment.packages),
    }
    left, right = st.columns(2)
    for name, values in facts.items():
        shown = {k.replace("_", " "): _plain(v) for k, v in values.items() if v not in (None, "", [], {})}
        if not shown:
            continue
        with left if name in ("run", "method") else right:
            st.markdown(f"**{name}**")
            st.dataframe(
                pd.DataFrame({"what": list(shown), "value": list(shown.values())}),
                hide_index=True,
                height=min(38 + 35 * len(shown), 420),
                key=f"provenance-{name}",
            )
    if details.artifacts:
        st.markdown("**files**")
        st.dataframe(
            pd.DataFrame([dataclasses.asdict(artifact) for artifact in details.artifacts]),
            hide_index=True,
            key="provenance-files",
        )


def _log(run: StoredRun) -> None:
    found = RunFiles(run).log()
    if not found:
        st.info("There is no log: the run wrote none, or its folder is not on this machine.")
    for name, text in found.items():
        st.markdown(f"**{state.safe(name)}**")
        st.code("\n".join(visible(line) for line in text.splitlines()) or " ", language=None, height=400)


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_plain(v) for v in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={_plain(v)}" for k, v in value.items())
    return visible(str(value))
