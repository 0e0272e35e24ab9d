"""What the pages of the board ask beside :mod:`bench.store.queries`: narrow answers, fast on big stores."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Row, Select, Text, cast, func, select

from bench.errors import UnknownNameError
from bench.records import ArtifactRecord, EnvironmentRecord, MachineRecord, MethodVersionRecord, ResultRecord
from bench.store import frames, queries
from bench.store.badges import said_to_know
from bench.store.identity import SUBMITTED, measurement
from bench.store.models import (
    Artifact,
    DatasetVersion,
    Environment,
    Image,
    ImageResult,
    Machine,
    MethodVersion,
    Metric,
    Result,
    Run,
)

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Provenance:
    """Where a run's numbers come from, without the numbers of single images.

    Attributes:
        method: its version.
        environment: the software.
        machine: the hardware.
        results: every number, in the order of the protocols.
        artifacts: its files, with their hashes.
        arguments: the plan that it was run by.
        card: the card of its data set.
    """

    method: MethodVersionRecord
    environment: EnvironmentRecord
    machine: MachineRecord
    results: tuple[ResultRecord, ...]
    artifacts: tuple[ArtifactRecord, ...]
    arguments: dict[str, Any]
    card: dict[str, Any]


def provenance(connection: Connection, run_id: int) -> Provenance:
    """Everything of a run but images, image results and timing samples.

    Raises:
        UnknownNameError: no such run.
    """
    row = connection.execute(
        select(
            Run.method_version_id, Run.dataset_version_id, Run.environment_id, Run.machine_id, Run.arguments,
            Run.n_parameters,
        ).where(Run.id == run_id)
    ).one_or_none()  # fmt: skip
    if row is None:
        raise UnknownNameError("run", str(run_id), [])

    def shared(model: Any, id_: int) -> dict[str, Any]:
        return dict(connection.execute(select(model.__table__).where(model.id == id_)).mappings().one())

    artifacts = connection.execute(
        select(Artifact.path, Artifact.sha256, Artifact.bytes).where(Artifact.run_id == run_id).order_by(Artifact.path)
    )
    return Provenance(
        method=_of(MethodVersionRecord, shared(MethodVersion, row.method_version_id), n_parameters=row.n_parameters),
        environment=_of(EnvironmentRecord, shared(Environment, row.environment_id)),
        machine=_of(MachineRecord, shared(Machine, row.machine_id)),
        results=tuple(queries.results(connection, run_id)),
        artifacts=tuple(ArtifactRecord(*artifact) for artifact in artifacts),
        arguments=row.arguments,
        card=shared(DatasetVersion, row.dataset_version_id)["card"],
    )


def machines(connection: Connection) -> dict[str, MachineRecord]:
    """Hash to machine; of several rows with one hash the last."""
    rows = connection.execute(select(Machine.__table__).order_by(Machine.id)).mappings()
    return {row["hash"]: _of(MachineRecord, dict(row)) for row in rows}


def image_metrics(connection: Connection, run_id: int) -> list[tuple[str, str, bool | None]]:
    """The protocols and metrics that a run has image by image, with their direction, as the run has them."""
    has = select(ImageResult.metric_id).where(ImageResult.run_id == run_id, ImageResult.metric_id == Metric.id).exists()
    rows = connection.execute(
        select(Metric.protocol, Metric.name, Metric.higher_is_better)
        .join(Result, (Result.metric_id == Metric.id) & (Result.run_id == run_id))
        .where(has)
        .order_by(Result.position, Metric.id)
    )
    return [(protocol, name, queries.direction(better)) for protocol, name, better in rows]


def marks(connection: Connection, run_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Run to what its plan says a reader must know; only runs of which it says something.

    ``demo``, ``trained_on`` (data sets that given weights are said to know), ``further_data`` (that the method trains
    on), and ``changed``: what is not as the method has it by default, empty where everything is.
    """
    found: dict[int, dict[str, Any]] = {}
    names = ("demo", "trained_on", "further_data", "changed")
    for chosen in queries.chunks(run_ids):
        rows = connection.execute(select(Run.id, *[_argument(name) for name in names]).where(Run.id.in_(chosen)))
        for run_id, *texts in rows:
            pairs = [(name, _read(text)) for name, text in zip(names, texts, strict=True)]
            if said := {name: value for name, value in pairs if value or (name == "changed" and value is not None)}:
                found[run_id] = said
    return found


