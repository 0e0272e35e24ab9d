"""The tutorial ``docs/add-a-method.md``: its code and its commands run as they are written."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.cli import main
from bench.registry import registry

DATASET = "-d bbbc039 --stand-in"
"""What the tutorial names; the fast test puts a small data set in its place."""


@pytest.fixture
def text(checkout: Path) -> str:
    return (checkout / "docs" / "add-a-method.md").read_text(encoding="utf-8")


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]):
    def call(line: str) -> str:
        registry.cache_clear()
        with pytest.raises(SystemExit) as end:
            main(shlex.split(line)[1:])
        registry.cache_clear()
        captured = capsys.readouterr()
        assert not end.value.code, f"{line}\n{captured.out}\n{captured.err}"
        return captured.out

    return call


def commands(text: str) -> list[str]:
    """Every line of an indented block."""
    return [line.strip() for line in text.splitlines() if line.startswith("    ") and not _inside_code(text, line)]


def _inside_code(text: str, line: str) -> bool:
    return any(line in block.splitlines() for block in re.findall(r"```\w+\n(.*?)```", text, flags=re.DOTALL))


def modules(text: str) -> dict[str, str]:
    """File name -> code, of the blocks that name their file in the first line."""
    found = re.findall(r"```python\n# (\S+\.py)\n(.*?)```", text, flags=re.DOTALL)
    return dict(found)


def walk(text: str, folder: Path, run: Callable[[str], str]) -> list[str]:
    """Every command from top to bottom, a module being saved where the text shows it; returns what was run."""
    code = modules(text)
    assert sorted(code) == ["my_methods/level.py", "my_methods/spots.py"]
    done = []
    for line in commands(text):
        if line.startswith("export "):
            assert line == "export BENCH_METHODS=my_methods"
            continue
        assert line.startswith("bench "), line
        for file, content in code.items():  # the reader saves each before the command that is about it
            if re.search(rf"\b{Path(file).stem}\b", line) and not line.startswith("bench new"):
                (folder / file).write_text(content)
        run(line)
        done.append(line)
    return done


def test_a_newcomer_gets_through_it(workplace: Path, text: str, cli, monkeypatch):
    monkeypatch.setenv("BENCH_METHODS", "my_methods")
    done = walk(text, workplace, lambda line: cli(line.replace(DATASET, "-d tiny")))
    assert sum(DATASET in line for line in done) == 3
    assert "bench compare 1 2" in done
    runs = json.loads(cli("bench list runs --json"))["items"]
    assert {run["method"] for run in runs} == {"spots", "truth", "level", "My net"}
    assert all(run["status"] == "ok" for run in runs)
    board = json.loads(cli("bench show 1 --json"))
    assert board["results"]["voc AP@0.5"]["value"] > 0.3  # the spots are found


@pytest.mark.slow
def test_a_newcomer_gets_through_it_word_by_word(tmp_path: Path, text: str):
    """In an empty folder, without images and without the network, by the program itself."""
    settings = {"BENCH_METHODS": "my_methods", "BENCH_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    kept = {k: v for k, v in os.environ.items() if not k.startswith("BENCH_")}
    folder = tmp_path / "empty"
    folder.mkdir()

    def run(line: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *shlex.split(line)],
            cwd=folder,
            env=kept | settings,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    walk(text, folder, run)
    runs = json.loads(run("bench list runs --json"))["items"]
    assert sorted(run["method"] for run in runs) == ["My net", "level", "level", "level", "spots", "truth"]


def test_the_methods_keep_the_contract(workplace: Path, text: str, cli, monkeypatch):
    monkeypatch.setenv("BENCH_METHODS", "my_methods")
    (workplace / "my_methods").mkdir()
    for file, content in modules(text).items():
        Path(file).write_text(content)
        found = json.loads(cli(f"bench check {Path(file).stem} --json"))
        assert found["ok"]
        assert sum(check["ok"] is True for check in found["checks"]) >= 14


def test_commands_within_the_text_exist(text: str):
    from bench.cli import COMMANDS
    from bench.engine.scaffold import BASES

    for command in re.findall(r"`bench (\w+)", text):
        assert command in COMMANDS
    for base in re.findall(r"--base (\w+)", text):
        assert base in BASES


def test_its_links_lead_somewhere(text: str):
    heads = {
        re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-")
        for head in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    }
    for target in re.findall(r"\]\(#([^)]+)\)", text):
        assert target in heads, target
