"""Pseudo labels: which predictions become labels, where they are written, what is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bench.api import Instances, OutputError, Sample
from methods._pseudo_labels import Counts, Labelled, Rule, make_labels


class Samples(list):
    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(sample.id for sample in self)


def squares(*boxes: tuple[int, int, int], scores: tuple[float, ...], classes: tuple[int, ...] | None = None):
    """Squares (row, column, side) in an image of 40 x 40."""
    masks = np.zeros((len(boxes), 40, 40), bool)
    for mask, (row, column, side) in zip(masks, boxes, strict=True):
        mask[row : row + side, column : column + side] = True
    return Instances.from_masks(masks, scores=scores, class_ids=classes)


@dataclass
class Images:
    """Gray images whose level says how many squares the predictor finds."""

    counts: tuple[int, ...]

    def samples(self) -> Samples:
        return Samples(
            Sample(f"u{number}", np.full((40, 40), count, np.uint8)) for number, count in enumerate(self.counts)
        )


def predict(image):
    count = int(image[0, 0])
    places = [(0, 10 * number, 6) for number in range(count)]
    return squares(*places, scores=(0.9,) * count, classes=tuple(n % 2 for n in range(count)))


def test_the_sure_and_large_are_kept_as_truth():
    found = squares((0, 0, 6), (10, 0, 6), (20, 0, 5), (30, 0, 6), scores=(0.7, 0.69, 0.99, 1.0), classes=(0, 1, 1, 2))
    kept = Rule(score=0.7, area=30).keep(found)
    assert kept.class_ids.tolist() == [0, 2]  # 0.69 is not sure enough, 25 pixels are too few
    assert kept.scores is None
    assert kept.areas.tolist() == [36, 36]


def test_labels_are_written_counted_and_trained_on(tmp_path: Path):
    unlabelled = Images((2, 0, 3)).samples()
    told: list[tuple[int, int]] = []
    counts = make_labels(
        unlabelled, tmp_path / "stage" / "l.jsonl", Rule(0.5, 1), lambda: predict, lambda d, t, _: told.append((d, t))
    )
    assert counts == Counts(images=3, labelled=2, instances={0: 3, 1: 2})
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert "5 objects (3 cort, 2 astro) in 2 of 3 images" in counts.text(("cort", "astro"))
    annotated = Samples([Sample("a", np.zeros((8, 8), np.uint8), Instances.empty(8, 8))])
    both = Labelled(annotated, unlabelled, tmp_path / "stage" / "l.jsonl")
    # No label is not the same as no cell: the image without any is not trained on.
    assert both.ids == ("a", "u0", "u2")
    assert [len(sample.instances) for sample in both] == [0, 2, 3]
    assert both[2].instances.class_ids.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(both[2].instances.to_masks(), predict(unlabelled[2].image).to_masks())
    assert len(both) == 3


def test_what_is_labelled_is_not_labelled_again(tmp_path: Path):
    file, unlabelled, rule = tmp_path / "l.jsonl", Images((1, 2, 3)).samples(), Rule(0.5, 1)
    make_labels(unlabelled, file, rule, lambda: predict, lambda *_: None)
    whole = file.read_bytes()
    lines = whole.splitlines(keepends=True)
    file.write_bytes(lines[0] + lines[1][:20])  # a kill in the middle of the second line
    seen = []

    def watched(image):
        seen.append(int(image[0, 0]))
        return predict(image)

    counts = make_labels(unlabelled, file, rule, lambda: watched, lambda *_: None)
    assert seen == [2, 3]
    assert file.read_bytes() == whole
    assert sum(counts.instances.values()) == 6

    def never():
        raise AssertionError("there is nothing left to predict")

    assert make_labels(unlabelled, file, rule, never, lambda *_: None) == counts


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        make_labels(
            Images((1,)).samples(), tmp_path / "file" / "l.jsonl", Rule(0.5, 1), lambda: predict, lambda *_: None
        )
