"""What the store is asked, answered in plain records: no pandas, fast enough for a command line's lists."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select

from bench.errors import UnknownNameError, UsageError
from bench.records import (
    ArtifactRecord,
    Badge,
    DatasetVersionRecord,
    EnvironmentRecord,
    FailureKind,
    ImageRecord,
    ImageResultRecord,
    MachineRecord,
    MethodVersionRecord,
    ReportedResultRecord,
    ResultRecord,
    RunBundle,
    RunRecord,
    Source,
    TimingRecord,
)
from bench.store.latency import LatencySummary
from bench.store.models import (
    PHASES,
    STANDS,
    Artifact,
    DatasetVersion,
    Environment,
    Image,
    ImageResult,
    Machine,
    MethodVersion,
    Metric,
    ReportedResult,
    Result,
    Run,
    TimingSample,
)

Record = TypeVar("Record")
Value = TypeVar("Value")

Status = Literal["ok", "failed"]

AT_ONCE = 500
"""Values in one statement: databases bound the number of its parameters."""

KEY_SHOWN = 12
"""Characters of a run's key that are shown; a prefix of any length is understood."""


@dataclass(frozen=True)
class StoredRun:
    """A run as it is listed: the run, and the names of what it was made of and with.

    Attributes:
        id: the number of the run in this store.
        method: the method's full name, with its variant.
        title: how the method is written in a table.
        origin: ``reimplementation``, ``stock``, ``baseline``, ``control`` or ``external``.
        dataset: name of the data set.
        content_hash: which version of it.
        source: ``real`` or ``synthetic``.
        superseded: whether a later run of the same key has replaced it.
        machine: hash of the machine; latencies are compared only within one.
        latency_median_ms: median of the ``total`` timing samples, milliseconds an image.
        latency_p95_ms: their 95th percentile.

    The other attributes are those of :class:`bench.records.RunRecord`.
    """

    id: int
    key: str
    method: str
    family: str
    variant: str
    title: str
    origin: str
    code_hash: str
    params_hash: str
    dataset: str
    content_hash: str
    source: Source
    split: str
    seed: int
    schedule: str
    init: str
    device: str
    machine: str
    status: Status
    superseded: bool
    badge: Badge
    started: datetime
    finished: datetime
    attempt: int
    folder: str
    command: str
    n_images: int
    complete: bool
    failure_kind: FailureKind | None
    failure: str | None
    commit: str | None
    dirty: bool | None
    weights_sha256: str | None
    train_seconds: float | None
    predict_seconds: float | None
    peak_memory_bytes: int | None
    n_parameters: int | None
    submitted_by: str | None
    note: str | None
    latency_median_ms: float | None
    latency_p95_ms: float | None


@dataclass(frozen=True)
class StoredDataset:
    """A data set version of which the store has runs.

    Attributes:
        splits: split to how many finished, standing runs it has; only splits that have some.
        n_runs: all runs, failed and superseded ones too.
        latest: when the last run was started that was stored.

    The other attributes are those of :class:`bench.records.DatasetVersionRecord`.
    """

    id: int
    name: str
    content_hash: str
    source: Source
    title: str
    licence: str
    n_images: int
    n_instances: int
    classes: tuple[str, ...]
    protocols: tuple[str, ...]
    splits: Mapping[str, int]
    n_runs: int
    latest: datetime

    @property
    def ranks(self) -> str | None:
        """The protocol that ranks it: the first of its card."""
        return self.protocols[0] if self.protocols else None


def chunks(values: Sequence[Value]) -> Iterator[Sequence[Value]]:
    """``values`` in parts that fit into one statement."""
    return (values[start : start + AT_ONCE] for start in range(0, len(values), AT_ONCE))


# -- runs -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunFilter:
    """Which runs are meant; a field that is None leaves open what it names.

    Attributes:
        dataset: name of a data set.
        content_hash: of one version of it.
        method: a family ("unet": all its variants) or a variant's full name ("unet-bce").
        status: ``ok`` or ``failed``.
        schedule: ``paper``, ``short`` or ``smoke``.
        split: name of a split.
        seed: of the run.
        run_ids: numbers of runs.
        include_superseded: also runs that others have replaced.
    """

    dataset: str | None = None
    content_hash: str | None = None
    method: str | None = None
    status: Status | None = None
    schedule: str | None = None
    split: str | None = None
    seed: int | None = None
    run_ids: Sequence[int] | None = None
    include_superseded: bool = False

    def conditions(self) -> list[ColumnElement[bool]]:
        """On a statement over runs with their method versions and data set versions."""
        equal: tuple[tuple[Any, Any], ...] = (
            (DatasetVersion.name, self.dataset),
            (DatasetVersion.content_hash, self.content_hash),
            (Run.status, self.status),
            (Run.schedule, self.schedule),
            (Run.split, self.split),
            (Run.seed, self.seed),
        )
        found = [column == value for column, value in equal if value is not None]
        if self.method is not None:
            full = and_(MethodVersion.variant != "", MethodVersion.name + "-" + MethodVersion.variant == self.method)
            found.append(or_(MethodVersion.name == self.method, full))
        if self.run_ids is not None:
            found.append(Run.id.in_([int(i) for i in self.run_ids]))
        if not self.include_superseded:
            found.append(Run.superseded.is_(False))
        return found


