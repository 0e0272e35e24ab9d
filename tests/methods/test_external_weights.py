"""A tool that needs weights by path: not run without them, run with them, and only it may be given any."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ADAPTER = """
from pathlib import Path
from methods._external import ExternalMethod


class Fixed(ExternalMethod):
    name, title = "fixed", "Fixed"
    script = Path(__file__).with_name("_fixed_tool.py")
    needs_weights = True
"""
TOOL = """
from pathlib import Path
from scipy import ndimage


def load(options):
    return float(Path(options["weights"]).read_text())


def segment(level, image):
    return ndimage.label(image > level)[0]
"""


@pytest.fixture(autouse=True)
def fixed(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The method ``fixed``, in a folder of the user's."""
    (workplace / "mine").mkdir()
    (workplace / "mine" / "fixed.py").write_text(ADAPTER)
    (workplace / "mine" / "_fixed_tool.py").write_text(TOOL)
    monkeypatch.setenv("BENCH_METHODS", str(workplace / "mine"))


def test_without_weights_it_is_not_run_and_nothing_is_stored(cli, workplace: Path):
    code, out, err = cli("run", "-m", "fixed", "-d", "tiny")
    assert code == 6
    assert out == ""
    assert [line for line in err.splitlines() if "fixed" in line] == [
        "error: fixed is not run without weights (give their path with --weights)"
    ]
    assert json.loads(cli("list", "runs", "--json")[1])["items"] == []


def test_with_weights_it_is_run_and_they_are_part_of_the_run(cli, workplace: Path):
    values = {}
    for level in (100, 250):
        (workplace / f"{level}.txt").write_text(str(level))
        code, out, err = cli("run", "-m", "fixed", "-d", "tiny", "--weights", workplace / f"{level}.txt", "--json")
        assert code == 0, err
        (run,) = json.loads(out)
        values[level] = run["protocols"]["kaggle"]["mAP@.5:.95"]["value"]
    assert values[100] > 0.3 > values[250]
    assert len(json.loads(cli("list", "runs", "--json")[1])["items"]) == 2


def test_what_loads_nothing_is_given_nothing(cli, workplace: Path):
    (workplace / "w.txt").write_text("1")
    code, _, err = cli("run", "-m", "otsu_watershed", "-d", "tiny", "--weights", workplace / "w.txt")
    assert code == 2
    assert "otsu_watershed has no weights to load" in err
