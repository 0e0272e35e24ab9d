"""What the pages show, as frames and records: questions to the store and to the run folders, no Streamlit.

Nothing is written. Files are opened by :class:`bench.store.files.RunFiles` and :mod:`bench.data` only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.data import Dataset
from bench.data.reported import reported_results
from bench.errors import BenchError, DataError
from bench.instances import Instances, Sample
from bench.metrics import Comparison, Scores, compare
from bench.metrics.bootstrap import interval, resample_weights
from bench.metrics.matching import Match
from bench.metrics.verdicts import BestMatches
from bench.records import MachineRecord, ReportedResultRecord, metric_of_part
from bench.report.across import Across, across
from bench.report.naming import described, run_names
from bench.report.site import whole_data_set
from bench.report.standing import standing
from bench.report.stored_runs import opened, scored
from bench.store import Store, StoredDataset, StoredRun
from bench.store.files import RunFiles
from bench.store.identity import SUBMITTED, measurement
from bench.store.leaderboard import version_order
from bench.store.ranks import overlap_ranks

RESAMPLES = 1000
"""Of the bootstrap behind intervals that are made here."""

THRESHOLDS = tuple(k / 20 for k in range(10, 20))
"""IoU thresholds of a curve: 0.50 to 0.95."""


# -- the board --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """Which board is wanted; None is the default of :meth:`bench.store.Store.leaderboard`."""

    dataset: str
    content_hash: str
    split: str | None = None
    schedule: str | None = None
    protocol: str | None = None
    metric: str | None = None
    superseded: bool = False


def board(store: Store, asked: Asked) -> pd.DataFrame:
    """The frame of :meth:`bench.store.Store.leaderboard`, with more columns.

    Every number has a column ``:rank`` beside it: the rank by that number among the runs that may rank. ``badges`` is a
    list.
    """
    frame = store.leaderboard(
        asked.dataset,
        content_hash=asked.content_hash,
        split=asked.split,
        schedule=asked.schedule,
        protocol=asked.protocol,
        metric=asked.metric,
        include_superseded=asked.superseded,
    )
    about = dict(frame.attrs)
    for column, definition in about["columns"].items():
        frame[f"{column}:rank"] = _ranks(frame, column, definition["higher_is_better"])
    frame["badges"] = [text.split(", ") for text in frame["badges"]]
    frame.attrs = about
    return frame


def _ranks(frame: pd.DataFrame, column: str, higher_is_better: bool | None) -> pd.Series[Any]:
    if higher_is_better is None:
        return pd.Series(pd.array([None] * len(frame), dtype="Int64"), index=frame.index)
    values, lows, highs = (
        [None if pd.isna(v) else float(v) for v in frame[f"{column}{part}"]] for part in ("", ":low", ":high")
    )
    found = overlap_ranks(
        [v if may else None for v, may in zip(values, frame["may_rank"], strict=True)], lows, highs, higher_is_better
    )
    return pd.Series(pd.array(found, dtype="Int64"), index=frame.index)


def matching(frame: pd.DataFrame, text: str) -> pd.DataFrame:
    """The rows in which every word of ``text`` occurs: in the method, its settings, its badges, its note or its run.

    A word of six hexadecimal digits or more is also looked for at the beginning of the run's key and code hash.
    """
    if not text.strip():
        return frame
    columns = ("title", "method", "settings", "init", "schedule", "submitted_by", "note", "device")
    hay = frame["badges"].map(" ".join).str.cat(frame[list(columns)].fillna("").astype(str), sep=" ")
    hay = hay.str.cat("run " + frame["run_id"].astype(str), sep=" ").str.lower()
    kept = np.ones(len(frame), dtype=bool)
    for word in text.lower().split():
        found = hay.str.contains(word, regex=False).to_numpy(dtype=bool)
        if len(word) >= 6:
            for column in ("key", "code_hash"):
                found = found | frame[column].astype(str).str.startswith(word).to_numpy(dtype=bool)
        kept &= found
    shown = frame[kept]
    shown.attrs = frame.attrs
    return shown


def in_order(frame: pd.DataFrame, column: str, higher_is_better: bool | None, reverse: bool = False) -> pd.DataFrame:
    """A board's rows by one of its columns: the best first, or from small to large where nothing is better.

    Rows without a value stand last either way; equal ones stay in the order of the ranks.
    """
    descending = (higher_is_better is True) != reverse
    values = frame[column]
    if not pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_datetime64_any_dtype(values):
        values = values.map(lambda value: ", ".join(value) if isinstance(value, list) else value)
        values = values.where(values.notna() & (values != ""), None).map(str.casefold, na_action="ignore")
    places = values.reset_index(drop=True).sort_values(ascending=not descending, kind="stable", na_position="last")
    shown = frame.iloc[places.index]
    shown.attrs = frame.attrs
    return shown


def machine_name(machine: MachineRecord | None, hash_: str) -> str:
    """What a machine is called: its GPU, or its CPU where it has none, and the beginning of its hash."""
    if machine is None:
        return hash_[:8]
    return f"{machine.gpu or machine.cpu} ({hash_[:6]})"


# -- images -----------------------------------------------------------------------------------------------


def image_table(store: Store, first: int, second: int | None, protocol: str, metric: str) -> pd.DataFrame:
    """A row an image: ``image``, ``group``, ``truths``, ``a``, ``b``, ``difference`` (a - b), ``tp``, ``fp``, ``fn``.

    ``b`` and ``difference`` are NaN without a second run, or where it lacks the image.
    """
    chosen = [first] if second is None else [first, second]
    values = store.image_values(chosen, protocol, metric)
    one = values[values["run_id"] == first].drop(columns="run_id").rename(columns={"value": "a"})
    other = values[values["run_id"] == second][["image", "value"]].rename(columns={"value": "b"})
    table = one.merge(other, on="image", how="left")
    table["b"] = table["b"].astype("float64")
    table["difference"] = table["a"] - table["b"]
    return table


ORDERS = ("worst", "best", "difference", "name")
"""How images are put in order."""


def ordered(table: pd.DataFrame, order: str, higher_is_better: bool | None) -> pd.DataFrame:
    """The images: worst of the first run first, best first, largest difference first, or by name."""
    if order == "name":
        return table.sort_values("image", kind="stable", ignore_index=True)
    if order == "difference" and table["difference"].notna().any():
        return table.sort_values(
            "difference", key=lambda column: -column.abs(), kind="stable", na_position="last", ignore_index=True
        )
    ascending = (higher_is_better is not False) == (order != "best")
    return table.sort_values("a", ascending=ascending, kind="stable", na_position="last", ignore_index=True)


@dataclass(frozen=True)
class Shown:
    """An image with its truth, and what each run found on it; a run whose prediction is gone has its reason.

    Of a run in ``counted``, ``found`` has what counts in protocols without confidence: the detections from that
    confidence on.
    """

    sample: Sample
    truth: Instances
    found: Mapping[int, Instances]
    missing: Mapping[int, str]
    counted: Mapping[int, float]


def shown_image(dataset: Dataset, runs: Sequence[StoredRun], image: str) -> Shown:
    """Read one image, its truth and the predictions of the runs.

    Raises:
        UnknownNameError: the split has no such image.
        DataError: its files are broken.
    """
    (sample,) = dataset.split(runs[0].split).take([image])
    truth = sample.instances if sample.instances is not None else Instances.empty(*sample.shape)
    found, missing, counted = {}, {}, {}
    for run in runs:
        try:
            prediction = RunFiles(run).prediction(image)
            if prediction.shape != sample.shape:
                raise DataError(f"the prediction of run {run.id} is {prediction.shape}, the image {sample.shape}")
            least = RunFiles(run).min_score()
            found[run.id] = prediction.at_least(least)
            if least is not None:
                counted[run.id] = least
        except BenchError as error:
            missing[run.id] = str(error)
    return Shown(sample, truth, found, missing, counted)


def dataset_of(run: StoredRun, data_root: Path | None) -> Dataset:
    """The data set of a run; a stand-in that is not there is not made.

    Raises:
        BenchError: it is not there, or is another version.
    """
    return opened(run, data_root)


# -- comparisons ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PairedMean:
    """Two runs over the images that both have: the mean difference of their values image by image.

    Attributes:
        images: how many have both values.
        difference: mean of first - second, or None without images.
        low: of its 95 % interval over images, or None.
        high: upper end.
        wins: images on which the first is better.
        losses: images on which it is worse.
        ties: images on which they are equal.
    """

    images: int
    difference: float | None
    low: float | None
    high: float | None
    wins: int
    losses: int
    ties: int


def paired_mean(table: pd.DataFrame, higher_is_better: bool) -> PairedMean:
    """Of a frame of :func:`image_table`."""
    both = table[table["difference"].notna()]
    differences = both["difference"].to_numpy(dtype=float)
    if not differences.size:
        return PairedMean(0, None, None, None, 0, 0, 0)
    groups = [
        image if group is None else f"group {group}" for image, group in zip(both["image"], both["group"], strict=True)
    ]
    weights = resample_weights(groups, RESAMPLES, 0)
    drawn = None if weights is None else weights @ differences / weights.sum(axis=1)
    low, high = interval(drawn)
    better = differences if higher_is_better else -differences
    wins, losses = int((better > 0).sum()), int((better < 0).sum())
    return PairedMean(
        differences.size, float(differences.mean()), low, high, wins, losses, differences.size - wins - losses
    )


@dataclass(frozen=True)
class Evidence:
    """A run back at its images: its scores under one protocol, and how each instance was matched.

    Attributes:
        scores: what :func:`bench.metrics.compare` needs.
        images: keys.
        groups: what intervals resample together.
        matches: of each image.
    """

    scores: Scores
    images: tuple[str, ...]
    groups: tuple[str, ...]
    matches: tuple[BestMatches, ...]


def evidence(dataset: Dataset, run: StoredRun, images: Sequence[str], protocol: str) -> Evidence:
    """Score a run's predictions on some images again.

    Raises:
        BenchError: the predictions or the images are gone or damaged.
    """
    found = RunFiles(run).predictions()
    split = dataset.split(run.split).take(images)
    protocols = {p.name: p.params for p in dataset.card.protocols}
    min_score = RunFiles(run).min_score()
    scores = scored(f"run {run.id}", dataset, split, found, {protocol: protocols.get(protocol, {})}, min_score)
    matches, groups = [], []
    for sample in split:
        truth = sample.instances if sample.instances is not None else Instances.empty(*sample.shape)
        matches.append(BestMatches.of(Match(truth, found[sample.id], min_score)))
        groups.append(sample.id if sample.group is None else f"group {sample.group}")
    return Evidence(scores, split.ids, tuple(groups), tuple(matches))


def predicted_images(run: StoredRun) -> set[str]:
    """The images that a run has predictions for.

    Raises:
        DataError: they are gone or damaged.
    """
    return set(RunFiles(run).predictions())


def compared(
    found: Mapping[int, Evidence], names: Mapping[int, str], protocol: str, metric: str
) -> tuple[Comparison, list[str]]:
    """Paired differences of runs, with intervals, under the protocol's own rule; and their names, the best first.

    Args:
        found: the runs.
        names: of them all.
        protocol: that says what is compared.
        metric: of it.
    """
    comparison = compare({name: found[id_].scores for id_, name in names.items()}, protocol, metric)
    sign, values = (-1 if comparison.higher_is_better else 1), comparison.values

    def place(name: str) -> tuple[float, float]:
        rank, value = comparison.ranks[name], values[name]
        return (len(values) + 1 if rank is None else rank, 0.0 if value is None else sign * value)

    return comparison, sorted(values, key=place)


def curves(found: Mapping[str, Evidence]) -> pd.DataFrame:
    """F1 and TP / (TP + FP + FN) over IoU thresholds: ``run``, ``iou``, ``measure``, ``value``, ``low``, ``high``."""
    rows = []
    for name, known in found.items():
        weights = resample_weights(known.groups, RESAMPLES, 0)
        for threshold in THRESHOLDS:
            counts = np.array([match.counts(threshold) for match in known.matches], dtype=float)
            for measure, share in (("F1", 0.5), ("TP / (TP + FP + FN)", 1.0)):
                value = _rate(counts.sum(axis=0), share)
                drawn = None if weights is None else _rate((weights @ counts).T, share)
                low, high = interval(drawn)
                rows.append((name, threshold, measure, float(value), low, high))
    return pd.DataFrame(rows, columns=["run", "iou", "measure", "value", "low", "high"]).astype(
        {"low": float, "high": float}
    )


def _rate(counts: Any, share: float) -> Any:
    """TP / (TP + share * (FP + FN)): F1 with 0.5."""
    tp, fp, fn = counts
    below = tp + share * (fp + fn)
    return np.divide(tp, below, out=np.full(np.shape(below), np.nan), where=np.asarray(below) > 0)


def by_size(found: Mapping[str, Evidence], threshold: float, parts: int = 5) -> pd.DataFrame:
    """Share of the cells that are found, by their area in ``parts`` equally full classes.

    Columns: ``run``, ``part``, ``from``, ``to`` (pixels), ``cells``, ``value``, ``low``, ``high``.
    """
    every = next(iter(found.values()), None)
    if every is None:
        return pd.DataFrame(columns=["run", "part", "from", "to", "cells", "value", "low", "high"])
    areas = np.concatenate([match.truth_areas for match in every.matches] or [np.zeros(0, np.int64)])
    if not areas.size:
        return pd.DataFrame(columns=["run", "part", "from", "to", "cells", "value", "low", "high"])
    edges = np.unique(np.quantile(areas, np.linspace(0, 1, parts + 1)))
    if edges.size < 2:
        edges = np.array([edges[0], edges[0] + 1.0])
    rows = []
    for name, known in found.items():
        weights = resample_weights(known.groups, RESAMPLES, 0)
        of_part = [
            np.clip(np.searchsorted(edges, m.truth_areas, "right") - 1, 0, len(edges) - 2) for m in known.matches
        ]
        for part in range(len(edges) - 1):
            cells = np.array([np.count_nonzero(p == part) for p in of_part], dtype=float)
            hits = np.array(
                [
                    np.count_nonzero((p == part) & (m.truth_iou > threshold))
                    for p, m in zip(of_part, known.matches, strict=True)
                ],
                dtype=float,
            )
            if not cells.sum():
                continue
            low, high = _interval_of_ratio(hits, cells, weights)
            rows.append(
                (name, part, edges[part], edges[part + 1], int(cells.sum()), hits.sum() / cells.sum(), low, high)
            )
    return pd.DataFrame(rows, columns=["run", "part", "from", "to", "cells", "value", "low", "high"]).astype(
        {"low": float, "high": float}
    )


def by_density(found: Mapping[str, Evidence], threshold: float) -> pd.DataFrame:
    """F1 of each image beside its number of cells: ``run``, ``image``, ``cells``, ``value``."""
    rows = []
    for name, known in found.items():
        for image, match in zip(known.images, known.matches, strict=True):
            counts = np.array(match.counts(threshold), dtype=float)
            rows.append((name, image, len(match.truth_iou), float(_rate(counts, 0.5))))
    return pd.DataFrame(rows, columns=["run", "image", "cells", "value"])


def _interval_of_ratio(above: Any, below: Any, weights: Any) -> tuple[float | None, float | None]:
    if weights is None:
        return None, None
    drawn = np.divide(weights @ above, weights @ below, out=np.full(len(weights), np.nan), where=weights @ below > 0)
    return interval(drawn)


# -- across data sets -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Overview:
    """Every method on every data set version, by what the version ranks by.

    Attributes:
        values: label of a data set version to method to its mean over seeds.
        better: label to whether higher is better.
        measure: label to the number's name.
        source: label to ``real`` or ``synthetic``.
        runs: method to its runs behind these values.
        titles: method to how it is written; with its name where another is written the same.
        changed: label to method to what of it is not its default, where it has no run with its default settings.
        left_out: label to methods without a value there, since their runs are said to know the data set beyond its
            training split.
        boards: label to the data set version and the split.
        parts: label to how much of the data set was there, where that was not the whole.
    """

    values: dict[str, dict[str, float]]
    better: dict[str, bool]
    measure: dict[str, str]
    source: dict[str, str]
    runs: dict[str, list[int]]
    titles: dict[str, str]
    changed: dict[str, dict[str, Mapping[str, Any]]]
    left_out: dict[str, list[str]]
    boards: dict[str, tuple[StoredDataset, str]]
    parts: dict[str, str]

    @property
    def methods(self) -> list[str]:
        """Every method, those on most data sets first."""
        counts: dict[str, int] = {}
        for found in self.values.values():
            for method in found:
                counts[method] = counts.get(method, 0) + 1
        return sorted(counts, key=lambda method: (-counts[method], method))

    def across(self, methods: Sequence[str]) -> Across:
        """The methods over the data sets that they have in common."""
        return across(self.values, methods, self.better)


def overview(store: Store, schedule: str, synthetic: bool) -> Overview:
    """Every method on every data set version; on each the split ``test``, or the one with most runs.

    A method's value is the mean over seeds of the runs that stand for it (:func:`bench.report.standing.standing`).
    Submissions are beside the runs of the schedule ``paper``, each with its badge and its author in its name.

    Args:
        store: to read from.
        schedule: of the runs.
        synthetic: whether generated data count: they never share a ranking with real ones.
    """
    frame = store.ranking_values(schedule)
    frame = frame[frame["source"] == ("synthetic" if synthetic else "real")]
    frame = frame.assign(method=[_as_compared(row) for row in frame.itertuples()], name=frame["method"])
    known = Overview({}, {}, {}, {}, {}, _titles(frame), {}, {}, {}, {})
    versions = {version.id: version for version in store.datasets()}
    names = frame.groupby("dataset")["dataset_version_id"].nunique()
    for (version, dataset), rows in frame.groupby(["dataset_version_id", "dataset"], sort=True):
        splits = rows["split"].value_counts()
        split = "test" if "test" in splits else splits.index[0]
        chosen = rows[rows["split"] == split]
        label = f"{dataset} ({split})" if names[dataset] == 1 else f"{dataset} version {version} ({split})"
        every, chosen = chosen["method"], chosen[chosen["may_rank"]]
        known.left_out[label] = unique(every[~every.isin(chosen["method"])])
        if chosen.empty:
            continue
        known.values[label], known.changed[label] = {}, {}
        for method, its in chosen.groupby("method"):
            if (found := standing(its)) is not None:
                known.values[label][str(method)] = found.mean
                known.runs.setdefault(str(method), []).extend(found.runs["run_id"].tolist())
                if found.changed:
                    known.changed[label][str(method)] = found.changed
        known.better[label] = bool(chosen["higher_is_better"].iloc[0] > 0)
        known.measure[label] = f"{chosen['protocol'].iloc[0]} {chosen['metric'].iloc[0]}"
        known.source[label] = str(chosen["source"].iloc[0])
        known.boards[label] = versions[version], str(split)
        if (here := images_here(store, versions[version], int(chosen["run_id"].iloc[0]))) is not None:
            known.parts[label] = here
    return known


def _titles(frame: pd.DataFrame) -> dict[str, str]:
    """Method to its title, with the name where two share one; those of submissions say by whom, as their names do."""
    last = frame.sort_values("run_id").groupby("method").tail(1).set_index("method")
    titles = {str(method): row["title"] + str(method).removeprefix(row["name"]) for method, row in last.iterrows()}
    shared = {title for title, count in Counter(titles.values()).items() if count > 1}
    return {method: f"{title} [{method}]" if title in shared else title for method, title in titles.items()}


def _as_compared(row: Any) -> str:
    """How a method is called where it is compared over data sets: two people's submissions of one name are two."""
    if row.schedule != SUBMITTED:
        return str(row.method)
    return f"{row.method} (submitted by {row.submitted_by})" if row.submitted_by else f"{row.method} (submitted)"


