"""Whether a method keeps the contract of :class:`bench.api.Method`, tried out on generated data in about a minute.

Every check looks at one promise, so that its failure says which is broken and what to do about it. A check that
cannot be made (there is no network to train, or an earlier failure left nothing to look at) says so and fails nobody.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.api import (
    BenchError,
    ControlMethod,
    FitContext,
    Instances,
    Method,
    MissingDependencyError,
    ObjectStatistics,
    Sample,
    Schedule,
    Task,
)
from bench.data.synthetic._probes import probe
from bench.engine import provenance
from bench.engine.execution import check_prediction
from bench.registry import MethodEntry

HEAVY = (
    *("torch", "torchvision", "mmengine", "mmcv", "mmdet", "tensorflow", "keras", "jax", "numba", "cv2"),
    *("pandas", "sklearn", "matplotlib", "cellpose", "stardist", "csbdeep", "instanseg", "streamlit"),
)
"""What a method's module must not import at its top: the harness imports it to list it."""

STEPS = 3
"""Optimiser steps of the trial training."""
MANY = 300
"""Cells of the densest image."""
FEW = 5
"""The cap of the check ``cap``."""

CHECKS: Mapping[str, str] = {
    "declaration": "the class says what it is: title, schedules, inits, a frozen Params whose fields have defaults",
    "light import": "its module imports nothing heavy, so that listing stays fast",
    "available": "what it needs is installed",
    "fit": "training returns a file of weights, reports every step, and writes only into its folder",
    "resume": "a training that is interrupted and begun again ends in the same weights",
    "load": "two instances that load the same weights predict the same",
    "prediction": "8 bit gray: Instances of the image's size, legal masks, known classes",
    "scores": "there are scores if and only if they are declared, also where nothing is found",
    "determinism": "the same image gives the same prediction, whatever was predicted before",
    "image untouched": "the image is not written to",
    "empty image": "an image without cells, and a black one",
    "one cell": "an image of one cell",
    f"{MANY} cells": f"an image of {MANY} cells, without a cap of its own",
    "16 bit": "uint16, dim and full range",
    "RGB": "(H, W, 3)",
    "odd sizes": "sides that no network divides: 97 x 61 and 33 x 130 pixels",
    "cap": f"no more than task.max_detections ({FEW} here)",
    "batch": "predict_batch() gives one prediction an image, in order",
}
"""Check -> the promise it looks at."""


@dataclass(frozen=True)
class Finding:
    """How one check ended.

    Attributes:
        check: its name, one of :data:`CHECKS`.
        ok: whether the promise is kept; None where it could not be looked at.
        problem: what is wrong, or why it could not be looked at.
        hint: what to do.
        seconds: it took.
    """

    check: str
    ok: bool | None
    problem: str = ""
    hint: str = ""
    seconds: float = 0.0


class _BrokenError(Exception):
    """A promise is not kept: what is wrong, and what to do."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.problem, self.hint = problem, hint


class _UnseenError(Exception):
    """A check that cannot be made, and why."""


class _Stopped(KeyboardInterrupt):
    """Ends a training in the middle, as Ctrl-C would."""


def check_method(
    entry: MethodEntry,
    *,
    settings: Mapping[str, str] | None = None,
    weights: Path | None = None,
    device: str = "auto",
) -> Iterator[Finding]:
    """Try a method out, and yield what was found, check by check.

    Args:
        entry: the method.
        settings: overrides of its parameters, as for ``bench run --set``.
        weights: trained weights to use instead of a trial training.
        device: as for ``bench run``.

    Raises:
        UsageError: a setting that the method does not have, or a device that is none.
    """
    with tempfile.TemporaryDirectory(prefix="bench-check-") as folder:
        trial = _Trial(entry, settings or {}, weights, device, Path(folder))
        try:
            for name in CHECKS:
                yield _made(name, trial.checks[name])
        finally:
            trial.close()


def _made(name: str, check: Callable[[], object]) -> Finding:
    begun = time.monotonic()
    ok: bool | None = True
    problem = hint = ""
    try:
        check()
    except _UnseenError as reason:
        ok, problem = None, str(reason)
    except _BrokenError as broken:
        ok, problem, hint = False, broken.problem, broken.hint
    except BenchError as error:
        ok, problem, hint = False, error.message, error.hint or f"raised at {_place(error)}"
    except Exception as error:  # noqa: BLE001 - whatever a stranger's method raises is what the check found
        ok, problem = False, f"{type(error).__name__}: {_first_line(error)}"
        hint = f"raised at {_place(error)}"
    return Finding(name, ok, problem, hint, time.monotonic() - begun)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"


def _place(error: Exception) -> str:
    """File and line of the innermost frame outside this module, the author's own if there is one."""
    trace = error.__traceback__
    place = "an unknown place"
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file != Path(__file__) and "site-packages" not in file.parts:
            place = f"{file.name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


