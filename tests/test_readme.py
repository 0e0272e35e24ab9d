"""What the README shows works as written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.cli import main


def blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def test_the_method_of_the_readme_runs(checkout: Path, workplace: Path, monkeypatch, capsys):
    from bench.registry import registry

    (code,) = [b for b in blocks((checkout / "README.md").read_text()) if "class Bright" in b]
    (workplace / "my_methods").mkdir()
    (workplace / "my_methods" / "bright.py").write_text(code)
    monkeypatch.setenv("BENCH_METHODS", "my_methods")
    registry.cache_clear()
    with pytest.raises(SystemExit) as end:
        main(["run", "-m", "bright", "-d", "tiny"])
    registry.cache_clear()
    out = capsys.readouterr()
    assert not end.value.code, out.err
    assert "Bright pixels" in out.out
    assert "not applicable" in out.out


def test_every_option_of_bench_run_in_the_readme_exists(checkout: Path, capsys):
    text = (checkout / "README.md").read_text()
    paragraph = text[text.index("`bench run` takes") : text.index("From Python, for notebooks")]
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    known = capsys.readouterr().out
    options = set(re.findall(r"--[a-z-]+", paragraph))
    assert len(options) > 10
    assert not [option for option in options if option not in known]


def test_every_variable_of_the_readme_is_read_somewhere(checkout: Path):
    code = "".join(path.read_text() for room in ("bench", "methods") for path in (checkout / room).rglob("*.py"))
    for variable in re.findall(r"`(BENCH_[A-Z_]+)`", (checkout / "README.md").read_text()):
        assert variable in code, variable


def test_every_method_and_data_set_of_the_readme_exists(checkout: Path):
    from bench.data import card_names
    from bench.registry import registry

    text = (checkout / "README.md").read_text()
    methods = text[text.index("## Methods") : text.index("`bench show NAME`")]
    named, family = set(), ""
    for cell in first_cells(methods):
        for name in re.findall(r"`([^`]+)`", cell):
            family = name if not name.startswith("-") else family
            named.add(name if not name.startswith("-") else family.partition("-")[0] + name)
    assert named == set(registry().methods)
    sets = text[text.index("## Data sets") : text.index("## Methods")]
    assert {name for cell in first_cells(sets) for name in re.findall(r"`([^`]+)`", cell)} == set(card_names())


def first_cells(text: str) -> list[str]:
    return [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
