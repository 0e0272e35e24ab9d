"""The tutorial ``docs/add-a-data-set.md``: its code and its commands run as they are written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.cli import main
from bench.data import open_dataset
from bench.data.synthetic._probes import probe


def images() -> list[tuple[np.ndarray, np.ndarray]]:
    return [probe(f"cells {i}", (64, 80), 5, (5, 8)) for i in range(8)]


def test_a_newcomer_gets_through_it(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    text = (checkout / "docs" / "add-a-data-set.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for kind in ("images", "labels"):
        (tmp_path / "my_data" / "dishes" / kind).mkdir(parents=True)
    (tmp_path / "my_data" / "wells").mkdir()
    for i, (image, labels) in enumerate(images()):
        Image.fromarray(image).save(f"my_data/dishes/images/{i}.png")
        Image.fromarray(labels.astype(np.uint8)).save(f"my_data/dishes/labels/{i}.png")
        np.savez(f"my_data/wells/{i}.npz", image=image, labels=labels)
    (tmp_path / "my_cards").mkdir()
    for file, content in re.findall(r"```\w+\n# (\S+\.(?:toml|py))\n(.*?)```", text, flags=re.DOTALL):
        (tmp_path / file).write_text(content)
    assert sorted(p.name for p in (tmp_path / "my_cards").iterdir()) == ["dishes.toml", "npz.py", "wells.toml"]
    bare = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    commands = [line.strip() for line in bare.splitlines() if line.startswith("    ")]
    assert len(commands) == 9
    for command in commands:
        name, *rest = shlex.split(command)
        if name == "export":
            monkeypatch.setenv(*rest[0].split("="))
            continue
        assert name == "bench", command
        with pytest.raises(SystemExit) as end:
            main(rest)
        captured = capsys.readouterr()
        assert not end.value.code, f"{command}\n{captured.out}\n{captured.err}"
    dishes, wells = open_dataset("dishes"), open_dataset("wells")
    assert wells.is_prepared
    for here, there in zip(dishes.everything(), wells.everything(), strict=True):
        assert np.array_equal(here.image, there.image)
        assert here.instances.rles == there.instances.rles
