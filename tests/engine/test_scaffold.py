"""``bench new method``: what it writes passes as written, is short, and is found."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from skimage import filters, measure

from bench.api import FitContext, Instances, ObjectStatistics, Schedule, Task
from bench.engine.contract import check_method
from bench.engine.scaffold import BASES
from bench.engine.trial import Generated, generated
from bench.registry import MethodEntry, methods_in, registry


def run_test(test: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("BENCH_METHODS", "PYTEST_ADDOPTS")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", test.name],
        cwd=test.parent,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "2 passed" in done.stdout


@pytest.mark.parametrize(
    "base",
    ["plain", "external", pytest.param("dense", marks=pytest.mark.slow), pytest.param("mmdet", marks=pytest.mark.slow)],
)
def test_adapter_and_test_pass_as_written(tmp_path: Path, cli, base: str):
    code, out, err = cli("new", "method", "my_net", "--base", base, "--to", tmp_path / "mine", "--json")
    assert code == 0, err
    files = [Path(file) for file in json.loads(out)["files"]]
    assert not [file for file in files if re.search(r"@[A-Z]+@", file.read_text())]
    run_test(tmp_path / "mine" / "tests" / "test_my_net.py")


@pytest.mark.parametrize("base", BASES)
def test_what_is_written_is_clean(tmp_path: Path, cli, base: str):
    cli("new", "method", "net2_with_long_name", "--base", base, "--to", tmp_path)
    for path in tmp_path.rglob("*.py"):
        compile(path.read_text(), str(path), "exec")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ruff",
            "check",
            "--isolated",
            "--select",
            "E,F,W,B",
            "--line-length",
            "120",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("base", "most"), [("mmdet", 15), ("external", 30)])
def test_adapters_are_short(tmp_path: Path, cli, base: str, most: int):
    cli("new", "method", "mine", "--base", base, "--to", tmp_path)
    lines = sum(len(path.read_text().splitlines()) for path in tmp_path.glob("*.py"))  # the tool's side included
    assert lines <= most


CONFIG = '''\
"""A network of MMDetection's zoo, trained and run by the harness."""

from bench.api import Schedule
from methods._zoo import SMOKE, ZooMethod


class FromZoo(ZooMethod):
    """Which network this is, in one sentence."""

    name, title = "from_zoo", "From the zoo"
    coco_config = "{config}"
    inits = ("random", "coco")
    schedules = {{"paper": Schedule(epochs=12, batch_size=16), "smoke": SMOKE}}
'''

NOT_OURS = (
    "yolact/yolact_r50_1xb8-55e_coco",
    "ms_rcnn/ms-rcnn_r50-caffe_fpn_1x_coco",
    "point_rend/point-rend_r50-caffe_fpn_ms-1x_coco",
    "condinst/condinst_r50_fpn_ms-poly-90k_coco_instance",
    "queryinst/queryinst_r50_fpn_1x_coco",
)
"""Configs of MMDetection, of several families, that no method here uses."""


def from_zoo(folder: Path, config: str) -> MethodEntry:
    assert config not in {getattr(entry.method, "coco_config", None) for entry in registry().methods.values()}
    source = CONFIG.format(config=config)
    assert len(source.splitlines()) <= 15
    (folder / "from_zoo.py").write_text(source)
    (entry,) = methods_in(folder / "from_zoo.py")
    return entry


@pytest.mark.parametrize(
    ("config", "part", "caps"),
    [
        (NOT_OURS[0], (), {"max_per_img": 700, "top_k": 700, "nms_pre": 1000, "score_thr": 0.25}),
        (NOT_OURS[1], ("rcnn",), {"max_per_img": 700, "score_thr": 0.25}),
        (NOT_OURS[1], ("rpn",), {"max_per_img": 1000, "nms_pre": 1000}),
        (NOT_OURS[4], ("rcnn",), {"max_per_img": 100}),  # of its 100 queries
    ],
)
def test_caps_and_threshold_are_seen_to_wherever_they_are(tmp_path: Path, config: str, part: tuple, caps: dict):
    kind = from_zoo(tmp_path, config).method
    method = kind(Task(max_detections=700), kind.make_params("", {"score_threshold": "0.25"}))
    found = method.config("random")["test_cfg"]
    for name in part:
        found = found[name]
    assert {name: found[name] for name in caps} == caps
    assert ("score_thr" in found) == ("score_thr" in caps)


@pytest.mark.slow
@pytest.mark.parametrize("config", NOT_OURS)
def test_fifteen_lines_make_a_method_of_a_config_of_mmdetection(tmp_path: Path, config: str):
    """It learns for two steps and predicts, with no line about caps, classes or normalisation."""
    kind = from_zoo(tmp_path, config).method
    train = Generated([generated(f"training {i}", cells=6) for i in range(2)])
    task = Task(objects=ObjectStatistics.measure([s.instances for s in train]), image_shape=(96, 128))
    schedule = Schedule(iterations=2, batch_size=1, settings=kind.trial)
    params = kind.make_params("", {}, schedule)
    steps = []
    weights = kind(task, params).fit(
        train, None, FitContext(tmp_path / "run", schedule, "smoke", progress=lambda done, *_: steps.append(done))
    )
    assert steps == [1, 2]
    method = kind(task, params)
    method.load(weights)
    assert method.n_parameters() > 10**6
    found = method.predict(generated("new").image)
    assert found.shape == (96, 128)
    assert found.scores is not None
    assert len(found)
    assert found == method.predict(generated("new").image)


@pytest.mark.slow
def test_fifteen_lines_keep_every_promise(tmp_path: Path):
    found = list(check_method(from_zoo(tmp_path, NOT_OURS[0]), device="cpu"))
    assert [f for f in found if f.ok is False] == []
    assert {f.check for f in found if f.ok} >= {"fit", "resume", "load", "300 cells", "cap"}


TOOL = """\
#!{python}
import os, sys
import tifffile
from skimage import filters, measure

image = tifffile.imread(sys.argv[sys.argv.index("--in") + 1])
gray = image if image.ndim == 2 else image[..., :3].mean(axis=2)
labels = measure.label(gray > filters.threshold_otsu(gray))
tifffile.imwrite(sys.argv[sys.argv.index("--out") + 1], labels.astype("uint16"))
with open({log!r}, "a") as log:
    log.write(f"{{os.getpid()}}\\n")
"""

CALLED = '''\
"""A program that somebody else wrote."""

