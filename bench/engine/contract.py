"""Whether a method keeps the contract of :class:`bench.api.Method`, tried out on generated data in about a minute.

Every check looks at one promise, so that its failure says which is broken and what to do about it. A check that
cannot be made (there is no network to train, or an earlier failure left nothing to look at) says so and fails nobody.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

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
    UsageError,
)
from bench.engine import provenance
from bench.engine.execution import check_prediction
from bench.engine.standard_output import printing_to_stderr
from bench.engine.trial import (
    Generated,
    black,
    crowded,
    environment,
    generated,
    likeness,
    repainted,
    same_weights,
    stir,
    working_in,
)
from bench.registry import MethodEntry
from bench.store.plain import as_text

HEAVY = (
    *("torch", "torchvision", "mmengine", "mmcv", "mmdet", "tensorflow", "keras", "jax", "numba", "cv2"),
    *("pandas", "sklearn", "matplotlib", "cellpose", "stardist", "csbdeep", "instanseg", "streamlit"),
)
"""What a method's module must not import at its top: the harness imports it to list it."""

STEPS = 3
"""Optimiser steps of the trial training."""
LONGER = 20 * STEPS
"""Steps of a training that is only begun, to see whether its length follows the schedule."""
MANY, MORE = 300, 450
"""Cells of the densest images."""
FEW = 5
"""The cap of the check ``cap``, where as many are found."""
FEWEST = 10
"""A method that finds fewer than this on every image alike has no cap that could be told."""
ALIKE = 0.75
"""Likeness from which two predictions of an image differ by rounding alone."""

