"""One training for several runs: variants of a method that differ only after its network share their weights.

What a training was is written beside its weights once it is over. A run whose training would be the same, by
:attr:`bench.engine.plan.Job.training_key`, takes over weights, curves and the time they took, and says from where.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.engine import folder as files
from bench.engine import provenance
from bench.engine.folder import RunFolder, writing
from bench.engine.plan import Job
from bench.store.files import CURVES_NAME, DROPPED_NAME

RECORD = "trained.json"
"""In the training folder: what a finished training was."""
GOES_ALONG = tuple(f"{stage}{name}" for stage in ("", "*/") for name in (CURVES_NAME, DROPPED_NAME))
"""Of a training and of its stages, where its method keeps them: curves, and what was not learned from."""


@dataclass(frozen=True)
class Training:
    """A finished training.

    Attributes:
        key: see :attr:`bench.engine.plan.Job.training_key`.
        weights: file of the final weights, relative to the training folder.
        sha256: of that file.
        seconds: that it took.
        run: folder of the run that it was made in, below the folder of all runs.
    """

    key: str
    weights: str
    sha256: str
    seconds: float
    run: str


def remember(job: Job, run: RunFolder, weights: Path, seconds: float) -> None:
    """Write down a training that is over, for the runs that may share it; nothing if its weights lie elsewhere.

    Raises:
        OutputError: the folder cannot be written.
    """
    training = run.path / files.TRAINING
    if not weights.is_relative_to(training):
        return
    made_in = "/".join(run.path.parts[-3:])
    _write(
        training,
        Training(
            job.training_key, str(weights.relative_to(training)), provenance.sha256_file(weights), seconds, made_in
        ),
    )


def take_over(job: Job, run: RunFolder) -> tuple[Path, Training] | None:
    """The weights of a sibling whose training is what this run's would be, put into this run's folder.

    Siblings are the runs of all variants of the method on the same data set. Weights that are no longer those that were
    written down are not taken.

    Returns:
        the file of weights in this run's folder, and the training; None where there is none to share.

    Raises:
        OutputError: the folder cannot be written.
    """
    own = run.path / files.TRAINING
    runs = run.path.parent.parent
    names = [job.entry.method.full_name(variant) for variant in sorted(job.entry.method.variants)]
    for path in (found for name in names for found in sorted(runs.glob(f"{name}/*/{files.TRAINING}/{RECORD}"))):
        training = _read(path)
        if training is None or training.key != job.training_key:
            continue
        weights = path.parent / training.weights
        if not weights.is_file() or provenance.sha256_file(weights) != training.sha256:
            continue
        if path.parent == own:  # trained, then killed while it predicted
            return weights, training
        with writing(run.path):
            _put(weights, own / training.weights)
            for source in (found for pattern in GOES_ALONG for found in path.parent.glob(pattern)):
                target = own / source.relative_to(path.parent)
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(source, target)
        _write(own, training)
        return own / training.weights, training
    return None


def _read(path: Path) -> Training | None:
    """What a record says; None where it was half written or is of another version."""
    try:
        return Training(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _write(folder: Path, training: Training) -> None:
    with writing(folder):
        partial = folder / (RECORD + ".partial")
        partial.write_text(json.dumps(asdict(training), indent=2) + "\n")
        partial.replace(folder / RECORD)


def _put(source: Path, target: Path) -> None:
    """The same file in another folder: a second name of it where the disk can, so that it takes no space."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".shared")
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)
    except OSError:
        shutil.copyfile(source, partial)
    partial.replace(target)