# -- what it is tried on ----------------------------------------------------------------------------------


class _Generated(Sequence[Sample]):
    """Samples held in memory: a :class:`bench.task.SampleSource`."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = tuple(samples)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(sample.id for sample in self._samples)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        return self._samples[index]


def _sample(name: str, shape: tuple[int, int] = (96, 128), cells: int = 7, radius: tuple[int, int] = (6, 9)) -> Sample:
    image, labels = probe(name, shape, cells, radius)
    return Sample(name, image, Instances.from_label_map(labels))


def _turned(sample: Sample, name: str, image: NDArray[Any]) -> Sample:
    """The same cells with other pixels."""
    return Sample(name, np.ascontiguousarray(image), sample.instances)


# -- the checks -------------------------------------------------------------------------------------------


class _Trial:
    """One method under trial; each check is a method that returns, or raises what is wrong."""

    def __init__(
        self, entry: MethodEntry, settings: Mapping[str, str], weights: Path | None, device: str, folder: Path
    ) -> None:
        self.entry, self.kind, self.folder = entry, entry.method, folder
        self._given_device, self._given_weights = device, weights
        self.schedule_name, self.schedule = _trial_schedule(self.kind)
        self.params = self.kind.make_params(entry.variant, settings, self.schedule)
        self.training = _Generated([_sample(f"training {i}", cells=6 + i) for i in range(4)])
        self.plain = _sample("plain")
        truths = [sample.instances for sample in self.training if sample.instances is not None]
        self.task = Task(
            modality="phase contrast", objects=ObjectStatistics.measure(truths), image_shape=self.plain.shape
        )
        self.weights: Path | None = None
        self._ready: Method | None = None
        self._made: list[Method] = []
        self._available = False
        self._scores_wrong = False
        self.checks: dict[str, Callable[[], object]] = {
            "declaration": self.declaration,
            "light import": self.light_import,
            "available": self.available,
            "fit": self.fit,
            "resume": self.resume,
            "load": self.load,
            "prediction": self.prediction,
            "scores": self.scores,
            "determinism": self.determinism,
            "image untouched": self.image_untouched,
            "empty image": self.empty_image,
            "one cell": lambda: self.holds(_sample("one cell", (96, 96), 1)),
            f"{MANY} cells": self.many_cells,
            "16 bit": self.sixteen_bit,
            "RGB": lambda: self.holds(
                _turned(self.plain, "RGB", np.stack([self.plain.image, self.plain.image[::-1], self.plain.image], 2))
            ),
            "odd sizes": self.odd_sizes,
            "cap": self.cap,
            "batch": self.batch,
        }

    def close(self) -> None:
        """End what the method has started."""
        for method in self._made:
            end = getattr(method, "close", None)
            if callable(end):
                end()

    # -- before anything runs -----------------------------------------------------------------------

    def declaration(self) -> None:
        """The class attributes."""
        kind = self.kind
        if not kind.title.strip():
            raise _BrokenError("it has no title", "write title = '...', as a table is to show it")
        if not kind.inits:
            raise _BrokenError("inits is empty", "write inits = ('random',), or ('none',) for a method without weights")
        if not kind.schedules:
            raise _BrokenError("it declares no schedule", "declare at least schedules = {'paper': Schedule()}")
        idle = [n for n, s in kind.schedules.items() if s.iterations is None and s.epochs is None]
        if kind.trainable and idle:
            raise _BrokenError(
                f"its schedule {idle[0]} says neither iterations nor epochs",
                "say how long it trains, or trainable = False",
            )
        if not dataclasses.is_dataclass(kind.Params) or not kind.Params.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            raise _BrokenError("Params is no frozen dataclass", "write @dataclass(frozen=True) above class Params")
        undescribed = [f.name for f in dataclasses.fields(kind.Params) if f.name not in _documentation(kind.Params)]
        if undescribed:
            raise _BrokenError(
                f"the setting {undescribed[0]} is not described", "say what it is, and its source, in Params' docstring"
            )

    def light_import(self) -> None:
        """The module, imported alone in a fresh interpreter."""
        file = inspect.getfile(self.kind)
        done = subprocess.run(
            [sys.executable, "-c", _IMPORT, self.kind.__module__, file, ",".join(HEAVY)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            raise _BrokenError(f"its module cannot be imported alone: {lines[-1] if lines else 'no message'}", file)
        heavy = json.loads(done.stdout.splitlines()[-1])
        if heavy:
            raise _BrokenError(
                f"its module imports {', '.join(heavy)} at its top", "import them inside the functions that need them"
            )

    def available(self) -> None:
        """Packages, device, and what an external tool needs."""
        provenance.require(self.kind)
        self.device = provenance.resolve_device(self._given_device, self.kind.requires)
        self.kind.require(self.params, self._given_weights)
        self._available = True

    # -- training -----------------------------------------------------------------------------------

    def fit(self) -> None:
        """An undisturbed training of a few steps."""
        self._need_available()
        if self._given_weights is not None:
            self.weights = self._given_weights
            raise _UnseenError("weights were given")
        if not self.kind.trainable:
            raise _UnseenError("it is not trained")
        before = set(self.folder.iterdir())
        reports: list[tuple[int, int]] = []
        folder = self.folder / "undisturbed"
        weights = self._train(folder, lambda done, total, _: reports.append((done, total)))
        if weights is None or not Path(weights).is_file():
            raise _BrokenError(f"fit() returned {weights!r}, not a file of weights", "return the path it was saved to")
        if folder.resolve() not in Path(weights).resolve().parents:
            raise _BrokenError(f"fit() wrote its weights to {weights}", "write below context.folder")
        if set(self.folder.iterdir()) - before - {folder}:
            raise _BrokenError("fit() wrote outside context.folder", "write below context.folder only")
        self.weights = Path(weights)
        if not reports:
            raise _BrokenError("fit() reported no step", "call context.progress(done, total, text) after every step")
        if reports[-1][0] != reports[-1][1]:
            raise _BrokenError(
                f"the last step that fit() reported is {reports[-1][0]} of {reports[-1][1]}", "report every step"
            )

    def resume(self) -> None:
        """The same training, interrupted at its second report and begun again."""
        if self.weights is None or not self.kind.trainable or self._given_weights is not None:
            raise _UnseenError("there was no training")
        folder = self.folder / "interrupted"
        seen = 0

        def stop(done: int, total: int, text: str) -> None:
            nonlocal seen
            seen += 1
            if seen == 2:
                raise _Stopped

        with _checkpoints_at_once():
            with suppress(_Stopped):
                self._train(folder, stop)
            weights = self._train(folder, lambda done, total, text: None)
        if weights is None or not Path(weights).is_file():
            raise _BrokenError(f"the second fit() returned {weights!r}, not a file of weights", "return the same path")
        same = _same_weights(self.weights, Path(weights))
        if same is None:
            first, second = self._loaded(self.weights), self._loaded(Path(weights))
            same = all(_answer(first, s) == _answer(second, s) for s in (self.plain, *self.training))
        if not same:
            raise _BrokenError(
                "a training that was interrupted and begun again ends in other weights than an undisturbed one",
                "draw every random number from context.seed and the step, and begin again from a whole checkpoint",
            )

    def load(self) -> None:
        """Two fresh instances of the same weights."""
        self._need_available()
        if self.kind.trainable and self.weights is None:
            raise _UnseenError("there are no weights: see fit")
        first, second = self._loaded(self.weights), self._loaded(self.weights)
        self._ready = first
        count = first.n_parameters()
        if count is not None and (not isinstance(count, int) or count < 0):
            raise _BrokenError(f"n_parameters() is {count!r}", "return a whole number, or None without a network")
        answers = _answer(first, self.plain), _answer(second, self.plain)
        if isinstance(answers[0], Instances) and answers[0] != answers[1]:
            raise _BrokenError(
                "two instances that loaded the same weights predict differently",
                "load() must restore everything that predict() uses, and evaluation mode",
            )

    # -- prediction ---------------------------------------------------------------------------------

    def holds(self, sample: Sample, method: Method | None = None) -> Instances:
        """Predict, and hold it against the contract; the scores are the business of another check."""
        method = method or self._need_ready()
        found = _answer(method, sample)
        kept = found
        if isinstance(found, Instances) and self._scores_wrong and (found.scores is not None) != method.scored:
            kept = replace(found, scores=np.zeros(len(found)) if method.scored else None)
        check_prediction(self.entry.name, method, sample, kept)
        return found

    def prediction(self) -> None:
        """The plain image; where it is no Instances there is nothing more to look at."""
        found = _answer(self._need_ready(), self.plain)
        if not isinstance(found, Instances):
            self._ready = None
            raise _BrokenError(
                f"predict() returned {type(found).__name__} instead of Instances",
                "end it with: return Instances.from_label_map(labels), or Instances.from_masks(masks, scores=scores)",
            )
        self._scores_wrong = (found.scores is not None) != self._need_ready().scored
        self.holds(self.plain)

    def scores(self) -> None:
        """With cells, and with none."""
        method = self._need_ready()
        answered = False
        for sample in (self.plain, _sample("nothing to find", cells=0), _black()):
            try:
                found = _answer(method, sample)
            except Exception:  # noqa: BLE001 - what it raises is told by the check of such images
                continue
            answered = True
            if isinstance(found, Instances) and (found.scores is not None) != method.scored:
                self._scores_wrong = True
                where = f"on the image {sample.id!r} ({len(found)} instances)"
                if method.scored:
                    raise _BrokenError(
                        f"scored is True and there are no scores {where}",
                        "give scores=..., and Instances.empty(h, w, scored=True) for none, or declare scored = False",
                    )
                raise _BrokenError(f"scored is False and there are scores {where}", "declare scored = True")
        if not answered:
            raise _BrokenError("no image could be predicted, so scores were never seen", "mend predict() first")

    def determinism(self) -> None:
        """Twice, with another image and other random numbers between."""
        method = self._need_ready()
        first = _answer(method, self.plain)
        _answer(method, self.training[0])
        _stir(1)
        if _answer(method, self.plain) != first:
            raise _BrokenError(
                "the same image gives another prediction the second time",
                "keep no state between images, and seed what is random by the image",
            )

    def image_untouched(self) -> None:
        """A writable copy, compared with what it was."""
        method = self._need_ready()
        if isinstance(method, ControlMethod):
            raise _UnseenError("a control does not look at the image")
        image = self.plain.image.copy()
        method.predict(image)
        if not np.array_equal(image, self.plain.image):
            raise _BrokenError("predict() wrote to its image", "work on a copy: image = image.copy()")
        image.flags.writeable = False
        method.predict(image)

    def empty_image(self) -> None:
        """Background only, and black."""
        self.holds(_sample("no cell", cells=0))
        self.holds(_black())

    def many_cells(self) -> None:
        """Also looks for the caps that libraries set by themselves."""
        sample = _sample(f"{MANY} cells", (400, 400), MANY, (4, 6))
        found = self.holds(sample)
        if len(found) in (100, 200, 256):
            raise _BrokenError(
                f"exactly {len(found)} instances where there are {MANY}",
                "a library's own cap? MMDetection's max_per_img is 100: set it to task.max_detections",
            )

    def sixteen_bit(self) -> None:
        """12 bits in 16, and all 16."""
        wide = self.plain.image.astype(np.uint16)
        self.holds(_turned(self.plain, "16 bit, dim", wide * 4 + 100))
        self.holds(_turned(self.plain, "16 bit, full", wide * 257))

    def odd_sizes(self) -> None:
        """High, and flat."""
        self.holds(_sample("97 x 61", (97, 61), 5))
        self.holds(_sample("33 x 130", (33, 130), 3))

    def cap(self) -> None:
        """A task that wants few."""
        self._need_ready()
        method = self._loaded(self.weights, replace(self.task, max_detections=FEW))
        if isinstance(method, ControlMethod):
            raise _UnseenError("a control answers with the truth")
        found = _answer(method, _sample(f"{MANY} cells", (400, 400), MANY, (4, 6)))
        if len(found) > FEW:
            raise _BrokenError(
                f"{len(found)} instances where at most {FEW} are asked for",
                "end predict() with: return found.top(self.task.max_detections)",
            )

    def batch(self) -> None:
        """Two images of one size."""
        method = self._need_ready()
        if isinstance(method, ControlMethod):
            raise _UnseenError("a control does not look at the image")
        samples = [self.plain, self.training[0]]
        found = method.predict_batch([sample.image for sample in samples])
        if len(found) != len(samples):
            raise _BrokenError(f"{len(found)} predictions for {len(samples)} images", "return one an image")
        for sample, one in zip(samples, found, strict=True):
            kept = replace(one, scores=np.zeros(len(one)) if method.scored else None) if self._scores_wrong else one
            check_prediction(self.entry.name, method, sample, kept)

    # -- inside -------------------------------------------------------------------------------------

    def new(self, task: Task | None = None) -> Method:
        """A fresh instance."""
        self._made.append(self.kind(task or self.task, self.params, self.device))
        return self._made[-1]

    def _loaded(self, weights: Path | None, task: Task | None = None) -> Method:
        method = self.new(task)
        if weights is not None:
            method.load(weights)
        return method

    def _train(self, folder: Path, progress: Callable[[int, int, str], None]) -> Path | None:
        _stir(len(self._made))
        return self.new().fit(
            self.training,
            None,
            FitContext(folder, self.schedule, self.schedule_name, seed=7, init=self.kind.inits[0], progress=progress),
        )

    def _need_available(self) -> None:
        if not self._available:
            raise _UnseenError("not run: it is not available here")

    def _need_ready(self) -> Method:
        if self._ready is None:
            raise _UnseenError("there is no loaded method: see above")
        return self._ready


_IMPORT = """
import importlib, importlib.util, json, sys
name, file, heavy = sys.argv[1:]
if importlib.util.find_spec(name.partition(".")[0]):
    importlib.import_module(name)
