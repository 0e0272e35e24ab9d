"""``bench check``: a good adapter keeps every promise, and each way of breaking one is told by its own check."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from bench.cli import main
from bench.data.synthetic._probes import probe
from bench.engine import contract
from bench.engine.contract import CHECKS
from bench.registry import registry

GOOD = '''
"""A threshold, learned step by step."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from bench.api import Instances, Method, Schedule, to_gray


class Mine(Method):
    """Learns a threshold."""

    name = "mine"
    title = "Mine"
    schedules = {"paper": Schedule(iterations=5)}

    @dataclass(frozen=True)
    class Params:
        """Settings.

        Attributes:
            step: how fast it learns.
        """

        step: float = 0.1

    def fit(self, train, val, context):
        """One image a step; what is known is on disk after each."""
        context.folder.mkdir(parents=True, exist_ok=True)
        weights, state = context.folder / "weights.json", context.folder / "state.json"
        if weights.is_file():
            return weights
        step, level = json.loads(state.read_text()) if state.is_file() else (0, 0.5)
        while step < context.schedule.steps(len(train)):
            rng = np.random.default_rng([context.seed, step])
            image = train[int(rng.integers(len(train)))].image
            level += self.params.step * (float(rng.random()) - 0.5) + float(image.std()) / 1000
            step += 1
            state.write_text(json.dumps([step, level]))
            context.progress(step, context.schedule.steps(len(train)), "")
        weights.write_text(json.dumps(level))
        return weights

    def load(self, weights):
        """Read the threshold."""
        self.level = json.loads(weights.read_text())

    def predict(self, image):
        """Dark or bright spots."""
        labels, count = ndimage.label(np.abs(to_gray(image)) > self.level)
        scores = {i: 1 / i for i in range(1, count + 1)}
        return Instances.from_label_map(labels, scores=scores).top(self.task.max_detections)
