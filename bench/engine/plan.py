"""From names to jobs: what would run, under which key, and whether it is already done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.api import SCHEDULES, Compute, Method, Schedule, Task, UsageError
from bench.data import Card, Dataset
from bench.data.cards import load_card
from bench.engine import operating_point, provenance
from bench.engine.further_data import FurtherSplit, Open, further_splits, opener, said_to_train_on
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
        trained_on: data sets, by card, that these weights were trained on, the evaluated one only where its images
            beyond the training split were.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        limit: at most so many evaluated images.
        settings: overrides of the method's parameters.
        data_root: folder in which further data sets lie that a method trains on.
        amp: see :class:`bench.api.Compute`, as are ``channels_last`` and ``compile``.
    """

    split: str | None = None
    schedule: str | None = None
    init: str | None = None
    weights: Path | None = None
    trained_on: Sequence[str] = ()
    device: str = "auto"
    limit: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    data_root: Path | None = None
    amp: str | None = None
    channels_last: bool = False
    compile: bool = False


@dataclass(frozen=True, kw_only=True)
class Choices:
    """A method, a seed and what the request means for them: everything that is known before an image is looked at."""

    entry: MethodEntry
    split: str
    seed: int
    schedule_name: str
    schedule: Schedule
    params: Any
    init: str
    weights: Path | None
    trained_on: tuple[str, ...] = ()
    device: str
    limit: int | None
    compute: Compute = field(default_factory=Compute)
    notes: tuple[str, ...] = ()

    @property
    def trains(self) -> bool:
        """Whether something is trained, rather than loaded or not needed."""
        return self.entry.method.trainable and self.weights is None

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

    def plan_on(self, dataset: str, version: str | None, source: str) -> dict[str, Any]:
        """What decides the predictions on a version of a data set, as plain data; None is a version yet unknown."""
        return {
            "method": self.entry.name,
            "code": self.code_hash,
            "params": dict(provenance.plain(self.params)),
            "dataset": dataset,
            "dataset_version": version,
            "source": source,
            "split": self.split,
            "seed": self.seed,
            "schedule": {"name": self.schedule_name, **asdict(self.schedule)},
            "init": self.init if self.weights_hash is None else "checkpoint",
            "trained": self.weights is None,
            "weights": self.weights_hash,
            "limit": self.limit,
            "environment": self.environment.hash,
            **({"operating_point": operating_point.RULE} if operating_point.matters(load_card(dataset)) else {}),
            **({"compute": asked} if (asked := list(self.compute.asked())) else {}),
            **({"trained_on": list(self.trained_on)} if self.trained_on else {}),
        }

    @property
    def changed(self) -> dict[str, Any]:
        """What of it is not as the method has it by default: settings, initial or given weights, how it computes."""
        method = self.entry.method
        default = provenance.plain(method.make_params(self.entry.variant, {}, self.schedule))
        params = provenance.plain(self.params)
        changed = {name: value for name, value in params.items() if value != default[name]}
        if self.weights is not None:
            changed["weights"] = self.weights_hash
        elif self.init != method.inits[0]:
            changed["init"] = self.init if self.weights_hash is None else self.weights_hash
        if asked := self.compute.asked():
            changed["compute"] = list(asked)
        return changed


@dataclass(frozen=True, kw_only=True)
class Job(Choices):
    """One run to be made: a method on a data set with a seed, everything resolved."""

    dataset: Dataset
    further: tuple[FurtherSplit, ...] = ()
    """What is trained on besides the training split."""

    @property
    def name(self) -> str:
        """For a line of progress."""
        return f"{self.entry.name} on {self.dataset.card.name}"

    @cached_property
    def task(self) -> Task:
        """The data set's task, with the shape of a typical image."""
        counts = Counter((image.height, image.width) for image in self.dataset.images())
        typical = max(sorted(counts), key=counts.__getitem__) if counts else None
        return replace(self.dataset.task, image_shape=typical)

    @cached_property
    def plan(self) -> dict[str, Any]:
        """Everything that decides the predictions, as plain data."""
        plan = self.plan_on(self.dataset.card.name, self.dataset.content_hash, self.dataset.source)
        # A method that trains on its own data alone has the keys it has always had.
        return {**plan, "further_data": [further.plan() for further in self.further]} if self.further else plan

    @cached_property
    def key(self) -> str:
        """Hash of the plan: two jobs with the same key are the same run."""
        return provenance.sha256_of(self.plan)

    @cached_property
    def training_key(self) -> str:
        """Hash of what decides the weights alone: two jobs with the same one share a training.

        It lacks the variant, what of the parameters acts after the network, and how many images are evaluated.
        """
        after = self.entry.method.after_network
        rest = {name: value for name, value in self.plan.items() if name not in ("method", "limit")}
        return provenance.sha256_of(
            {
                **rest,
                "family": self.entry.method.name,
                "params": {name: value for name, value in self.plan["params"].items() if name not in after},
                "schedule": {
                    name: value
                    for name, value in self.plan["schedule"].items()
                    if name not in ("settings", "eval_images", "note")
                },
            }
        )

    def folder(self, runs: Path) -> Path:
        """Where the run lives, below the folder of all runs."""
        return runs / self.dataset.card.name / self.entry.name / self.key[:16]


