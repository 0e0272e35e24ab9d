"""Numbers of runs as tidy pandas frames: one row a number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from sqlalchemy import ColumnElement, Connection, Executable, select

from bench.store import queries
from bench.store.models import DatasetVersion, Image, ImageResult, MethodVersion, Metric, Result, Run, TimingSample
from bench.store.queries import RunFilter, StoredRun

RUN_COLUMNS = (
    "method",
    "family",
    "variant",
    "title",
    "origin",
    "dataset",
    "content_hash",
    "source",
    "split",
    "schedule",
    "seed",
    "init",
    "badge",
    "complete",
    "superseded",
)
METRIC_COLUMNS = ("protocol", "protocol_version", "metric")
MORE_RUN_COLUMNS = (
    "started",
    "commit",
    "dirty",
    "device",
    "machine",
    "latency_median_ms",
    "latency_p95_ms",
    "train_seconds",
    "predict_seconds",
    "peak_memory_bytes",
    "n_parameters",
)


def results(
    connection: Connection, wanted: RunFilter, *, protocol: str | None = None, metric: str | None = None
) -> pd.DataFrame:
    """One row a run and number; see :meth:`bench.store.store.Store.results`."""
    statement = (
        select(Result.run_id, Result.metric_id, Result.value, Result.low, Result.high, Result.n, Result.reason)
        .join(Run, Result.run_id == Run.id)
        .join(MethodVersion, Run.method_version_id == MethodVersion.id)
        .join(DatasetVersion, Run.dataset_version_id == DatasetVersion.id)
        .join(Metric, Result.metric_id == Metric.id)
        .where(*wanted.conditions(), *_is_metric(protocol, metric))
        .order_by(Result.run_id, Metric.protocol, Result.position)
    )
    numbers = frame(connection, statement)
    runs = _runs(queries.runs(connection, wanted))
    described = numbers.merge(runs, on="run_id").merge(_metrics(connection), on="metric_id")
    columns = (
        "run_id",
        *RUN_COLUMNS,
        *METRIC_COLUMNS,
        *("value", "low", "high", "unit", "higher_is_better", "reason", "n"),
        *MORE_RUN_COLUMNS,
    )
    return described[list(columns)]


def image_results(
    connection: Connection, run_id: int, *, protocol: str | None = None, metric: str | None = None
) -> pd.DataFrame:
    """One row an image and number; see :meth:`bench.store.store.Store.image_results`."""
    statement = (
        select(
            ImageResult.metric_id, Image.key.label("image"), Image.group, Image.height, Image.width, Image.truths,
            ImageResult.value, ImageResult.tp, ImageResult.fp, ImageResult.fn,
        )
        .join(Image, ImageResult.image_id == Image.id)
        .join(Metric, ImageResult.metric_id == Metric.id)
        .where(ImageResult.run_id == run_id, *_is_metric(protocol, metric))
        .order_by(ImageResult.metric_id, Image.key)
    )  # fmt: skip
    numbers = frame(connection, statement).merge(_metrics(connection), on="metric_id")
    columns = ("image", "group", "height", "width", "truths", *METRIC_COLUMNS, "value", "tp", "fp", "fn", "unit")
    return numbers[[*columns, "higher_is_better"]]


def timings(connection: Connection, run_id: int) -> pd.DataFrame:
    """One row a sample; see :meth:`bench.store.store.Store.timings`."""
    return frame(
        connection,
        select(Image.key.label("image"), TimingSample.phase, TimingSample.round, TimingSample.milliseconds)
        .join(Image, TimingSample.image_id == Image.id)
        .where(TimingSample.run_id == run_id)
        .order_by(TimingSample.round, Image.key, TimingSample.phase),
    )


_KINDS = {
    "value": "float64",
    "low": "float64",
    "high": "float64",
    "milliseconds": "float64",
    "n": "Int64",
    "tp": "Int64",
    "fp": "Int64",
    "fn": "Int64",
    "run_id": "int64",
    "seed": "int64",
    "complete": "bool",
    "superseded": "bool",
    "may_rank": "bool",
    "started": "datetime64[us, UTC]",
    "latency_median_ms": "float64",
    "latency_p95_ms": "float64",
    "train_seconds": "float64",
    "predict_seconds": "float64",
    "peak_memory_bytes": "Int64",
    "n_parameters": "Int64",
    "height": "int64",
    "width": "int64",
    "truths": "int64",
    "n_images": "int64",
    "round": "int64",
    "metric_id": "int64",
}
"""Types of columns, so that they do not depend on which rows there are; any other is of objects."""


def _is_metric(protocol: str | None, metric: str | None) -> list[ColumnElement[bool]]:
    pairs: tuple[tuple[Any, str | None], ...] = ((Metric.protocol, protocol), (Metric.name, metric))
    return [column == value for column, value in pairs if value is not None]


def frame(connection: Connection, statement: Executable) -> pd.DataFrame:
    """The rows of a statement, with types that do not depend on which rows there are."""
    answer = connection.execute(statement)
    names = list(answer.keys())
    columns = list(zip(*answer.all(), strict=True)) or [() for _ in names]
    return pd.DataFrame({name: column(name, values) for name, values in zip(names, columns, strict=True)})


def column(name: str, values: Sequence[Any]) -> pd.Series[Any]:
    """Values as a column of the type that goes with its name."""
    return pd.Series(values, dtype=_KINDS.get(name, "object"))


def _runs(runs: Sequence[StoredRun]) -> pd.DataFrame:
    """What a number's row says of its run."""
    columns = {"run_id": column("run_id", [run.id for run in runs])}
    for name in (*RUN_COLUMNS, *MORE_RUN_COLUMNS):
        columns[name] = column(name, [getattr(run, name) for run in runs])
    return pd.DataFrame(columns)


def _metrics(connection: Connection) -> pd.DataFrame:
    metrics = frame(
        connection,
        select(
            Metric.id.label("metric_id"), Metric.protocol, Metric.protocol_version, Metric.name.label("metric"),
            Metric.unit, Metric.higher_is_better,
        ),
    )  # fmt: skip
    metrics["higher_is_better"] = [queries.direction(int(stored)) for stored in metrics["higher_is_better"]]
    return metrics.astype({"higher_is_better": "object"})
