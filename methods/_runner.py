"""Training for every trainable family: mmengine's Runner, made exact across a kill.

mmengine restores weights, optimiser, schedules and the position in the data. What it leaves to chance is made a
function of the seed and the step here: which image is drawn and how it is augmented (:class:`Draws`), and every
random number inside the network (:class:`_Exact`). So a training that was killed and resumed ends in the same bits
as one that was not.

Imports torch and mmengine: import it inside the methods that need it, never at the top of a method's module.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import random
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from bench.api import Compute, FitContext, MethodError, OutputError, Sample, SampleSource
from methods._compute import accelerate
from methods._early_stopping import EarlyStopping, StopEarly
from methods._feeding import Tally
from methods._hold_out import hold_out

WEIGHTS = "weights.pth"
"""Final weights in the training folder: ``{"state_dict": ..., "meta": ...}``."""
RESUME = "resume.pth"
"""The newest point from which training can go on; gone once the final weights are there."""
CURVES = "training.jsonl"
"""One line a logged step: step, learning rate, every loss."""

CHATTER = "libraries.txt"
"""What mmengine and torch print and warn while training."""

_TALLY = "bench_dropped"

CACHE_BYTES = 512 * 2**20
"""Decoded training images kept in memory, at most."""


class Draws:
    """The endless, numbered sequence of training examples: draw ``n`` is the same in every process.

    Every pass over the images is a new permutation; the augmentation of draw ``n`` follows from the seed and ``n``.

    Args:
        source: the training images.
        make: turns a sample and a random generator into what the collate function takes. NumPy's and Python's
            global generators are seeded for the call as well, since mmdet's transforms draw from those.
        seed: of the run.
        total: how many draws there will be.
    """

    def __init__(
        self, source: SampleSource, make: Callable[[Sample, np.random.Generator], Any], seed: int, total: int
    ) -> None:
        if len(source) == 0:
            raise MethodError("the training split has no image")
        self._source, self._make, self._seed, self._total = source, make, seed, total
        self._cache: dict[int, Sample] = {}
        self._cached_bytes = 0

    def __len__(self) -> int:
        return self._total

    def __getitem__(self, n: int) -> Any:
        round_, place = divmod(n, len(self._source))
        index = int(np.random.default_rng([self._seed, 0, round_]).permutation(len(self._source))[place])
        with _seeded_globals(self._seed, n):
            return self._make(self._sample(index), np.random.default_rng([self._seed, 1, n]))

    def _sample(self, index: int) -> Sample:
        sample = self._cache.get(index)
        if sample is None:
            sample = self._source[index]
            if self._cached_bytes + sample.image.nbytes <= CACHE_BYTES:
                self._cache[index] = sample
                self._cached_bytes += sample.image.nbytes
        return sample


class _DrawSampler:
    """Draw numbers in order; mmengine's loop calls :meth:`skip` when it resumes."""

    def __init__(self, total: int) -> None:
        self._start, self._total = 0, total

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._start, self._total))

    def __len__(self) -> int:
        return self._total - self._start

    def skip(self, count: int) -> None:
        self._start += count


@contextlib.contextmanager
def _seeded_globals(seed: int, n: int) -> Iterator[None]:
    states = random.getstate(), np.random.get_state()
    value = int(np.random.SeedSequence([seed, 2, n]).generate_state(1)[0])
    random.seed(value)
    np.random.seed(value)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def seed_everything(seed: int, *more: int) -> None:
    """Seed Python, NumPy and torch from ``seed`` and what else the moment depends on."""
    value = int(np.random.SeedSequence([seed, *more]).generate_state(1)[0])
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)


