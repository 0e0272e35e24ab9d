"""From names to jobs: what would run, under which key, and whether it is already done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.api import SCHEDULES, MethodError, Schedule, Task, UsageError
from bench.data import Dataset
from bench.engine import provenance
from bench.records import EnvironmentRecord
from bench.registry import MethodEntry


@dataclass(frozen=True)
class Request:
    """What the user asked for, for every job of the grid.

    Attributes:
        split: to evaluate on; None is the card's.
        schedule: None is ``paper`` on a GPU and ``smoke`` on a CPU.
        init: None is the method's first.
        weights: a checkpoint to use instead of training.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        limit: at most so many evaluated images.
        settings: overrides of the method's parameters.
    """

    split: str | None = None
    schedule: str | None = None
    init: str | None = None
    weights: Path | None = None
    device: str = "auto"
    limit: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One run to be made: a method on a data set with a seed, everything resolved."""

    entry: MethodEntry
    dataset: Dataset
    split: str
    seed: int
    schedule_name: str
    schedule: Schedule
    params: Any
    init: str
    weights: Path | None
    device: str
    limit: int | None
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """For a line of progress."""
        return f"{self.entry.name} on {self.dataset.card.name}"

    @cached_property
    def task(self) -> Task:
        """The data set's task, with the shape of a typical image."""
        shapes = [(image.height, image.width) for image in self.dataset.images()]
        typical = max(sorted(set(shapes)), key=shapes.count) if shapes else None
        return replace(self.dataset.task, image_shape=typical)

    @cached_property
    def environment(self) -> EnvironmentRecord:
        """The software it runs on."""
        return provenance.environment(self.entry.method, self.device)

    @cached_property
    def code_hash(self) -> str:
        """Of the method's code."""
        return provenance.code_hash(self.entry.method)

    @cached_property
    def weights_hash(self) -> str | None:
        """Of the checkpoint given by ``--weights`` or ``--init PATH``."""
        path = self.weights or (Path(self.init) if self.init not in self.entry.method.inits else None)
        return provenance.sha256_file(path) if path else None

    @cached_property
    def plan(self) -> dict[str, Any]:
        """Everything that decides the predictions, as plain data."""
        return {
            "method": self.entry.name,
            "code": self.code_hash,
            "params": dict(provenance.plain(self.params)),
            "dataset": self.dataset.card.name,
            "dataset_version": self.dataset.content_hash,
            "source": self.dataset.source,
            "split": self.split,
            "seed": self.seed,
            "schedule": {"name": self.schedule_name, **asdict(self.schedule)},
            "init": self.init if self.weights_hash is None else "checkpoint",
            "trained": self.weights is None,
            "weights": self.weights_hash,
            "limit": self.limit,
            "environment": self.environment.hash,
        }

    @cached_property
    def key(self) -> str:
        """Hash of the plan: two jobs with the same key are the same run."""
        return provenance.sha256_of({k: v for k, v in self.plan.items() if k != "note"})

    def folder(self, runs: Path) -> Path:
        """Where the run lives, below the folder of all runs."""
        return runs / self.dataset.card.name / self.entry.name / self.key[:16]


def make_jobs(
    entries: Sequence[MethodEntry], datasets: Sequence[Dataset], seeds: Iterable[int], request: Request
) -> list[Job]:
    """Every method on every data set with every seed.

    Raises:
        MissingDependencyError: a package or a device that a method needs is not here.
        UsageError: a schedule, an initialisation or a setting that a method does not have.
        UnknownNameError: a split that a data set does not have.
    """
    return [make_job(entry, dataset, seed, request) for dataset in datasets for entry in entries for seed in seeds]


def make_job(entry: MethodEntry, dataset: Dataset, seed: int, request: Request) -> Job:
    """One job of the grid; see :func:`make_jobs`."""
    method = entry.method
    provenance.require(method)
    device = provenance.resolve_device(request.device, method.requires)
    split = request.split or dataset.card.evaluate
    dataset.split(split)  # an unknown one is refused now, not after the training
    notes: tuple[str, ...] = ()
    schedule_name = request.schedule
    if schedule_name is None:
        schedule_name = _default_schedule(entry, device, trains=request.weights is None)
        if schedule_name == "smoke":
            notes = (
                f"{entry.name}: no GPU, so the smoke schedule is taken: it shows that everything runs and says "
                "nothing about accuracy (--schedule paper trains in full)",
            )
    if schedule_name not in SCHEDULES:
        raise UsageError(f"unknown schedule {schedule_name!r}", f"there are: {', '.join(SCHEDULES)}")
    if schedule_name not in method.schedules:
        raise UsageError(f"{entry.name} has no schedule {schedule_name!r}", f"it has: {', '.join(method.schedules)}")
    schedule = method.schedules[schedule_name]
    limits = [n for n in (request.limit, schedule.eval_images) if n is not None]
    return Job(
        entry=entry,
        dataset=dataset,
        split=split,
        seed=seed,
        schedule_name=schedule_name,
        schedule=schedule,
        params=method.make_params(entry.variant, request.settings, schedule),
        init=_init(entry, request),
        weights=_existing(request.weights),
        device=device,
        limit=min(limits) if limits else None,
        notes=notes,
    )


def _default_schedule(entry: MethodEntry, device: str, trains: bool) -> str:
    method = entry.method
    if not method.trainable or not trains or device != "cpu" or "smoke" not in method.schedules:
        return "paper" if "paper" in method.schedules else next(iter(method.schedules))
    return "smoke"


def _init(entry: MethodEntry, request: Request) -> str:
    method = entry.method
    if request.weights is not None and not method.trainable:
        raise UsageError(f"{entry.name} has no weights to load", "leave --weights out")
    if request.init is None:
        return method.inits[0]
    if request.init in method.inits:
        return request.init
    if not method.trainable:
        raise UsageError(f"{entry.name} is not trained, so --init {request.init} means nothing", "leave --init out")
    if not Path(request.init).is_file():
        raise UsageError(
            f"--init {request.init} is neither {', '.join(method.inits)} nor a file",
            "give one of these, or a checkpoint",
        )
    return request.init


def _existing(weights: Path | None) -> Path | None:
    if weights is not None and not weights.is_file():
        raise MethodError(f"no weights at {weights}", "give the path of a checkpoint to --weights")
    return weights
