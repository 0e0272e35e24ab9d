"""Every dense method, scaled down, learns two real images from random weights."""

from pathlib import Path

import numpy as np
import pytest

from bench.api import FitContext, Instances, Sample, Schedule, Task
from methods._augmentation import Augmentation
from methods.calt_us import CALTUS
from methods.instance_unet import InstanceUNet
from methods.mu_lux_cz import MULuxCZ

SMALL = (8, 16, 32, 64)
SIDE = 128
SLIVER = 100
"""Pixels; what the crop leaves less of does not count. (Whole nuclei have 400 and more.)"""
TASK = Task(("nucleus",), "fluorescence")


class Source(list):
    @property
    def ids(self):
        return tuple(sample.id for sample in self)


def corner(folder: Path, name: str, side: int = SIDE) -> Sample:
    """The upper left corner of a real 16-bit image of nuclei with its truth."""
    from skimage import io as pictures
    from skimage.measure import label

    (image,) = sorted((folder / "images").glob(f"*{name}*"))
    (mask,) = sorted((folder / "masks").glob(f"*{name}*"))
    labels = label(pictures.imread(mask)[..., 0], background=0)[:side, :side]
    return Sample(name, np.ascontiguousarray(pictures.imread(image)[:side, :side]), Instances.from_label_map(labels))


def seg(pairs: list[tuple[Instances, Instances]]) -> float:
    """The Cell Tracking Challenge's SEG, cell by cell: IoU with the result that covers more than half of it, else 0."""
    scores = []
    for truth, found in pairs:
        results = found.to_masks()
        for cell in truth.take(truth.areas >= SLIVER).to_masks():
            scores.append(0.0)
            for result in results:
                shared = (cell & result).sum()
                if shared > 0.5 * cell.sum():
                    scores[-1] = shared / (cell | result).sum()
    return float(np.mean(scores))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("method", "variants", "steps", "settings"),
    [
        # Thresholds of 240 and 229 of 255 are for trainings of days: here the likelier class counts.
        (MULuxCZ, ("",), 160, {"learning_rate": 1.5e-3, "marker_threshold": 128, "mask_threshold": 128}),
        (CALTUS, ("", "th", "wts"), 170, {"learning_rate": 3e-3, "turns": 1, "seed_threshold": 0.8}),
        (InstanceUNet, ("u-bce",), 110, {"learning_rate": 3e-3}),
        (InstanceUNet, ("iu-dice",), 110, {"learning_rate": 3e-3, "rpn_channels": 64}),
        (InstanceUNet, ("iu-bce", "iuw-bce"), 110, {"learning_rate": 3e-3, "rpn_channels": 64}),
        (InstanceUNet, ("iu-bce-dice", "iuw-bce-dice"), 110, {"learning_rate": 3e-3, "rpn_channels": 64}),
    ],
    ids=["mu_lux_cz", "calt_us", "u-bce", "iu-dice", "iu-bce", "iu-bce-dice"],
)
def test_a_small_network_learns_two_real_images(method, variants, steps, settings, shared_data, tmp_path, monkeypatch):
    """SEG of at least 0.8 on two corners of real images with 11 nuclei, by every way of reading the same maps."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("mmengine")
    # To learn two images by heart, not to generalise: no turning and scaling.
    monkeypatch.setattr(method, "augmentation", Augmentation(flip_horizontal=True, flip_vertical=True))
    source = Source(corner(shared_data / "bbbc039", name) for name in ("F22_s6", "N12_s9"))
    settings = {"widths": SMALL, "crop": SIDE, **settings}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        trained = method(TASK, method.make_params(variants[0], settings))
        weights = trained.fit(source, None, FitContext(tmp_path, Schedule(iterations=steps, batch_size=2), "short"))
        found = {}
        for variant in variants:
            reader = method(TASK, method.make_params(variant, settings))
            reader.load(weights)
            found[variant] = seg([(sample.instances, reader.predict(sample.image)) for sample in source])
    finally:
        torch.set_num_threads(threads)
    assert min(found.values()) >= 0.8, found