def runs(connection: Connection, wanted: RunFilter, limit: int | None = None) -> list[StoredRun]:
    """The runs that fit, newest first."""
    return _stored_runs(connection, wanted.conditions(), limit)


def run(connection: Connection, reference: int | str) -> StoredRun:
    """One run by its number or the beginning of its key; see :meth:`bench.store.store.Store.run`."""
    text = str(reference).strip()
    if text.isascii() and text.isdigit() and len(text) < 19:
        found = _stored_runs(connection, [Run.id == int(text)])
        if found:
            return found[0]
    if isinstance(reference, int) or not text:
        raise _unknown_run(connection, text)
    found = _stored_runs(connection, [Run.key.startswith(text.lower(), autoescape=True)])
    if not found:
        raise _unknown_run(connection, text)
    keys = sorted({r.key for r in found})
    if len(keys) > 1:
        some = ", ".join(key[: len(text) + 4] for key in keys[:3])
        raise UsageError(f"{len(keys)} runs have a key that begins with {text!r}", f"write more of it: {some} ...")
    return next((r for r in found if r.status == "ok" and not r.superseded), found[0])


def finished(connection: Connection, key: str) -> StoredRun | None:
    """The run that stands for a key."""
    return next(iter(_stored_runs(connection, [Run.key == key, STANDS])), None)


def attempts(connection: Connection, key: str) -> int:
    """How many runs of a key there are, whatever their end."""
    return connection.scalar(select(func.count()).where(Run.key == key)) or 0


def _stored_runs(connection: Connection, conditions: Iterable[Any], limit: int | None = None) -> list[StoredRun]:
    own = {f.name for f in dataclasses.fields(StoredRun)} & set(Run.__table__.columns.keys())
    statement = (
        select(
            *[getattr(Run, name) for name in sorted(own)],
            MethodVersion.name.label("family"),
            MethodVersion.variant,
            MethodVersion.title,
            MethodVersion.origin,
            MethodVersion.code_hash,
            MethodVersion.params_hash,
            DatasetVersion.name.label("dataset"),
            DatasetVersion.content_hash,
            DatasetVersion.source,
            Machine.hash.label("machine"),
        )
        .join(MethodVersion, Run.method_version_id == MethodVersion.id)
        .join(DatasetVersion, Run.dataset_version_id == DatasetVersion.id)
        .join(Machine, Run.machine_id == Machine.id)
    )
    rows = connection.execute(statement.where(*conditions).order_by(Run.id.desc()).limit(limit)).mappings()
    return [StoredRun(**row, method=full_name(row["family"], row["variant"])) for row in rows]


def full_name(family: str, variant: str) -> str:
    """The name by which a method's variant is addressed."""
    return f"{family}-{variant}" if variant else family


def _unknown_run(connection: Connection, reference: str) -> UnknownNameError:
    if reference.isdecimal():
        latest = connection.scalars(select(Run.id).order_by(Run.id.desc()).limit(5))
        return UnknownNameError("run", reference, [str(number) for number in latest])
    keys = connection.scalars(select(Run.key).order_by(Run.id.desc()).limit(5))
    return UnknownNameError("run", reference, {key[:KEY_SHOWN] for key in keys})


# -- data sets --------------------------------------------------------------------------------------------


def datasets(connection: Connection, name: str | None = None) -> list[StoredDataset]:
    """The data set versions that have runs, the one run last first."""
    statement = (
        select(
            Run.dataset_version_id.label("id"),
            Run.split,
            func.count().label("n"),
            func.sum(case((STANDS, 1), else_=0)).label("standing"),
            func.max(Run.id).label("last"),
        )
        .join(DatasetVersion, Run.dataset_version_id == DatasetVersion.id)
        .group_by(Run.dataset_version_id, Run.split)
        .order_by(Run.split)
    )
    if name is not None:
        statement = statement.where(DatasetVersion.name == name)
    groups: dict[int, list[Any]] = {}
    for row in connection.execute(statement):
        groups.setdefault(row.id, []).append(row)
    last = {id_: max(row.last for row in rows) for id_, rows in groups.items()}
    latest = select(Run.id, Run.started).where(Run.id.in_(last.values()))
    started = {row.id: row.started for row in connection.execute(latest)}
    versions = connection.execute(select(DatasetVersion.__table__).where(DatasetVersion.id.in_(groups)))
    found = [
        StoredDataset(
            id=row.id,
            name=row.name,
            content_hash=row.content_hash,
            source=row.source,
            title=row.title,
            licence=row.licence,
            n_images=row.n_images,
            n_instances=row.n_instances,
            classes=tuple(row.classes),
            protocols=tuple(row.protocols),
            splits={group.split: int(group.standing) for group in groups[row.id] if group.standing},
            n_runs=sum(group.n for group in groups[row.id]),
            latest=started[last[row.id]],
        )
        for row in versions
    ]
    return sorted(found, key=lambda version: last[version.id], reverse=True)


