"""A run with all its numbers into rows, and the few things that may later be done to it."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from bench.errors import StoreError
from bench.records import (
    EnvironmentRecord,
    ImageResultRecord,
    MachineRecord,
    ReportedResultRecord,
    ResultRecord,
    RunBundle,
    TimingRecord,
)
from bench.store.latency import percentile
from bench.store.models import (
    PHASES,
    STANDS,
    Artifact,
    Base,
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
from bench.store.plain import clean_text, digest, plain
from bench.store.queries import chunks

Row = TypeVar("Row", bound=Base)


def add(session: Session, bundle: RunBundle, supersede: bool) -> int:
    """Put a run and everything of it into the store; see :meth:`bench.store.store.Store.add`."""
    check(bundle)
    run = bundle.run
    if run.status == "ok":
        standing = session.scalar(select(Run.id).where(Run.key == run.key, STANDS))
        if standing is not None and not supersede:
            return standing
        if standing is not None:
            session.execute(update(Run).where(Run.id == standing).values(superseded=True))
    dataset_id = _row_id(
        session,
        DatasetVersion,
        {"name": bundle.dataset.name, "content_hash": bundle.dataset.content_hash},
        _fields(bundle.dataset),
    )
    method = _fields(bundle.method)
    n_parameters = method.pop("n_parameters")
    identity = {name: method.pop(name) for name in ("name", "variant", "code_hash", "params_hash")}
    totals = [float(t.milliseconds) for t in bundle.timings if t.phase == "total"]
    row = Run(
        **_fields(run),
        dataset_version_id=dataset_id,
        method_version_id=_row_id(session, MethodVersion, identity, method),
        environment_id=_provenance_id(session, Environment, bundle.environment),
        machine_id=_provenance_id(session, Machine, bundle.machine),
        n_parameters=n_parameters,
        superseded=False,
        latency_median_ms=percentile(totals, 50) if totals else None,
        latency_p95_ms=percentile(totals, 95) if totals else None,
    )
    session.add(row)
    session.flush()
    image_ids = _image_ids(session, dataset_id, bundle)
    add_results(session, row.id, bundle.results, bundle.image_results, image_ids)
    _insert_timings(session, row.id, bundle.timings, image_ids)
    _insert(session, Artifact, [{"run_id": row.id, **_fields(artifact)} for artifact in bundle.artifacts])
    return row.id


def add_results(
    session: Session,
    run_id: int,
    results: Sequence[ResultRecord],
    image_results: Sequence[ImageResultRecord],
    image_ids: Mapping[str, int],
) -> None:
    """The numbers of a run; those that it already has under the same definition are replaced."""
    metrics = _Metrics(session)
    rows: list[dict[str, Any]] = [
        {
            "run_id": run_id,
            "metric_id": metrics.of(r),
            "position": position,
            "value": _float(r.value),
            "reason": r.reason,
            "low": _float(r.low),
            "high": _float(r.high),
            "n": _int(r.n),
        }
        for position, r in enumerate(results)
    ]
    image_rows: list[dict[str, Any]] = [
        {
            "run_id": run_id,
            "metric_id": metrics.of_image(r),
            "image_id": image_ids[clean_text(r.image_key)],
            "value": _float(r.value),
            "tp": _int(r.tp),
            "fp": _int(r.fp),
            "fn": _int(r.fn),
        }
        for r in image_results
    ]
    for model, of_model in ((Result, rows), (ImageResult, image_rows)):
        replaced = sorted({row["metric_id"] for row in of_model})
        session.execute(delete(model).where(model.run_id == run_id, model.metric_id.in_(replaced)))
        _insert(session, model, of_model)


def replace_results(
    session: Session, run_id: int, results: Sequence[ResultRecord], image_results: Sequence[ImageResultRecord]
) -> None:
    """New numbers for a stored run; see :meth:`bench.store.store.Store.rescore`."""
    dataset_id = session.scalars(select(Run.dataset_version_id).where(Run.id == run_id)).one()
    _check_results(f"run {run_id}", results, image_results)
    keys = {clean_text(r.image_key) for r in image_results}
    image_ids = _stored_images(session, dataset_id, keys)
    _check_known(f"run {run_id}", keys, image_ids)
    add_results(session, run_id, results, image_results, {key: image_ids[key][0] for key in keys})


REPORTED_IDENTITY = ("paper", "table", "method", "dataset", "protocol", "metric", "split")
"""What tells two numbers of papers apart."""


def add_reported(session: Session, records: Iterable[ReportedResultRecord], whole: bool = False) -> int:
    """Numbers of papers; one that is already there takes the new value. Returns how many there were.

    With ``whole``, the other numbers of these papers are removed.
    """
    seen: dict[tuple[str, ...], ReportedResultRecord] = {}
    kept: set[int] = set()
    for record in records:
        fields = _fields(record)
        identity = {name: fields.pop(name) for name in REPORTED_IDENTITY}
        place = tuple(identity.values())
        if place in seen and seen[place] != record:
            raise StoreError(
                f"{record.paper}, {record.table}: {record.metric} of {record.method} on {record.dataset} is given "
                f"twice, as {seen[place].value:g} and as {record.value:g}",
                "keep the one that is printed",
            )
        if not math.isfinite(record.value):
            raise StoreError(f"{record.paper}, {record.table}: {record.metric} of {record.method} is {record.value}")
        seen[place] = record
        kept.add(_row_id(session, ReportedResult, identity, fields))
    if whole:
        of_papers = ReportedResult.paper.in_(sorted({record.paper for record in seen.values()}))
        gone = sorted(set(session.scalars(select(ReportedResult.id).where(of_papers))) - kept)
        for chosen in chunks(gone):
            session.execute(delete(ReportedResult).where(ReportedResult.id.in_(chosen)))
    return len(seen)


# -- what a bundle must keep ------------------------------------------------------------------------------


def check(bundle: RunBundle) -> None:
    """Refuse a bundle that contradicts itself, before anything is written.

    Raises:
        StoreError: with the run and the number in it.
    """
    name = f"run {bundle.run.key[:12]}"
    if bundle.run.status == "failed" and bundle.run.failure_kind is None:
        raise StoreError(f"{name} failed without a kind of failure")
    if bundle.run.status == "ok" and bundle.run.failure_kind is not None:
        raise StoreError(f"{name} is ok, but names the failure {bundle.run.failure_kind!r}")
    _check_results(name, bundle.results, bundle.image_results)
    _check_timings(name, bundle.timings)
    _check_once(name, "image {!r}", (i.key for i in bundle.images))
    _check_once(
        name, "the timing of {!r}, phase {}, round {}", ((t.image_key, t.phase, t.round) for t in bundle.timings)
    )
    _check_once(name, "file {!r}", (a.path for a in bundle.artifacts))


def _check_results(name: str, results: Sequence[ResultRecord], image_results: Sequence[ImageResultRecord]) -> None:
    for r in results:
        number = f"{name}: {r.protocol} {r.metric}"
        if r.value is None and not r.reason:
            raise StoreError(f"{number} has neither a value nor a reason")
        if any(v is not None and not math.isfinite(v) for v in (r.value, r.low, r.high)):
            raise StoreError(f"{number} is not finite", "a number that is undefined is None, with a reason")
        if (r.low is None) != (r.high is None) or (r.low is not None and r.high is not None and r.low > r.high):
            raise StoreError(f"{number} has the interval {r.low} to {r.high}")
    for i in image_results:
        if i.value is not None and not math.isfinite(i.value):
            raise StoreError(
                f"{name}: {i.protocol} {i.metric} of image {i.image_key!r} is not finite",
                "a number that is undefined is None",
            )
    _check_once(name, "{} {} {} {}", ((r.protocol, r.protocol_version, r.metric, digest(r.params)) for r in results))
    _check_once(
        name,
        "image {!r} under {} {} {}",
        ((i.image_key, i.protocol, i.protocol_version, i.metric) for i in image_results),
    )


def _check_once(name: str, what: str, values: Iterable[Hashable]) -> None:
    value, count = next(iter(Counter(values).most_common(1)), (None, 0))
    if count > 1:
        described = what.format(*value) if isinstance(value, tuple) else what.format(value)
        raise StoreError(f"{name}: {described} is given {count} times")


def _check_known(name: str, keys: Iterable[str], known: Mapping[str, Any]) -> None:
    missing = sorted(key for key in keys if key not in known)
    if missing:
        raise StoreError(f"{name}: image {missing[0]!r} is not in its data set version ({len(missing)} such)")


# -- rows that runs share ---------------------------------------------------------------------------------


def _row_id(session: Session, model: type[Row], identity: Mapping[str, Any], details: Mapping[str, Any]) -> int:
    """The row of ``identity``; made where it is absent, its ``details`` brought up to date where they differ."""
    row: Any = session.scalars(select(model).filter_by(**{k: plain(v) for k, v in identity.items()})).one_or_none()
    if row is None:
        row = model(**{**identity, **details})
        session.add(row)
    else:
        for name, value in details.items():
            if plain(value) != getattr(row, name):
                setattr(row, name, value)
    session.flush()
    return int(row.id)


def _provenance_id(
    session: Session, model: type[Environment] | type[Machine], record: EnvironmentRecord | MachineRecord
) -> int:
    fields = _fields(record)
    return _row_id(session, model, {"digest": digest(fields)}, fields)


def _image_ids(session: Session, dataset_id: int, bundle: RunBundle) -> dict[str, int]:
    """Key to id of every image that the bundle names; new images are stored."""
    given = {clean_text(image.key): image for image in bundle.images}
    named = {clean_text(r.image_key) for r in bundle.image_results} | {clean_text(t.image_key) for t in bundle.timings}
    stored = _stored_images(session, dataset_id, given.keys() | named)
    for key, image in given.items():
        if key in stored and stored[key][1] != image.sha256:
            raise StoreError(
                f"image {key!r} of {bundle.dataset.name} has another content than the store knows for this version",
                "the files changed under the same content hash: check the data set",
            )
    new = [image for key, image in given.items() if key not in stored]
    if new:
        _insert(session, Image, [{"dataset_version_id": dataset_id, **_fields(image)} for image in new])
        stored |= _stored_images(session, dataset_id, {clean_text(image.key) for image in new})
    _check_known(f"run {bundle.run.key[:12]}", named, stored)
    return {key: id_ for key, (id_, _) in stored.items()}


def _stored_images(session: Session, dataset_id: int, keys: Iterable[str]) -> dict[str, tuple[int, str]]:
    """Key to id and SHA-256 of those of ``keys`` that a data set version has."""
    wanted = sorted(keys)
    found: dict[str, tuple[int, str]] = {}
    for chosen in chunks(wanted):
        rows = session.execute(
            select(Image.key, Image.id, Image.sha256).where(
                Image.dataset_version_id == dataset_id, Image.key.in_(chosen)
            )
        )
        found |= {key: (id_, sha256) for key, id_, sha256 in rows}
    return found


class _Metrics:
    """Ids of metric definitions, each looked up once a transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._of_run: dict[tuple[str, str, str], int] = {}
        self._ids: dict[tuple[Any, ...], int] = {}

    def of(self, result: ResultRecord) -> int:
        """Of a run's number."""
        direction = {True: 1, False: -1, None: 0}[result.higher_is_better]
        names = (result.protocol, result.protocol_version, result.metric)
        id_ = self._id(*names, plain(result.params), result.unit, direction)
        self._of_run.setdefault(names, id_)
        return id_

    def of_image(self, result: ImageResultRecord) -> int:
        """Of an image's number: the run's own of that name, or one with neither unit nor direction."""
        names = (result.protocol, result.protocol_version, result.metric)
        if names not in self._of_run:
            self._of_run[names] = self._id(*names, {}, "", 0)
        return self._of_run[names]

    def _id(self, protocol: str, version: str, name: str, params: dict[str, Any], unit: str, direction: int) -> int:
        params_hash = digest(params)
        key = (protocol, version, name, params_hash, unit, direction)
        if key not in self._ids:
            identity = {
                "protocol": protocol,
                "protocol_version": version,
                "name": name,
                "params_hash": params_hash,
                "unit": unit,
                "higher_is_better": direction,
            }
            self._ids[key] = _row_id(self._session, Metric, identity, {"params": params})
        return self._ids[key]


