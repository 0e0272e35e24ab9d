"""The tutorial ``docs/add-a-method.md``: its code and its commands run as they are written."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import tifffile

from bench.cli import main
from bench.data import open_dataset
from bench.registry import registry

DATASET = "-d bbbc039 --data-root DATA"
"""What the tutorial names; the tests put a small data set in its place."""


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


def test_a_newcomer_gets_through_it(workplace: Path, text: str, cli, monkeypatch):
    """From top to bottom, a module being saved where the text shows it."""
    monkeypatch.setenv("BENCH_METHODS", "my_methods")
    split = open_dataset("tiny").split("test")
    for sample in split:
        path = workplace / "predictions" / f"{Path(sample.id).name}.tif"
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, sample.instances.to_label_map().astype("uint16"))
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
                Path(file).write_text(content)
        out = cli(line.replace(DATASET, "-d tiny"))
        done.append((line, out))
    assert len(done) >= 9
    runs = json.loads(cli("bench list runs --json"))["items"]
    assert {run["method"] for run in runs} == {"spots", "truth", "level", "My net"}
    assert all(run["status"] == "ok" for run in runs)
    board = json.loads(cli("bench show 1 --json"))
    assert board["results"]["voc AP@0.5"]["value"] > 0.3  # the spots are found


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
