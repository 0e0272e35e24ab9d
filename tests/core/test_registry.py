"""Where methods come from, and what becomes of a broken one."""

from __future__ import annotations

import importlib.metadata
import math
import sys
import types
from pathlib import Path

import pytest

from bench.api import Instances, Method, UnknownNameError, UsageError
from bench.registry import ENTRY_POINTS, find_method, registry

GOOD = """
from bench.api import Instances, Method

class Nothing(Method):
    name = "nothing"
    title = "Nothing"
    trainable = False
    variants = {"": {}, "really": {}}

    def predict(self, image):
        return Instances.empty(*image.shape[:2], scored=True)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BENCH_METHODS", str(tmp_path))
    registry.cache_clear()
    yield tmp_path
    registry.cache_clear()


def test_a_folder_of_the_users(folder: Path):
    (folder / "mine.py").write_text(GOOD)
    assert find_method("nothing").method.title == "Nothing"
    assert find_method("nothing-really").variant == "really"
    assert find_method("nothing-really").title == "Nothing (really)"


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("this is no Python", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit"),
        (GOOD.replace('"nothing"', '"No Name"'), "lower-case"),
        (GOOD.replace('"really": {}', '"really": {"depth": 3}'), "variant 'really'"),
        (GOOD.replace('"nothing"', '"truth"'), "is already methods.controls"),
        (GOOD.replace("    variants", "    schedules = {'long': None}\n    variants"), "unknown schedule 'long'"),
    ],
)
def test_what_is_broken_is_reported_and_stops_nothing(folder: Path, code: str, problem: str):
    (folder / "broken.py").write_text(code)
    found = registry()
    assert "mask_rcnn" in found.methods
    assert [p for source, p in found.broken.items() if problem in p and "broken.py" in source]


def test_a_folder_that_is_not_there_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BENCH_METHODS", str(folder / "gone"))
    registry.cache_clear()
    assert "not there" in registry().broken[str(folder / "gone")]


def test_an_installed_package(folder: Path, monkeypatch: pytest.MonkeyPatch):
    module = types.ModuleType("a_package_of_methods")

    class Theirs(Method):
        name = "theirs"
        title = "Theirs"
        trainable = False

        def predict(self, image):
            return Instances.empty(*image.shape[:2], scored=True)

    Theirs.__module__ = module.__name__
    module.Theirs = Theirs
    monkeypatch.setitem(sys.modules, module.__name__, module)
    points = [
        importlib.metadata.EntryPoint("theirs", "a_package_of_methods", ENTRY_POINTS),
        importlib.metadata.EntryPoint("gone", "a_package_that_is_gone", ENTRY_POINTS),
    ]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points if group == ENTRY_POINTS else [])
    registry.cache_clear()
    assert find_method("theirs").method is Theirs
    assert "ModuleNotFoundError" in registry().broken["a_package_that_is_gone"]


def test_unknown_and_broken_names(folder: Path):
    with pytest.raises(UnknownNameError, match="did you mean mask_rcnn"):
        find_method("mask-rcn")
    assert find_method("mask-rcnn").name == "mask_rcnn"
    (folder / "half.py").write_text("import nothing_of_this_name\n")
    registry.cache_clear()
    with pytest.raises(UnknownNameError):
        find_method("halves")


def test_no_method_of_ours_is_broken():
    registry.cache_clear()
    assert registry().broken == {}


def test_settings_from_the_command_line_take_the_type_of_their_default():
    method = find_method("mask_rcnn").method
    params = method.make_params(
        overrides={"image_scale": "640,480", "score_threshold": "0.3", "depth": "18", "optimizer": "AdamW"}
    )
    assert (params.image_scale, params.score_threshold, params.depth, params.optimizer) == (
        (640, 480),
        0.3,
        18,
        "AdamW",
    )
    with pytest.raises(UsageError, match="'x' does not fit setting 'depth'"):
        method.make_params(overrides={"depth": "x"})
    for no_number in ("nan", "inf", "-inf", math.nan, math.inf):
        with pytest.raises(UsageError, match=f"{no_number!r} does not fit setting 'score_threshold'"):
            method.make_params(overrides={"score_threshold": no_number})
