"""Verdicts by hand, and their counts against the protocols'."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bench.metrics import score
from bench.metrics.matching import Match
from bench.metrics.verdicts import BestMatches, Verdicts


def strip(*lengths: tuple[int, int]) -> np.ndarray:
    """A label image one pixel high: (label, pixels) after one another."""
    return np.concatenate([np.full(n, label, np.uint16) for label, n in lengths])[None]


def test_found_and_missed_right_and_false() -> None:
    truth = strip((1, 10), (0, 5), (2, 10))
    found = strip((1, 9), (0, 6), (0, 10), (0, 0))
    found = np.pad(found, ((0, 0), (0, 5)))
    truth = np.pad(truth, ((0, 0), (0, 5)))
    found[0, -4:] = 7
    verdicts = Verdicts.of(Match(truth, found), 0.5)
    assert verdicts.truth == ("found", "missed")
    assert verdicts.prediction == ("right", "false")
    assert verdicts.best.truth_iou.tolist() == [0.9, 0.0]
    assert verdicts.best.counts(0.5) == (1, 1, 1)
    assert Verdicts.of(Match(truth, found), 0.9).truth == ("missed", "missed"), "the IoU must exceed the threshold"


def test_a_merge() -> None:
    verdicts = Verdicts.of(Match(strip((1, 10), (2, 10)), strip((1, 20))), 0.5)
    assert verdicts.truth == ("merged", "merged")
    assert verdicts.prediction == ("merges",)


def test_a_merge_that_finds_the_larger_one_loses_the_smaller() -> None:
    verdicts = Verdicts.of(Match(strip((1, 16), (2, 4)), strip((1, 20))), 0.5)
    assert verdicts.truth == ("found", "merged")
    assert verdicts.prediction == ("right",)


def test_a_split() -> None:
    verdicts = Verdicts.of(Match(strip((1, 20), (0, 5)), strip((1, 10), (2, 10), (0, 5))), 0.5)
    assert verdicts.truth == ("split",)
    assert verdicts.prediction == ("piece", "piece")


def test_the_smaller_piece_of_a_cell_that_is_found() -> None:
    verdicts = Verdicts.of(Match(strip((1, 20)), strip((1, 15), (2, 5))), 0.5)
    assert verdicts.truth == ("found",)
    assert verdicts.prediction == ("right", "piece")


def test_nothing_there() -> None:
    none = np.zeros((3, 3), np.uint16)
    verdicts = Verdicts.of(Match(none, none), 0.5)
    assert (verdicts.truth, verdicts.prediction, verdicts.best.counts(0.5)) == ((), (), (0, 0, 0))


def test_no_threshold_below_a_half() -> None:
    with pytest.raises(ValueError, match=r"0\.4"):
        Verdicts.of(Match(strip((1, 1)), strip((1, 1))), 0.4)


maps = arrays(np.uint16, (6, 7), elements=st.integers(0, 5))


@settings(max_examples=80)
@given(maps, maps, st.sampled_from([0.5, 0.75]))
def test_the_counts_are_those_of_the_protocol(truth, found, threshold) -> None:
    scores = score([truth], [found], {"kaggle": {"thresholds": (threshold,)}})
    (image,) = scores.protocols["kaggle"].images
    match = Match(truth, found)
    assert BestMatches.of(match).counts(threshold) == (image.tp, image.fp, image.fn)
    verdicts = Verdicts.of(match, threshold)
    assert verdicts.truth.count("found") == verdicts.prediction.count("right") == image.tp
    assert verdicts.best.truth_iou.max(initial=0) == verdicts.best.prediction_iou.max(initial=0)
