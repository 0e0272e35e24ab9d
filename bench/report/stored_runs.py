"""A stored run back at its images: the data set that it was made on, its predictions, and their scores."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.data import Dataset, Split
from bench.data.dataset import unmade_stand_in
from bench.data.opening import open_visibly
from bench.errors import DataError
from bench.instances import Instances
from bench.metrics import Scorer, Scores
from bench.progress import reporting
from bench.store import StoredRun


def opened(run: StoredRun, data_root: Path | None) -> Dataset:
    """The data set that a run was made on. A stand-in that is not there is refused, not made: it most likely lies
    under another data root, as it was there when the run was made.

    Args:
        run: as the store has it.
        data_root: folder in which data sets lie.

    Raises:
        DataError: it is not there, or what lies there is another version.
        UnknownNameError: its card is not known here.
    """
    synthetic = run.source == "synthetic"
    if synthetic:
        unmade = unmade_stand_in(run.dataset, data_root, stand_in=True)
        if unmade is not None:
            where = f" --data-root {shlex.quote(str(data_root))}" if data_root else ""
            raise DataError(
                f"the stand-in of {run.dataset}, on which run {run.id} was made, is not there "
                f"(looked for {unmade.folder})",
                f"name its data root by --data-root, or make it again: bench data synth {run.dataset}{where}",
            )
    dataset = open_visibly(run.dataset, data_root, stand_in=synthetic)
    if dataset.content_hash != run.content_hash:
        raise DataError(
            f"{dataset.folder} holds another version of {run.dataset} than run {run.id} was made on",
            "name the folder of its files by --data-root",
        )
    return dataset


def scored(
    label: str,
    dataset: Dataset,
    split: Split,
    found: Mapping[str, Instances],
    protocols: Mapping[str, Mapping[str, Any]],
    min_score: float | None = None,
) -> Scores:
    """Score predictions on a split, without intervals: what :func:`bench.metrics.compare` holds against another's."""
    scorer = Scorer(protocols, classes=dataset.card.task.classes, intervals=False, min_score=min_score)
    with reporting(f"scoring {label}", "image") as report:
        for count, sample in enumerate(split, start=1):
            truth = sample.instances if sample.instances is not None else Instances.empty(*sample.shape)
            scorer.add(sample.id, truth, found[sample.id], group=sample.group)
            report(count, len(split), "")
    return scorer.result()
