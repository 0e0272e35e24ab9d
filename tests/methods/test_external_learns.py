"""The external tools that can be trained, trained: each in its own environment, where that has been made.

``python -m methods._environment cellpose stardist instanseg`` makes them; without one its test is skipped and says so.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.api import FitContext, Instances, Sample, Schedule, Task
from bench.metrics import score
from bench.registry import find_method

SETTINGS = {
    "cellpose": (Schedule(iterations=120, batch_size=4), {"crop": "64"}),
    "stardist": (Schedule(iterations=400, batch_size=4), {"crop": "64"}),
    "instanseg": (Schedule(iterations=300, batch_size=2), {"crop": "96", "widths": "8,16,32"}),
}


def cells(seed: int, height: int = 140, width: int = 150) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    """A 16-bit image of bright discs, some of them nearly touching, and its label image."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    labels = np.zeros((height, width), np.int32)
    for row in range(14, height - 10, 24):
        for column in range(14, width - 10, 24):
            centre = np.array([row, column]) + rng.integers(-3, 4, 2)
            disc = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= rng.uniform(7, 11) ** 2
            labels[disc & (labels == 0)] = labels.max() + 1
    image = rng.normal(400, 30, labels.shape) + 500 * (labels > 0)
    return np.clip(image, 0, 65535).astype(np.uint16), labels


class Source:
    """Images to learn from."""

    def __init__(self, *seeds: int) -> None:
        pairs = [cells(seed) for seed in seeds]
        self.ids = tuple(f"s{seed}" for seed in seeds)
        self.samples = [Sample(f"s{s}", i, Instances.from_label_map(t)) for s, (i, t) in zip(seeds, pairs, strict=True)]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SETTINGS)
def test_from_random_weights_it_finds_cells_in_an_image_that_it_has_not_seen(name: str, tmp_path: Path):
    kind = find_method(name).method
    schedule, settings = SETTINGS[name]
    method = kind(Task(), kind.make_params("", settings))
    reason = method.unavailable()
    if reason is not None:
        pytest.skip(reason)
    reports: list[tuple[int, int]] = []
    context = FitContext(
        tmp_path / "training", schedule, "short", progress=lambda done, total, text: reports.append((done, total))
    )
    weights = method.fit(Source(1, 2, 3, 4), Source(5, 6), context)
    assert reports[-1][0] == reports[-1][1]
    assert sorted(p.name for p in (tmp_path / "training").iterdir()) == ["tool.txt", "weights.pth"]

    image, truth = cells(99)
    method.load(weights)
    found = method.predict(image)
    assert (found.scores is not None) == kind.scored
    f1 = score([truth], [found], ["panoptic"]).protocols["panoptic"]["F1@0.5"]
    assert f1 > 0.8, f"F1 {f1:.3f} with {len(found)} of {truth.max()}"
    again = kind(Task(), method.params)
    again.load(weights)
    assert again.predict(image) == found
    for tool in (method, again):
        tool.close()