# -- small change -----------------------------------------------------------------------------------------


def _fields(record: Any) -> dict[str, Any]:
    """The fields of a flat record; unlike ``dataclasses.asdict`` it copies no nested data."""
    return {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}


def _float(value: float | None) -> float | None:
    """A plain number: metrics are often numpy's, which databases do not take."""
    return None if value is None else float(value)


def _int(value: int | None) -> int | None:
    return None if value is None else int(value)


def add_timings(session: Session, run_id: int, timings: Sequence[TimingRecord]) -> None:
    """More timing samples of a run; see :meth:`bench.store.store.Store.add_timings`."""
    name = f"run {run_id}"
    _check_timings(name, timings)
    _check_once(name, "the timing of {!r}, phase {}, round {}", ((t.image_key, t.phase, t.round) for t in timings))
    dataset_id = session.scalars(select(Run.dataset_version_id).where(Run.id == run_id)).one()
    named = {clean_text(t.image_key) for t in timings}
    stored = _stored_images(session, dataset_id, named)
    _check_known(name, named, stored)
    last = session.scalar(select(func.max(TimingSample.round)).where(TimingSample.run_id == run_id))
    first = min((t.round for t in timings), default=0)
    shift = 0 if last is None else last + 1 - first
    _insert_timings(
        session,
        run_id,
        [dataclasses.replace(t, round=t.round + shift) for t in timings],
        {key: id_ for key, (id_, _) in stored.items()},
    )


def _check_timings(name: str, timings: Iterable[TimingRecord]) -> None:
    for sample in timings:
        if sample.phase not in PHASES:
            raise StoreError(f"{name}: unknown timing phase {sample.phase!r}", f"known: {', '.join(PHASES)}")
        if not (math.isfinite(sample.milliseconds) and sample.milliseconds >= 0):
            raise StoreError(f"{name}: image {sample.image_key!r} took {sample.milliseconds} ms in {sample.phase}")


def _insert_timings(
    session: Session, run_id: int, timings: Iterable[TimingRecord], image_ids: Mapping[str, int]
) -> None:
    _insert(
        session,
        TimingSample,
        [
            {
                "run_id": run_id,
                "phase": t.phase,
                "image_id": image_ids[clean_text(t.image_key)],
                "round": int(t.round),
                "milliseconds": float(t.milliseconds),
            }
            for t in timings
        ],
    )


def _insert(session: Session, model: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        session.execute(insert(model), rows)