else:
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
print(json.dumps([m for m in heavy.split(",") if m in sys.modules]))
"""


def _trial_schedule(kind: type[Method]) -> tuple[str, Schedule]:
    """The shortest schedule of a method, cut down to a few steps."""
    name = next((n for n in ("smoke", "short", "paper") if n in kind.schedules), "smoke")
    declared = kind.schedules.get(name, Schedule())
    if not kind.trainable:
        return name, declared
    return name, replace(declared, iterations=STEPS, epochs=None, batch_size=min(declared.batch_size, 2))


def _documentation(params: type[Any]) -> str:
    return "\n".join(inspect.getdoc(kind) or "" for kind in params.__mro__ if dataclasses.is_dataclass(kind))


def _answer(method: Method, sample: Sample) -> Instances:
    """What the method makes of a copy of an image, which it may spoil."""
    if isinstance(method, ControlMethod):
        return method.answer(sample, 0)
    return method.predict(sample.image.copy())


def _black() -> Sample:
    return Sample("black", np.zeros((96, 96), np.uint8), Instances.empty(96, 96))


def _stir(seed: int) -> None:
    """Leave every global generator in another state: nobody may lean on it."""
    random.seed(seed)
    np.random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


@contextmanager
def _checkpoints_at_once() -> Iterator[None]:
    """Have the harness's own training write a checkpoint at every step."""
    name = "BENCH_CHECKPOINT_SECONDS"
    before = os.environ.get(name)
    os.environ[name] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _same_weights(first: Path, second: Path) -> bool | None:
    """Whether two files hold the same weights; None where only predictions can tell."""
    if first.read_bytes() == second.read_bytes():
        return True
    if "torch" not in sys.modules:
        return None
    import pickle
    import zipfile

    import torch

    try:
        contents = [torch.load(path, map_location="cpu", weights_only=True) for path in (first, second)]
    except (RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, ValueError, EOFError):
        return None  # not torch's
    found = [dict(_tensors(content)) for content in contents]
    if not found[0]:
        return None
    return found[0].keys() == found[1].keys() and all(torch.equal(t, found[1][k]) for k, t in found[0].items())


def _tensors(content: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield from _tensors(value, f"{name}/{key}")
    elif hasattr(content, "is_floating_point"):
        yield name, content


def unusable(findings: Sequence[Finding]) -> MissingDependencyError | None:
    """The error where a method could not be tried at all because something is not installed."""
    for finding in findings:
        if finding.check == "available" and finding.ok is False:
            return MissingDependencyError(finding.problem, finding.hint)
    return None
