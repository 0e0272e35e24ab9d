"""The contract of a method: what it declares of itself, and the four calls the harness makes."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from bench.errors import UsageError
from bench.instances import Instances, Sample
from bench.task import SampleSource, Task

SCHEDULES = ("paper", "short", "smoke")
"""How long to train. Only complete runs of ``paper`` rank by default."""

Origin = Literal["reimplementation", "stock", "baseline", "control", "external"]


@dataclass(frozen=True)
class Paper:
    """Where a method is published. ``authors`` and ``year`` are empty where nobody knows them; ``note`` says why."""

    title: str
    authors: str
    year: int | None
    venue: str = ""
    url: str = ""
    note: str = ""


@dataclass(frozen=True)
class Schedule:
    """How long a method trains, and on how much of the data.

    Give ``iterations`` or ``epochs``; a method that does not train gives neither.

    Attributes:
        iterations: optimiser steps.
        epochs: passes over the training split, turned into steps by :meth:`steps`.
        batch_size: images a step.
        train_images: at most so many training images (smoke runs), or None for all.
        eval_images: at most so many evaluated images (smoke runs), or None for all. Such a run never ranks.
        settings: parameters of the method that this schedule changes (a smaller image, for instance).
        note: what a reader should know, for instance what of it is the paper's.
    """

    iterations: int | None = None
    epochs: float | None = None
    batch_size: int = 1
    train_images: int | None = None
    eval_images: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    def steps(self, n_images: int) -> int:
        """Optimiser steps on ``n_images`` training images."""
        if self.iterations is not None:
            return self.iterations
        if self.epochs is not None:
            return max(1, round(self.epochs * n_images / self.batch_size))
        return 0


SMOKE = Schedule(iterations=10, batch_size=1, train_images=16, eval_images=6, note="shows that it runs; no accuracy")
"""The default ``smoke`` schedule."""


@dataclass(frozen=True)
class Compute:
    """How a network computes, where a method offers a choice. It decides the predictions, so it is part of a run.

    Attributes:
        amp: ``bfloat16`` or ``float16``: the type that the network's trunk computes in; None: float32 throughout.
        channels_last: weights and maps laid out pixel by pixel instead of channel by channel.
        compile: the network's trunk goes through ``torch.compile``.
    """

    amp: str | None = None
    channels_last: bool = False
    compile: bool = False

    def asked(self) -> tuple[str, ...]:
        """What differs from the plain way: names out of :data:`COMPUTE_OPTIONS`."""
        plain = (("channels_last", self.channels_last), ("compile", self.compile))
        return ((self.amp,) if self.amp else ()) + tuple(name for name, on in plain if on)


COMPUTE_OPTIONS = ("bfloat16", "float16", "channels_last", "compile")
"""Everything that :class:`Compute` can ask for."""


@dataclass(frozen=True)
class FitContext:
    """What the harness hands to :meth:`Method.fit`.

    Attributes:
        folder: where checkpoints and logs go. It survives a kill: the next call finds what is there and goes on.
        schedule: how long to train.
        schedule_name: ``paper``, ``short`` or ``smoke``.
        seed: every random choice follows from it.
        init: ``random``, ``imagenet``, ``coco`` or the path of a checkpoint.
        dataset: name of the data set of the run.
        progress: called as ``progress(done, total, text)`` after every step.
        data: ``data(dataset, split)`` opens a split of another data set (or of the same one) for a method that
            trains in stages, real or stand-in as the run's own data are; raises a BenchError where it is not there.
            What it opens must be declared by :meth:`Method.trains_on`, since it belongs to the run's identity.
            At most :attr:`Schedule.train_images` of its images, and none with the pixels of an evaluated one.
    """

    folder: Path
    schedule: Schedule
    schedule_name: str
    seed: int = 0
    init: str = "random"
    dataset: str = ""
    progress: Callable[[int, int, str], None] = field(default=lambda _done, _total, _text: None)
    data: Callable[[str, str], SampleSource] = field(default=lambda dataset, split: _no_data(dataset, split))


def _no_data(dataset: str, split: str) -> SampleSource:
    raise UsageError(f"the split {split!r} of {dataset} cannot be opened here", "train with `bench run`")


class Method(ABC):
    """A segmentation method, as the harness sees it.

    Subclass it (or :class:`methods._mmdet.MMDetMethod`, :class:`methods._dense.DenseMapMethod`,
    :class:`methods._external.ExternalMethod`), declare what it is in class attributes and give :meth:`predict`;
    a method that learns also gives :meth:`fit` and :meth:`load`. The module must not import anything heavy at its
    top: the harness imports it to list it.

    Attributes:
        name: the family's name, in lower case ("mask_rcnn"). A variant is addressed as ``name-variant``.
        title: how it is written in a table ("Mask R-CNN").
        summary: one sentence.
        paper: where it is published, or None.
        origin: ``reimplementation`` (from the paper), ``stock`` (an existing implementation's own code),
            ``baseline``, ``control`` or ``external`` (a tool that is called).
        trainable: whether :meth:`fit` does something.
        scored: whether predictions carry confidence scores; without them AP is not applicable.
        inits: what ``--init`` may be for it.
        compute_options: which of :data:`COMPUTE_OPTIONS` it can be asked for; the harness sets :attr:`compute`
            before it calls :meth:`fit` or :meth:`load`.
        in_process: whether :meth:`predict` works in this process, so that its peak memory is the harness's to measure.
        requires: distributions it needs beyond the base install, as import names.
        variants: variant -> values of parameters. The key ``""`` is the plain name. A family whose dictionary has
            no ``""`` is only addressed by its variants.
        variant_titles: variant -> how it is written in a table; default ``title (variant)``.
        schedules: ``paper``, ``short``, ``smoke`` -> :class:`Schedule`; only what is declared can be asked for.
        after_network: parameters that act on what the network says only, so that they change no training: runs that
            differ in nothing else share one.
        trial: parameters that make it small and quick for the trial training of ``bench check``, which looks at how it
            behaves and not at how well it predicts (a small image, a narrow network).
        deviations: each difference from the paper, with its reason.
        Params: a frozen dataclass of settings, every one with a default; its docstring gives the source of each.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str] = ""
    paper: ClassVar[Paper | None] = None
    origin: ClassVar[Origin] = "reimplementation"
    trainable: ClassVar[bool] = True
    scored: ClassVar[bool] = True
    inits: ClassVar[tuple[str, ...]] = ("random",)
    compute_options: ClassVar[tuple[str, ...]] = ()
    in_process: ClassVar[bool] = True
    requires: ClassVar[tuple[str, ...]] = ()
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"": {}}
    variant_titles: ClassVar[Mapping[str, str]] = {}
    schedules: ClassVar[Mapping[str, Schedule]] = {"smoke": SMOKE}
    after_network: ClassVar[tuple[str, ...]] = ()
    trial: ClassVar[Mapping[str, Any]] = {}
    deviations: ClassVar[tuple[str, ...]] = ()

    @dataclass(frozen=True)
    class Params:
        """No settings."""

    def __init__(self, task: Task, params: Any = None, device: str = "cpu") -> None:
        self.task = task
        self.params = self.Params() if params is None else params
        self.device = device
        self.compute = Compute()
        self._clock: Callable[[str], AbstractContextManager[Any]] | None = None

    def fit(self, train: SampleSource, val: SampleSource | None, context: FitContext) -> Path | None:
        """Train, and return the file of the final weights (None where there is nothing to train).

        Called again after a kill, with the same arguments and folder, it must go on where it was and end in the
        same weights as an undisturbed run.
        """
        if self.trainable:
            raise TypeError(f"{type(self).__name__} is trainable but has no fit()")
        return None

    def load(self, weights: Path) -> None:
        """Load the weights that :meth:`fit` returned or that the user gave by path.

        Raises:
            MethodError: the file is not a checkpoint of this method.
        """
        if self.trainable:
            raise TypeError(f"{type(self).__name__} is trainable but has no load()")

    @abstractmethod
    def predict(self, image: Any) -> Instances:
        """The instances of one image, at its original resolution.

        Args:
            image: (H, W) or (H, W, C), uint8 or uint16; must not be written to.

        Returns:
            at most ``task.max_detections`` instances, in the image's own pixels.
        """

    def predict_batch(self, images: Sequence[Any]) -> list[Instances]:
        """The instances of several images; for throughput. A method that computes them together overrides it."""
        return [self.predict(image) for image in images]

    def load_fresh(self, seed: int) -> None:
        """Load freshly initialised weights, as a training of no step would leave them; for timing.

        Raises:
            UsageError: the method cannot.
        """
        if self.trainable:
            raise UsageError(f"{self.name} has no weights to be timed with", "train it first, or give --weights")

    def phase(self, name: Literal["preprocess", "network", "postprocess"]) -> AbstractContextManager[Any]:
        """Time what runs inside as a phase of the prediction: ``with self.phase("network"): ...``.

        Phases may nest; a phase's time excludes what runs in a phase inside it. Free outside a timed run.
        """
        return nullcontext() if self._clock is None else self._clock(name)

    def set_clock(self, clock: Callable[[str], AbstractContextManager[Any]] | None) -> None:
        """Begin (or, with None, end) to time phases; called by the harness around a prediction."""
        self._clock = clock

    def n_parameters(self) -> int | None:
        """Trainable parameters of the loaded network, or None where the method has no network."""
        return None

    # -- what the harness asks of the class ---------------------------------------------------------

    @classmethod
    def make_params(
        cls, variant: str = "", overrides: Mapping[str, Any] | None = None, schedule: Schedule | None = None
    ) -> Any:
        """The settings of a variant under a schedule, with the user's ``overrides`` (strings fit each field's type).

        Raises:
            UsageError: no such setting, or a value that does not fit it.
        """
        values: dict[str, Any] = {**cls.variants[variant], **(schedule.settings if schedule else {})}
        fields = {f.name: f for f in dataclasses.fields(cls.Params)}
        for key, value in (overrides or {}).items():
            if key not in fields:
                raise UsageError(f"{cls.name} has no setting {key!r}", f"it has: {', '.join(fields) or 'none'}")
            default = getattr(cls.Params(), key)
            values[key] = converted = _convert(cls.name, key, value, default)
            numbers = converted if isinstance(converted, tuple | list) else (converted,)
            if not all(math.isfinite(number) for number in numbers if isinstance(number, float)):
                raise UsageError(f"{cls.name}: {value!r} does not fit setting {key!r}", f"its default is {default!r}")
        return cls.Params(**values)

    @classmethod
    def require(cls, params: Any, weights: Path | None) -> None:
        """Raise unless what a run needs beyond :attr:`requires` is here; by default there is nothing.

        The harness asks before anything is trained. An external tool looks for its environment.

        Raises:
            MissingDependencyError: it is not, with what to do.
        """
        return

    @classmethod
    def trains_on(cls, params: Any, dataset: str) -> tuple[tuple[str, str], ...]:
        """What :meth:`fit` opens by :attr:`FitContext.data` besides the training split of the run.

        The harness opens it before anything is trained, and makes its version part of the run's identity.

        Args:
            params: the settings.
            dataset: name of the run's data set.

        Returns:
            (data set, split) each; none by default.
        """
        return ()

    @classmethod
    def full_name(cls, variant: str = "") -> str:
        """The name by which a variant is addressed: ``name`` or ``name-variant``."""
        return f"{cls.name}-{variant}" if variant else cls.name

    @classmethod
    def variant_title(cls, variant: str = "") -> str:
        """How a variant is written in a table."""
        return cls.variant_titles.get(variant) or (f"{cls.title} ({variant})" if variant else cls.title)


