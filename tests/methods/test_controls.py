"""What the control methods answer, held against masks drawn by hand."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from bench.api import Instances, Sample, Task
from bench.registry import find_method

CONTROLS = ("truth", "empty", "jitter", "merge", "split")


def answer(name: str, sample: Sample, seed: int = 0, **settings) -> Instances:
    kind = find_method(name).method
    return kind(Task(("a", "b")), kind.make_params("", settings)).answer(sample, seed).checked()


def drawn(*boxes: tuple[int, int, int, int], classes=None, crowd=None) -> Sample:
    """Rectangles (top, left, bottom, right) on 40 x 60 pixels."""
    masks = np.zeros((len(boxes), 40, 60), np.bool_)
    for mask, (top, left, bottom, right) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    truth = Instances.from_masks(masks, class_ids=classes, crowd=crowd)
    return Sample("drawn", np.zeros((40, 60), np.uint8), truth)


def boxes_of(found: Instances) -> list[tuple[int, ...]]:
    return [tuple(int(v) for v in box) for box in found.boxes]


def test_the_truth_is_answered_without_its_crowd_regions():
    sample = drawn((2, 3, 9, 12), (0, 0, 40, 60), (20, 30, 30, 50), classes=[1, 0, 0], crowd=[False, True, False])
    found = answer("truth", sample)
    assert boxes_of(found) == [(3, 2, 12, 9), (30, 20, 50, 30)]
    assert found.class_ids.tolist() == [1, 0]
    assert found.scores.tolist() == [1, 1]


def test_every_instance_is_moved_by_at_most_a_share_of_its_sides():
    sample = drawn((10, 10, 20, 40), (0, 0, 4, 4), classes=[1, 0])
    moves = set()
    for seed in range(40):
        found = answer("jitter", sample, seed)
        assert found.class_ids.tolist() == [1, 0]
        x0, y0, x1, y1 = boxes_of(found)[0]
        assert (x1 - x0, y1 - y0) == (30, 10)
        moves.add((x0 - 10, y0 - 10))
    assert {abs(x) for x, _ in moves} == {0, 1, 2, 3}
    assert {abs(y) for _, y in moves} == {0, 1}


def test_what_is_moved_out_of_the_image_is_cut_off():
    sample = drawn((0, 0, 30, 30))
    areas = {int(answer("jitter", sample, seed, shift=0.9).areas.sum()) for seed in range(20)}
    assert min(areas) < 300
    assert max(areas) <= 900


def test_each_is_merged_with_its_nearest_free_neighbour():
    found = answer("merge", drawn((0, 0, 4, 4), (30, 50, 34, 54), (0, 6, 4, 10), classes=[1, 0, 0]))
    assert boxes_of(found) == [(0, 0, 10, 4), (50, 30, 54, 34)]
    assert found.class_ids.tolist() == [1, 0]
    assert found.areas.tolist() == [32, 16]


def test_each_is_split_across_its_longer_side():
    found = answer("split", drawn((0, 0, 4, 10), (10, 0, 30, 4), classes=[1, 0]))
    assert boxes_of(found) == [(0, 0, 5, 4), (5, 0, 10, 4), (0, 10, 4, 20), (0, 20, 4, 30)]
    assert found.class_ids.tolist() == [1, 1, 0, 0]
    assert boxes_of(answer("split", drawn((3, 3, 4, 4)))) == [(3, 3, 4, 4)]  # a pixel has no halves


@pytest.mark.parametrize("name", CONTROLS)
def test_of_nothing_nothing_is_answered_and_the_seed_decides(name):
    for nothing in (drawn(), Sample("unlabelled", np.zeros((40, 60), np.uint8))):
        found = answer(name, nothing)
        assert found.shape == (40, 60)
        assert len(found) == 0
        assert found.scores is not None
    sample = drawn((2, 3, 20, 30), (20, 30, 38, 50))
    assert answer(name, sample, 1) == answer(name, sample, 1)
    assert answer(name, sample).scores is not None


@pytest.mark.parametrize("name", CONTROLS)
def test_one_mask_is_held_at_a_time(name):
    side, pitch = 1000, 50
    labels = np.zeros((side, side), np.int32)
    for number, (row, column) in enumerate(np.ndindex(side // pitch, side // pitch), 1):
        labels[pitch * row : pitch * row + 40, pitch * column : pitch * column + 40] = number
    sample = Sample("many", labels.astype(np.uint8), Instances.from_label_map(labels))
    tracemalloc.start()
    answer(name, sample)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30 * side * side  # of 400 masks
