"""The board: the runs of one data set version and split, side by side and ranked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from packaging.version import InvalidVersion, Version
from sqlalchemy import Connection, select

from bench.errors import UnknownNameError, UsageError
from bench.records import Source
from bench.store import frames, queries, views
from bench.store.badges import badges, ranks
from bench.store.identity import Measurement, measurement
from bench.store.models import MethodVersion, Metric, Result, Run
from bench.store.plain import as_text
from bench.store.queries import RunFilter, StoredDataset, StoredRun
from bench.store.ranks import overlap_ranks

BEFORE = (
    *("rank", "run_id", "title", "method", "variant", "seed", "init", "schedule"),
    *("badge", "badges", "complete", "n_images", "may_rank"),
)
"""Columns before the numbers."""

AFTER = (
    *("latency_median_ms", "latency_p95_ms", "train_seconds", "predict_seconds", "peak_memory_bytes", "n_parameters"),
    *("device", "machine", "started", "commit", "dirty", "origin", "code_hash", "settings", "submitted_by", "note"),
    "key",
)
"""Columns after them."""


@dataclass(frozen=True)
class Definition:
    """A column of numbers: what exactly it holds."""

    metric_id: int
    protocol: str
    protocol_version: str
    metric: str
    params: dict[str, Any]
    unit: str
    higher_is_better: bool | None

    @property
    def column(self) -> str:
        """The name of the column; ``:low``, ``:high`` and ``:reason`` are appended for those beside it."""
        return f"{self.protocol}/{self.metric}"


def leaderboard(
    connection: Connection,
    dataset: str,
    *,
    split: str | None = None,
    schedule: str | None = None,
    protocol: str | None = None,
    metric: str | None = None,
    source: Source | None = None,
    content_hash: str | None = None,
    include_superseded: bool = False,
) -> pd.DataFrame:
    """The finished, standing runs of one data set version and split, best first.

    There is one row for each thing that was measured (:func:`bench.store.identity.measurement`) and seed: its last
    complete run, else its last. Every number is a column ``protocol/metric``, the ranking protocol's first, with
    ``:low``, ``:high`` (95 % interval) and ``:reason`` (why it is undefined) beside it. Numbers under older versions of
    a protocol, or with other parameters than the last run's, are set aside with that reason.

    Runs share a rank where their intervals overlap that of the rank's best (:func:`bench.store.ranks.overlap_ranks`;
    1, 1, 3). Controls, incomplete runs, smoke runs and weights said to be trained on this data set have none; runs of
    ``short`` have one only where ``schedule="short"`` is asked for. ``may_rank`` says so of each row, ``badges`` holds
    every badge (:func:`bench.store.badges.badges`), separated by commas.

    Args:
        connection: to read from.
        dataset: name of the data set.
        split: default ``test`` where it has runs, else the split with most.
        schedule: only runs of it; default all.
        protocol: the ranking one; default the first of the card.
        metric: of that protocol, to rank by; default its first that has a direction.
        source: only ``real`` or only ``synthetic`` versions.
        content_hash: the version, or the beginning of its hash; default the one run last.
        include_superseded: also runs that others have replaced, a row each; they have no rank.

    Returns:
        a frame whose ``attrs`` say what is shown: ``dataset``, ``title``, ``content_hash``, ``source``, ``split``,
        ``schedule``, ``protocol``, ``protocol_version``, ``metric``, ``other_versions``, and under ``columns`` each
        number's definition.

    Raises:
        UsageError: no runs of that data set (version, split) are stored.
        UnknownNameError: no such protocol or metric on it.
    """
    version, others = _version(connection, dataset, source, content_hash)
    split = _split(version, split)
    of_board = RunFilter(
        dataset=dataset,
        content_hash=version.content_hash,
        split=split,
        schedule=schedule,
        status="ok",
        include_superseded=include_superseded,
    )
    found = queries.runs(connection, of_board)
    marks = views.marks(connection, [run.id for run in found])
    runs = _one_a_version(found, marks)
    numbers = _numbers(connection, version.id, split, [run.id for run in runs])
    definitions = _definitions(connection, numbers)
    protocol = _protocol(version, definitions, protocol)
    shown = _newest(definitions, numbers)
    shown.sort(key=lambda d: (d.protocol != protocol, _place(version.protocols, d.protocol), d.protocol))
    ranking = _ranking(shown, protocol, metric)
    frame = _ranked(_wide(runs, shown, definitions, numbers, _described(connection, runs, marks, schedule)), ranking)
    frame.attrs = {
        "dataset": version.name,
        "title": version.title,
        "content_hash": version.content_hash,
        "source": version.source,
        "split": split,
        "schedule": schedule,
        "protocol": protocol,
        "protocol_version": ranking.protocol_version if ranking else None,
        "metric": ranking.metric if ranking else None,
        "other_versions": [{"content_hash": o.content_hash, "source": o.source, "n_runs": o.n_runs} for o in others],
        "columns": {
            d.column: {
                "protocol": d.protocol,
                "protocol_version": d.protocol_version,
                "metric": d.metric,
                "params": d.params,
                "unit": d.unit,
                "higher_is_better": d.higher_is_better,
            }
            for d in shown
        },
    }
    return frame


# -- what is shown ----------------------------------------------------------------------------------------


def _version(
    connection: Connection, dataset: str, source: Source | None, content_hash: str | None
) -> tuple[StoredDataset, list[StoredDataset]]:
    versions = queries.datasets(connection, dataset)
    if not versions:
        names = sorted({d.name for d in queries.datasets(connection)})
        hint = f"there are some of: {', '.join(names)}" if names else f"begin with: bench run --dataset {dataset}"
        raise UsageError(f"no runs of data set {dataset!r} are stored", hint)
    fitting = [
        v
        for v in versions
        if source in (None, v.source) and (content_hash is None or v.content_hash.startswith(content_hash))
    ]
    if not fitting:
        have = ", ".join(f"{v.content_hash[:12]} ({v.source})" for v in versions)
        raise UsageError(f"no runs of that version of data set {dataset!r} are stored", f"there are: {have}")
    chosen = next((v for v in fitting if v.splits), None)
    if chosen is None:
        raise UsageError(
            f"no run of data set {dataset!r} has finished", f"why they failed: bench list runs --dataset {dataset}"
        )
    return chosen, [v for v in versions if v.id != chosen.id]


def _split(version: StoredDataset, split: str | None) -> str:
    if split is None:
        return "test" if "test" in version.splits else max(version.splits, key=lambda name: version.splits[name])
    if split not in version.splits:
        raise UsageError(
            f"no finished runs on split {split!r} of {version.name!r} are stored",
            f"there are some on: {', '.join(version.splits)}",
        )
    return split


def _one_a_version(runs: Iterable[StoredRun], marks: Mapping[int, Mapping[str, Any]]) -> list[StoredRun]:
    """Of ``runs``, newest first, one for each thing that was measured and seed; each of the superseded ones."""
    kept: dict[tuple[Measurement, int, int | None], StoredRun] = {}
    for run in sorted(runs, key=lambda r: (not r.complete, -r.id)):
        replaced = run.id if run.superseded else None
        kept.setdefault((measurement(run, marks.get(run.id, {}).get("changed")), run.seed, replaced), run)
    return list(kept.values())


def _numbers(connection: Connection, dataset_id: int, split: str, run_ids: Sequence[int]) -> pd.DataFrame:
    """Every number of the runs, in the order of runs and of their protocols."""
    found = frames.frame(
        connection,
        select(
            Result.run_id, Result.metric_id, Result.value, Result.low, Result.high, Result.reason, Result.position
        )
        .join(Run, Result.run_id == Run.id)
        .where(Run.dataset_version_id == dataset_id, Run.split == split, Run.status == "ok")
        .order_by(Result.run_id, Result.position),
    )  # fmt: skip
    return found[found["run_id"].isin(run_ids)]


def _definitions(connection: Connection, numbers: pd.DataFrame) -> list[Definition]:
    wanted = set(numbers["metric_id"])
    rows = connection.execute(
        select(
            Metric.id, Metric.protocol, Metric.protocol_version, Metric.name, Metric.params, Metric.unit,
            Metric.higher_is_better,
        )
    )  # fmt: skip
    return [
        Definition(id_, protocol, version, name, params, unit, queries.direction(better))
        for id_, protocol, version, name, params, unit, better in rows
        if id_ in wanted
    ]


def _protocol(version: StoredDataset, definitions: Sequence[Definition], protocol: str | None) -> str | None:
    known = {d.protocol for d in definitions} | set(version.protocols)
    if protocol is not None and protocol not in known:
        raise UnknownNameError("protocol", protocol, known)
    return protocol or version.ranks


def _newest(definitions: Sequence[Definition], numbers: pd.DataFrame) -> list[Definition]:
    """One definition for each protocol and metric: the protocol's newest version, as the last run has it."""
    last = numbers.drop_duplicates("metric_id", keep="last").set_index("metric_id")
    run_of, place_of = last["run_id"].to_dict(), last["position"].to_dict()
    newest: dict[str, str] = {}
    for d in definitions:
        newest[d.protocol] = max(newest.get(d.protocol, d.protocol_version), d.protocol_version, key=version_order)
    chosen: dict[str, Definition] = {}
    for d in sorted(definitions, key=lambda d: run_of[d.metric_id]):
        if d.protocol_version == newest[d.protocol]:
            chosen[d.column] = d
    return sorted(chosen.values(), key=lambda d: place_of[d.metric_id])