def train(
    build: Callable[[], Any],
    source: SampleSource,
    make: Callable[[Sample, np.random.Generator], Any],
    *,
    context: FitContext,
    device: str,
    optimizer: Mapping[str, Any],
    schedulers: Sequence[Mapping[str, Any]] = (),
    collate: Callable[[list[Any]], Any] | None = None,
    accumulate: int = 1,
    clip_grad: Mapping[str, Any] | None = None,
    paramwise: Mapping[str, Any] | None = None,
    workers: int = 0,
    meta: Mapping[str, Any] | None = None,
    scope: str = "mmdet",
    compute: Compute | None = None,
    val: SampleSource | None = None,
    early_stopping: EarlyStopping | None = None,
    tally: Tally | None = None,
) -> Path:
    """Train a network, or go on where a killed training was, and return the file of its final weights.

    Args:
        build: makes the network (an ``mmengine.model.BaseModel``) with its initial weights; called with every
            random generator seeded.
        source: training images.
        make: one training example, see :class:`Draws`.
        context: folder, schedule, seed, progress.
        device: "cpu", "cuda" or "cuda:1".
        optimizer: an mmengine optimiser config, ``{"type": "SGD", "lr": ...}``.
        schedulers: mmengine parameter schedulers by step (``by_epoch=False``).
        collate: makes a batch of the examples; default mmengine's ``pseudo_collate``.
        accumulate: steps whose gradients are averaged into one update.
        clip_grad: arguments of ``torch.nn.utils.clip_grad_norm_``.
        paramwise: mmengine's ``paramwise_cfg``.
        workers: loader processes.
        meta: plain values written into the weights file beside the weights; ``"method"`` names the log.
        scope: registry whose types the configs name: ``mmdet``, or ``mmengine``, which does not import mmdet.
        compute: precision and layout of the network's trunk; default float32.
        val: validation images, for early stopping; where there is none, some of ``source`` are held out, see
            :mod:`methods._hold_out`.
        early_stopping: when to stop before the schedule's end, and keep the best weights instead of the last.
        tally: what ``make`` counts of the truth that it drops, in this process; written down at the end.

    Raises:
        ValueError: a tally and loader processes, whose counts it would not see.
        MethodError: a loss is not finite.
        OutputError: the folder cannot be written.
    """
    if tally is not None and workers:
        raise ValueError("a tally counts in this process only")
    folder = context.folder
    weights = folder / WEIGHTS
    if weights.is_file():
        return weights
    quiet_loggers()
    meta = dict(meta or {})
    if early_stopping is not None and not val:
        name = str(meta.get("method", "training"))
        source, val = hold_out(source, seed=context.seed, folder=folder, name=name)
        meta["held_out"] = list(val.ids)
    if not val:
        early_stopping = None
    schedule = context.schedule
    compute = compute or Compute()
    steps = schedule.steps(len(source))
    # A killed run must not resume between two updates: the gradients in hand are not in a checkpoint.
    steps = math.ceil(steps / accumulate) * accumulate
    folder.mkdir(parents=True, exist_ok=True)
    seed_everything(context.seed, 3)
    network = build()
    accelerate(network, compute, device)
    loader = DataLoader(
        Draws(source, make, context.seed, steps * schedule.batch_size),  # type: ignore[arg-type]
        batch_size=schedule.batch_size,
        sampler=_DrawSampler(steps * schedule.batch_size),
        num_workers=workers,
        collate_fn=collate or pseudo_collate,
    )
    hooks: list[Hook] = [_Exact(context.seed), curves := _Curves(context, steps)]
    stopping = None
    if early_stopping is not None:
        assert val is not None
        stopping = StopEarly(
            early_stopping,
            folder,
            _validation(val, early_stopping.example, collate or pseudo_collate, context.seed),
            every=math.ceil(len(source) / schedule.batch_size / accumulate) * accumulate,
            log=curves.record,
        )
        hooks.append(stopping)
    if tally is not None:
        hooks.append(_Counting(tally))
    hooks.append(_TimedCheckpoint(folder, accumulate))
    runner = _QuietRunner(
        device=device,
        model=network,
        work_dir=str(folder),
        train_dataloader=loader,
        train_cfg={"by_epoch": False, "max_iters": steps, "val_interval": steps + 1},
        optim_wrapper={
            "type": _ScaledLoss if compute.amp == "float16" else "OptimWrapper",
            "optimizer": dict(optimizer),
            "accumulative_counts": accumulate,
            **({"clip_grad": dict(clip_grad)} if clip_grad else {}),
            **({"paramwise_cfg": dict(paramwise)} if paramwise else {}),
        },
        param_scheduler=[dict(s) for s in schedulers] or None,
        default_hooks={"checkpoint": None, "sampler_seed": None, "logger": None},
        custom_hooks=hooks,
        load_from=str(folder / RESUME) if (folder / RESUME).is_file() else None,
        resume=(folder / RESUME).is_file(),
        randomness={"seed": context.seed},
        default_scope=scope,
        experiment_name=f"{meta.get('method', 'training')}-{time.time_ns()}",
    )
    try:
        with _chatter_into(folder / CHATTER), _deterministic():
            if meta.get("held_out"):
                sys.stdout.write(f"held out for early stopping: {', '.join(meta['held_out'])}\n")
            runner.train()
        state, ended = _cpu(runner.model.state_dict()), {"steps": steps}
        if stopping is not None:
            state, ended = stopping.best(), {"steps": runner.iter, "best_step": stopping.best_step}
        if tally is not None:
            tally.total.finish(folder, str(meta.get("method", "training")))
        _save({"state_dict": state, "meta": {**meta, **ended, "seed": context.seed}}, weights)
        if stopping is not None:
            stopping.clear()
    except OSError as error:
        raise OutputError(
            f"cannot write to {folder}: {error.strerror or error}", "free space or choose --runs"
        ) from error
    (folder / RESUME).unlink(missing_ok=True)
    return weights


