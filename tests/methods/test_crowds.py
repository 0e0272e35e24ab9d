"""Crowded images in training: a crop whose masks fit into memory, at the scale of the whole image."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.api import Instances, ObjectStatistics, Sample, Task
from methods._crowds import MASK_BYTES, mask_bytes, within_bound


def crowd(height: int, width: int, pitch: int, side: int) -> Sample:
    """Cells of ``side`` pixels on a grid of ``pitch``, each with a grey level of its place."""
    labels = np.zeros((height, width), np.int32)
    image = np.zeros((height, width), np.uint8)
    number = 0
    for row in range(0, height - side + 1, pitch):
        for column in range(0, width - side + 1, pitch):
            number += 1
            labels[row : row + side, column : column + side] = number
            image[row : row + side, column : column + side] = 40 + number % 200
    return Sample("crowd", image, Instances.from_label_map(labels))


def test_what_fits_is_left_alone():
    sample = crowd(60, 80, 10, 8)
    assert within_bound(sample, 2.0, np.random.default_rng(0)) is sample
    exactly = mask_bytes(48, 60, 80, 2.0)
    assert within_bound(sample, 2.0, np.random.default_rng(0), exactly) is sample
    assert within_bound(sample, 2.0, np.random.default_rng(0), exactly - 1) is not sample
    unlabelled = Sample("none", sample.image)
    assert within_bound(unlabelled, 2.0, np.random.default_rng(0), 1) is unlabelled


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.floats(0.5, 3), st.floats(0.05, 0.9))
def test_a_crop_fits_into_the_bound_and_holds_its_part_of_the_truth(seed, factor, share):
    sample = crowd(160, 220, 10, 8)
    bound = share * mask_bytes(len(sample.instances), *sample.shape, factor)
    part = within_bound(sample, factor, np.random.default_rng(seed), bound)
    assert mask_bytes(len(part.instances), *part.shape, factor) <= bound or max(part.shape) <= 32
    assert part.shape[0] / part.shape[1] == pytest.approx(160 / 220, rel=0.06)
    drawn = part.instances.to_masks().any(axis=0)
    shown = part.image[..., 0] > 0  # stretched to 8 bit as the whole image is: 0 stays 0
    np.testing.assert_array_equal(drawn, shown)


def test_where_a_crop_is_denser_than_the_image_it_becomes_smaller():
    """All cells in one corner: a crop by the mean density would hold too many."""
    sample = crowd(80, 80, 8, 6)
    labels = np.zeros((400, 400), np.int32)
    labels[:80, :80] = sample.instances.to_label_map("index")
    clustered = Sample("clustered", np.zeros((400, 400), np.uint8), Instances.from_label_map(labels))
    bound = 0.02 * mask_bytes(100, 400, 400, 1.0)
    sizes = []
    for seed in range(30):
        part = within_bound(clustered, 1.0, np.random.default_rng(seed), bound)
        assert mask_bytes(len(part.instances), *part.shape, 1.0) <= bound
        sizes.append(part.shape[0])
    assert min(sizes) < 150 == max(sizes)


def detector(name: str, task: Task, **given):
    from bench.registry import find_method

    entry = find_method(name)
    return entry.method(task, entry.method.make_params(entry.variant, given))


@pytest.mark.parametrize("name", ["mask_rcnn", "cascade_mask_rcnn-x152", "mnc", "yi2018"])
def test_a_crop_reaches_the_network_at_the_scale_of_the_whole_image(monkeypatch, name):
    pytest.importorskip("mmdet")
    from bench.ops import import_mmdet
    from methods import _mmdet

    import_mmdet()
    sample = crowd(128, 160, 8, 6)
    task = Task(objects=ObjectStatistics(6, 6, 6, 1, 320, 320), image_shape=(128, 160))
    made = detector(name, task, **({"shortest": 1.0} if "x152" in name else {}))
    resize = made._compose([made._resize(), made.packing()])
    whole = resize(made._given(sample, np.random.default_rng(0)))
    assert len(whole["data_samples"].gt_instances) == 320
    monkeypatch.setattr(
        _mmdet, "within_bound", lambda part, factor, rng: within_bound(part, factor, rng, MASK_BYTES / 2000)
    )
    part = made._given(sample, np.random.default_rng(0))
    assert part["img"].shape[0] < 100
    cut = resize(part)
    for axis in (0, 1):
        here, there = (np.array(p["data_samples"].scale_factor)[axis] for p in (cut, whole))
        assert here == pytest.approx(there, rel=0.03)
    assert len(cut["data_samples"].gt_instances) < 320
    augmented = made._compose([*made.augmentations(), made.packing()])(made._given(sample, np.random.default_rng(0)))
    assert augmented["inputs"].shape == cut["inputs"].shape


def test_the_masks_of_an_image_that_is_shrunk_fit_into_the_bound_before_it_is(monkeypatch):
    pytest.importorskip("mmdet")
    from bench.ops import import_mmdet
    from methods import _mmdet

    import_mmdet()
    sample = crowd(400, 500, 10, 8)
    task = Task(objects=ObjectStatistics(8, 8, 8, 1, 2000, 2000), image_shape=(400, 500))
    made = detector("mask_rcnn", task, image_scale=(125, 100))
    bound = mask_bytes(2000, 400, 500, 0.25) * 2
    monkeypatch.setattr(_mmdet, "within_bound", lambda part, factor, rng: within_bound(part, factor, rng, bound))
    assert made._given(sample, np.random.default_rng(0))["gt_masks"].masks.nbytes <= bound


MEASURE = """
import json, resource, sys, tempfile, time
from pathlib import Path
import numpy as np
import torch
torch.set_num_threads(1)
from bench.api import FitContext, Instances, ObjectStatistics, Sample, Schedule, Task
from bench.registry import find_method

rows, columns = 50, 60
labels = np.zeros((520, 704), np.int32)
for number, (row, column) in enumerate(np.ndindex(rows, columns), 1):
    labels[10 * row + 2 : 10 * row + 10, 11 * column + 2 : 11 * column + 10] = number
image = (40 + (labels > 0) * 100).astype(np.uint8)
assert labels.max() == 3000
class Source(list):
    ids = ("crowd",)
source = Source([Sample("crowd", image, Instances.from_label_map(labels))])
entry = find_method("mask_rcnn")
settings = {"depth": 18, "pyramid_channels": 32, "head_channels": 32}
task = Task(objects=ObjectStatistics(8, 8, 8, 1, 3000, 3000), image_shape=(520, 704))
method = entry.method(task, entry.method.make_params(entry.variant, settings))
method.load_fresh(0)
before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
method.fit(source, None, FitContext(Path(tempfile.mkdtemp()), Schedule(iterations=1), "paper"))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"before": before * 1024, "peak": peak * 1024, "seconds": time.monotonic() - begun}))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_step_on_three_thousand_cells_stays_within_memory():
    """The masks alone were 2.6 GB, at the network's 800 x 1083 pixels, and its table of overlaps 20 GB."""
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout.splitlines()[-1])
    assert measured["peak"] < 6 * 2**30, measured
