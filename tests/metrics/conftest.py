"""Material for the tests of the metrics: real truths, and predictions made of them."""

import json
from pathlib import Path

import numpy as np
import pytest

from bench.api import Instances


def jittered(truth: Instances, seed: int, *, drop: float = 0.1, extra: int = 3, scored: bool = True) -> Instances:
    """A prediction made of a truth: masks shifted and some lost, so that they overlap; a few in wrong places."""
    rng = np.random.default_rng(seed)
    masks = []
    for index in range(len(truth)):
        if rng.random() >= drop:
            masks.append(np.roll(truth.mask(index), rng.integers(-3, 4, 2), axis=(0, 1)))
    for _ in range(extra):
        mask = np.zeros(truth.shape, bool)
        y, x = rng.integers(0, truth.height), rng.integers(0, truth.width)
        mask[y : y + 12, x : x + 9] = True
        masks.append(mask)
    stack = np.array(masks).reshape(-1, *truth.shape)
    return Instances.from_masks(
        stack,
        scores=np.round(rng.random(len(stack)), 2) if scored else None,
        class_ids=rng.integers(0, 2, len(stack)),
    )


def _label(path: Path) -> np.ndarray:
    from skimage import io

    return io.imread(path)


@pytest.fixture(scope="session")
def real_truths(shared_data: Path) -> list[Instances]:
    """Truths of real images: nuclei of three modalities, cells with protrusions, an image without any."""
    from skimage.measure import label

    truths = []
    for folder in sorted((shared_data / "dsb2018").iterdir())[:4]:
        masks = np.array([_label(p) > 0 for p in sorted((folder / "masks").glob("*.png"))])
        masks = masks[..., 0] if masks.ndim == 4 else masks
        truths.append(Instances.from_masks(masks, class_ids=np.arange(len(masks)) % 2))
    for path in sorted((shared_data / "bbbc039" / "masks").glob("*.png")):
        found = Instances.from_label_map(label(_label(path)[..., 0], background=0))
        truths.append(Instances(found.height, found.width, found.rles, class_ids=np.arange(len(found)) % 2))
    for path in sorted((shared_data / "usiigaci").rglob("instances_ids.png"))[:2]:
        found = Instances.from_label_map(_label(path)[:500, :500])
        truths.append(Instances(found.height, found.width, found.rles, class_ids=np.arange(len(found)) % 2))
    return truths


@pytest.fixture(scope="session")
def real_predictions(real_truths: list[Instances]) -> list[Instances]:
    """Predictions for them, overlapping, with many equal scores."""
    return [jittered(truth, seed) for seed, truth in enumerate(real_truths)]


@pytest.fixture(scope="session")
def oracle(shared: Path) -> dict[str, tuple[np.ndarray, np.ndarray, dict]]:
    """Name -> truth labels, predicted labels, and what the reference implementations say of them."""
    vectors = json.loads((shared / "oracle" / "vectors.json").read_text())
    with np.load(shared / "oracle" / "pairs.npz") as pairs:
        return {name: (pairs[f"{name}__gt"], pairs[f"{name}__pred"], said) for name, said in vectors.items()}