def make_job(entry: MethodEntry, dataset: Dataset, seed: int, request: Request) -> Job:
    """One job: a method on a data set with a seed.

    Raises:
        MissingDependencyError: a package or a device that the method needs is not here.
        UsageError: a schedule, an initialisation or a setting that the method does not have.
        UnknownNameError: a split that the data set does not have.
        DataError: an empty split, or further data that the method trains on are not there.
    """
    return job_on(choose(entry, dataset.card, seed, request), dataset, opener(request.data_root, dataset.source))


def job_on(choices: Choices, dataset: Dataset, open_: Open) -> Job:
    """What was chosen by the card alone, on the data set itself; ``open_`` opens further data sets to train on.

    Raises:
        DataError: an empty split, or further data that the method trains on are not there.
        UnknownNameError: a further data set or split that there is not.
    """
    dataset.split(choices.split)  # an empty one is refused now, not after the training
    further: tuple[FurtherSplit, ...] = ()
    if choices.trains:
        further = further_splits(choices.entry, choices.params, dataset, choices.split, open_)
    resolved = {field_.name: getattr(choices, field_.name) for field_ in fields(choices)}
    resolved["notes"] = (*choices.notes, *(part.note(choices.entry.name) for part in further))
    return Job(dataset=dataset, further=further, **resolved)


def choose(entry: MethodEntry, card: Card, seed: int, request: Request) -> Choices:
    """What a request means for a method on a data set of which only the card is known.

    Raises:
        MissingDependencyError: a package or a device that the method needs is not here.
        UsageError: a schedule, an initialisation or a setting that the method does not have.
        UnknownNameError: a split that the data set does not have.
    """
    method = entry.method
    provenance.require(method)
    device = provenance.resolve_device(request.device, method)
    split = request.split or card.evaluate
    card.address(split)
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
    params = method.make_params(entry.variant, request.settings, schedule)
    method.require(params, request.weights)
    return Choices(
        entry=entry,
        split=split,
        seed=seed,
        schedule_name=schedule_name,
        schedule=schedule,
        params=params,
        init=_init(entry, request),
        weights=_existing(request.weights),
        trained_on=_trained_on(request, card),
        device=device,
        limit=min(limits) if limits else None,
        compute=compute_of(entry, device, request.amp, request.channels_last, request.compile),
        notes=notes,
    )


def compute_of(
    entry: MethodEntry, device: str, amp: str | None = None, channels_last: bool = False, compiled: bool = False
) -> Compute:
    """How the method is to compute, checked against what it and the device can.

    Raises:
        UsageError: the method has no such option, or the device not that type.
    """
    compute = Compute(amp, channels_last, compiled)
    for option in compute.asked():
        if option not in entry.method.compute_options:
            raise UsageError(
                f"{entry.name} cannot compute with {option}",
                f"it has: {', '.join(entry.method.compute_options) or 'no such option'}",
            )
    if compute.amp == "float16" and device == "cpu":
        raise UsageError("float16 is for GPUs: a CPU computes it slower than float32", "use --amp bfloat16")
    return compute


def _default_schedule(entry: MethodEntry, device: str, trains: bool) -> str:
    method = entry.method
    if not method.trainable or not trains or device != "cpu" or "smoke" not in method.schedules:
        return "paper" if "paper" in method.schedules else next(iter(method.schedules))
    return "smoke"


def _init(entry: MethodEntry, request: Request) -> str:
    method = entry.method
    if request.weights is not None and not method.trainable and method.load is Method.load:
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


def _trained_on(request: Request, card: Card) -> tuple[str, ...]:
    if request.trained_on and request.weights is None:
        raise UsageError("--trained-on says what given weights were trained on", "name them by --weights")
    return said_to_train_on(request.trained_on, card)


def _existing(weights: Path | None) -> Path | None:
    if weights is not None and not weights.is_file():
        raise UsageError(f"no weights at {weights}", "give the path of a checkpoint to --weights")
    return weights
