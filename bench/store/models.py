"""The tables of the store, with what must hold of them written into the schema.

A change here needs a migration: ``tests/store`` compares the two (see ``migrations/README.md``).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    MetaData,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from bench.store.plain import clean_text, plain


class CleanText(TypeDecorator[str]):
    """Text that every database takes: see :func:`bench.store.plain.clean_text`."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Clean on the way in."""
        return None if value is None else clean_text(value)


class PlainJSON(TypeDecorator[Any]):
    """JSON of anything (see :func:`bench.store.plain.plain`); None is NULL."""

    impl = JSON
    cache_ok = True

    def __init__(self) -> None:
        super().__init__(none_as_null=True)

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Make plain on the way in."""
        return plain(value)


class UTCDateTime(TypeDecorator[datetime]):
    """A moment: an aware datetime, stored and given back in UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC; a naive datetime is a bug of the caller."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Say that it is UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Declarative base: every constraint has a name, so that a migration can address it."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as a plain attribute
        str: CleanText,
        float: Double,
        datetime: UTCDateTime,
    }


def _one_of(column: str, *values: str) -> str:
    return f"{column} IN ({', '.join(repr(v) for v in values)})"


PHASES = ("total", "preprocess", "network", "postprocess")
"""What a timing sample may be of."""

STANDS = text("status = 'ok' AND NOT superseded")
"""Of a run: it finished and nothing has replaced it."""


