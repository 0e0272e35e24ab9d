"""Mean ranks against Demšar's own worked example and scipy."""

from __future__ import annotations

import pytest
from scipy.stats import friedmanchisquare

from bench.report.across import across, critical_difference

# Demšar, JMLR 7 (2006), table 2: the areas under the curve of four learners on 14 data sets.
TREES = (0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.000, 0.940, 0.619, 0.972, 0.957)
TREES_M = (0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.000, 0.962, 0.666, 0.981, 0.978)
TREES_CF = (0.771, 0.590, 0.968, 0.654, 0.886, 0.916, 0.609, 0.563, 0.866, 1.000, 0.965, 0.614, 0.9751, 0.946)
TREES_BOTH = (0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685, 0.625, 0.875, 1.000, 0.962, 0.669, 0.975, 0.970)
METHODS = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")


def table() -> dict[str, dict[str, float]]:
    columns = (TREES, TREES_M, TREES_CF, TREES_BOTH)
    return {f"set {i}": {m: column[i] for m, column in zip(METHODS, columns, strict=True)} for i in range(14)}


def test_the_example_of_the_paper() -> None:
    values = table()
    found = across(values, METHODS, dict.fromkeys(values, True))
    ranks = {s.method: round(s.mean_rank, 3) for s in found.standings}
    assert ranks == {"C4.5": 3.143, "C4.5+m": 2.000, "C4.5+cf": 2.893, "C4.5+m+cf": 1.964}
    # Section 3.2.2: the critical value for four learners is 2.569, and the critical difference 1.25.
    assert found.critical_difference == pytest.approx(2.569 * (4 * 5 / (6 * 14)) ** 0.5, abs=1e-3)
    assert [s.method for s in found.standings] == ["C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"]
    assert found.groups == (("C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"),), "1.18 apart, which is less than 1.25"


def test_friedman_as_scipy_has_it() -> None:
    values = table()
    found = across(values, METHODS, dict.fromkeys(values, True))
    assert found.friedman_p == pytest.approx(friedmanchisquare(TREES, TREES_M, TREES_CF, TREES_BOTH).pvalue)


def test_borda_counts_the_beaten_and_half_of_the_ties() -> None:
    values = {"a": {"x": 3.0, "y": 2.0, "z": 2.0}, "b": {"x": 1.0, "y": 2.0, "z": 3.0}}
    found = across(values, ["x", "y", "z"], {"a": True, "b": False})  # in b less is better
    assert {s.method: s.borda for s in found.standings} == {"x": 4.0, "y": 1.5, "z": 0.5}
    assert {s.method: s.mean_rank for s in found.standings} == {"x": 1.0, "y": 2.25, "z": 2.75}


def test_what_is_missing_is_left_out_and_named() -> None:
    values = {"a": {"x": 3.0, "y": 2.0}, "b": {"x": 1.0}}
    found = across(values, ["x", "y"], {"a": True, "b": True})
    assert found.datasets == ("a",)
    assert found.left_out == {"b": ("y",)}
    assert found.critical_difference is None, "one data set says nothing of the spread"
    nothing = across({"a": {"x": 1.0}, "b": {"y": 1.0}}, ["x", "y"], {"a": True, "b": True})
    assert (nothing.standings, nothing.datasets) == ((), ())
    assert across({}, [], {}).standings == ()


def test_groups_are_the_longest_that_no_difference_divides() -> None:
    # Ranks 1, 2, 3 on every data set: with 30 of them the critical difference is 0.61, so nothing is joined.
    values = {str(i): {"x": 3.0, "y": 2.0, "z": 1.0} for i in range(30)}
    found = across(values, ["x", "y", "z"], dict.fromkeys(values, True))
    assert found.critical_difference == pytest.approx(0.605, abs=5e-3)
    assert found.groups == ()
    few = across(dict(list(values.items())[:4]), ["x", "y", "z"], dict.fromkeys(values, True))
    assert few.critical_difference == pytest.approx(1.657, abs=5e-3)
    assert few.groups == (("x", "y"), ("y", "z"))


def test_nobody_to_compare() -> None:
    assert critical_difference(1, 5) is None
    assert critical_difference(5, 1) is None