'''

HERE = "        scores = {"
TOP = ".top(self.task.max_detections)"
PROGRESS = '            context.progress(step, context.schedule.steps(len(train)), "")\n'
PREDICT = "    def predict(self"
STEPS = "while step < context.schedule.steps(len(train)):"
FIND = "        labels, count ="


def batch(body: str) -> str:
    """A predict_batch() before predict()."""
    return f"    def predict_batch(self, images):\n        {body}\n\n{PREDICT}"


BROKEN = {
    "declaration": ("            step: how fast it learns.\n", "", "the setting step is not described"),
    "declaration, title": ('title = "Mine"', 'title = " "', "it has no title"),
    "declaration, schedule": ("iterations=5", "", "says neither iterations nor epochs"),
    "declaration, params": ("@dataclass(frozen=True)", "@dataclass", "no frozen dataclass"),
    "light import": ("import json\n", "import json\nimport pandas\n", "imports pandas at its top"),
    "available": ("    schedules =", '    requires = ("nobody_has_this",)\n    schedules =', "nobody_has_this"),
    "fit": ("        return weights\n\n    def load", "\n    def load", "not a file of weights"),
    "fit, elsewhere": (
        'context.folder / "weights.json"',
        'context.folder.parent / "weights.json"',
        "wrote its weights to",
    ),
    "fit, silent": (PROGRESS, "", "reported no step"),
    "fit, reported once": (PROGRESS, PROGRESS.replace("context", "if step == 3: context", 1), "reported 1 of 3 steps"),
    "fit, stopped short": (PROGRESS, PROGRESS.replace("context", "if step < 3: context", 1), "2 of 3"),
    "fit, working folder": (
        "        weights, state =",
        "        Path('log.txt').write_text('began')\n        weights, state =",
        "wrote log.txt into the working folder",
    ),
    "fit, beside its folder": (
        "        weights, state =",
        "        (context.folder.parent / 'log.txt').write_text('began')\n        weights, state =",
        "wrote outside context.folder",
    ),
    # As unseeded numbers would, but surely by enough to be seen in the masks.
    "resume": (
        "level += self.params.step",
        "Mine.drawn = getattr(Mine, 'drawn', 0) + 1\n            level += Mine.drawn / 10 + self.params.step",
        "ends in other weights",
    ),
    "load": (
        "json.loads(weights.read_text())\n\n    def predict",
        "json.loads(weights.read_text()) + np.random.default_rng().random()\n\n    def predict",
        "two instances that loaded the same weights predict differently",
    ),
    "prediction": ("from_label_map(labels, ", "from_label_map(labels[1:], ", "pixels, the image"),
    "prediction, type": (
        "return Instances.from_label_map(labels, scores=scores).top(self.task.max_detections)",
        "return labels",
        "returned ndarray instead of Instances",
    ),
    "prediction, class": (
        "scores=scores)",
        "scores=scores, class_of=dict.fromkeys(scores, 3))",
        "class 3 where there are 1",
    ),
    "scores": ("scores=scores)", "scores=None)", "scored is True and there are no scores"),
    "scores, none found": (
        HERE,
        "        if count == 0 or image.max() == 0:\n            return Instances.empty(*image.shape[:2])\n" + HERE,
        "no scores on the image 'black' (0 instances)",
    ),
    "scores, undeclared": (
        'title = "Mine"',
        'title = "Mine"\n    scored = False',
        "scored is False and there are scores",
    ),
    "determinism": (
        HERE,
        "        self.level = self.level + 0.01\n" + HERE,
        "another prediction the second time",
    ),
    "image untouched": (HERE, "        image[0, 0] = 9\n" + HERE, "wrote to its image"),
    "empty image": (HERE, "        assert image.max() > 0, 'no cell'\n" + HERE, "AssertionError: no cell"),
    "one cell": (
        HERE,
        "        assert image.shape[:2] != (96, 96) or image.std() < 7.9, 'one'\n" + HERE,
        "AssertionError: one",
    ),
    "300 cells": (TOP, ".top(min(100, self.task.max_detections))", "exactly 100 instances where there are 300 cells"),
    "300 cells, 128": (TOP, ".top(min(128, self.task.max_detections))", "exactly 128 instances"),
    "300 cells, 150": (TOP, ".top(min(150, self.task.max_detections))", "exactly 150 instances"),
    "300 cells, 9": (TOP, ".top(min(9, self.task.max_detections))", "exactly 9 instances"),
    "300 cells, queries": (
        FIND,
        "        square = np.arange(image.size).reshape(image.shape[:2]) if image.ndim == 2 else None\n"
        "        if square is not None:\n"
        "            found = Instances.from_label_map(\n"
        "                square // -(-square.size // 100) + 1, scores=dict.fromkeys(range(1, 101), 1.0)\n"
        "            )\n"
        "            return found.top(self.task.max_detections)\n" + FIND,
        "exactly 100 instances",
    ),
    "16 bit": (HERE, "        assert image.max() < 256, 'too bright'\n" + HERE, "AssertionError: too bright"),
    "RGB": ("np.abs(to_gray(image))", "np.abs((image - image.mean()) / (image.std() + 1))", ""),
    "odd sizes": (HERE, "        assert image.shape[0] % 16 == 0, 'divide'\n" + HERE, "AssertionError: divide"),
    "cap": (".top(self.task.max_detections)", "", "where at most 5 are asked for"),
    "batch": (PREDICT, batch("return [self.predict(images[0])]"), "1 predictions for 3 images"),
    "batch, reversed": (
        PREDICT,
        batch("return [self.predict(image) for image in images][::-1]"),
        "prediction 0 of predict_batch() is that of image 2",
    ),
    "batch, turned on": (
        PREDICT,
        batch("return [self.predict(image) for image in (*images[1:], images[0])]"),
        "prediction 0 of predict_batch() is that of image 1",
    ),
    "batch, of another kind": (
        PREDICT,
        batch("return [self.predict(image[::-1].copy()) for image in images]"),
        "prediction 0 of predict_batch() is another than that of predict()",
    ),
}
"""Check, and which of its ways -> what to replace in the good adapter, by what, and what must be said."""


ALSO = {
    "prediction": {"one cell", "300 cells", "16 bit", "RGB", "odd sizes", "empty image", "batch"},
    "prediction, class": {"one cell", "300 cells", "16 bit", "RGB", "odd sizes", "empty image", "batch"},
    "scores, none found": set(),
    "determinism": {"load"},
    "300 cells, queries": {"odd sizes", "one cell"},
}
"""What else such an adapter cannot keep."""


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """``check(source, *arguments)`` -> (exit code, check -> finding, stderr); without an interpreter of its own."""

    def call(source: str, *arguments: str, import_alone: bool = False) -> tuple[int, dict, str]:
        if not import_alone:
            monkeypatch.setattr(contract._Trial, "light_import", lambda trial: None)
        (tmp_path / "mine.py").write_text(source)
        monkeypatch.setenv("BENCH_METHODS", str(tmp_path))
        registry.cache_clear()
        try:
            with pytest.raises(SystemExit) as end:
                main(["check", "mine", "--json", *arguments])
        finally:
            registry.cache_clear()
        captured = capsys.readouterr()
        found = {f["check"]: f for f in json.loads(captured.out)["checks"]} if captured.out else {}
        return int(end.value.code or 0), found, captured.err

    return call


def test_a_good_adapter_keeps_every_promise(check):
    code, found, err = check(GOOD, import_alone=True)
    assert {name: f["problem"] for name, f in found.items() if f["ok"] is not True} == {}
    assert list(found) == list(CHECKS)
    assert code == 0, err


@pytest.mark.parametrize("case", BROKEN)
def test_each_broken_promise_is_told_by_its_own_check(check, case: str):
    old, new, says = BROKEN[case]
    assert GOOD.count(old) >= 1
    name = case.partition(",")[0]
    code, found, err = check(GOOD.replace(old, new, 1), import_alone=name == "light import")
    assert code == (6 if name == "available" else 5)
    assert found[name]["ok"] is False
    assert says in found[name]["problem"]
    assert found[name]["hint"]
    others = {n for n, f in found.items() if f["ok"] is False} - {name}
    assert not others - ALSO.get(case, set())
    assert err.count("error: ") == 1


def test_an_adapter_that_forgets_where_it_was_is_told(check):
    forgetful = GOOD.replace("json.loads(state.read_text()) if state.is_file() else (0, 0.5)", "(state.is_file(), 0.5)")
    code, found, _ = check(forgetful)
    assert code == 5
    assert [n for n, f in found.items() if f["ok"] is False] == ["resume"]


def test_a_training_that_ignores_the_schedule_is_told(check):
    code, found, _ = check(
        GOOD.replace(STEPS, "while step < 50:").replace(PROGRESS, PROGRESS.replace(STEPS[13:-1], "50"))
    )
    assert code == 5
    assert [n for n, f in found.items() if f["ok"] is False] == ["fit"]
    assert found["fit"]["problem"] == "fit() trains 50 steps where 3 are asked for"


@pytest.mark.parametrize(
    "total",
    [
        "8 * -(-context.schedule.steps(len(train)) // 8)",  # eight images make an update
        "-(-context.schedule.steps(len(train)) * context.schedule.batch_size // len(train))",  # counted in passes
    ],
)
def test_a_training_may_count_in_whole_updates_or_passes(check, total: str):
    code, found, err = check(GOOD.replace("context.schedule.steps(len(train))", total))
    assert code == 0, err
    assert found["fit"]["ok"] is True


def test_a_training_in_stages_counts_each(check):
    code, found, err = check(
        GOOD.replace(PROGRESS, PROGRESS.replace("(step,", "((step - 1) % 3 + 1,")).replace(
            STEPS, "while step < 2 * context.schedule.steps(len(train)):"
        )
    )
    assert code == 0, err
    assert found["fit"]["ok"] is True


def test_what_was_never_interrupted_is_not_said_to_resume(check):
    code, found, _ = check(GOOD.replace(PROGRESS, PROGRESS.replace("context", "if step == 3: context", 1)))
    assert code == 5
    assert found["resume"]["ok"] is None
    assert "could not be interrupted" in found["resume"]["problem"]


def test_a_training_that_swallows_an_interruption_is_told(check):
    caught = "            try:\n    " + PROGRESS + "            except BaseException:\n                pass\n"
    code, found, _ = check(GOOD.replace(PROGRESS, caught))
    assert code == 5
    assert [n for n, f in found.items() if f["ok"] is False] == ["resume"]
    assert "went on when it was interrupted" in found["resume"]["problem"]


def test_the_working_folder_is_left_as_it_was(check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also where the method is found, and caches lie, by names relative to it."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("BENCH_CACHE", "cache")
    strewing = GOOD.replace(
        "        weights, state =",
        "        import os\n"
        "        assert os.path.isabs(os.environ['BENCH_CACHE'])\n"
        "        Path('log.txt').write_text('began')\n"
        "        weights, state =",
    )
    code, found, _ = check(strewing)
    assert code == 5
    assert "log.txt" in found["fit"]["problem"]
    assert list(Path.cwd().iterdir()) == []
    assert Path.cwd() == tmp_path / "work"


NOTHING_FOUND = GOOD.replace(HERE, "        return Instances.empty(*image.shape[:2], scored=True)\n" + HERE)


def test_where_nothing_is_ever_found_nothing_is_said_to_be_right(check):
    code, found, err = check(NOTHING_FOUND)
    assert code == 0, err
    unseen = {name for name, f in found.items() if f["ok"] is None}
    assert unseen == {"load", "prediction", "scores", "determinism", "300 cells", "cap", "batch"}
    assert found["300 cells"]["problem"] == "nothing was found, so nothing was seen"
    assert {name for name, f in found.items() if f["ok"]} == set(CHECKS) - unseen


def test_what_is_found_on_dense_images_alone_is_enough_to_see_by(check):
    code, found, err = check(
        GOOD.replace(
            HERE,
            "        if image.size < 100000:\n            return Instances.empty(*image.shape[:2], scored=True)\n"
            + HERE,
        )
    )
    assert code == 0, err
    assert [name for name, f in found.items() if f["ok"] is None] == ["batch"]


def test_one_instance_on_every_image_is_no_cap(check):
    code, found, err = check(GOOD.replace(HERE, "        labels, count = (labels > 0).astype(int), 1\n" + HERE))
    assert code == 0, err
    assert {name for name, f in found.items() if f["ok"] is None} == {"300 cells", "cap"}
    assert found["300 cells"]["problem"].startswith("1 instances on every image")


def test_a_cap_that_follows_the_densest_image_is_none_of_its_own(check):
    queries = ".top(min(20 + self.task.objects.per_image_max, self.task.max_detections))"
    code, found, err = check(GOOD.replace(TOP, queries))
    assert code == 0, err
    assert found["300 cells"]["ok"] is True


@pytest.mark.parametrize(
    "body",
    [
        "return [self.predict(image) for image in images]",
        "return [dataclasses.replace(i, scores=i.scores + 1e-7) for i in map(self.predict, images)]",
    ],
)
def test_a_batch_in_order_is_right_but_for_rounding(check, body: str):
    code, found, err = check(
        GOOD.replace("import json\n", "import dataclasses\nimport json\n").replace(PREDICT, batch(body))
    )
    assert code == 0, err
    assert found["batch"]["ok"] is True


def test_a_method_that_ends_the_program_is_told_on(check):
    code, found, err = check(GOOD.replace(HERE, "        raise SystemExit('no licence')\n" + HERE))
    assert code == 5
    assert list(found) == list(CHECKS)
    assert found["fit"]["ok"] is True
    assert found["prediction"]["problem"] == "it ends the whole program: SystemExit: no licence"
    assert "mine.py:" in found["prediction"]["hint"]
    assert err.count("error: ") == 1


PRINTING = """\
        print('said by Python')
        os.write(1, b'said to the file descriptor\\n')
        ctypes.CDLL(None).puts(b'said by a library')
        subprocess.run(['echo', 'said by a process'], check=True)
        STDOUT.write('said by who took hold of stdout before\\n')
"""


@pytest.mark.skipif(os.name != "posix", reason="the C library is reached another way")
def test_what_a_method_prints_garbles_no_json(tmp_path: Path):
    source = GOOD.replace("import json\n", "import ctypes\nimport json\nimport os\nimport subprocess\nimport sys\n")
    source = source.replace("class Mine", "print('said at import')\nSTDOUT = sys.__stdout__\n\n\nclass Mine")
    (tmp_path / "mine.py").write_text(source.replace(HERE, PRINTING + HERE))
    done = subprocess.run(
        [sys.executable, "-m", "bench", "check", "mine", "--json"],
        env=os.environ | {"BENCH_METHODS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"] is True
    for said in ("at import", "by Python", "to the file", "by a library", "by a process", "by who took hold"):
        assert f"said {said}" in done.stderr


def test_it_learns_from_global_random_numbers_and_is_told(check):
    code, found, _ = check(GOOD.replace("float(rng.random())", "float(np.random.random())"))
    assert code == 5
    assert found["resume"]["ok"] is False


def test_what_cannot_be_seen_fails_nobody(check):
    plain = GOOD.replace(
        'title = "Mine"', 'title = "Mine"\n    trainable = False\n    inits = ("none",)\n    level = 1.0'
    )
    code, found, err = check(plain)
    assert code == 0, err
    assert found["fit"]["ok"] is None
    assert found["fit"]["problem"] == "it is not trained"


def test_a_failed_training_does_not_drown_the_rest(check):
    code, found, err = check(
        GOOD.replace("        context.folder.mkdir", "        raise ValueError('no')\n        context.folder.mkdir")
    )
    assert code == 5
    assert [n for n, f in found.items() if f["ok"] is False] == ["fit"]
    assert found["fit"]["hint"].startswith("raised at mine.py:")
    assert found["cap"]["ok"] is None
    assert "breaks 1 of" in err


def test_settings_and_weights_reach_the_method(check, tmp_path: Path):
    code, _, err = check(GOOD, "--set", "step=fast")
    assert code == 2
    assert "'fast' does not fit setting 'step'" in err
    (tmp_path / "level.json").write_text("1.5")
    code, found, err = check(GOOD, "--weights", str(tmp_path / "level.json"))
    assert code == 0, err
    assert found["fit"]["problem"] == "weights were given"
    (tmp_path / "level.json").write_text("nonsense")
    code, found, _ = check(GOOD, "--weights", str(tmp_path / "level.json"))
    assert code == 5
    assert found["load"]["problem"].startswith("JSONDecodeError")


def test_a_method_may_be_small_for_its_trial(check, tmp_path: Path):
    """By ``trial``, which the user's settings override, and which weights from elsewhere know nothing of."""
    (tmp_path / "level.json").write_text("1.5")
    for step, arguments, told in (
        (0.5, (), "mine is tried small, with step=0.5; --set changes that"),
        (0.2, ("--set", "step=0.2"), "step=0.5"),
        (0.1, ("--weights", str(tmp_path / "level.json")), ""),
    ):
        small = GOOD.replace('title = "Mine"', 'title = "Mine"\n    trial = {"step": 0.5}')
        code, found, err = check(small.replace(FIND, f"        assert self.params.step == {step}\n" + FIND), *arguments)
        assert code == 0, (found, err)
        assert told in err
    code, found, err = check(GOOD.replace('title = "Mine"', 'title = "Mine"\n    trial = {"width": 8}'))
    assert code == 2
    assert "width" in err
    assert "may name its settings only" in err


def test_an_unknown_method_is_a_mistake_of_names(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["check", "unet-bcee"])
    assert end.value.code == 2
    assert "did you mean unet-bce" in capsys.readouterr().err


def test_the_lines_for_people(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["check", "jitter"])
    assert not end.value.code
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(CHECKS)
    assert any(line.startswith("ok    300 cells") for line in lines)


@pytest.mark.parametrize(
    ("shape", "cells", "radius"), [((400, 400), 300, (4, 6)), ((96, 128), 7, (6, 9)), ((97, 61), 5, (6, 9))]
)
def test_the_generated_images_hold_what_they_say(shape, cells: int, radius):
    image, labels = probe("x", shape, cells, radius)
    assert image.shape == labels.shape == shape
    assert image.dtype == np.uint8
    assert len(np.unique(labels)) - 1 == cells
    sizes = ndimage.sum_labels(np.ones(shape), labels, range(1, cells + 1))
    assert sizes.min() >= 25
    assert image[labels > 0].mean() != pytest.approx(image[labels == 0].mean(), abs=3)  # they can be seen
    again, _ = probe("x", shape, cells, radius)
    assert np.array_equal(image, again)
    assert not np.array_equal(image, probe("y", shape, cells, radius)[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet-bce", "mask_rcnn"])
def test_a_network_of_ours_keeps_every_promise(name: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["check", name, "--device", "cpu"])
    captured = capsys.readouterr()
    assert not end.value.code, captured.out + captured.err


def test_a_device_that_is_none_is_refused_before_anything_is_tried(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["check", "truth", "--device", "gpu"])
    captured = capsys.readouterr()
    assert (end.value.code, captured.out) == (2, "")
    assert captured.err == "error: unknown device 'gpu' (auto, cpu, cuda or cuda:N)\n"


@pytest.mark.parametrize(
    ("raised", "code"),
    [("ValueError('no')", 5), ("UsageError('no')", 5), ("MissingDependencyError('no tool', 'get it')", 6)],
)
def test_only_what_is_not_here_is_missing(check, raised: str, code: int):
    require = f"""
    @classmethod
    def require(cls, params, weights):
        from bench.api import MissingDependencyError, UsageError
        raise {raised}

    def predict("""
    found_code, found, _ = check(GOOD.replace("\n    def predict(", require, 1))
    assert (found_code, found["available"]["ok"]) == (code, False)
