"""Early stopping that a kill does not change: it follows from the seed and the step alone.

mmengine's own hook keeps its patience and best score in the process only, so a training that was killed and resumed
would stop elsewhere. Here they travel in the checkpoint.

Imports torch and mmengine: import it inside the methods that need it, never at the top of a method's module.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from bench.api import Sample

BEST = "best.pth"
"""The best weights so far, in the training folder; gone once the final weights are there."""
_STATE = "bench_early_stopping"


@dataclass(frozen=True)
class EarlyStopping:
    """When a training ends before its schedule does.

    The mean loss over the validation images is measured once every pass over the training images.

    Attributes:
        patience: passes without a lower validation loss after which the training ends.
        example: a validation image as :func:`methods._runner.train` takes a training example, not augmented.
    """

    patience: int
    example: Callable[[Sample], Any]


class StopEarly(Hook):
    """Measures, keeps the best weights, and stops.

    Args:
        rule: when to stop.
        folder: of the training.
        measure: validation loss of a model, the lower the better.
        every: steps between two measurements.
        log: takes a line of the training curves.
    """

    priority = "LOW"

    def __init__(
        self,
        rule: EarlyStopping,
        folder: Path,
        measure: Callable[[Any], float],
        *,
        every: int,
        log: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._rule, self._folder, self._measure, self._every, self._log = rule, folder, measure, every, log
        self._lowest, self._waited = math.inf, 0
        self.best_step = 0

    def before_train(self, runner: Runner) -> None:
        """A training that had stopped before it was killed does not go on."""
        self._stop_if_due(runner)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Measure at the end of a pass over the images, and at the end of the schedule."""
        step = batch_idx + 1
        if step % self._every and step != runner.max_iters:
            return
        loss = self._measure(runner.model)
        self._log({"step": step, "validation_loss": loss})
        if loss < self._lowest or self.best_step == 0:
            self._lowest, self._waited, self.best_step = loss, 0, step
            self._keep({name: value.detach().cpu() for name, value in runner.model.state_dict().items()})
        else:
            self._waited += 1
        self._stop_if_due(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Into the point to resume from."""
        checkpoint[_STATE] = {"lowest": self._lowest, "waited": self._waited, "best_step": self.best_step}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Out of it."""
        state = checkpoint[_STATE]
        self._lowest, self._waited, self.best_step = state["lowest"], state["waited"], state["best_step"]

    def best(self) -> Mapping[str, torch.Tensor]:
        """The weights of the lowest validation loss."""
        state: Mapping[str, torch.Tensor] = torch.load(self._folder / BEST, map_location="cpu", weights_only=True)
        return state

    def clear(self) -> None:
        """Remove what only an unfinished training needs."""
        (self._folder / BEST).unlink(missing_ok=True)

    def _stop_if_due(self, runner: Runner) -> None:
        if self._waited >= self._rule.patience:
            runner.train_loop.stop_training = True

    def _keep(self, state: Mapping[str, torch.Tensor]) -> None:
        partial = self._folder / (BEST + ".partial")
        with partial.open("wb") as file:
            torch.save(state, file)
        partial.replace(self._folder / BEST)