# -- papers -----------------------------------------------------------------------------------------------


def reported(store: Store | None, dataset: str | None = None) -> pd.DataFrame:
    """What papers report beside what was measured here: one row a printed number.

    Columns: ``paper``, ``table``, ``method``, ``dataset``, ``split``, ``protocol``, ``metric``, ``unit``,
    ``reported``, ``measured`` (mean over seeds), ``runs`` (how many), ``run_id`` (the last), ``difference``,
    ``comparable``, ``note``, ``hardware``, ``wording``, ``counterpart``, ``part`` (how much of the data set was there,
    where that was not the whole). Measured are finished, complete runs of the paper's schedule on
    real images, of the method that the row names as its counterpart, by its default settings, on the split or, where
    that is a part of the evaluated one, on the part; only what is comparable and on a whole data set has a difference.
    Without a store there are all printed numbers, and nothing is measured.
    """
    records = store.reported(dataset=dataset) if store is not None else _printed(dataset)
    columns = (
        *("paper", "table", "method", "dataset", "split", "protocol", "metric", "unit", "reported", "measured"),
        *("runs", "run_id", "difference", "comparable", "note", "hardware", "wording", "counterpart", "part"),
    )
    rows = []
    for name in dict.fromkeys(record.dataset for record in records):
        mine = [record for record in records if record.dataset == name]
        measured = None if store is None else _measured(store, name, [record.counterpart for record in mine])
        parts = {} if store is None or measured is None else _parts(store, name, measured)
        for record in mine:
            runs = pd.DataFrame() if measured is None else _counterparts(measured, record)
            value = float(runs["value"].mean()) if len(runs) else None
            part = parts.get(runs["content_hash"].iloc[0], "") if len(runs) else ""
            rows.append(
                (
                    *(record.paper, record.table, record.method, record.dataset, record.split, record.protocol),
                    *(record.metric, record.unit, record.value, value, len(runs)),
                    int(runs["run_id"].max()) if len(runs) else None,
                    value - record.value if value is not None and record.comparable and not part else None,
                    *(record.comparable, record.note, record.hardware, record.wording, record.counterpart, part),
                )
            )
    frame = pd.DataFrame(rows, columns=list(columns))
    return frame.astype({"reported": float, "measured": float, "difference": float, "run_id": "Int64"})


