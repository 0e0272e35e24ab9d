"""Fixtures that every test may use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of the checkout."""
    return CHECKOUT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real material beside the checkout; tests that need it skip where it is absent."""
    folder = CHECKOUT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("no real images beside the checkout (../shared/data)")
    return folder


@pytest.fixture(scope="session")
def shared_data(shared: Path) -> Path:
    """Real microscopy with instance truth: dsb2018, bbbc039, usiigaci, stardist_2d."""
    return shared / "data"


# -- the command line -----------------------------------------------------------------------------------

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command line in this process: ``cli("list", "methods")`` gives its exit status, stdout and stderr.

    Methods are looked for anew each time, as by a new process.
    """
    from bench.cli import main
    from bench.registry import registry

    def call(*arguments: object) -> tuple[int, str, str]:
        registry.cache_clear()
        try:
            with pytest.raises(SystemExit) as ended:
                main([str(argument) for argument in arguments])
        finally:
            registry.cache_clear()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


# -- a small data set, and a folder to run in ---------------------------------------------------------

CARD = """
name = "tiny"
title = "A tiny set"
description = "Made for a test."
licence = "CC0-1.0"
citation = "nobody (2020)"
url = "https://example.org"
folders = ["tiny"]
default_scheme = "parts"

[task]
classes = ["cell"]
modality = "fluorescence"

[format]
name = "label_pairs"
images = ["{part}/images/{stem}.png"]
labels = ["{part}/labels/{stem}.png"]

[schemes.parts]
rule = "parts"
splits = { train = ["train"], val = ["val"], test = ["test"] }

[[protocols]]
name = "voc"

[[protocols]]
name = "kaggle"
"""


def discs(seed: int, size: int = 64, count: int = 6) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """An image of bright discs on dark ground, and its label image."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    labels = np.zeros((size, size), np.uint16)
    for label in range(1, count + 1):
        row, column = rng.integers(8, size - 8, 2)
        disc = (rows - row) ** 2 + (columns - column) ** 2 <= rng.integers(4, 7) ** 2
        labels[disc & (labels == 0)] = label
    image = np.clip(rng.normal(40, 8, labels.shape) + 120 * (labels > 0), 0, 255).astype(np.uint8)
    return image, labels


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder of one's own, with the data set ``tiny`` (5 train, 2 val, 4 test images) under ``data``."""
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "tiny.toml").write_text(CARD)
    seed = 0
    for part, count in (("train", 5), ("val", 2), ("test", 4)):
        for kind in ("images", "labels"):
            (tmp_path / "data" / "tiny" / part / kind).mkdir(parents=True)
        for number in range(count):
            seed += 1
            image, labels = discs(seed)
            Image.fromarray(image).save(tmp_path / "data" / "tiny" / part / "images" / f"{part}{number}.png")
            Image.fromarray(labels).save(tmp_path / "data" / "tiny" / part / "labels" / f"{part}{number}.png")
    monkeypatch.setenv("BENCH_CARDS", str(tmp_path / "cards"))
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    for variable in ("BENCH_DATA_ROOT", "BENCH_DB", "BENCH_RUNS", "BENCH_METHODS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path
