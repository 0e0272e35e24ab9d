"""Tools that train in a process of their own: what works, what does not, and the tools that come with the project."""

from __future__ import annotations

import ast
import json
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest

from bench.api import (
    FitContext,
    Instances,
    MethodError,
    MissingDependencyError,
    Sample,
    Schedule,
    Task,
    UsageError,
)
from bench.registry import find_method
from methods._environment import ToolEnvironment, locked
from methods._external import ToolError
from methods._external_training import TrainedTool

LEARNS = """
    import os
    import numpy as np
    from pathlib import Path

    def load(options):
        return float(Path(options["weights"]).read_text())

    def segment(level, image):
        return (image > level).astype(np.uint8)

    def train(images, truths, options, folder, report):
        print("this must not garble the reports")
        os.write(1, b"nor this\\n")
        rng = np.random.default_rng(options["seed"])
        levels = []
        for step in range(options["steps"]):
            i = int(rng.integers(len(images)))
            assert images[i].shape == truths[i].shape and images[i].dtype == np.uint8
            levels.append((images[i][truths[i] > 0].min() + images[i][truths[i] == 0].max()) / 2)
            report(step + 1, options["steps"])
        path = folder / "model.txt"
        path.write_text(str(float(np.mean(levels))))
        return path
"""


class Source:
    """Two images of a bright square, one brighter than the other."""

    def __init__(self, truth: bool = True) -> None:
        self.samples = []
        for index, high in enumerate((100, 120)):
            labels = np.zeros((20, 30), np.uint8)
            labels[5:10, 5:12] = 1
            image = np.where(labels, high, 20).astype(np.uint8)
            self.samples.append(Sample(f"s{index}", image, Instances.from_label_map(labels) if truth else None))
        self.ids = tuple(s.id for s in self.samples)

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


@pytest.fixture
def tool(tmp_path):
    made = []

    def make(script=LEARNS):
        path = tmp_path / f"tool{len(made)}.py"
        path.write_text(textwrap.dedent(script))

        class Tool(TrainedTool):
            name, title = "tool", "Tool"

        Tool.script = path
        made.append(Tool(Task()))
        return made[-1]

    yield make
    for method in made:
        method.close()


def context(folder: Path, steps: int = 4, **more) -> FitContext:
    return FitContext(folder, Schedule(iterations=steps), "smoke", **more)


def test_it_learns_reports_and_predicts(tool, tmp_path):
    reports = []
    method = tool()
    weights = method.fit(Source(), None, context(tmp_path / "t", progress=lambda *a: reports.append(a[:2])))
    assert reports == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert weights == tmp_path / "t" / "weights.pth"
    assert 60 <= float(weights.read_text()) <= 70  # half way between 20, and 100 or 120
    assert "must not garble" in (tmp_path / "t" / "tool.txt").read_text()
    assert sorted(p.name for p in (tmp_path / "t").iterdir()) == ["tool.txt", "weights.pth"]
    method.load(weights)
    assert method.predict(Source()[0].image).areas.tolist() == [35]
    begun = weights.stat().st_mtime_ns
    assert method.fit(Source(), None, context(tmp_path / "t")).stat().st_mtime_ns == begun  # it is done


def test_the_seed_decides_and_a_killed_training_ends_in_the_same(tool, tmp_path):
    def stop(done, total, text):
        if done == 2:
            raise KeyboardInterrupt

    method = tool()
    whole = method.fit(Source(), None, context(tmp_path / "a", 7, seed=3)).read_text()
    with pytest.raises(KeyboardInterrupt):
        method.fit(Source(), None, context(tmp_path / "b", 7, seed=3, progress=stop))
    assert not (tmp_path / "b" / "weights.pth").exists()
    assert method.fit(Source(), None, context(tmp_path / "b", 7, seed=3)).read_text() == whole
    others = {method.fit(Source(), None, context(tmp_path / f"c{s}", 7, seed=s)).read_text() for s in range(4, 9)}
    assert others != {whole}


VALIDATES = """
    def train(images, truths, options, folder, report, validation):
        path = folder / "model.txt"
        held = [int(image.max()) for image in validation[0]], [int(truth.max()) for truth in validation[1]]
        path.write_text(repr(([int(image.max()) for image in images], *held)))
        return path
"""


class Levels(Source):
    """Images of one cell, each of its own grey level."""

    def __init__(self, *levels: int) -> None:
        truth = Instances.from_label_map(np.eye(16, dtype=np.uint8))
        self.samples = [Sample(f"s{level:03}", np.full((16, 16), level, np.uint8), truth) for level in levels]
        self.ids = tuple(s.id for s in self.samples)


def test_a_tool_that_validates_is_given_the_validation_images(tool, tmp_path):
    method = tool(VALIDATES)
    type(method).validates = True
    seen = method.fit(Levels(1, 2, 3), Levels(7, 8), context(tmp_path / "t")).read_text()
    assert ast.literal_eval(seen) == ([1, 2, 3], [7, 8], [1, 1])
    assert sorted(p.name for p in (tmp_path / "t").iterdir()) == ["tool.txt", "weights.pth"]
    many = method.fit(Levels(1), Levels(*range(2, 255)), context(tmp_path / "many")).read_text()
    assert ast.literal_eval(many)[1] == list(range(2, 255, 2))  # at most 200, evenly


