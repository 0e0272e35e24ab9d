"""Early stopping by the validation loss: when it stops, what it keeps, and that a kill changes neither."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel

from bench.api import FitContext, Instances, Sample, Schedule
from methods import _runner
from methods._early_stopping import EarlyStopping


class Samples(list):
    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(sample.id for sample in self)


def images(count: int) -> Samples:
    return Samples([Sample(str(n), np.full((4, 4), n, np.uint8), Instances.empty(4, 4)) for n in range(count)])


class Drift(BaseModel):
    """One weight that every step pulls by 1 towards large numbers; the validation loss is least at ``least``."""

    def __init__(self, least: float) -> None:
        super().__init__()
        self.place = torch.nn.Parameter(torch.zeros(1))
        self._least = least

    def forward(self, inputs, mode: str = "loss"):
        if self.training:
            return {"loss": -self.place.sum() + torch.rand(1).sum() * 0}
        return {"loss": (self.place - self._least).pow(2).sum()}


KILLED_AT = 7


class KilledError(BaseException):
    """Ends a training as abruptly as an exception can."""


def train(folder: Path, *, least: float = 4.0, patience: int = 2, steps: int = 30, images_: int = 2, progress=None):
    context = FitContext(
        folder,
        Schedule(iterations=steps, batch_size=1),
        "short",
        seed=1,
        progress=progress or (lambda done, total, text: None),
    )
    return _runner.train(
        lambda: Drift(least),
        images(images_),
        lambda sample, rng: torch.zeros(1),
        context=context,
        device="cpu",
        optimizer={"type": "SGD", "lr": 1.0},
        collate=lambda examples: {"inputs": torch.stack(examples)},
        meta={"method": "drift"},
        scope="mmengine",
        val=images(3),
        early_stopping=EarlyStopping(patience, lambda sample: torch.zeros(1)),
    )


def curves(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]


def test_it_keeps_the_best_weights_and_stops_after_the_patience(tmp_path):
    """A pass is 2 steps: losses 4, 0, 4, 16 at steps 2, 4, 6, 8; two without improvement end it at 8."""
    content = torch.load(train(tmp_path), weights_only=True)
    assert content["state_dict"]["place"].item() == 4
    assert content["meta"]["best_step"] == 4
    assert content["meta"]["steps"] == 8
    measured = [(line["step"], line["validation_loss"]) for line in curves(tmp_path) if "validation_loss" in line]
    assert measured == [(2, 4.0), (4, 0.0), (6, 4.0), (8, 16.0)]
    assert [line["step"] for line in curves(tmp_path) if "loss" in line] == list(range(1, 9))
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == ["weights.pth"]


def test_a_schedule_that_ends_first_keeps_the_best_weights_too(tmp_path):
    """Five steps: measured at 2, 4 and at the end, where it is worse again."""
    content = torch.load(train(tmp_path, steps=5), weights_only=True)
    assert content["state_dict"]["place"].item() == 4
    assert content["meta"]["steps"] == 5


@pytest.mark.parametrize("at", range(1, 9))
def test_a_killed_training_stops_where_it_would_have(tmp_path, monkeypatch, at):
    monkeypatch.setenv("BENCH_CHECKPOINT_SECONDS", "0")
    whole = torch.load(train(tmp_path / "whole"), weights_only=True)

    def cut(done: int, total: int, text: str) -> None:
        if done == at:
            raise KilledError

    with pytest.raises(KilledError):
        train(tmp_path / "cut", progress=cut)
    resumed = torch.load(train(tmp_path / "cut"), weights_only=True)
    assert resumed["state_dict"]["place"].item() == whole["state_dict"]["place"].item()
    assert resumed["meta"] == whole["meta"]
    assert curves(tmp_path / "cut") == curves(tmp_path / "whole")


def test_a_training_killed_after_it_had_stopped_does_not_go_on(tmp_path, monkeypatch):
    """The last thing before the final weights are written is the checkpoint of the step that stopped it."""
    monkeypatch.setenv("BENCH_CHECKPOINT_SECONDS", "0")

    def full(content, path):
        raise KilledError

    with monkeypatch.context() as broken:
        broken.setattr(_runner, "_save", full)
        with pytest.raises(KilledError):
            train(tmp_path)
    content = torch.load(train(tmp_path), weights_only=True)
    assert content["meta"]["best_step"] == 4
    assert content["meta"]["steps"] == 8


def test_validation_does_not_disturb_the_training(tmp_path):
    """With and without measurements the same numbers are drawn in training."""
    plain = FitContext(tmp_path / "plain", Schedule(iterations=5, batch_size=1), "short", seed=1)

    class Noise(Drift):
        def forward(self, inputs, mode: str = "loss"):
            return {"loss": (self.place * torch.rand(1)).sum()}

    def run(context, **early):
        return _runner.train(
            lambda: Noise(0),
            images(2),
            lambda sample, rng: torch.zeros(1),
            context=context,
            device="cpu",
            optimizer={"type": "SGD", "lr": 1.0},
            collate=lambda examples: {"inputs": torch.stack(examples)},
            scope="mmengine",
            **early,
        )

    run(plain)
    stopping = FitContext(tmp_path / "early", Schedule(iterations=5, batch_size=1), "short", seed=1)
    run(stopping, val=images(2), early_stopping=EarlyStopping(9, lambda sample: torch.zeros(1)))
    losses = [[line["loss"] for line in curves(tmp_path / name) if "loss" in line] for name in ("plain", "early")]
    assert losses[0] == losses[1]


def train_without_validation(folder: Path, count: int, val, seen: list[str], seed: int = 5):
    """Train on ``count`` images; ``seen`` gets the id of each that is trained on."""

    def example(sample, rng):
        seen.append(sample.id)
        return torch.zeros(1)

    return _runner.train(
        lambda: Drift(1),
        images(count),
        example,
        context=FitContext(folder, Schedule(epochs=1), "short", seed=seed),
        device="cpu",
        optimizer={"type": "SGD", "lr": 1.0},
        collate=lambda examples: {"inputs": torch.stack(examples)},
        meta={"method": "drift"},
        scope="mmengine",
        val=val,
        early_stopping=EarlyStopping(1, lambda sample: torch.zeros(1)),
    )


@pytest.mark.parametrize("val", [None, Samples()])
def test_without_a_validation_split_a_tenth_is_held_out_and_recorded(tmp_path, capsys, val):
    seen: list[str] = []
    content = torch.load(train_without_validation(tmp_path, 20, val, seen), weights_only=True)
    held = content["meta"]["held_out"]
    assert len(held) == 2
    assert sorted([*seen, *held]) == sorted(map(str, range(20)))  # one pass over all others
    assert json.loads((tmp_path / "held_out.json").read_text()) == {"seed": 5, "images": held}
    assert "drift: there is no validation split, so 2 of the 20 training images are held out" in capsys.readouterr().err
    assert ", ".join(held) in (tmp_path / "libraries.txt").read_text()


def test_a_single_image_is_trained_on_without_early_stopping_and_says_so(tmp_path, capsys):
    seen: list[str] = []
    content = torch.load(train_without_validation(tmp_path, 1, None, seen), weights_only=True)
    assert seen == ["0"]
    assert content["meta"]["held_out"] == []
    assert content["meta"]["steps"] == 1
    assert "best_step" not in content["meta"]
    assert "it is trained on without early stopping" in capsys.readouterr().err
