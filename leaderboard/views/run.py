"""A run: where its numbers come from, how to make them again, and why it failed if it did."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from bench.errors import BenchError
from bench.report import charts
from bench.report.boards import results_table, runs_table
from bench.report.escape import visible
from bench.report.numbers import quantity, shown_unit
from bench.report.tables import Table, simple
from bench.store import Store, StoredRun
from bench.store.files import RunFiles
from bench.store.identity import SUBMITTED
from bench.store.views import Provenance
from leaderboard import data, state
from leaderboard.theme import BADGES
from leaderboard.views import picking

LISTED = 500
"""Runs that are listed where none is named; the newest."""

PARTS = {
    "numbers": "Numbers",
    "training": "Training",
    "settings": "Settings",
    "provenance": "Provenance",
    "log": "Log",
}


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
    part = state.choose_part("part", PARTS)
    if part == "numbers":
        _numbers(store, run, details)
    elif part == "training":
        _training(run)
    elif part == "settings":
        _settings(run, details)
    elif part == "provenance":
        _provenance(run, details)
    else:
        _log(run)


def _list(store: Store, wanted: int | None) -> None:
    st.title("Runs", anchor=False)
    if wanted is not None:
        st.warning(f"There is no run {wanted} in this database.", icon=":material/warning:")
    left, middle, right = st.columns([3, 2, 2], vertical_alignment="bottom")
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
    badges = store.badges(runs)
    table = pd.DataFrame(
        {
            "run": [run.id for run in runs],
            "method": [run.title for run in runs],
            "data set": [run.dataset for run in runs],
            "split": [run.split for run in runs],
            "schedule": [run.schedule for run in runs],
            "seed": [run.seed for run in runs],
            "status": [_status(run) for run in runs],
            "badges": [badges[run.id] for run in runs],
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
    picking.export("runs", "runs-export", lambda: runs_table(runs, title="Runs", badges=badges), bibtex=_cited(runs))
    for row in event.selection.rows:
        if row < len(runs):
            state.go("run", run=runs[row].id)


def _status(run: StoredRun) -> str:
    return "ok" if run.failure_kind is None else run.failure_kind.replace("_", " ")


def _head(store: Store, run: StoredRun) -> None:
    st.title(f"Run {run.id}: {state.safe(run.title)}", anchor=False)
    found = list(store.badges([run])[run.id])
    if run.status == "failed":
        found.insert(0, "failed")
    drawn = " ".join(f":{BADGES.get(name, ('red', ''))[0]}-badge[{name}]" for name in found)
    seed = "" if run.schedule == SUBMITTED else f", seed {run.seed}"
    st.markdown(f"{drawn} on **{state.safe(run.dataset)}**, split {state.safe(run.split)}{seed}")
    if run.status == "ok":
        with st.container(horizontal=True):
            state.link("images", "Images of this run", ":material/image_search:", run=run.id)
            picking.board_link("Its board", run.dataset, run.content_hash, run.split)
    facts = [
        ("schedule", run.schedule),
        ("initialisation", "" if run.schedule == SUBMITTED else run.init),
        ("images", str(run.n_images)),
        ("time an image", _duration(run.latency_median_ms)),
        ("training", quantity(run.train_seconds, "s")),
        ("parameters", None if run.n_parameters is None else f"{run.n_parameters / 1e6:.1f} M"),
    ]
    with st.container(horizontal=True, gap="medium"):
        for name, value in facts:
            if value:
                st.metric(name, visible(value), width="content")
    version = next((v for v in state.versions() if v.content_hash == run.content_hash and v.name == run.dataset), None)
    if version is not None and (here := data.images_here(store, version, run.id)) is not None:
        st.info(f"A part of the data set: {here} were here when this run was made.", icon=":material/warning:")
    if run.submitted_by or run.note:
        said = [f"submitted by {run.submitted_by}" if run.submitted_by else "", run.note or ""]
        st.caption(state.safe(": ".join(text for text in said if text)))


def _duration(milliseconds: float | None) -> str | None:
    if milliseconds is None:
        return None
    return f"{milliseconds / 1000:.3g} s" if milliseconds >= 1000 else f"{milliseconds:.3g} ms"


def _failure(run: StoredRun) -> None:
    reason = "  \n".join(state.safe(line) for line in (run.failure or "No reason was stored.").splitlines())
    st.error(
        f"**It failed ({state.safe(_status(run))}).** {reason}  \n"
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
        column_config={name: number(name, format="%.2f", width="small") for name in ("value", "low", "high")}
        | {name: st.column_config.TextColumn(width="small") for name in ("protocol", "unit", "better")}
        | {"why undefined": st.column_config.TextColumn(width="large")},
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

    def exported() -> Table:
        frame = store.results(run_ids=[run.id], include_superseded=True)
        return results_table(frame, title=f"Run {run.id}: {run.title}")

    picking.export(f"{run.dataset}-run-{run.id}", "run", exported, bibtex=_cited([run]))


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
    pictures = []
    for number, (stage, part) in enumerate(frame.groupby("stage", sort=False)):
        if stage:
            st.markdown(f"**{state.safe(stage)}**")
        step = max(1, len(part) // 4000)
        chart = charts.training(part.iloc[::step])
        st.altair_chart(chart, alt="Lines: the losses of the training over its steps")
        title = f"Losses, {stage}" if stage else "Losses"
        pictures.append(picking.Picture.chart(title, f"{run.dataset}-run-{run.id}-losses-{number}", chart))
    title = f"Losses of run {run.id}"
    picking.export(
        f"{run.dataset}-run-{run.id}-training",
        "training",
        lambda: simple(("stage", "step", "name", "value"), rows, title=title),
        pictures=pictures,
        bibtex=_cited([run]),
    )


def _cited(runs: Sequence[StoredRun]) -> Callable[[], str]:
    return picking.cited([run.id for run in runs])


def _settings(run: StoredRun, details: Provenance) -> None:
    settings = {str(k): _plain(v) for k, v in details.method.params.items()}
    if not settings:
        st.info("This method has no settings.")
        return
    st.dataframe(
        pd.DataFrame({"setting": list(settings), "value": list(settings.values())}),
        hide_index=True,
        height=min(38 + 35 * len(settings), 560),
    )
    title = f"Settings of run {run.id}: {run.title}"
    picking.export(
        f"{run.dataset}-run-{run.id}-settings",
        "settings",
        lambda: simple(("setting", "value"), list(settings.items()), title=title),
        bibtex=_cited([run]),
    )


def _operating_point(chosen: Any) -> str | None:
    """From which confidence detections count in the protocols that know none, and what that was chosen on."""
    if not isinstance(chosen, Mapping):
        return chosen if isinstance(chosen, str) else None
    value = chosen.get("value")
    best = f", where {chosen.get('metric')} is {100 * value:.1f} %" if isinstance(value, float) else ""
    images = chosen.get("images")
    by = f"chosen on {images} images of {chosen.get('split')}" if images else chosen.get("split")
    return f"{chosen.get('min_score')}, {by}{best}"


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
            "counted from confidence": _operating_point(details.arguments.get("operating_point")),
            "also trained on": details.arguments.get("further_data"),
            "weights said to be trained on": details.arguments.get("trained_on"),
            "changed from the method's defaults": details.arguments.get("changed"),
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
    every: list[tuple[str, str, str]] = []
    for name, values in facts.items():
        shown = {k.replace("_", " "): _plain(v) for k, v in values.items() if v not in (None, "", [], {})}
        if not shown:
            continue
        every += [(name, what, value) for what, value in shown.items()]
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
    title = f"Provenance of run {run.id}: {run.title}"
    picking.export(
        f"{run.dataset}-run-{run.id}-provenance",
        "provenance",
        lambda: simple(("of", "what", "value"), every, title=title),
        bibtex=_cited([run]),
    )


def _log(run: StoredRun) -> None:
    found = RunFiles(run).log()
    if not found:
        st.info("There is no log: the run wrote none, or its folder is not on this machine.")
    for name, text in found.items():
        st.markdown(f"**{state.safe(name)}**")
        shown = "\n".join(visible(line) for line in text.splitlines())
        st.code(shown or " ", language=None, height=400 if len(text) > 2_000 else "content")
        st.download_button(
            "Text",
            shown,
            f"{run.dataset}-run-{run.id}-{name.replace('/', '-')}",
            on_click="ignore",
            icon=":material/download:",
        )


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_plain(v) for v in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={_plain(v)}" for k, v in value.items())
    return visible(str(value))