def version_order(version: str) -> tuple[int, Version | str]:
    """By what versions of a protocol are put in order; those that are no version numbers come first."""
    try:
        return (1, Version(version))
    except InvalidVersion:
        return (0, version)


def _place(protocols: Sequence[str], protocol: str) -> int:
    return protocols.index(protocol) if protocol in protocols else len(protocols)


def _ranking(shown: Sequence[Definition], protocol: str | None, metric: str | None) -> Definition | None:
    of_protocol = [d for d in shown if d.protocol == protocol]
    if metric is not None:
        for d in of_protocol:
            if d.metric == metric:
                return d
        raise UnknownNameError(f"metric of {protocol}", metric, [d.metric for d in of_protocol])
    return next((d for d in of_protocol if d.higher_is_better is not None), None)


# -- the frame --------------------------------------------------------------------------------------------


def _wide(
    runs: Sequence[StoredRun],
    shown: Sequence[Definition],
    definitions: Sequence[Definition],
    numbers: pd.DataFrame,
    described: Mapping[str, Any],
) -> pd.DataFrame:
    """One row a run, unranked, in the order of ``runs``."""
    run_ids = pd.Index([run.id for run in runs], dtype="int64")
    cells = {id_: group.set_index("run_id") for id_, group in numbers.groupby("metric_id")}
    columns: dict[str, Any] = {
        "rank": pd.array([None] * len(runs), dtype="Int64"),
        "run_id": run_ids.to_numpy(),
        **described,
    }
    for d in shown:
        own = cells[d.metric_id].reindex(run_ids)
        columns[d.column] = own["value"].to_numpy()
        columns[f"{d.column}:low"] = own["low"].to_numpy()
        columns[f"{d.column}:high"] = own["high"].to_numpy()
        others = [other for other in definitions if other.column == d.column and other != d]
        columns[f"{d.column}:reason"] = _reasons(run_ids, d, others, cells)
    for name in (*BEFORE, *AFTER):
        if name not in columns:
            columns[name] = frames.column(name, [getattr(run, name) for run in runs])
    return pd.DataFrame({name: columns[name] for name in (*BEFORE, *_between(shown), *AFTER)})


