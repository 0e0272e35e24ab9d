"""The cache of targets: computed once an image, whole or not there."""

import numpy as np
import pytest

from bench.api import Sample
from methods._targets import TargetCache


def sample(name):
    return Sample(name, np.zeros((4, 5), np.uint8))


class Counted:
    def __init__(self):
        self.calls = []

    def __call__(self, image):
        self.calls.append(image.id)
        return {"weight": np.full(image.shape, len(image.id), np.float32), "labels": np.ones((2, 4, 5), np.int32)}


def test_an_image_is_computed_once_even_by_the_next_process(tmp_path):
    compute = Counted()
    cache = TargetCache(tmp_path / "targets", compute)
    for _ in range(3):
        for name in ("a", "folder/with:odd name", "ccc"):
            arrays = cache[sample(name)]
            assert arrays["weight"].dtype == np.float32
            assert arrays["weight"][0, 0] == len(name)
            assert arrays["labels"].shape == (2, 4, 5)
    assert compute.calls == ["a", "folder/with:odd name", "ccc"]
    later = Counted()
    np.testing.assert_array_equal(TargetCache(tmp_path / "targets", later)[sample("a")]["weight"], np.ones((4, 5)))
    assert later.calls == []


def test_arrays_stay_on_disk_and_cannot_be_written_to(tmp_path):
    arrays = TargetCache(tmp_path, Counted())[sample("a")]
    assert isinstance(arrays["weight"], np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        arrays["weight"][0, 0] = 1


def test_a_kill_in_the_middle_leaves_nothing_that_counts(tmp_path, monkeypatch):
    compute = Counted()
    cache = TargetCache(tmp_path, compute)
    save, saved = np.save, []

    def killed(path, array, **options):
        if saved:
            raise KeyboardInterrupt
        saved.append(path)
        save(path, array, **options)

    monkeypatch.setattr(np, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        cache[sample("a")]
    monkeypatch.undo()
    assert set(cache[sample("a")]) == {"weight", "labels"}
    assert compute.calls == ["a", "a"]


def test_clear_removes_the_folder_and_may_be_called_without_one(tmp_path):
    cache = TargetCache(tmp_path / "targets", Counted())
    cache.clear()
    cache[sample("a")]
    cache.clear()
    assert not (tmp_path / "targets").exists()
