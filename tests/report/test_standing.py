"""Which runs stand for a method: by hand."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bench.report.standing import standing


def runs(*rows: dict[str, Any]) -> pd.DataFrame:
    """Runs 1, 2, ...: what a row does not say is as for every other."""
    usual = {"seed": 0, "measurement": ("c", "p", "random"), "changed": {}}
    full = [{**usual, "run_id": number, **row} for number, row in enumerate(rows, start=1)]
    return pd.DataFrame(full).astype({"changed": object, "measurement": object})


def test_seeds_of_one_version_are_averaged() -> None:
    found = standing(runs({"seed": 0, "value": 0.5}, {"seed": 1, "value": 0.6}, {"seed": 2, "value": 0.7}))
    assert found is not None
    assert (round(found.mean, 12), found.changed, len(found.runs)) == (0.6, {}, 3)


def test_settings_initial_weights_and_code_are_never_mixed() -> None:
    found = standing(
        runs(
            {"value": 0.5},
            {"value": 0.9, "measurement": ("c", "other", "random"), "changed": {"crop": 160}},
            {"value": 0.8, "measurement": ("c", "p", "coco"), "changed": {"init": "coco"}},
        )
    )
    assert found is not None
    assert (found.mean, found.runs["run_id"].tolist()) == (0.5, [1])


def test_the_newest_code_with_the_default_settings_stands() -> None:
    new = {"measurement": ("new", "p", "random")}
    found = standing(runs({"value": 0.5}, {"value": 0.7, **new}, {"value": 0.6, "seed": 1}))
    assert found is not None
    assert found.runs["run_id"].tolist() == [1, 3], "the version run last"
    found = standing(runs({"value": 0.5}, {"value": 0.6, "seed": 1}, {"value": 0.7, **new}))
    assert found is not None
    assert found.runs["run_id"].tolist() == [3]


def test_known_defaults_go_before_unknown_ones_and_these_before_others() -> None:
    known = {"value": 0.1}
    unknown = {"value": 0.2, "measurement": ("old",), "changed": None}
    other = {"value": 0.3, "measurement": ("c", "other", "random"), "changed": {"crop": 160}}
    for rows, expected in (((known, unknown, other), 0.1), ((unknown, other), 0.2), ((other,), 0.3)):
        found = standing(runs(*rows))
        assert found is not None
        assert found.mean == expected
    assert found.changed == {"crop": 160}
    assert standing(runs(other), only_default=True) is None
    assert standing(runs(known)[:0]) is None


def test_a_run_of_an_older_store_belongs_to_the_settings_that_a_later_one_names() -> None:
    found = standing(runs({"value": 0.2, "changed": None}, {"value": 0.4, "seed": 1}, {"value": 0.1, "measurement": 1}))
    assert found is not None
    assert (found.runs["run_id"].tolist(), found.changed) == ([3], {})
    changed = {"changed": {"crop": 160}}
    found = standing(runs({"value": 0.2, **changed}, {"value": 0.4, "seed": 1, "changed": None}))
    assert found is not None
    assert (found.runs["run_id"].tolist(), found.changed) == ([1, 2], {"crop": 160})
    assert standing(runs({"value": 0.2, **changed}, {"value": 0.4, "changed": None}), only_default=True) is None


def test_of_a_seed_that_was_run_twice_the_last_counts() -> None:
    found = standing(runs({"value": 0.2}, {"value": 0.4}, {"value": 0.6, "seed": 1}))
    assert found is not None
    assert found.runs["run_id"].tolist() == [2, 3]