def _described(
    connection: Connection, runs: Sequence[StoredRun], marks: Mapping[int, Mapping[str, Any]], schedule: str | None
) -> dict[str, Any]:
    """Columns of what else the store knows of the runs."""
    return {
        "badges": frames.column("badges", [", ".join(badges(run, marks.get(run.id, {}))) for run in runs]),
        "may_rank": frames.column("may_rank", [ranks(run, marks.get(run.id, {}), schedule) for run in runs]),
        "settings": frames.column("settings", _settings(connection, runs)),
    }


def _settings(connection: Connection, runs: Sequence[StoredRun]) -> list[str]:
    """Of each run the settings in which it differs from other runs of its method, "min_score=0.9, crop=160"."""
    versions: dict[str, dict[str, None]] = {}
    for run in runs:
        versions.setdefault(run.method, {})[run.params_hash] = None
    wanted = sorted({hash_ for hashes in versions.values() if len(hashes) > 1 for hash_ in hashes})
    params: dict[str, dict[str, Any]] = {}
    for chosen in queries.chunks(wanted):
        rows = connection.execute(
            select(MethodVersion.params_hash, MethodVersion.params).where(MethodVersion.params_hash.in_(chosen))
        )
        params |= {row.params_hash: row.params for row in rows}
    varying = {method: _varying([params[h] for h in hashes if h in params]) for method, hashes in versions.items()}
    found = []
    for run in runs:
        own = params.get(run.params_hash, {})
        found.append(
            ", ".join(f"{name}={as_text(value)}" for name, value in own.items() if name in varying[run.method])
        )
    return found


