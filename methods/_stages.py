"""Training in stages: a list of trainings, each beginning with the weights of the one before.

Guo 2022 (pre-train, fine-tune, pseudo-label and retrain) and Yi 2018 (detector, then mask head) are such lists. Every
stage has a folder of its own below that of the run, so a killed training goes on in the stage where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.api import FitContext, Schedule


@dataclass(frozen=True)
class Stage:
    """One training of several.

    Attributes:
        name: of the stage and its folder, in lower case ("pretrain").
        schedule: how long it trains.
        fit: trains it: ``fit(context) -> weights``. ``context.folder`` is the stage's own, ``context.init`` the
            weights of the stage before (of the first stage: what the user asked for), ``context.schedule`` the
            stage's. Called again after a kill, it must go on, and return at once where it was done; see
            :func:`methods._runner.train`, which does both.
    """

    name: str
    schedule: Schedule
    fit: Callable[[FitContext], Path]


def run_stages(stages: Sequence[Stage], context: FitContext) -> Path:
    """Run the stages in order, and return the weights of the last.

    Args:
        stages: at least one, their names distinct.
        context: of the whole training.
    """
    if not stages or len({stage.name for stage in stages}) != len(stages):
        raise ValueError("stages must be named, each by a name of its own")
    init = context.init
    weights = Path(init)
    for number, stage in enumerate(stages, 1):

        def progress(done: int, total: int, text: str, place: str = f"{number}/{len(stages)} {stage.name}") -> None:
            context.progress(done, total, f"{place}: {text}")

        weights = stage.fit(
            replace(context, folder=context.folder / stage.name, schedule=stage.schedule, init=init, progress=progress)
        )
        init = str(weights)
    return weights
