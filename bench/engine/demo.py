"""A database that is worth looking at without having trained anything: what ``bench demo-db`` makes.

Its methods are invented: each spoils the truth of a generated stand-in in its own way and to its own degree. The
numbers are then scored for real by the protocols, from predictions that lie in run folders as everywhere, so that
every page of the board has something true to show; only the methods and their times are made up. Every run says so:
in its title, its note and its badge.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.api import Instances, Sample, UsageError
from bench.data import Dataset, Split
from bench.data.opening import open_visibly
from bench.engine import folder as files
from bench.engine import provenance, scoring, timing
from bench.engine.folder import RunFolder
from bench.engine.reported import store_reported
from bench.progress import reporting
from bench.records import EnvironmentRecord, MachineRecord, MethodVersionRecord, RunBundle, RunRecord, TimingRecord
from bench.store import Store, open_store
from bench.store.identity import SUBMITTED

DATASETS = ("bbbc039", "dic_hela", "phc_u373")
"""Their stand-ins are small and look different."""
SEEDS = (0,)
NOTE = (
    "Invented for the demonstration: the truth of generated images, spoilt on purpose. Neither method nor time is real."
)
START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
MOST_FALSE = 400
"""False positives an image at most."""


@dataclass(frozen=True)
class Invented:
    """A method that does not exist.

    Attributes:
        name: of it.
        title: of it.
        lost: share of cells that it does not see.
        made_up: false positives for every cell.
        merged: share of neighbours that it joins.
        off: pixels by which its outlines are typically wrong.
        milliseconds: that an image takes it, typically.
        parameters: of its network.
    """

    name: str
    title: str
    lost: float
    made_up: float
    merged: float
    off: float
    milliseconds: float
    parameters: int


METHODS = (
    Invented("demo_alder", "Demo Alder", 0.03, 0.02, 0.01, 0.7, 410.0, 88_000_000),
    Invented("demo_birch", "Demo Birch", 0.04, 0.03, 0.02, 0.8, 180.0, 44_000_000),
    Invented("demo_cedar", "Demo Cedar", 0.05, 0.05, 0.03, 1.2, 95.0, 31_000_000),
    Invented("demo_elm", "Demo Elm", 0.10, 0.02, 0.02, 1.0, 60.0, 11_000_000),
    Invented("demo_hazel", "Demo Hazel", 0.06, 0.15, 0.05, 1.5, 130.0, 7_800_000),
    Invented("demo_larch", "Demo Larch", 0.15, 0.10, 0.15, 2.0, 22.0, 2_100_000),
    Invented("demo_maple", "Demo Maple", 0.20, 0.30, 0.10, 2.5, 35.0, 1_200_000),
)


def make_demo(db: str | Path, runs: Path, data_root: Path | None = None, *, seed: int = 0) -> int:
    """Make the demonstration database and its run folders; returns how many runs it holds.

    Args:
        db: a file that is not there yet.
        runs: folder of its runs, new or empty.
        data_root: where the stand-ins lie or are generated.
        seed: of everything; the same one gives the same numbers.

    Raises:
        UsageError: the file is there, or the folder holds something.
    """
    if Path(db).exists():
        raise UsageError(f"{db} is there already", "name a new file: bench demo-db --db FILE")
    if runs.exists() and any(runs.iterdir()):
        raise UsageError(f"{runs} holds something", "name a new folder: bench demo-db --runs FOLDER")
    count = 0
    with open_store(db) as store:
        store_reported(store)
        for name in DATASETS:
            dataset = open_visibly(name, data_root, stand_in=True)
            for method in METHODS:
                for number in SEEDS:
                    _run(store, dataset, method, runs, [seed, number])
                    count += 1
    return count


def _run(store: Store, dataset: Dataset, method: Invented, runs: Path, seeds: list[int]) -> None:
    split = dataset.split(None)
    plan = {"demo": True, "method": method.name, "dataset": dataset.card.name, "dataset_version": dataset.content_hash}
    plan |= {"split": split.name, "seeds": seeds}
    key = provenance.sha256_of(plan)
    run = RunFolder(runs / dataset.card.name / method.name / key[:16])
    with run.locked():
        run.clear()
        run.write_plan({**plan, "key": key})
        timings = list(_predict(split, method, run, seeds))
        scores, images = scoring.score_run(
            method.title, dataset.card, split, run.predicted(), None, scoring.parts_of(dataset, split.name)
        )
    totals = [record.milliseconds for record in timings]
    begun = START + timedelta(days=METHODS.index(method), hours=seeds[1])
    store.add(
        RunBundle(
            run=RunRecord(
                key=key,
                split=split.name,
                seed=seeds[1],
                schedule="paper",
                init="none",
                device="cpu",
                status="ok",
                badge=SUBMITTED,
                started=begun,
                finished=begun + timedelta(seconds=sum(totals) / 1000),
                attempt=1,
                folder=str(run.path.resolve()),
                command="bench demo-db",
                n_images=len(split),
                complete=True,
                arguments=plan,
                submitted_by="bench demo-db",
                note=NOTE,
            ),
            dataset=dataset.version,
            method=MethodVersionRecord(
                name=method.name,
                variant="",
                title=method.title,
                origin=SUBMITTED,
                code_hash=provenance.sha256_of([method.name]),
                params={},
                params_hash=provenance.sha256_of({}),
                scored=True,
                n_parameters=method.parameters,
            ),
            environment=EnvironmentRecord("demo", "none", "none", None, None, None, None),
            machine=MachineRecord("demo", "demo", "an invented machine", 0, 0, "none"),
            images=dataset.images(),
            results=(*scores, *scoring.timing_results(timing.summary(totals, None))),
            image_results=images,
            timings=tuple(timings),
        )
    )


def _predict(split: Split, method: Invented, run: RunFolder, seeds: list[int]) -> Iterator[TimingRecord]:
    journal = run.predictions()
    with reporting(f"inventing {method.title}", "image") as report:
        for count, sample in enumerate(split, start=1):
            rng = np.random.default_rng([*seeds, METHODS.index(method), *sample.id.encode()])
            found = spoilt(sample, method, rng)
            journal.append(files.to_record(sample.id, found))
            yield TimingRecord(sample.id, "total", 0, float(method.milliseconds * rng.lognormal(0, 0.08)))
            report(count, len(split), "")


def spoilt(sample: Sample, method: Invented, rng: np.random.Generator) -> Instances:
    """The truth of an image as an invented method sees it.

    Args:
        sample: with its truth.
        method: how badly it sees.
        rng: of everything that is random.
    """
    from skimage.segmentation import expand_labels

    assert sample.instances is not None
    labels = sample.instances.to_label_map().astype(np.int32)
    count = int(labels.max())
    # How hard a cell is to see decides whether it is lost, how wrong its outline is, and its score.
    hardness = rng.beta(1.2, 3.0, count + 1)
    _join_neighbours(labels, method.merged, rng)
    lost = rng.random(count + 1) < method.lost * 4 * hardness
    labels[lost[labels]] = 0
    group = rng.integers(0, 3, count + 1)
    wrong = np.maximum(0, np.round(method.off * np.array([0.4, 1.0, 1.8]) * rng.uniform(0.6, 1.4, 3)))
    out = labels.copy()
    for number, pixels in enumerate(wrong.tolist()):
        mine = np.where(group[labels] == number, labels, 0)
        if number == 1:  # too small
            inner = expand_labels((labels == 0).astype(np.uint8), pixels) > 0
            out[(mine > 0) & inner] = 0
        else:  # too large, into what is free
            grown = expand_labels(mine, pixels)
            out = np.where(out == 0, grown, out)
    made_up = min(MOST_FALSE, int(rng.poisson(method.made_up * max(count, 1))))
    typical = float(np.sqrt(np.median(sample.instances.areas) / np.pi)) if len(sample.instances) else 8.0
    _make_up(out, made_up, typical, rng)
    scores = {}
    for label in np.unique(out[out > 0]).tolist():
        seen = 1 - hardness[label] if label <= count else rng.beta(1.5, 4.0)
        scores[label] = float(np.clip(seen + rng.normal(0, 0.08), 0.01, 0.999))
    return Instances.from_label_map(out, scores=scores)


def _join_neighbours(labels: NDArray[np.int32], share: float, rng: np.random.Generator) -> None:
    """Give some cells the label of one that they touch."""
    beside = np.stack([labels[:, :-1].ravel(), labels[:, 1:].ravel()])
    touching = np.unique(np.sort(beside[:, (beside[0] != beside[1]) & (beside > 0).all(axis=0)], axis=0), axis=1)
    for first, second in touching.T[rng.random(touching.shape[1]) < share]:
        labels[labels == second] = first


def _make_up(labels: NDArray[np.int32], count: int, radius: float, rng: np.random.Generator) -> None:
    """Draw cells that are not there where nothing is."""
    height, width = labels.shape
    for label in range(int(labels.max()) + 1, int(labels.max()) + 1 + count):
        row, column = rng.integers(0, height), rng.integers(0, width)
        size = radius * rng.uniform(0.4, 1.1)
        reach = int(np.ceil(size))
        rows = slice(max(0, row - reach), row + reach + 1)
        columns = slice(max(0, column - reach), column + reach + 1)
        down, right = np.ogrid[rows.start : min(rows.stop, height), columns.start : min(columns.stop, width)]
        window = labels[rows, columns]
        window[((down - row) ** 2 + (right - column) ** 2 <= size**2) & (window == 0)] = label