# -- one run, whole ---------------------------------------------------------------------------------------


def bundle(connection: Connection, run_id: int) -> RunBundle:
    """A run with everything of it, as it was added; see :meth:`bench.store.store.Store.bundle`."""
    row = connection.execute(select(Run.__table__).where(Run.id == run_id)).mappings().one_or_none()
    if row is None:
        raise _unknown_run(connection, str(run_id))

    def shared(model: Any, record: type[Record], id_: int, **more: Any) -> Record:
        fields = connection.execute(select(model.__table__).where(model.id == id_)).mappings().one()
        return _record(record, {**fields, **more})

    image_results = connection.execute(
        select(
            Image.key, Metric.protocol, Metric.protocol_version, Metric.name, ImageResult.value, ImageResult.tp,
            ImageResult.fp, ImageResult.fn,
        )
        .join(Image, ImageResult.image_id == Image.id)
        .join(Metric, ImageResult.metric_id == Metric.id)
        .where(ImageResult.run_id == run_id)
        .order_by(ImageResult.metric_id, Image.key)
    )  # fmt: skip
    timings = connection.execute(
        select(Image.key, TimingSample.phase, TimingSample.round, TimingSample.milliseconds)
        .join(Image, TimingSample.image_id == Image.id)
        .where(TimingSample.run_id == run_id)
        .order_by(TimingSample.round, Image.key, TimingSample.phase)
    )
    images = connection.execute(
        select(Image.__table__).where(Image.dataset_version_id == row["dataset_version_id"]).order_by(Image.key)
    )
    artifacts = connection.execute(select(Artifact.__table__).where(Artifact.run_id == run_id).order_by(Artifact.path))
    return RunBundle(
        run=_record(RunRecord, row),
        dataset=shared(DatasetVersion, DatasetVersionRecord, row["dataset_version_id"]),
        method=shared(MethodVersion, MethodVersionRecord, row["method_version_id"], n_parameters=row["n_parameters"]),
        environment=shared(Environment, EnvironmentRecord, row["environment_id"]),
        machine=shared(Machine, MachineRecord, row["machine_id"]),
        images=tuple(_record(ImageRecord, i) for i in images.mappings()),
        results=tuple(results(connection, run_id)),
        image_results=tuple(ImageResultRecord(*r) for r in image_results),
        timings=tuple(TimingRecord(*t) for t in timings),
        artifacts=tuple(_record(ArtifactRecord, a) for a in artifacts.mappings()),
    )


def latency(connection: Connection, run_id: int) -> dict[str, LatencySummary]:
    """Phase to summary, for every phase that was timed."""
    samples: dict[str, list[float]] = {}
    rows = connection.execute(
        select(TimingSample.phase, TimingSample.milliseconds).where(TimingSample.run_id == run_id)
    )
    for phase, milliseconds in rows:
        samples.setdefault(phase, []).append(milliseconds)
    return {phase: LatencySummary.of(phase, samples[phase]) for phase in PHASES if phase in samples}


def results(connection: Connection, run_id: int) -> Iterable[ResultRecord]:
    """The numbers of a run, in the order of its protocols."""
    rows = connection.execute(
        select(
            Metric.protocol, Metric.protocol_version, Metric.name.label("metric"), Metric.unit, Metric.params,
            Metric.higher_is_better, Result.value, Result.reason, Result.low, Result.high, Result.n,
        )
        .join(Metric, Result.metric_id == Metric.id)
        .where(Result.run_id == run_id)
        .order_by(Result.position, Metric.id)
    )  # fmt: skip
    for row in rows.mappings():
        yield ResultRecord(**{**row, "higher_is_better": direction(row["higher_is_better"])})


def direction(stored: int) -> bool | None:
    """``Metric.higher_is_better`` as the records have it."""
    return {1: True, -1: False, 0: None}[stored]


def _record(record: type[Record], row: Any) -> Record:
    """A record of the columns that it has; lists become tuples as the records hold them."""
    names = [f.name for f in dataclasses.fields(record)]  # type: ignore[arg-type]
    return record(**{n: tuple(row[n]) if n in ("classes", "protocols") else row[n] for n in names})


# -- papers -----------------------------------------------------------------------------------------------


def reported(
    connection: Connection, *, dataset: str | None = None, paper: str | None = None, protocol: str | None = None
) -> list[ReportedResultRecord]:
    """Numbers of papers, in the order in which they were first given."""
    columns: Sequence[tuple[Any, str | None]] = (
        (ReportedResult.dataset, dataset),
        (ReportedResult.paper, paper),
        (ReportedResult.protocol, protocol),
    )
    rows = connection.execute(
        select(ReportedResult.__table__)
        .where(*[column == value for column, value in columns if value is not None])
        .order_by(ReportedResult.id)
    )
    return [_record(ReportedResultRecord, row) for row in rows.mappings()]