CHECKS: Mapping[str, str] = {
    "declaration": "the class says what it is: title, schedules, inits, a frozen Params whose fields have defaults",
    "light import": "its module imports nothing heavy, so that listing stays fast",
    "available": "what it needs is installed",
    "fit": "training keeps to the schedule, reports every step, returns a file, and writes only into its folder",
    "resume": "a training that is interrupted and begun again ends in the same weights",
    "load": "two instances that load the same weights predict the same",
    "prediction": "8 bit gray: Instances of the image's size, legal masks, known classes",
    "scores": "there are scores if and only if they are declared, also where nothing is found",
    "determinism": "the same image gives the same prediction, whatever was predicted before",
    "image untouched": "the image is not written to",
    "empty image": "an image without cells, and a black one",
    "one cell": "an image of one cell",
    f"{MANY} cells": f"images of {MANY} and of {MORE} cells, without a cap of its own",
    "16 bit": "uint16, dim and full range",
    "RGB": "(H, W, 3)",
    "odd sizes": "sides that no network divides: 97 x 61 and 33 x 130 pixels",
    "cap": f"no more than task.max_detections ({FEW} here, or fewer)",
    "batch": "predict_batch() gives what predict() gives, one prediction an image, in order",
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
        missing: whether it is broken because a package or a device is not here.
    """

    check: str
    ok: bool | None
    problem: str = ""
    hint: str = ""
    seconds: float = 0.0
    missing: bool = False


class _BrokenError(Exception):
    """A promise is not kept: what is wrong, and what to do."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.problem, self.hint = problem, hint


class _UnseenError(Exception):
    """A check that cannot be made, and why."""


_NOTHING = "nothing was found, so nothing was seen"


class _Stopped(KeyboardInterrupt):
    """Ends a training in the middle, as Ctrl-C would."""


def check_method(
    entry: MethodEntry,
    *,
    settings: Mapping[str, str] | None = None,
    weights: Path | None = None,
    device: str = "auto",
) -> Iterator[Finding]:
    """Try a method out, and yield what was found, check by check. What it prints goes to standard error.

    Args:
        entry: the method.
        settings: overrides of its parameters, as for ``bench run --set``.
        weights: trained weights to use instead of a trial training, with the network as it is: without the
            settings of :attr:`bench.api.Method.trial`.
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
            with printing_to_stderr():
                trial.close()


def _made(name: str, check: Callable[[], object]) -> Finding:
    begun = time.monotonic()
    ok: bool | None = True
    problem = hint = ""
    missing = False
    try:
        with printing_to_stderr():
            check()
    except _UnseenError as reason:
        ok, problem = None, str(reason)
    except _BrokenError as broken:
        ok, problem, hint = False, broken.problem, broken.hint
    except BenchError as error:
        ok, problem, hint = False, error.message, error.hint or f"raised at {_place(error)}"
        missing = isinstance(error, MissingDependencyError)
    except Exception as error:  # noqa: BLE001 - whatever a stranger's method raises is what the check found
        ok, problem = False, f"{type(error).__name__}: {_first_line(error)}"
        hint = f"raised at {_place(error)}"
    except SystemExit as error:
        ok, problem = False, f"it ends the whole program: SystemExit: {_first_line(error)}"
        hint = f"raise an exception instead, at {_place(error)}"
    return Finding(name, ok, problem, hint, time.monotonic() - begun, missing)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"


def _place(error: BaseException) -> str:
    """File and line of the innermost frame outside this module, the author's own if there is one."""
    trace = error.__traceback__
    place = "an unknown place"
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file.parent != Path(__file__).parent and "site-packages" not in file.parts:
            place = f"{file.name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


# -- the checks -------------------------------------------------------------------------------------------


class _Trial:
    """One method under trial; each check is a method that returns, or raises what is wrong."""

    def __init__(
        self, entry: MethodEntry, settings: Mapping[str, str], weights: Path | None, device: str, folder: Path
    ) -> None:
        self.entry, self.kind, self.folder = entry, entry.method, folder
        self.workplace = folder / "workplace"  # the working folder of every training, empty before the first
        self.workplace.mkdir()
        provenance.known_device(device)
        self._given_device = device
        self._given_weights = None if weights is None else weights.resolve()
        self.schedule_name, self.schedule = _trial_schedule(self.kind)
        self.params = _params(entry, settings, self.schedule, small=weights is None)
        self.training = Generated([generated(f"training {i}", cells=6 + i) for i in range(4)])
        self.plain, self.empty, self.black = generated("plain"), generated("no cell", cells=0), black()
        self.many, self.more = crowded(MANY), crowded(MORE)
        truths = [sample.instances for sample in self.training if sample.instances is not None]
        self.task = Task(
            modality="phase contrast", objects=ObjectStatistics.measure(truths), image_shape=self.plain.shape
        )
        self.weights: Path | None = None
        self._reported = 0
        self._ready: Method | None = None
        self._answers: dict[str, Instances] = {}
        self._telling: Sample | None = None
        self._made: list[Method] = []
        self._available = False
        self._scores_wrong = False
        self._steady = False
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
            "one cell": lambda: self.holds(generated("one cell", (96, 96), 1)),
            f"{MANY} cells": self.many_cells,
            "16 bit": self.sixteen_bit,
            "RGB": lambda: self.holds(
                repainted(self.plain, "RGB", np.stack([self.plain.image, self.plain.image[::-1], self.plain.image], 2))
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
        heavy = json.loads(done.stdout)
        if heavy:
            raise _BrokenError(
                f"its module imports {', '.join(heavy)} at its top", "import them inside the functions that need them"
            )

    def available(self) -> None:
        """Packages, device, and what an external tool needs."""
        provenance.require(self.kind)
        self.device = provenance.resolve_device(self._given_device, self.kind)
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
        self.weights, self._reported = Path(weights), len(reports)
        strewn = sorted(path.name for path in self.workplace.iterdir())
        if strewn:
            raise _BrokenError(f"fit() wrote {strewn[0]} into the working folder", "write below context.folder only")
        if set(self.folder.iterdir()) - before - {folder}:
            raise _BrokenError("fit() wrote outside context.folder", "write below context.folder only")
        _whole(reports)
        self._follows_the_schedule(reports[0][1])

    def _follows_the_schedule(self, steps: int) -> None:
        """Whether ``steps`` are those asked for; where they are not, whether a longer schedule makes for more.

        A method may round up to whole updates, or count in passes over the images.
        """
        asked = self.schedule.steps(len(self.training))
        if steps == asked:
            return
        longer: list[int] = []

        def stop(done: int, total: int, text: str) -> None:
            longer.append(total)
            raise _Stopped

        with suppress(_Stopped):
            self._train(self.folder / "longer", stop, replace(self.schedule, iterations=LONGER))
        if not longer or not steps < longer[0] <= 1.5 * LONGER:
            raise _BrokenError(
                f"fit() trains {steps} steps where {asked} are asked for", "train context.schedule.steps(len(train))"
            )

    def resume(self) -> None:
        """The same training, interrupted at its second report and begun again."""
        if self.weights is None or not self.kind.trainable or self._given_weights is not None:
            raise _UnseenError("there was no training")
        if self._reported < 2:
            raise _UnseenError("fit() did not report two steps, so it could not be interrupted between them")
        folder = self.folder / "interrupted"
        seen = 0

        def stop(done: int, total: int, text: str) -> None:
            nonlocal seen
            seen += 1
            if seen == 2:
                raise _Stopped

        with environment(BENCH_CHECKPOINT_SECONDS="0"):  # the harness's own training writes one at every step
            try:
                self._train(folder, stop)
            except _Stopped:
                pass
            else:
                raise _BrokenError(
                    "fit() went on when it was interrupted (Ctrl-C)",
                    "let KeyboardInterrupt through: clean up in finally",
                )
            weights = self._train(folder, lambda done, total, text: None)
        if weights is None or not Path(weights).is_file():
            raise _BrokenError(f"the second fit() returned {weights!r}, not a file of weights", "return the same path")
        same = same_weights(self.weights, Path(weights))
        if same is None:
            first, second = self._loaded(self.weights), self._loaded(Path(weights))
            answers = [(_answer(first, s), _answer(second, s)) for s in (self.plain, *self.training)]
            same = all(one == other for one, other in answers)
            if same and not any(isinstance(one, Instances) and len(one) for one, _ in answers):
                raise _UnseenError(_NOTHING)
        if not same:
            raise _BrokenError(
                "a training that was interrupted and begun again ends in other weights than an undisturbed one",
                "draw every random number from context.seed and the step, and begin again from a whole checkpoint",
            )

    def load(self) -> None:
        """Two fresh instances of the same weights, on the first image on which something is found."""
        self._need_available()
        if self.kind.trainable and self.weights is None:
            raise _UnseenError("there are no weights: see fit")
        first, second = self._loaded(self.weights), self._loaded(self.weights)
        self._ready = first
        count = first.n_parameters()
        if count is not None and (not isinstance(count, int) or count < 0):
            raise _BrokenError(f"n_parameters() is {count!r}", "return a whole number, or None without a network")
        for sample in (self.plain, self.many):
            found = self.answer(sample)
            if not isinstance(found, Instances):
                return  # told by the next check
            if len(found):
                self._telling = sample
                break
        if self._telling is None:
            raise _UnseenError(_NOTHING)
        if self.answer(self._telling) != _answer(second, self._telling):
            raise _BrokenError(
                "two instances that loaded the same weights predict differently",
                "load() must restore everything that predict() uses, and evaluation mode",
            )

    # -- prediction ---------------------------------------------------------------------------------

    def answer(self, sample: Sample) -> Instances:
        """What the loaded method makes of an image; asked once."""
        if sample.id not in self._answers:
            self._answers[sample.id] = _answer(self._need_ready(), sample)
        return self._answers[sample.id]

    def holds(self, sample: Sample) -> Instances:
        """Predict, and hold it against the contract; the scores are the business of another check."""
        found = self.answer(sample)
        check_prediction(self.entry.name, self._need_ready(), sample, self._with_scores(found))
        return found

    def _with_scores(self, found: Instances) -> Instances:
        """The same with scores as they are declared, where it is known that the declaration is wrong."""
        scored = self._need_ready().scored
        if self._scores_wrong and isinstance(found, Instances) and (found.scores is not None) != scored:
            return replace(found, scores=np.zeros(len(found)) if scored else None)
        return found

    def prediction(self) -> None:
        """The plain image; where it is no Instances there is nothing more to look at."""
        found = self.answer(self.plain)
        if not isinstance(found, Instances):
            self._ready = None
            raise _BrokenError(
                f"predict() returned {type(found).__name__} instead of Instances",
                "end it with: return Instances.from_label_map(labels), or Instances.from_masks(masks, scores=scores)",
            )
        self._scores_wrong = (found.scores is not None) != self._need_ready().scored
        self.holds(self.plain)
        self.holds(self._need_telling())

    def scores(self) -> None:
        """With cells, and with none."""
        method = self._need_ready()
        answers = []
        for sample in (self._telling or self.plain, self.empty, self.black):
            try:
                found = self.answer(sample)
            except (Exception, SystemExit):  # noqa: BLE001 - what it raises is told by the check of such images
                continue
            answers.append(found)
            if isinstance(found, Instances) and (found.scores is not None) != method.scored:
                self._scores_wrong = True
                where = f"on the image {sample.id!r} ({len(found)} instances)"
                if method.scored:
                    raise _BrokenError(
                        f"scored is True and there are no scores {where}",
                        "give scores=..., and Instances.empty(h, w, scored=True) for none, or declare scored = False",
                    )
                raise _BrokenError(f"scored is False and there are scores {where}", "declare scored = True")
        if not answers:
            raise _BrokenError("no image could be predicted, so scores were never seen", "mend predict() first")
        self._need_telling()

    def determinism(self) -> None:
        """Again, with another image and other random numbers between."""
        method, telling = self._need_ready(), self._need_telling()
        first = self.answer(telling)
        _answer(method, self.training[0])
        stir(1)
        if _answer(method, telling) != first:
            raise _BrokenError(
                "the same image gives another prediction the second time",
                "keep no state between images, and seed what is random by the image",
            )
        self._steady = True

    def image_untouched(self) -> None:
        """An image that can be written to, and one that cannot."""
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
        self.holds(self.empty)
        self.holds(self.black)

    def many_cells(self) -> None:
        """Images of two numbers of cells: a cap that a library sets by itself gives both the same number."""
        found = len(self.holds(self.many))
        self.holds(self.more)
        if not found:
            raise _UnseenError(_NOTHING)
        method = self._need_ready()
        if self._number(method) is None:
            return
        if found < FEWEST and found == len(self.answer(self.plain)):
            raise _UnseenError(f"{found} instances on every image, too few to tell whether that is a cap")
        assert self.task.objects is not None
        dense = self.new(replace(self.task, objects=replace(self.task.objects, per_image_max=MORE)))
        if method.trainable and self._fits(dense) and self._number(dense) is None:
            return  # a cap that follows the densest image of the data set
        raise _BrokenError(
            f"exactly {found} instances where there are {MANY} cells, and where there are {MORE}",
            "a library's own cap? MMDetection's max_per_img is 100: set it to task.max_detections",
        )

    def _number(self, method: Method) -> int | None:
        """How many instances it finds on every dense image, where that is one number and too few for any of them."""
        numbers = set()
        for sample in (self.many, self.more, crowded((MANY + MORE) // 2)):
            found = self.answer(sample) if method is self._ready else _answer(method, sample)
            numbers.add(len(found))
            if len(numbers) > 1:
                return None
        (number,) = numbers
        return number if number < min(MANY, method.task.max_detections) else None

    def _fits(self, method: Method) -> bool:
        """Give a method for another data set weights: the trained ones, or fresh ones where those do not fit."""
        assert self.weights is not None
        try:
            method.load(self.weights)
        except BenchError:
            try:
                method.load_fresh(0)
            except UsageError:
                return False
        return True

    def sixteen_bit(self) -> None:
        """12 bits in 16, and all 16."""
        wide = self.plain.image.astype(np.uint16)
        self.holds(repainted(self.plain, "16 bit, dim", wide * 4 + 100))
        self.holds(repainted(self.plain, "16 bit, full", wide * 257))

    def odd_sizes(self) -> None:
        """High, and flat."""
        self.holds(generated("97 x 61", (97, 61), 5))
        self.holds(generated("33 x 130", (33, 130), 3))

    def cap(self) -> None:
        """A task that wants few."""
        if isinstance(self._need_ready(), ControlMethod):
            raise _UnseenError("a control answers with the truth")
        without = len(self.answer(self.many))
        if without < 2:
            raise _UnseenError(f"{without} found where there are {MANY}, so no cap was needed" if without else _NOTHING)
        most = min(FEW, without - 1)
        found = _answer(self._loaded(self.weights, replace(self.task, max_detections=most)), self.many)
        if len(found) > most:
            raise _BrokenError(
                f"{len(found)} instances where at most {most} are asked for",
                "end predict() with: return found.top(self.task.max_detections)",
            )

    def batch(self) -> None:
        """Images of one size, together and one by one. Rounding may differ: a network's sums depend on the batch."""
        method = self._need_ready()
        if isinstance(method, ControlMethod):
            raise _UnseenError("a control does not look at the image")
        samples = [self.plain, self.training[0], self.training[1]]
        found = method.predict_batch([sample.image.copy() for sample in samples])
        if len(found) != len(samples):
            raise _BrokenError(f"{len(found)} predictions for {len(samples)} images", "return one an image")
        for sample, one in zip(samples, found, strict=True):
            check_prediction(self.entry.name, method, sample, self._with_scores(one))
        if not self._steady:
            raise _UnseenError("no answer of predict() to compare with: see determinism")
        alone = [self.answer(sample) for sample in samples]
        for index, one in enumerate(found):
            if one == alone[index]:
                continue
            like = [likeness(one, other) for other in alone]
            nearest = max(range(len(like)), key=like.__getitem__)
            if like[nearest] > like[index]:
                raise _BrokenError(
                    f"prediction {index} of predict_batch() is that of image {nearest}",
                    "return them in the images' order",
                )
            if like[index] < ALIKE:
                raise _BrokenError(
                    f"prediction {index} of predict_batch() is another than that of predict()",
                    "treat each image of a batch as if it came alone",
                )
        if all(one == alone[0] for one in alone):
            raise _UnseenError("one prediction for all images, so their order was not seen" if alone[0] else _NOTHING)

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

    def _train(
        self, folder: Path, progress: Callable[[int, int, str], None], schedule: Schedule | None = None
    ) -> Path | None:
        stir(len(self._made))
        context = FitContext(
            folder,
            schedule or self.schedule,
            self.schedule_name,
            seed=7,
            init=self.kind.inits[0],
            progress=progress,
        )
        with working_in(self.workplace):
            weights = self.new().fit(self.training, None, context)
            return weights if weights is None else Path(weights).absolute()

    def _need_available(self) -> None:
        if not self._available:
            raise _UnseenError("not run: it is not available here")

    def _need_ready(self) -> Method:
        if self._ready is None:
            raise _UnseenError("there is no loaded method: see above")
        return self._ready

    def _need_telling(self) -> Sample:
        """An image on which something is found."""
        if self._telling is None:
            raise _UnseenError(_NOTHING)
        return self._telling


_IMPORT = """
import importlib, importlib.util, json, os, sys
name, file, heavy = sys.argv[1:]
answer = os.dup(1)
os.dup2(2, 1)  # what the module prints is none of the answer
if importlib.util.find_spec(name.partition(".")[0]):
    importlib.import_module(name)
else:
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
os.write(answer, json.dumps([m for m in heavy.split(",") if m in sys.modules]).encode())
"""


def _trial_schedule(kind: type[Method]) -> tuple[str, Schedule]:
    """The shortest schedule of a method, cut down to a few steps."""
    name = next((n for n in ("smoke", "short", "paper") if n in kind.schedules), "smoke")
    declared = kind.schedules.get(name, Schedule())
    if not kind.trainable:
        return name, declared
    return name, replace(declared, iterations=STEPS, epochs=None, batch_size=min(declared.batch_size, 2))


def _params(entry: MethodEntry, settings: Mapping[str, str], schedule: Schedule, *, small: bool) -> Any:
    """The settings of the trial; paths among them do not depend on the working folder.

    Raises:
        UsageError: a value that does not fit, or a schedule or ``trial`` that names a setting that there is not.
    """
    if small:
        schedule = replace(schedule, settings={**schedule.settings, **entry.method.trial})
    found = {k: str(Path(v).absolute()) if os.sep in v and Path(v).exists() else v for k, v in settings.items()}
    try:
        return entry.method.make_params(entry.variant, found, schedule)
    except TypeError as error:
        raise UsageError(f"{entry.name}: {error}", "its schedules and its trial may name its settings only") from error


def trial_settings(entry: MethodEntry) -> str:
    """The settings by which a method makes itself small for the trial, as ``--set`` takes them."""
    return " ".join(f"{name}={as_text(value)}" for name, value in entry.method.trial.items())


def _whole(reports: Sequence[tuple[int, int]]) -> None:
    """Whether every step was reported, to the last; a training in stages counts each by itself."""
    if not reports:
        raise _BrokenError("fit() reported no step", "call context.progress(done, total, text) after every step")
    stages: list[list[tuple[int, int]]] = []
    for report in reports:
        if not stages or report[1] != stages[-1][-1][1] or report[0] < stages[-1][-1][0]:
            stages.append([])
        stages[-1].append(report)
    for stage in stages:
        last, total = stage[-1]
        if last != total:
            raise _BrokenError(
                f"the last step that fit() reported is {last} of {total}",
                "call context.progress(done, total, text) after every step",
            )
        told = {done for done, _ in stage} - {0}
        if len(told) < total:
            raise _BrokenError(
                f"fit() reported {len(told)} of {total} steps",
                "call context.progress(done, total, text) after every step",
            )


def _documentation(params: type[Any]) -> str:
    return "\n".join(inspect.getdoc(kind) or "" for kind in params.__mro__ if dataclasses.is_dataclass(kind))


def _answer(method: Method, sample: Sample) -> Instances:
    """What the method makes of a copy of an image, which it may spoil."""
    if isinstance(method, ControlMethod):
        return method.answer(sample, 0)
    return method.predict(sample.image.copy())


def unusable(findings: Sequence[Finding]) -> MissingDependencyError | None:
    """The error where a method could not be tried at all because something is not installed."""
    found = next((finding for finding in findings if finding.check == "available"), None)
    return MissingDependencyError(found.problem, found.hint) if found is not None and found.missing else None