@dataclass(frozen=True)
class Weights:
    """What a checkpoint holds: where it came from, its weights, and what was written beside them."""

    path: Path
    state: Mapping[str, torch.Tensor]
    meta: Mapping[str, Any]


def read_weights(path: Path) -> Weights:
    """Read a checkpoint: what :func:`train` wrote, one of MMDetection, or a bare state dict.

    Only tensors and plain values are unpickled, so a file from a stranger runs no code.

    Raises:
        MethodError: no such file, or not a checkpoint.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise MethodError(f"no weights at {path}", "give the path of a checkpoint") from None
    except OSError as error:
        raise MethodError(f"{path} cannot be read: {error.strerror or error}", "give a checkpoint") from error
    except Exception as error:
        raise MethodError(
            f"{path} is not a checkpoint that can be read safely ({type(error).__name__})",
            "give one written by this program or by MMDetection, or a state dict saved by torch",
        ) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not any(isinstance(v, torch.Tensor) for v in state.values()):
        raise MethodError(f"{path} holds no weights", "a state dict, or a dictionary with 'state_dict', is expected")
    meta = content.get("meta", {}) if "state_dict" in content else {}
    return Weights(
        path, {k.removeprefix("module."): v for k, v in state.items()}, meta if isinstance(meta, dict) else {}
    )


def put_weights(network: torch.nn.Module, weights: Weights, *, name: str, strict: bool = True) -> list[str]:
    """Put weights into a network.

    Args:
        network: to be filled.
        weights: see :func:`read_weights`.
        name: of the method, for the message.
        strict: every weight of the network must be there in its shape; else those that fit are taken (a head
            for another number of classes keeps its initial weights), of which there must be some.

    Returns:
        names of the network's weights that are as they were.

    Raises:
        MethodError: they are of another network.
    """
    own = network.state_dict()
    fitting = {k: v for k, v in weights.state.items() if k in own and own[k].shape == v.shape}
    lacking = [k for k in own if k not in fitting and not k.endswith("num_batches_tracked")]
    if (strict and lacking) or not fitting:
        what = f"{len(lacking)} of its {len(own)} weights are missing or have another shape, such as {lacking[0]}"
        raise MethodError(
            f"{weights.path} is of another network than {name}: {what}",
            "use the method, variant, classes and settings that it was trained with",
        )
    network.load_state_dict(fitting, strict=False)
    return lacking


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    """Deterministic algorithms while training only: a prediction is to be timed as one in a process of its own."""
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


@contextlib.contextmanager
def _chatter_into(path: Path) -> Iterator[None]:
    """What libraries print and warn goes to a file, not to the user's terminal."""
    with path.open("a", buffering=1) as file, contextlib.redirect_stdout(file), warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = lambda message, category, filename, lineno, *_: file.write(
            f"{filename}:{lineno}: {category.__name__}: {message}\n"
        )
        yield


def _save(content: Any, path: Path) -> None:
    """``torch.save`` that is either whole or not there."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:  # a full disk is then an OSError, not a RuntimeError of torch's own writer
        torch.save(content, file)
    partial.replace(path)


def _cpu(state: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value.detach().cpu() for key, value in state.items()}


def quiet_loggers() -> None:
    """Keep mmengine's loggers, which tell every weight they initialise, off the terminal."""
    for logger in [MMLogger.get_instance("mmengine"), *MMLogger._instance_dict.values()]:
        _quiet(logger)


def _quiet(logger: logging.Logger) -> None:
    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.CRITICAL)