from methods._external import ExternalMethod


class Called(ExternalMethod):
    """Segments what is bright."""

    name, title = "called", "Called"

    def command(self, image, answer):
        """Run anew for each image."""
        return ["bright-spots", "--in", image, "--out", answer]
'''


@pytest.mark.skipif(os.name != "posix", reason="a script is no program there")
def test_thirty_lines_make_a_method_of_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program, log = tmp_path / "bin" / "bright-spots", tmp_path / "log.txt"
    program.parent.mkdir()
    program.write_text(TOOL.format(python=sys.executable, log=str(log)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    assert len(CALLED.splitlines()) <= 30
    (tmp_path / "called.py").write_text(CALLED)
    (entry,) = methods_in(tmp_path / "called.py")
    method = entry.method(Task())
    sample = generated("plain")
    found = method.predict(sample.image)
    again = method.predict(generated("another").image)
    method.close()
    gray = sample.image
    assert found == Instances.from_label_map(measure.label(gray > filters.threshold_otsu(gray)))
    assert again != found
    processes = log.read_text().split()
    assert len(set(processes)) == 2
    assert str(os.getpid()) not in processes


@pytest.mark.parametrize("base", BASES)
def test_it_is_listed_and_described(tmp_path: Path, cli, base: str, monkeypatch):
    monkeypatch.setenv("BENCH_METHODS", str(tmp_path / "mine"))
    (tmp_path / "mine").mkdir()
    code, out, err = cli("new", "method", "fresh", "--base", base)  # into the folder that is named already
    assert code == 0, err
    assert "export" not in out
    code, out, err = cli("list", "methods")
    assert code == 0
    assert "left out" not in err
    assert any(line.split()[0] == "fresh" for line in out.splitlines() if line.strip())
    assert cli("show", "fresh")[0] == 0


def test_it_says_what_to_do_next(workplace: Path, cli):
    code, out, _ = cli("new", "method", "mine")
    assert code == 0
    assert out.splitlines() == [
        f"wrote {Path('my_methods/mine.py')}",
        f"wrote {Path('my_methods/tests/test_mine.py')}",
        f"export BENCH_METHODS={workplace / 'my_methods'}",
        "bench check mine",
        f"pytest {Path('my_methods/tests/test_mine.py')}",
    ]


def test_the_plain_one_runs_on_a_data_set(workplace: Path, cli, monkeypatch):
    cli("new", "method", "mine")
    monkeypatch.setenv("BENCH_METHODS", "my_methods")
    code, out, err = cli("run", "-m", "mine", "-d", "tiny", "--json")
    assert code == 0, err
    (run,) = json.loads(out)
    assert run["protocols"]["kaggle"]["mAP@.5:.95"]["value"] > 0.3


@pytest.mark.parametrize(
    "name", ["../escape", "My_Net", "2fast", "class", "a-b", "", "a b", "ünet", "mnc", "unet", "truth"]
)
def test_a_name_that_cannot_be_is_refused(workplace: Path, cli, name: str):
    code, _, err = cli("new", "method", name)
    assert code == 2
    assert err.count("error: ") == 1
    assert not (workplace / "my_methods").exists()


def test_nothing_is_overwritten(workplace: Path, cli):
    cli("new", "method", "mine")
    (workplace / "my_methods" / "mine.py").write_text("# work of days\n")
    code, _, err = cli("new", "method", "mine")
    assert code == 2
    assert "is there already" in err
    assert (workplace / "my_methods" / "mine.py").read_text() == "# work of days\n"


def test_a_folder_that_cannot_be_written_is_named(workplace: Path, cli):
    code, _, err = cli("new", "method", "mine", "--to", "/proc/mine")
    assert code == 7
    assert "/proc/mine" in err