def _varying(settings: Sequence[Mapping[str, Any]]) -> set[str]:
    """The settings that are not the same everywhere."""
    first: Mapping[str, Any] = settings[0] if settings else {}
    names = {name for own in settings for name in own}
    return {name for name in names if any(own.get(name) != first.get(name) for own in settings)}


def _between(shown: Sequence[Definition]) -> list[str]:
    return [f"{d.column}{part}" for d in shown for part in ("", ":low", ":high", ":reason")]


def _reasons(
    run_ids: pd.Index[int], wanted: Definition, others: Sequence[Definition], cells: Mapping[Any, pd.DataFrame]
) -> pd.Series[Any]:
    """Why each run has no number in a column, None where it has."""
    reasons: dict[int, str | None] = {}
    for other in others:
        if other.protocol_version != wanted.protocol_version:
            why = f"scored under version {other.protocol_version} of {other.protocol}, not {wanted.protocol_version}"
        else:
            why = "scored with other parameters"
        reasons |= dict.fromkeys(cells[other.metric_id].index, why)
    own = cells[wanted.metric_id]
    reasons |= dict(zip(own.index, own["reason"].where(own["value"].isna(), None), strict=True))
    return pd.Series([reasons.get(run_id, "not scored") for run_id in run_ids], dtype="object")


def _ranked(frame: pd.DataFrame, ranking: Definition | None) -> pd.DataFrame:
    """The rows best first: those with a rank, then the others by their value."""
    if ranking is None:
        return frame.sort_values(["title", "seed"], kind="stable", ignore_index=True)
    best_first = -1 if ranking.higher_is_better else 1
    values = frame[ranking.column].where(frame["may_rank"])
    numbers, lows, highs = (
        [None if pd.isna(v) else float(v) for v in column]
        for column in (values, frame[f"{ranking.column}:low"], frame[f"{ranking.column}:high"])
    )
    found = overlap_ranks(numbers, lows, highs, bool(ranking.higher_is_better))
    frame["rank"] = pd.array(found, dtype="Int64")
    order = pd.DataFrame(
        {
            "rank": frame["rank"],
            "value": best_first * frame[ranking.column],
            "title": frame["title"],
            "seed": frame["seed"],
        }
    ).sort_values(["rank", "value", "title", "seed"], kind="stable", na_position="last")
    return frame.loc[order.index].reset_index(drop=True)