def _printed(dataset: str | None) -> list[ReportedResultRecord]:
    return [record for record in reported_results() if dataset in (None, record.dataset)]


def _measured(store: Store, dataset: str, methods: Sequence[str]) -> pd.DataFrame:
    """The numbers of finished, complete runs of these methods on real images, of the paper's schedule."""
    found = store.results(dataset=dataset, schedule="paper")
    found = found[(found["source"] == "real") & found["complete"] & found["value"].notna()]
    return _described(store, found[found["method"].isin(methods)])


def _parts(store: Store, dataset: str, measured: pd.DataFrame) -> dict[str, str]:
    """Content hash of a version that is not the whole data set to how much of it was there."""
    versions = {version.content_hash: version for version in store.datasets(dataset)}
    last = measured.groupby("content_hash")["run_id"].max()
    found = {hash_: images_here(store, versions[hash_], int(run_id)) for hash_, run_id in last.items()}
    return {hash_: here for hash_, here in found.items() if here is not None}


def _described(store: Store, measured: pd.DataFrame) -> pd.DataFrame:
    """Numbers with what :func:`bench.report.standing.standing` asks of their runs."""
    ids = measured["run_id"].unique().tolist()
    runs, marks = {run.id: run for run in store.runs_by_id(ids)}, store.marks(ids)
    changed = {i: marks.get(i, {}).get("changed") for i in ids}
    what = {i: measurement(runs[i], changed[i]) for i in ids}
    return measured.assign(
        measurement=pd.Series([what[i] for i in measured["run_id"]], measured.index, dtype=object),
        changed=pd.Series([changed[i] for i in measured["run_id"]], measured.index, dtype=object),
    )