class DatasetVersion(Base):
    """A card with the content it was opened on."""

    __tablename__ = "dataset_version"
    __table_args__ = (
        UniqueConstraint("name", "content_hash"),
        CheckConstraint(_one_of("source", "real", "synthetic"), name="source"),
        CheckConstraint("n_images >= 0 AND n_instances >= 0", name="counts"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    content_hash: Mapped[str]
    source: Mapped[str]
    title: Mapped[str]
    licence: Mapped[str]
    n_images: Mapped[int]
    n_instances: Mapped[int] = mapped_column(BigInteger)
    classes: Mapped[list[str]] = mapped_column(PlainJSON)
    protocols: Mapped[list[str]] = mapped_column(PlainJSON)
    card: Mapped[dict[str, Any]] = mapped_column(PlainJSON)


class Image(Base):
    """An image of a data set version."""

    __tablename__ = "image"
    __table_args__ = (
        UniqueConstraint("dataset_version_id", "key"),
        CheckConstraint("height > 0 AND width > 0 AND truths >= 0", name="counts"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_version_id: Mapped[int] = mapped_column(ForeignKey("dataset_version.id", ondelete="CASCADE"))
    key: Mapped[str]
    sha256: Mapped[str]
    height: Mapped[int]
    width: Mapped[int]
    truths: Mapped[int]
    group: Mapped[str | None]


class MethodVersion(Base):
    """A method, its variant and its settings, by the hash of its code and of them."""

    __tablename__ = "method_version"
    __table_args__ = (
        UniqueConstraint("name", "variant", "code_hash", "params_hash", name="uq_method_version_identity"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    variant: Mapped[str]
    title: Mapped[str]
    origin: Mapped[str]
    code_hash: Mapped[str]
    params: Mapped[dict[str, Any]] = mapped_column(PlainJSON)
    params_hash: Mapped[str]
    scored: Mapped[bool]
    paper: Mapped[dict[str, Any] | None] = mapped_column(PlainJSON)


class Environment(Base):
    """The software of a run. ``digest`` is over the whole row, so that no run's provenance is rewritten."""

    __tablename__ = "environment"

    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(unique=True)
    hash: Mapped[str] = mapped_column(index=True)
    python: Mapped[str]
    platform: Mapped[str]
    torch: Mapped[str | None]
    mmcv: Mapped[str | None]
    ops: Mapped[str | None]
    cuda: Mapped[str | None]
    packages: Mapped[dict[str, Any]] = mapped_column(PlainJSON)


class Machine(Base):
    """The hardware of a run. ``digest`` is over the whole row, as in :class:`Environment`."""

    __tablename__ = "machine"

    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(unique=True)
    hash: Mapped[str] = mapped_column(index=True)
    hostname: Mapped[str]
    cpu: Mapped[str]
    cores: Mapped[int]
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    os: Mapped[str]
    gpu: Mapped[str | None]
    gpu_memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    driver: Mapped[str | None]


class Run(Base):
    """One run and how it ended. At most one finished run that is not superseded stands per key."""

    __tablename__ = "run"
    __table_args__ = (
        Index("uq_run_standing", "key", unique=True, sqlite_where=STANDS, postgresql_where=STANDS),
        Index("ix_run_board", "dataset_version_id", "split", "status", "superseded", "schedule"),
        CheckConstraint(
            "(status = 'ok' AND failure_kind IS NULL) OR (status = 'failed' AND failure_kind IS NOT NULL)",
            name="status",
        ),
        CheckConstraint(
            _one_of("failure_kind", "out_of_memory", "timeout", "error", "interrupted"), name="failure_kind"
        ),
        CheckConstraint(_one_of("badge", "measured", "submitted", "control"), name="badge"),
        CheckConstraint("attempt >= 1", name="attempt"),
        CheckConstraint("n_images >= 0", name="n_images"),
        {"sqlite_autoincrement": True},  # a deleted run's id is never given to another
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(index=True)
    dataset_version_id: Mapped[int] = mapped_column(ForeignKey("dataset_version.id"))
    method_version_id: Mapped[int] = mapped_column(ForeignKey("method_version.id"), index=True)
    environment_id: Mapped[int] = mapped_column(ForeignKey("environment.id"), index=True)
    machine_id: Mapped[int] = mapped_column(ForeignKey("machine.id"), index=True)
    split: Mapped[str]
    seed: Mapped[int] = mapped_column(BigInteger)
    schedule: Mapped[str]
    init: Mapped[str]
    device: Mapped[str]
    status: Mapped[str]
    superseded: Mapped[bool] = mapped_column(default=False)
    badge: Mapped[str]
    started: Mapped[datetime] = mapped_column(index=True)
    finished: Mapped[datetime]
    attempt: Mapped[int]
    folder: Mapped[str]
    command: Mapped[str]
    n_images: Mapped[int]
    complete: Mapped[bool]
    failure_kind: Mapped[str | None]
    failure: Mapped[str | None]
    commit: Mapped[str | None]
    dirty: Mapped[bool | None]
    weights_sha256: Mapped[str | None]
    train_seconds: Mapped[float | None]
    predict_seconds: Mapped[float | None]
    peak_memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    n_parameters: Mapped[int | None] = mapped_column(BigInteger)
    """Of the network as built for this data set's classes, so it belongs to the run."""
    arguments: Mapped[dict[str, Any]] = mapped_column(PlainJSON)
    submitted_by: Mapped[str | None]
    note: Mapped[str | None]
    latency_median_ms: Mapped[float | None]
    """Median and 95th percentile of the run's ``total`` timing samples, kept because boards sort by them."""
    latency_p95_ms: Mapped[float | None]


class Metric(Base):
    """A number's definition: its protocol with version and parameters, its unit and its direction.

    Results point here, so that numbers of different definitions can never share a column, and a million image
    results hold no text. ``higher_is_better`` is 1, -1, or 0 where neither end is better.
    """

    __tablename__ = "metric"
    __table_args__ = (
        UniqueConstraint(
            "protocol",
            "protocol_version",
            "name",
            "params_hash",
            "unit",
            "higher_is_better",
            name="uq_metric_definition",
        ),
        CheckConstraint("higher_is_better IN (-1, 0, 1)", name="higher_is_better"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    protocol: Mapped[str]
    protocol_version: Mapped[str]
    name: Mapped[str]
    params: Mapped[dict[str, Any]] = mapped_column(PlainJSON)
    params_hash: Mapped[str]
    unit: Mapped[str]
    higher_is_better: Mapped[int] = mapped_column(SmallInteger)


class Result(Base):
    """A run's number, or the reason why it has none. ``position`` keeps the protocol's order."""

    __tablename__ = "result"
    __table_args__ = (
        CheckConstraint("value IS NOT NULL OR reason IS NOT NULL", name="value_or_reason"),
        CheckConstraint("(low IS NULL) = (high IS NULL)", name="interval"),
        CheckConstraint("low <= high", name="interval_order"),
        CheckConstraint("n >= 0", name="n"),
        {"sqlite_with_rowid": False},
    )

    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    metric_id: Mapped[int] = mapped_column(ForeignKey("metric.id"), primary_key=True, index=True)
    position: Mapped[int] = mapped_column(SmallInteger)
    value: Mapped[float | None]
    reason: Mapped[str | None]
    low: Mapped[float | None]
    high: Mapped[float | None]
    n: Mapped[int | None]


class ImageResult(Base):
    """A run's number on one image, with the counts behind it."""

    __tablename__ = "image_result"
    __table_args__ = (
        CheckConstraint("tp >= 0 AND fp >= 0 AND fn >= 0", name="counts"),
        Index(None, "image_id", "metric_id"),
        {"sqlite_with_rowid": False},
    )

    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    metric_id: Mapped[int] = mapped_column(ForeignKey("metric.id"), primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey("image.id", ondelete="CASCADE"), primary_key=True)
    value: Mapped[float | None]
    tp: Mapped[int | None]
    fp: Mapped[int | None]
    fn: Mapped[int | None]


class TimingSample(Base):
    """One timed image and phase."""

    __tablename__ = "timing_sample"
    __table_args__ = (
        CheckConstraint(_one_of("phase", *PHASES), name="phase"),
        CheckConstraint("milliseconds >= 0", name="milliseconds"),
        {"sqlite_with_rowid": False},
    )

    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    phase: Mapped[str] = mapped_column(String(20), primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey("image.id", ondelete="CASCADE"), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    milliseconds: Mapped[float]


class Artifact(Base):
    """A file of a run, by its path relative to the run folder."""

    __tablename__ = "artifact"
    __table_args__ = (CheckConstraint("bytes >= 0", name="bytes"),)

    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)


class ReportedResult(Base):
    """A number printed in a paper; no run stands behind it."""

    __tablename__ = "reported_result"
    __table_args__ = (
        UniqueConstraint(
            "dataset", "paper", "table", "method", "protocol", "metric", "split", name="uq_reported_result_identity"
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    paper: Mapped[str]
    table: Mapped[str]
    method: Mapped[str]
    dataset: Mapped[str]
    protocol: Mapped[str]
    metric: Mapped[str]
    value: Mapped[float]
    unit: Mapped[str]
    comparable: Mapped[bool]
    note: Mapped[str]
    split: Mapped[str]
    counterpart: Mapped[str]
    hardware: Mapped[str]
    wording: Mapped[str]