def test_without_validation_images_a_tenth_is_held_out(tool, tmp_path, capsys):
    method = tool(VALIDATES)
    type(method).validates = True
    weights = method.fit(Levels(*range(1, 21)), None, context(tmp_path / "t", seed=5))
    trained, held, _ = ast.literal_eval(weights.read_text())
    assert sorted(trained + held) == list(range(1, 21))
    said = capsys.readouterr().err
    assert "2 of the 20 training images are held out for the choice of weights" in said
    assert json.loads((weights.parent / "held_out.json").read_text())["images"] == [f"s{level:03}" for level in held]
    single = method.fit(Levels(9), None, context(tmp_path / "one")).read_text()
    assert ast.literal_eval(single) == ([9], [], [])


@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        ("raise ValueError('too small\\nsecond line')", ToolError, "failed at training: ValueError: too small"),
        ("import os; os._exit(3)", ToolError, r"crashed at training \(exit status 3\)"),
        ("import sys; print('going down', file=sys.stderr); sys.exit(4)", ToolError, "exit status 4.*going down"),
        ("return folder / 'nothing.pth'", MethodError, "returned no file of weights"),
        ("return None", MethodError, "returned no file of weights"),
        ("import no_such_package", ToolError, "ModuleNotFoundError.*no_such_package"),
    ],
)
def test_what_goes_wrong_is_named(tool, tmp_path, body, error, says):
    method = tool(f"def train(images, truths, options, folder, report):\n    {body}\n")
    with pytest.raises(error, match=says) as caught:
        method.fit(Source(), None, context(tmp_path / "t"))
    assert "\n" not in caught.value.message
    assert not (tmp_path / "t" / "weights.pth").exists()


def test_only_random_weights_to_begin_with_and_only_images_with_truth(tool, tmp_path):
    with pytest.raises(UsageError, match="begins from random weights"):
        tool().fit(Source(), None, context(tmp_path / "t", init="coco"))
    with pytest.raises(Exception, match="image s0 has no truth to learn from"):
        tool().fit(Source(truth=False), None, context(tmp_path / "u"))


def test_an_adapter_that_is_called_like_its_tool_does_not_hide_it(tool, tmp_path):
    (tmp_path / "numpy.py").write_text("raise ImportError('the adapter, not the tool')")
    (tmp_path / "beside.py").write_text("LEVEL = 50.0")
    script = """
        import sys

        def load(options):
            import beside
            return beside.LEVEL

        def segment(level, image):
            assert not any(name.startswith("_external") for name in sys.modules if name != "__main__")
            import controls  # one of our own adapters
    """
    method = tool(script)
    with pytest.raises(ToolError, match="ModuleNotFoundError: No module named 'controls'"):
        method.predict(Source()[0].image)
    trains = LEARNS.replace("import os\n", "import os\n    import beside\n", 1)
    assert tool(trains).fit(Source(), None, context(tmp_path / "t")).is_file()


# -- the tools that come with the project -----------------------------------------------------------------

TOOLS = ("cellpose", "cellpose_sam", "stardist", "instanseg")


@pytest.mark.parametrize("name", TOOLS)
def test_its_environment_is_pinned_and_names_no_host(name: str, checkout: Path):
    kind = find_method(name).method
    assert kind.environment() == ToolEnvironment(name, kind.requirements)  # it refuses what is not pinned
    named = {re.split("[=@ ]", requirement)[0].lower() for requirement in kind.requirements}
    assert {"cellpose", "stardist", "instanseg-torch"} & named
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", requirement) for requirement in kind.requirements)
    package = kind.script.parent
    for lock in package.glob("lock*.txt"):
        assert "://" not in lock.read_text()
    assert kind.script.is_file()
    assert "environment" in kind.Params.__dataclass_fields__


def test_a_lock_file_may_hold_remarks(tmp_path: Path):
    (tmp_path / "lock.txt").write_text("# all of it\n\na==1  # why\nb==2\n")
    assert locked(tmp_path / "lock.txt") == ("a==1", "b==2")


@pytest.mark.parametrize("name", TOOLS)
def test_without_its_environment_or_weights_it_is_not_run_and_says_why(name: str, tmp_path, monkeypatch, capsys):
    from bench.cli import main

    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr("methods._external._installed", lambda distribution, version: False)
    kind = find_method(name).method
    with pytest.raises(MissingDependencyError) as caught:
        kind.require(kind.make_params(), None)
    said = str(caught.value)
    assert ("--weights" if kind.needs_weights else f"python -m methods._environment {name}") in said
    with pytest.raises(SystemExit) as end:
        main(["check", name, "--json"])
    assert end.value.code == 6
    found = {f["check"]: f["ok"] for f in json.loads(capsys.readouterr().out)["checks"]}
    assert found["declaration"] is True
    assert found["light import"] is True
    assert found["available"] is False
    assert found["prediction"] is None


def test_another_version_of_a_distribution_does_not_serve(monkeypatch):
    from methods import _external

    monkeypatch.setattr("importlib.metadata.version", lambda name: "3.1.1.3+local")
    assert _external._installed("cellpose", "3.1")
    assert not _external._installed("cellpose", "3.11")
    assert not _external._installed("cellpose", "4")
