"""Scaled-down networks learn two real images from random weights, on one thread of a CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.api import FitContext, Instances, ObjectStatistics, Sample, Schedule, Task
from bench.metrics import score
from bench.registry import find_method

TWO_STAGE = {"image_scale": (256, 256), "depth": 18, "pyramid_channels": 64, "head_channels": 256, "samples": 64}
BY_PIXEL = {**TWO_STAGE, "decay_epochs": 0, "patience": 0}  # an epoch of two images is a single step
NETWORKS = {
    "mask_rcnn-bce": (300, BY_PIXEL),
    "mask_rcnn-focal": (300, BY_PIXEL),
    "mask_rcnn-shape": (300, BY_PIXEL),
    "mask_rcnn-swin": (
        300,
        {
            "image_scale": (256, 256),
            "embed_dims": 48,
            "depths": (1, 1, 2, 1),
            "samples": 64,
            "learning_rate": 16 * 3e-4 / 2,
        },
    ),
    "rtmdet_ins": (300, {"image_scale": (256, 256), "widen": 0.25, "deepen": 0.17, "learning_rate": 256 * 1.6e-3 / 2}),
    "solov2": (
        400,
        {
            "image_scale": (256, 256),
            "depth": 18,
            "pyramid_channels": 64,
            "head_channels": 64,
            "finest_grid": 30,
            "learning_rate": 16 * 0.04 / 2,
            "clip_grad": 10.0,
        },
    ),
    "mask2former": (
        400,
        {
            "image_scale": (256, 256),
            "depth": 18,
            "channels": 64,
            "encoder_layers": 2,
            "decoder_layers": 3,
            "queries": 40,
            "points": 2048,
            "learning_rate": 16 * 5e-4 / 2,
            "clip_grad": 1.0,
        },
    ),
}
"""Method to its steps and settings; the learning rates are per batch of two."""


class Samples(list):
    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(sample.id for sample in self)


def two_crops(shared_data: Path, side: int = 128) -> Samples:
    """Corners of two images with 6 to 20 nuclei each."""
    from skimage.io import imread

    found = Samples()
    for folder in sorted((shared_data / "dsb2018").iterdir()):
        image = imread(next((folder / "images").glob("*.png")))
        if min(image.shape[:2]) < side:
            continue
        masks = np.stack([imread(path)[:side, :side] > 0 for path in sorted((folder / "masks").glob("*.png"))])
        masks = masks[masks.sum((1, 2)) >= 30]
        if 6 <= len(masks) <= 20:
            found.append(Sample(folder.name[:8], image[:side, :side, :3], Instances.from_masks(masks)))
        if len(found) == 2:
            return found
    raise AssertionError("no two such images")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_small_network_learns_two_real_images(shared_data, tmp_path, name, record_property):
    import torch

    torch.set_num_threads(1)
    samples = two_crops(shared_data)
    steps, settings = NETWORKS[name]
    task = Task(
        objects=ObjectStatistics.measure(s.instances for s in samples), image_shape=(128, 128), max_detections=100
    )
    entry = find_method(name)
    method = entry.method(task, entry.method.make_params(entry.variant, settings))
    context = FitContext(tmp_path, Schedule(iterations=steps, batch_size=2), "short")
    method.load(method.fit(samples, None, context))
    found = [method.predict(s.image) for s in samples]
    scores = score([s.instances for s in samples], found, ["voc"], intervals=False)
    ap = scores.protocols["voc"]["AP@0.5"]
    record_property("AP@0.5", round(ap, 3))
    assert ap >= 0.8, f"mask AP@0.5 is {ap:.3f}"
