"""``bench new method``: what it writes passes as written, is short, and is found."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli import main
from bench.engine.scaffold import BASES
from bench.registry import registry


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]):
    def call(*arguments: object) -> tuple[int, str, str]:
        registry.cache_clear()
        try:
            with pytest.raises(SystemExit) as exit_:
                main([str(a) for a in arguments])
        finally:
            registry.cache_clear()
        captured = capsys.readouterr()
        return int(exit_.value.code or 0), captured.out, captured.err

    return call


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
