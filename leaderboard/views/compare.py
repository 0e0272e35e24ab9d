"""Two runs or more: are they different, by how much, and where?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import pandas as pd
import streamlit as st

from bench.errors import BenchError
from bench.metrics import Comparison
from bench.report import charts
from bench.report.comparisons import said_of_few
from bench.report.escape import visible
from bench.report.numbers import shown_unit
from bench.report.tables import simple
from bench.store import StoredRun
from leaderboard import data, state
from leaderboard.views import picking

OFFERED = 300
"""Runs that the picker offers besides those of the address; the newest."""

AT_ONCE = 500
"""Images up to which predictions are read without being asked to."""

MOST_RUNS = 8
"""Runs that are compared at once: there are as many colours."""

LONGEST = 40
"""Letters of a title beside an axis."""

WARNING = ":material/warning:"

PARTS = {
    "images": "Image by image",
    "differences": "Differences",
    "curves": "IoU curves",
    "cells": "Cell size and density",
}


def show() -> None:
    """Draw the page."""
    st.title("Compare", anchor=False)
    runs = _chosen()
    if len(runs) < 2:
        st.info("Choose two runs or more of the same images: here, or by ticking them on the board.")
        return
    kinds = {(run.dataset, run.content_hash, run.split) for run in runs}
    if len(kinds) > 1:
        st.warning("These runs are not of the same images: they share neither a table nor a comparison.")
        return
    metrics = [m for m in state.store().image_metrics(runs[0].id) if m[2] is not None]
    if not metrics:
        st.info("The first run has no numbers of single images to compare by.")
        return
    numbers = {f"{protocol} {name}": (protocol, name, higher) for protocol, name, higher in metrics}
    wanted = f"{st.query_params.get('protocol', '')} {st.query_params.get('metric', '')}"
    left, _ = st.columns([3, 7])
    protocol, metric, higher = numbers[
        state.choose("number", list(numbers), "number", default=wanted if wanted in numbers else None, where=left)
    ]
    names = data.names_of(state.store(), runs)
    unit, factor = _unit(runs[0], protocol, metric)
    part = state.choose_part("part", PARTS)
    if part == "images":
        _images(runs, names, protocol, metric, bool(higher), unit, factor)
        return
    found = _evidence(runs, protocol)
    if not found:
        return
    named = {name: found[id_] for id_, name in names.items()}
    if part == "differences":
        _differences(runs, names, *data.compared(found, names, protocol, metric), unit, factor)
    elif part == "curves":
        _curves(runs, named)
    else:
        _cells(runs, named)


def _chosen() -> list[StoredRun]:
    """The runs of the address, and a picker for more."""
    store = state.store()
    given = state.numbers_in_address("run")
    kept = [i for i in st.session_state.get("compare/run", []) if isinstance(i, int)]
    wanted = [run for run in store.runs_by_id([*given, *kept]) if run.status == "ok"]
    finished = {run.id for run in wanted}
    if lacking := [str(i) for i in given if i not in finished]:
        st.warning(f"There is no finished run {', '.join(lacking[:MOST_RUNS])} in this database.", icon=WARNING)
    if len(finished.intersection(given)) > MOST_RUNS:
        st.warning(f"At most {MOST_RUNS} runs are compared: of those chosen, the first.", icon=WARNING)
    if wanted:
        anchor = wanted[0]
        others = store.runs(
            dataset=anchor.dataset, content_hash=anchor.content_hash, split=anchor.split, status="ok", limit=OFFERED
        )
    else:
        version = picking.version_picker()
        others = store.runs(dataset=version.name, content_hash=version.content_hash, status="ok", limit=OFFERED)
    by_id = {run.id: run for run in [*wanted, *others]}
    labels = data.run_labels(store, list(by_id.values()))
    chosen = state.choose_some("runs", list(by_id), "run", shown=labels.__getitem__, most=MOST_RUNS)
    return [by_id[i] for i in chosen]


def _unit(run: StoredRun, protocol: str, metric: str) -> tuple[str, float]:
    results = state.store().provenance(run.id).results
    stored = next((r.unit for r in results if (r.protocol, r.metric) == (protocol, metric)), "")
    factor, unit = shown_unit(stored)
    return unit, factor


# -- from the database alone ------------------------------------------------------------------------------


def _images(
    runs: list[StoredRun],
    names: Mapping[int, str],
    protocol: str,
    metric: str,
    higher: bool,
    unit: str,
    factor: float,
) -> None:
    rows, outcomes, tables = [], [], {}
    for a, b in combinations(runs, 2):
        table = state.image_table(a.id, b.id, protocol, metric)
        tables[a.id, b.id] = table
        mean = data.paired_mean(table, higher)
        pair = f"run {a.id} − run {b.id}"
        scaled = [None if v is None else v * factor for v in (mean.difference, mean.low, mean.high)]
        rows.append((pair, mean.images, *scaled, mean.wins, mean.ties, mean.losses))
        for order, (word, images) in enumerate((("better", mean.wins), ("equal", mean.ties), ("worse", mean.losses))):
            outcomes.append((pair, word, images, order))
    heads = ["pair", "images", f"mean difference [{unit}]", "low", "high", "better", "equal", "worse"]
    summary = pd.DataFrame(rows, columns=heads)
    number = st.column_config.NumberColumn
    st.dataframe(
        summary,
        hide_index=True,
        column_config={name: number(name, format="%+.2f") for name in (heads[2], "low", "high")},
        placeholder="–",
        alt="Paired differences over images",
    )
    st.caption(
        "Mean over images of the difference image by image, with its 95 % bootstrap interval. Where the number itself "
        "is pooled over images, as AP is, its own difference is under Differences."
    )
    _few(min(row[1] for row in rows))
    place = st.container()
    drawn = []
    if any(images for _, _, images, _ in outcomes):
        wins = charts.wins(pd.DataFrame(outcomes, columns=["pair", "outcome", "images", "order"]))
        st.altair_chart(wins, alt="Bars: on how many images the first run of each pair is better, equal or worse")
        drawn.append(picking.Picture.chart("Images won and lost", _stem(runs, "won-and-lost"), wins))
    pairs = {f"{a.id} and {b.id}": (a, b) for a, b in combinations(runs, 2)}
    a, b = pairs[state.choose("the pair", list(pairs), "pair")] if len(pairs) > 1 else next(iter(pairs.values()))
    both = tables[a.id, b.id]
    both = both[both["difference"].notna()]
    if len(both):
        drawn.append(_scatter(a, b, both, protocol, metric, unit, factor))
    else:
        st.info(f"There is no image on which both runs have {state.safe(protocol)} {state.safe(metric)}.")
    with place:
        title = f"{protocol} {metric}, image by image"
        picking.export(
            _stem(runs, "images"),
            "compare-images",
            lambda: simple(heads, rows, title=title, notes=list(names.values())),
            pictures=drawn,
            bibtex=picking.cited([run.id for run in runs]),
        )


def _few(images: int) -> None:
    """What ``bench compare`` says of few images."""
    said = said_of_few(images)
    if said and images:
        st.info(f"Only {images} image{'s' * (images != 1)}: {said}.", icon=WARNING)


def _stem(runs: Sequence[StoredRun], what: str) -> str:
    """Of the names of files about these runs."""
    return "-".join([runs[0].dataset, what, *(str(run.id) for run in runs)])


def _scatter(
    a: StoredRun, b: StoredRun, both: pd.DataFrame, protocol: str, metric: str, unit: str, factor: float
) -> picking.Picture:
    """Two runs image by image, each point a way to the image."""
    points = pd.DataFrame(
        {"name": both["image"], "a": both["a"] * factor, "b": both["b"] * factor, "cells": both["truths"]}
    )
    first, second = (visible(f"{_cut(run.title)} (run {run.id})") for run in (a, b))
    title = visible(f"{a.dataset}, {a.split}: {protocol} {metric}, a point an image")
    chart = charts.scatter(points, f"{first}, {metric} [{unit}]", f"{second}, {metric} [{unit}]", title)
    event = st.altair_chart(
        chart,
        on_select="rerun",
        selection_mode="picture",
        key=f"scatter-{a.id}-{b.id}",
        alt=f"Points: {metric} of run {a.id} against that of run {b.id}, an image each; as a table on the page Images",
    )
    st.caption("A point is an image, its size the number of cells. Click one to see both runs on it.")
    for point in event.selection.get("picture", []):
        state.go("images", run=a.id, other=b.id, protocol=protocol, metric=metric, image=point["name"])
    state.link(
        "images",
        "The images on which they differ most",
        ":material/image_search:",
        **{"run": a.id, "other": b.id, "protocol": protocol, "metric": metric, "order": "difference"},
    )
    return picking.Picture.chart(f"Runs {a.id} and {b.id}, a point an image", _stem([a, b], "images"), chart)


def _cut(title: str) -> str:
    """A title that fits beside an axis."""
    return title if len(title) <= LONGEST else title[: LONGEST - 1] + "…"


# -- from the predictions ---------------------------------------------------------------------------------


def _evidence(runs: list[StoredRun], protocol: str) -> dict[int, data.Evidence]:
    """Every run back at the images that all have; nothing where files are gone, and a word why."""
    most = max(run.n_images for run in runs)
    if most > AT_ONCE and not state.switch(f"read the predictions of {most} images", "read"):
        return {}
    try:
        shared = set.intersection(*(data.predicted_images(run) for run in runs))
        if not shared:
            st.info("These runs have no image in common.")
            return {}
        return {run.id: state.evidence(run, sorted(shared), protocol) for run in runs}
    except BenchError as error:
        state.problem(error)
        st.info("This part needs the predictions and the images; image by image needs the database alone.")
        return {}


def _differences(
    runs: list[StoredRun], names: Mapping[int, str], found: Comparison, order: list[str], unit: str, factor: float
) -> None:
    short = {name: f"run {id_}" for id_, name in names.items()}
    rows = [
        (
            f"{short[d.first]} − {short[d.second]}",
            *(None if v is None else v * factor for v in (d.difference, d.low, d.high)),
            *(d.p, d.p_holm, d.distinct),
        )
        for d in found.differences
    ]
    columns = ["pair", "difference", "low", "high", "p", "p_holm", "distinct"]
    frame = pd.DataFrame(rows, columns=columns).astype({"difference": float, "low": float, "high": float})
    ranked = pd.DataFrame(
        [
            (found.ranks[name], name, None if (value := found.values[name]) is None else value * factor)
            for name in order
        ],
        columns=["rank", "run", f"{found.metric} [{unit}]"],
    )
    st.dataframe(
        ranked,
        hide_index=True,
        column_config={ranked.columns[2]: st.column_config.NumberColumn(format="%.2f")},
        placeholder="–",
        alt="Runs with their ranks",
    )
    st.caption("Runs that cannot be told apart share a rank.")
    _few(found.n_images)
    drawn = []
    if frame["low"].notna().any():
        chart = charts.differences(frame, unit)
        st.altair_chart(chart, alt="Intervals of the differences that the table below lists, around a line at zero")
        drawn.append(picking.Picture.chart("Differences with intervals", _stem(runs, "differences"), chart))
    st.dataframe(
        frame.rename(columns={"p_holm": "p (Holm)", "distinct": "told apart"}),
        hide_index=True,
        column_config={
            **{name: st.column_config.NumberColumn(format="%+.2f") for name in ("difference", "low", "high")},
            **{name: st.column_config.NumberColumn(format="%.3g") for name in ("p", "p (Holm)")},
        },
        placeholder="–",
        alt="Paired differences of the number",
    )
    st.caption(
        "Paired bootstrap over images under the protocol's own rule, corrected for the number of comparisons (Holm); "
        "the same as `bench compare`."
    )
    picking.export(
        _stem(runs, "differences"),
        "compare-differences",
        lambda: simple(
            columns, rows, title=f"{found.protocol} {found.metric}, differences in {unit}", notes=list(names.values())
        ),
        pictures=drawn,
        bibtex=picking.cited([run.id for run in runs]),
    )


def _curves(runs: list[StoredRun], named: dict[str, data.Evidence]) -> None:
    frame = data.curves(named)
    scaled = frame.assign(**{name: 100 * frame[name] for name in ("value", "low", "high")})
    measures = data.unique(scaled["measure"])
    for column, measure in zip(st.columns(len(measures)), measures, strict=True):
        said = f"Lines: {measure} of each run over IoU thresholds from 0.5 to 0.95"
        column.altair_chart(charts.curve(scaled, list(named), measure), alt=said)
    with st.expander("As a table"):
        st.dataframe(scaled, hide_index=True, alt="What the lines show, in percent")
    st.caption(
        "Pooled over images, with 95 % bootstrap bands. F1 = 2 TP / (2 TP + FP + FN); TP / (TP + FP + FN) is called "
        "average precision by the Data Science Bowl and StarDist. Scores play no part."
    )
    stem = _stem(runs, "curves")
    picking.export(
        stem,
        "compare-curves",
        lambda: simple(list(frame.columns), frame.values.tolist(), title="F1 and TP / (TP + FP + FN) over IoU"),
        pictures=[picking.Picture.chart("Curves", stem, charts.curves(scaled, list(named)))],
        bibtex=picking.cited([run.id for run in runs]),
    )


def _cells(runs: list[StoredRun], named: dict[str, data.Evidence]) -> None:
    left, _ = st.columns([3, 7])
    threshold = state.slide("found if IoU is above", 0.5, 0.95, "iou", default=0.5, step=0.05, where=left)
    sizes = data.by_size(named, threshold)
    if sizes.empty:
        st.info("These images hold no cells.")
        return
    shown = sizes.assign(
        size=[f"{a:.0f} to {b:.0f}" for a, b in zip(sizes["from"], sizes["to"], strict=True)],
        **{name: 100 * sizes[name] for name in ("value", "low", "high")},
    )
    st.markdown("**By cell size:** share of the annotated cells that are found, in five classes of equally many cells")
    by_size = charts.by_size(shown, list(named))
    st.altair_chart(by_size, alt="Points with intervals: share of the cells that each run finds, by their size")
    with st.expander("As a table"):
        st.dataframe(shown.drop(columns=["part", "from", "to"]), hide_index=True, alt="What is found, in percent")
    density = data.by_density(named, threshold)
    st.markdown("**By density:** F1 of each image beside its number of cells")
    by_density = charts.by_density(
        density.rename(columns={"image": "name"}).assign(value=100 * density["value"]), list(named)
    )
    st.altair_chart(by_density, alt="Points: F1 of each run on each image against the image's number of cells")
    columns = ["run", "from", "to", "cells", "value", "low", "high"]
    picking.export(
        _stem(runs, "cell-size"),
        "compare-cells",
        lambda: simple(
            columns,
            sizes[columns].values.tolist(),
            title=f"Share of the cells found at IoU > {threshold:g}, by area in pixels",
        ),
        pictures=[
            picking.Picture.chart("By cell size", _stem(runs, "cell-size"), by_size),
            picking.Picture.chart("By density", _stem(runs, "density"), by_density),
        ],
        bibtex=picking.cited([run.id for run in runs]),
    )
