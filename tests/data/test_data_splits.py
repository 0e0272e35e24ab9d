"""The seeded rules: exact, complete, and without overlap."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.data.splits import read_list, seeded_order, seeded_splits, seeded_subset, shares
from bench.errors import DataError

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
WEIGHTS = st.lists(st.one_of(st.integers(1, 1000), st.floats(0.001, 1.0, allow_nan=False)), min_size=1, max_size=5)


def test_the_order_is_that_of_the_sha256_of_seed_and_id():
    expected = sorted(["a", "b", "c"], key=lambda i: hashlib.sha256(f"7:{i}".encode()).hexdigest())
    assert seeded_order(["c", "a", "b", "a"], 7) == expected


def test_the_order_as_another_program_gives_it():
    # printf '5:img_a' | sha256sum: 2810..., img_b: 2744..., img_c: 5698...
    assert seeded_order(["img_a", "img_b", "img_c"], 5) == ["img_b", "img_a", "img_c"]


@pytest.mark.parametrize(
    ("count", "weights", "expected"),
    [
        (644, [386, 129, 129], [386, 129, 129]),
        (168, [134, 34], [134, 34]),
        (10, [0.7, 0.1, 0.2], [7, 1, 2]),
        (4, [0.5, 0.2, 0.3], [2, 1, 1]),
        (3, [0.98, 0.01, 0.01], [1, 1, 1]),
        (2, [0.98, 0.01, 0.01], [1, 1, 0]),
        (1, [0.2, 0.8], [0, 1]),
        (0, [1, 1], [0, 0]),
        (7, [1, 1, 1], [3, 2, 2]),
        (1000, [0.1, 0.2, 0.7], [100, 200, 700]),
    ],
)
def test_shares_by_hand(count: int, weights: list[float], expected: list[int]):
    assert shares(count, weights) == expected


@given(st.integers(0, 3000), WEIGHTS)
def test_shares_are_complete_and_near_their_proportion(count: int, weights: list[float]):
    result = shares(count, weights)
    assert sum(result) == count
    assert all(n >= 0 for n in result)
    if count >= len(weights):
        assert min(result) >= 1
    if min(result) > 1:  # nothing was given to an empty split
        assert all(abs(n - count * w / sum(weights)) < 1 + 1e-6 for n, w in zip(result, weights, strict=True))


@given(st.sets(NAMES, max_size=60), WEIGHTS, st.integers(0, 2**40))
def test_every_image_is_in_one_split(ids: set[str], weights: list[float], seed: int):
    names = {f"s{i}": w for i, w in enumerate(weights)}
    result = seeded_splits(ids, names, seed)
    members = [i for split in result.values() for i in split]
    assert sorted(members) == sorted(ids)
    assert list(result) == list(names)
    assert all(list(split) == sorted(split) for split in result.values())
    assert result == seeded_splits(sorted(ids, reverse=True), names, seed)


@given(st.dictionaries(NAMES, st.sampled_from("ABCDEFG"), min_size=3, max_size=60), st.integers(0, 100))
def test_a_group_is_never_divided(groups: dict[str, str], seed: int):
    result = seeded_splits(groups, {"train": 2, "test": 1}, seed, groups)
    assert not {groups[i] for i in result["train"]} & {groups[i] for i in result["test"]}
    if len(set(groups.values())) >= 2:
        assert all(result.values())


def test_another_seed_gives_another_split():
    ids = [f"image{i}" for i in range(50)]
    assert seeded_splits(ids, {"a": 1, "b": 1}, 0) != seeded_splits(ids, {"a": 1, "b": 1}, 1)


@given(st.lists(NAMES, unique=True, max_size=40), st.integers(0, 45), st.integers(0, 5))
def test_a_smaller_subset_is_part_of_a_larger_one(ids: list[str], count: int, seed: int):
    subset = seeded_subset(ids, count, seed)
    assert len(subset) == min(count, len(ids))
    assert list(subset) == [i for i in ids if i in set(subset)]
    assert set(subset) <= set(seeded_subset(ids, count + 1, seed))


def test_a_list_file(tmp_path: Path):
    file = tmp_path / "test.txt"
    file.write_text("# the test images\nb\n\na \n")
    assert read_list(file) == ("b", "a")
    file.write_bytes(b"\xef\xbb\xbfb\r\n# no more\r\na\r\n")
    assert read_list(file) == ("b", "a")
    file.write_text("a\nb\na\n")
    with pytest.raises(DataError, match=r"test\.txt: the image 'a' stands there twice"):
        read_list(file)
    with pytest.raises(DataError, match=r"nowhere\.txt"):
        read_list(tmp_path / "nowhere.txt")