def _counterparts(measured: pd.DataFrame, record: ReportedResultRecord) -> pd.DataFrame:
    """The runs, one a seed, whose number stands beside a printed one; none where there are none."""
    its = measured[(measured["method"] == record.counterpart) & (measured["protocol"] == record.protocol)]
    whole = its[(its["split"] == record.split) & (its["metric"] == record.metric)]
    part = its[its["metric"] == metric_of_part(record.metric, record.split)]
    runs = whole if len(whole) else part[part["split"] == part["split"].iloc[-1]] if len(part) else part
    if len(runs):
        runs = runs[runs["content_hash"] == runs.loc[runs["run_id"].idxmax(), "content_hash"]]
        runs = runs[runs["protocol_version"] == max(runs["protocol_version"], key=version_order)]
    found = standing(runs, only_default=True)
    return runs[:0] if found is None else found.runs


# -- lists ------------------------------------------------------------------------------------------------


def version_label(version: StoredDataset) -> str:
    """How a data set version is named in a picker."""
    generated = "generated, " if version.source == "synthetic" else ""
    return f"{version.name} ({generated}{version.content_hash[:6]}): {version.title}"


def run_labels(store: Store, runs: Sequence[StoredRun]) -> dict[int, str]:
    """How runs are named in a picker, by their numbers: "3: U-Net, BCE loss, seed 0, width=8"."""
    marks = store.marks([run.id for run in runs])
    words = {run.id: described(run, marks.get(run.id, {}).get("changed")) for run in runs}
    return {run.id: f"{run.id}: {words[run.id]}" + " (submitted)" * (run.schedule == SUBMITTED) for run in runs}


def names_of(store: Store, runs: Sequence[StoredRun]) -> dict[int, str]:
    """How runs are named in a comparison: see :func:`bench.report.naming.run_names`."""
    return run_names(runs, store.marks([run.id for run in runs]))


def images_here(store: Store, version: StoredDataset, run_id: int) -> str | None:
    """As "80 of its 200 images", of a data set version that is not the whole of its data set; None of one that is.

    Args:
        store: to read from.
        version: of which much is asked.
        run_id: of any run on it.
    """
    whole = whole_data_set(store, version, [run_id])
    return None if whole is None else f"{version.n_images} of its {whole} images"


def unique(values: Iterable[Any]) -> list[Any]:
    """Each value once, in order."""
    return list(dict.fromkeys(values))