def _argument(name: str) -> ColumnElement[str]:
    """One of a plan's arguments as JSON text: of most runs it says nothing, and text is not decoded for nothing."""
    return cast(Run.arguments[name], Text).label(name)


def _read(text: str | None) -> Any:
    return None if text is None or text == "null" else json.loads(text)


def cited(connection: Connection, run_ids: Sequence[int]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What a table of these runs cites: the papers of their methods, and the cards of their data sets, each once."""
    methods: set[int] = set()
    datasets: set[int] = set()
    for chosen in queries.chunks(run_ids):
        rows = connection.execute(
            select(Run.method_version_id, Run.dataset_version_id).where(Run.id.in_(chosen)).distinct()
        )
        for method, dataset in rows:
            methods.add(method)
            datasets.add(dataset)
    papers = connection.scalars(
        select(MethodVersion.paper)
        .where(MethodVersion.id.in_(methods), MethodVersion.paper.is_not(None))
        .order_by(MethodVersion.id)
    )
    cards = connection.execute(
        select(DatasetVersion.name, DatasetVersion.title, DatasetVersion.card)
        .where(DatasetVersion.id.in_(datasets))
        .order_by(DatasetVersion.id)
    )
    return [p for p in papers if p], [{"name": name, "title": title, **card} for name, title, card in cards]


def ranking_values(connection: Connection, schedule: str = "paper") -> pd.DataFrame:
    """Every method's number by which each data set ranks: one row a finished, standing, complete run.

    Of what was measured more than once it is the last run, as on the board; where that has no number, there is none.

    Columns: ``dataset_version_id``, ``dataset``, ``source``, ``split``, ``method``, ``title``, ``origin``,
    ``submitted_by``, ``schedule``, ``run_id``, ``seed``, ``protocol``, ``metric``, ``value``, ``higher_is_better``,
    ``measurement`` (:func:`bench.store.identity.measurement`), ``changed`` (see :func:`marks`; None where nobody knows)
    and ``may_rank`` (False for weights that are said to know the data set). Of a data set version it is the first
    metric with a direction of the protocol that ranks it, as its last run was scored; numbers of older definitions are
    left out, controls too.

    Args:
        connection: to read from.
        schedule: of the runs; with ``paper`` come the submissions, which have none.
    """
    chosen: list[tuple[Any, ...]] = []
    for version in queries.datasets(connection):
        ranking = _ranking_metric(connection, version.id, version.ranks)
        if ranking is not None:
            of_version = (version.id, version.name, version.source, *ranking[1:])
            rows = connection.execute(_values_of(version.id, ranking.id, schedule))
            chosen += [(*of_version, *row) for row in _last_of_each(rows)]
    columns = zip(*chosen, strict=True) if chosen else [()] * len(_RANKED)
    found: dict[str, Any] = dict(zip(_RANKED, columns, strict=True))
    families, variants, trained_on = (found.pop(name) for name in ("family", "variant", "trained_on"))
    found["method"] = tuple(map(queries.full_name, families, variants))
    found["may_rank"] = tuple(
        not said_to_know(dataset, {"trained_on": _read(text)})
        for dataset, text in zip(found["dataset"], trained_on, strict=True)
    )
    import pandas as pd

    return pd.DataFrame({name: frames.column(name, values) for name, values in found.items()})


_RANKED = (
    *("dataset_version_id", "dataset", "source", "protocol", "metric", "higher_is_better", "measurement", "changed"),
    *("family", "variant", "submitted_by", "schedule"),
    *("split", "seed", "run_id", "value", "title", "origin", "trained_on"),
)
"""What is known of each run behind :func:`ranking_values`."""


def _last_of_each(rows: Iterable[Row[Any]]) -> Iterator[tuple[Any, ...]]:
    """Of what was measured more than once the last run, where it has a value: measurement, changed, more columns."""
    known: dict[tuple[Any, ...], tuple[Any, Any]] = {}
    last: dict[Any, tuple[Any, Row[Any]]] = {}
    for row in rows:  # oldest first
        what = row[:_OF_MEASUREMENT]  # few are different, and many rows have each
        if what not in known:
            changed = _read(row.changed)
            known[what] = measurement(row, changed), changed
        of_run = known[what]
        last[of_run[0], row[_OF_MEASUREMENT], row[_OF_MEASUREMENT + 1]] = of_run, row
    return ((*of_run, *row[_HASHES:]) for of_run, row in last.values() if row.value is not None)


def _ranking_metric(connection: Connection, dataset_id: int, protocol: str | None) -> Row[int, str, str, int] | None:
    """The metric that ranks a data set version, as its last finished run defines it."""
    last = (
        select(func.max(Run.id))
        .where(Run.dataset_version_id == dataset_id, Run.status == "ok", ~Run.superseded)
        .scalar_subquery()
    )
    return connection.execute(
        select(Metric.id, Metric.protocol, Metric.name, Metric.higher_is_better)
        .join(Result, Result.metric_id == Metric.id)
        .where(Result.run_id == last, Metric.protocol == protocol, Metric.higher_is_better != 0)
        .order_by(Result.position)
        .limit(1)
    ).one_or_none()


_HASHES, _OF_MEASUREMENT = 5, 9
"""How many of the first columns of :func:`_values_of` only tell measurements apart, and how many do at all."""


def _values_of(dataset_id: int, metric_id: int, schedule: str) -> Select[*tuple[Any, ...]]:
    """Runs of a data set version that count, oldest first, with their value, None where they lack the metric."""
    return (
        select(
            _argument("changed"), MethodVersion.code_hash, MethodVersion.params_hash, Run.init, Run.weights_sha256,
            MethodVersion.name.label("family"), MethodVersion.variant, Run.submitted_by, Run.schedule,
            Run.split, Run.seed, Run.id.label("run_id"), Result.value, MethodVersion.title, MethodVersion.origin,
            _argument("trained_on"),
        )
        .select_from(Run)
        .join(MethodVersion, Run.method_version_id == MethodVersion.id)
        .outerjoin(Result, (Result.run_id == Run.id) & (Result.metric_id == metric_id))
        .where(
            Run.dataset_version_id == dataset_id, Run.status == "ok", ~Run.superseded,
            Run.schedule.in_([schedule, *([SUBMITTED] if schedule == "paper" else [])]),
            Run.complete, Run.badge != "control", MethodVersion.origin != "control",
        )
        .order_by(Run.id)
    )  # fmt: skip


def image_values(connection: Connection, run_ids: Sequence[int], protocol: str, metric: str) -> pd.DataFrame:
    """A number of several runs on every image that any of them has: one row a run and image.

    Columns: ``run_id``, ``image``, ``group``, ``truths``, ``height``, ``width``, ``value``, ``tp``, ``fp``, ``fn``.
    """
    metrics = select(Metric.id).where(Metric.protocol == protocol, Metric.name == metric)
    return frames.frame(
        connection,
        select(
            ImageResult.run_id, Image.key.label("image"), Image.group, Image.truths, Image.height, Image.width,
            ImageResult.value, ImageResult.tp, ImageResult.fp, ImageResult.fn,
        )
        .join(Image, ImageResult.image_id == Image.id)
        .where(ImageResult.run_id.in_([int(i) for i in run_ids]), ImageResult.metric_id.in_(metrics))
        .order_by(Image.key, ImageResult.run_id),
    )  # fmt: skip


def _of(record: Any, row: dict[str, Any], **more: Any) -> Any:
    """A record of the columns that it has."""
    row |= more
    return record(**{field.name: row[field.name] for field in dataclasses.fields(record)})
