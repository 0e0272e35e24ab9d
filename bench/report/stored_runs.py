"""A stored run back at its images: the data set that it was made on, its predictions, and their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.data import Dataset, Split, open_dataset
from bench.data.cards import load_card
from bench.data.dataset import data_root as root_of
from bench.data.scan import default_cache
from bench.data.synthetic import made
from bench.errors import DataError
from bench.instances import Instances
from bench.metrics import Scorer, Scores
from bench.progress import reporting
from bench.store import StoredRun


def opened(run: StoredRun, data_root: Path | None, *, generate: bool = True) -> Dataset:
    """The data set that a run was made on.

    Args:
        run: as the store has it.
        data_root: folder in which data sets lie.
        generate: whether a stand-in that is not there is made.

    Raises:
        DataError: it is not there, or what lies there is another version.
        UnknownNameError: its card is not known here.
    """
    synthetic = run.source == "synthetic"
    if synthetic and not generate:
        card = load_card(run.dataset)
        roots = (root_of(data_root) / "synthetic", default_cache() / "synthetic")
        if card.stand_in is None or made(card, *roots) is None:
            raise DataError(f"the stand-in of {run.dataset} is not there", "name its folder by --data-root")
    dataset = open_dataset(run.dataset, data_root, stand_in=synthetic)
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
) -> Scores:
    """Score predictions on a split, without intervals: what :func:`bench.metrics.compare` holds against another's."""
    scorer = Scorer(protocols, classes=dataset.card.task.classes, intervals=False)
    with reporting(f"scoring {label}", "image") as report:
        for count, sample in enumerate(split, start=1):
            truth = sample.instances if sample.instances is not None else Instances.empty(*sample.shape)
            scorer.add(sample.id, truth, found[sample.id], group=sample.group)
            report(count, len(split), "")
    return scorer.result()


def run_names(runs: Sequence[StoredRun]) -> dict[int, str]:
    """How runs are named in a comparison."""
    return {run.id: f"run {run.id} ({run.method}, seed {run.seed})" for run in runs}