class _QuietRunner(Runner):
    """mmengine's Runner on the device that was asked for, with its chatter in the log file only."""

    def __init__(self, device: str, **arguments: Any) -> None:
        self._wanted_device = device
        super().__init__(**arguments)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        _quiet(logger)
        return logger

    def wrap_model(self, model_wrapper_cfg: Any, model: Any) -> Any:
        return model.to(self._wanted_device)

    def resume(self, filename: str, *args: Any, **arguments: Any) -> None:
        arguments["map_location"] = "cpu"
        super().resume(filename, *args, **arguments)


class _ScaledLoss(AmpOptimWrapper):  # type: ignore[misc]
    """Scales the loss, so that float16 gradients do not vanish; the type itself is the trunk's, see _compute."""

    optim_context = OptimWrapper.optim_context


def _validation(
    val: SampleSource,
    example: Callable[[Sample], Any],
    collate: Callable[[list[Any]], Any],
    seed: int,
) -> Callable[[Any], float]:
    """What measures the mean loss of a model over the validation images, one at a time."""

    @torch.no_grad()
    def measure(model: Any) -> float:
        model.eval()
        total = 0.0
        for number, sample in enumerate(val):
            seed_everything(seed, 5, number)  # the same samples of anchors and RoIs every time
            data = model.data_preprocessor(collate([example(sample)]), True)
            loss, _ = model.parse_losses(model._run_forward(data, mode="loss"))
            total += float(loss)
        model.train()
        return total / len(val)

    return measure


class _Exact(Hook):
    """Every random number of a step follows from the seed and the step."""

    priority = "VERY_HIGH"

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        seed_everything(self._seed, 4, batch_idx)


class _Curves(Hook):
    """Reports progress, keeps the training curves, and stops a training that has diverged."""

    def __init__(self, context: FitContext, steps: int) -> None:
        self._context, self._steps = context, steps
        self._interval = max(1, steps // 500)
        self._file: Any = None

    def before_train(self, runner: Runner) -> None:
        path = self._context.folder / CURVES
        if path.is_file():  # what a killed run had logged beyond the point it goes on from
            lines = [line for line in path.read_text().splitlines() if _step_of(line) <= runner.iter]
            path.write_text("".join(line + "\n" for line in lines))
        self._file = path.open("a")

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        losses = {
            k: float(v.detach()) for k, v in (outputs or {}).items() if isinstance(v, torch.Tensor) and v.numel() == 1
        }
        total = losses.get("loss", sum(v for k, v in losses.items() if "loss" in k))
        if not math.isfinite(total):
            raise MethodError(
                f"training diverged: the loss is {total} at step {batch_idx + 1}",
                "lower the learning rate with --set, or use another --init",
            )
        step = batch_idx + 1
        if step % self._interval == 0 or step == self._steps:
            self.record({"step": step, "lr": runner.optim_wrapper.get_lr()["lr"][0], **losses})
        self._context.progress(step, self._steps, f"loss {total:.3g}")

    def record(self, values: Mapping[str, Any]) -> None:
        """Write a line of the curves."""
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()

    def after_train(self, runner: Runner) -> None:
        self._file.close()


class _Counting(Hook):
    """Keeps what is counted in the point to resume from: examples drawn after it are drawn and counted again."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        checkpoint[_TALLY] = self._tally.state()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        self._tally.restore(checkpoint[_TALLY])


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # the half line of a kill


class _TimedCheckpoint(Hook):
    """Writes the point to resume from, seldom enough that writing costs little of the time.

    ``BENCH_CHECKPOINT_SECONDS`` (default 30) is the shortest time between two; a network that takes long to write
    is written less often, so that it stays below a tenth of the time.
    """

    priority = "VERY_LOW"

    def __init__(self, folder: Path, accumulate: int) -> None:
        self._folder, self._accumulate = folder, accumulate
        self._shortest = float(os.environ.get("BENCH_CHECKPOINT_SECONDS", "30"))
        self._wait, self._last = self._shortest, time.monotonic()

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        due = time.monotonic() - self._last >= self._wait
        between_updates = (batch_idx + 1) % self._accumulate == 0
        if due and between_updates and batch_idx + 1 < runner.max_iters:
            begun = time.monotonic()
            runner.save_checkpoint(str(self._folder), RESUME + ".partial", by_epoch=False)
            (self._folder / (RESUME + ".partial")).replace(self._folder / RESUME)
            self._last = time.monotonic()
            self._wait = max(self._shortest, 10 * (self._last - begun))
