"""Plain records that travel between the rooms: what the data say of a data set, and what the engine tells the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Source = Literal["real", "synthetic"]
Badge = Literal["measured", "submitted", "control"]
FailureKind = Literal["out_of_memory", "timeout", "error", "interrupted"]


@dataclass(frozen=True)
class ImageRecord:
    """One image of a data set version; ``truths`` counts its instances, crowd regions aside."""

    key: str
    sha256: str
    height: int
    width: int
    truths: int
    group: str | None = None


@dataclass(frozen=True)
class DatasetVersionRecord:
    """A card with the content it was opened on: real files and a stand-in are two versions.

    ``content_hash`` is the identity; ``card`` the card as plain data.
    """

    name: str
    content_hash: str
    source: Source
    title: str
    licence: str
    n_images: int
    n_instances: int
    classes: tuple[str, ...]
    protocols: tuple[str, ...]
    card: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MethodVersionRecord:
    """A method, its variant and its settings, by the hash of its code and of them."""

    name: str
    variant: str
    title: str
    origin: str
    code_hash: str
    params: Mapping[str, Any]
    params_hash: str
    scored: bool = True
    paper: Mapping[str, Any] | None = None
    n_parameters: int | None = None


@dataclass(frozen=True)
class EnvironmentRecord:
    """The software a run used. ``hash`` covers what can change a prediction."""

    hash: str
    python: str
    platform: str
    torch: str | None
    mmcv: str | None
    ops: str | None
    cuda: str | None
    packages: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MachineRecord:
    """The hardware a run used; latencies are compared only within one."""

    hash: str
    hostname: str
    cpu: str
    cores: int
    memory_bytes: int
    os: str
    gpu: str | None = None
    gpu_memory_bytes: int | None = None
    driver: str | None = None


@dataclass(frozen=True)
class ResultRecord:
    """A run's number under a protocol and its version. ``value`` None needs a ``reason``."""

    protocol: str
    protocol_version: str
    metric: str
    value: float | None
    unit: str
    higher_is_better: bool | None
    reason: str | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)


def metric_of_part(metric: str, part: str) -> str:
    """The name of a number over a part of the evaluated images only (a level of difficulty): ``AP (easy)``."""
    return f"{metric} ({part})"


def part_of_metric(metric: str) -> tuple[str, str | None]:
    """A name taken apart again: the metric, and the part, or None where it is over all images.

    Numbers of single classes (``AP/HeLa (cell)``) are given for all images only; their brackets belong to the class.
    """
    name, bracket, part = metric.removesuffix(")").partition(" (")
    return (name, part) if bracket and metric.endswith(")") and "/" not in metric else (metric, None)


@dataclass(frozen=True)
class ImageResultRecord:
    """The same for one image (by its key), with the counts behind it where the metric has them."""

    image_key: str
    protocol: str
    protocol_version: str
    metric: str
    value: float | None
    tp: int | None = None
    fp: int | None = None
    fn: int | None = None


@dataclass(frozen=True)
class TimingRecord:
    """One timed image and phase: ``total``, ``preprocess``, ``network``, ``postprocess``; milliseconds."""

    image_key: str
    phase: str
    round: int
    milliseconds: float


@dataclass(frozen=True)
class ArtifactRecord:
    """A file of a run, by its path relative to the run folder."""

    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class RunRecord:
    """One run: method version x data set version x split x seed x schedule, and how it ended.

    At most one run with status ``ok`` that is not superseded stands per ``key``.
    """

    key: str
    split: str
    seed: int
    schedule: str
    init: str
    device: str
    status: Literal["ok", "failed"]
    badge: Badge
    started: datetime
    finished: datetime
    attempt: int
    folder: str
    command: str
    n_images: int
    complete: bool
    """Whether the whole split was evaluated with the schedule as declared; only such runs rank."""
    failure_kind: FailureKind | None = None
    failure: str | None = None
    commit: str | None = None
    dirty: bool | None = None
    weights_sha256: str | None = None
    train_seconds: float | None = None
    predict_seconds: float | None = None
    peak_memory_bytes: int | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    submitted_by: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class RunBundle:
    """Everything that one finished or failed run puts into the store, in one transaction."""

    run: RunRecord
    dataset: DatasetVersionRecord
    method: MethodVersionRecord
    environment: EnvironmentRecord
    machine: MachineRecord
    images: tuple[ImageRecord, ...] = ()
    results: tuple[ResultRecord, ...] = ()
    image_results: tuple[ImageResultRecord, ...] = ()
    timings: tuple[TimingRecord, ...] = ()
    artifacts: tuple[ArtifactRecord, ...] = ()


@dataclass(frozen=True)
class ReportedResultRecord:
    """A number printed in a paper. It lives apart from runs and is never mistaken for one.

    Attributes:
        paper: who and when ("Yi et al. 2018").
        table: where in it ("Table 1").
        method: as the paper calls it.
        dataset: name of its card.
        protocol: of ours that comes nearest.
        metric: of that protocol.
        value: in ``unit``; percentages become fractions.
        unit: as a protocol gives it ("fraction", "s").
        comparable: whether images, split and rule are those of a run here, as far as the paper states them.
        note: why not, or what a reader should know.
        split: the one of the card that comes nearest, or "" where none does.
        counterpart: full name of the method here that implements it, or "".
        hardware: on which it was measured, as stated.
        wording: how the paper words its protocol, quoted.
    """

    paper: str
    table: str
    method: str
    dataset: str
    protocol: str
    metric: str
    value: float
    unit: str
    comparable: bool
    note: str = ""
    split: str = ""
    counterpart: str = ""
    hardware: str = ""
    wording: str = ""
