"""The one-pass decoder against the COCO API's own, and its refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from bench import rle
from bench.api import DataError, Instances
from bench.metrics.runs import Runs, from_labels, from_rles

stacks = st.tuples(st.integers(0, 6), st.integers(1, 9), st.integers(1, 11)).flatmap(
    lambda shape: hnp.arrays(np.bool_, shape)
)


def painted(runs: Runs) -> np.ndarray:
    out = np.zeros((len(runs), runs.height * runs.width), bool)
    for mask, start, stop in zip(runs.masks, runs.starts, runs.stops, strict=True):
        assert start < stop
        out[mask, start:stop] = True
    return out.reshape(len(runs), runs.width, runs.height).transpose(0, 2, 1)


@settings(max_examples=200, deadline=None)
@given(stacks)
def test_runs_paint_the_masks_they_were_encoded_from(stack):
    _, height, width = stack.shape
    runs = from_rles(rle.encode_masks(stack), height, width)
    assert np.array_equal(painted(runs), stack)
    assert np.array_equal(runs.areas, stack.sum(axis=(1, 2)))
    expected = rle.boxes(rle.encode_masks(stack), height, width)
    filled = stack.any(axis=(1, 2))
    assert np.array_equal(runs.boxes[filled], expected[filled])


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 5)))
def test_label_image_gives_the_runs_of_its_labels(labels):
    runs, ids = from_labels(labels)
    assert np.array_equal(ids, np.unique(labels[labels > 0]))
    assert np.array_equal(painted(runs), np.array([labels == i for i in ids]).reshape(len(ids), *labels.shape))


def test_runs_longer_than_one_code_word():
    mask = np.zeros((2000, 3000), bool)
    mask[1, 0] = mask[:, 1500:2900] = True
    runs = from_rles(rle.encode_masks(mask[None]), *mask.shape)
    assert runs.starts.tolist() == [1, 1500 * 2000]
    assert runs.stops.tolist() == [2, 2900 * 2000]


def test_zero_length_runs_of_other_writers_are_no_runs():
    counts = coco_mask.frPyObjects({"size": [4, 4], "counts": [3, 2, 0, 3, 8, 0]}, 4, 4)["counts"]
    runs = from_rles([counts], 4, 4)
    assert painted(runs)[0].T.ravel().sum() == 5
    assert runs.areas.tolist() == [5]


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (b"", "empty"),
        (b"\x2d\x01", "illegal character"),
        (b"~~", "illegal character"),
        (rle.encode_masks(np.ones((1, 5, 5), bool))[0], "25 pixels"),
        (rle.encode_masks(np.eye(4, dtype=bool)[None])[0][:-1], "pixels"),
        (rle.encode_masks(np.eye(4, dtype=bool)[None])[0] + b"O", "pixels|negative"),
        (b"oooooooo0", "longer"),
        (b"P", "middle"),
    ],
)
def test_broken_rle_is_refused_with_its_number(counts, said):
    good = rle.encode_masks(np.eye(4, dtype=bool)[None])[0]
    with pytest.raises(DataError, match=f"mask 1: .*({said})"):
        from_rles([good, counts, good], 4, 4)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=12), st.integers(1, 6), st.integers(1, 6))
def test_accepts_exactly_what_the_checker_accepts(counts, height, width):
    try:
        rle.check(counts, height, width)
    except DataError:
        with pytest.raises(DataError):
            from_rles([counts], height, width)
    else:
        assert from_rles([counts], height, width).areas[0] == rle.decode(counts, height, width).sum()


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.zeros((4, 4), np.float32), "float32"),
        (np.zeros((4, 4, 3), np.uint8), r"\(4, 4, 3\)"),
        (np.array([[0, -1]]), "negative label -1"),
        (np.arange(70_000).reshape(100, 700), "69999 labels"),
    ],
)
def test_arrays_that_are_no_label_image(labels, said):
    with pytest.raises(DataError, match=said):
        from_labels(labels)


def test_real_masks(real_truths):
    for truth in real_truths:
        runs = from_rles(truth.rles, *truth.shape)
        assert np.array_equal(runs.areas, Instances(truth.height, truth.width, truth.rles).areas)
        assert np.array_equal(runs.boxes[runs.areas > 0], truth.boxes[runs.areas > 0])
