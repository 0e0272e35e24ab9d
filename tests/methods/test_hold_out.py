"""Which training images are held out where a data set has no validation split."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.api import Sample
from methods._hold_out import groups_of, held_out_ids, hold_out


def test_images_without_groups_are_chosen_by_the_seed():
    groups = dict.fromkeys((f"image{n:03}" for n in range(40)), None)
    held = held_out_ids(groups, 0)
    assert len(held) == 4
    assert held == held_out_ids(dict(reversed(groups.items())), 0)
    assert held != held_out_ids(groups, 1)


def test_whole_groups_are_held_out():
    groups = {f"donor{d}/{n}": f"donor{d}" for d in range(20) for n in range(5)}
    held = held_out_ids(groups, 3)
    assert len(held) == 10
    chosen = {groups[image] for image in held}
    assert len(chosen) == 2
    assert set(held) == {image for image, group in groups.items() if group in chosen}


def test_of_two_films_the_last_tenth_of_each_is_held_out():
    groups = {f"0{film}/t{frame:03}": f"0{film}" for film in (1, 2) for frame in range(84)}
    held = held_out_ids(groups, 0)
    assert held == tuple(f"0{film}/t{frame:03}" for film in (1, 2) for frame in range(76, 84))


def test_a_group_called_as_an_image_is_not_that_image():
    assert len(held_out_ids({"a": "b", "c": "b", "b": None}, 0)) == 1


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.text("abcdefgh", min_size=1, max_size=5), st.sampled_from(["1", "2", "3", None]), min_size=2),
    st.integers(0, 9),
)
def test_always_one_is_held_out_and_most_are_not(groups, seed):
    held = held_out_ids(groups, seed)
    assert set(held) <= set(groups)
    assert 1 <= len(held) <= max(1, 0.15 * len(groups) + 1)
    assert len(held) < len(groups)


class Read(list):
    """A source that knows its groups only by reading."""

    @property
    def ids(self):
        return tuple(sample.id for sample in self)


def test_a_source_is_shared_out_in_its_order(tmp_path, capsys):
    source = Read(Sample(f"{n}", np.full((2, 2), n, np.uint8), group=f"group{n // 2}") for n in range(40))
    assert groups_of(source)["7"] == "group3"
    train, val = hold_out(source, seed=2, folder=tmp_path, name="one")
    assert len(val) == 4
    assert [s.id for s in train] == [s.id for s in source if s.id not in val.ids]
    assert {s.group for s in train}.isdisjoint({s.group for s in val})
    assert val[1].image[0, 0] == int(val.ids[1])
    assert "one: there is no validation split, so 4 of the 40" in capsys.readouterr().err
    hold_out(source, seed=2, folder=tmp_path, name="one")
    assert capsys.readouterr().err == ""  # a killed training that goes on says it once