class ControlMethod(Method):
    """A method that is given the truth. Its scores bound what any method can reach; it never ranks."""

    origin = "control"
    trainable = False
    inits = ("none",)
    schedules: ClassVar[Mapping[str, Schedule]] = {
        "paper": Schedule(),
        "short": Schedule(),
        "smoke": Schedule(eval_images=6),
    }

    @abstractmethod
    def answer(self, sample: Sample, seed: int) -> Instances:
        """A prediction made from the truth of ``sample``, deterministic in ``seed`` and ``sample.id``."""

    def predict(self, image: Any) -> Instances:
        """Not for a control: the harness calls :meth:`answer`."""
        raise TypeError("a control method answers from the truth: call answer(sample, seed)")


def _convert(method: str, key: str, value: Any, default: Any) -> Any:
    """``value`` as the type of ``default``; strings come from the command line."""
    if not isinstance(value, str) or isinstance(default, str):
        return value
    try:
        if isinstance(default, bool):
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[value.lower()]
        if isinstance(default, int):
            return int(value)
        if isinstance(default, float):
            return float(value)
        if isinstance(default, tuple):
            kind = type(default[0]) if default else str
            return tuple(kind(part) for part in value.split(",") if part)
    except (ValueError, KeyError):
        pass
    else:
        if default is None:
            return value
    raise UsageError(f"{method}: {value!r} does not fit setting {key!r}", f"its default is {default!r}")
