"""Training in stages: what each is handed, and that a kill inside one changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.api import FitContext, Schedule
from methods._stages import Stage, run_stages


def stages_that_write(log: list, *names: str) -> list[Stage]:
    def fit(context: FitContext) -> Path:
        log.append(context)
        context.folder.mkdir(parents=True)
        context.progress(1, 2, "half")
        return context.folder / "weights.pth"

    return [Stage(name, Schedule(iterations=number), fit) for number, name in enumerate(names, 1)]


def test_each_stage_has_its_folder_its_schedule_and_the_weights_before(tmp_path: Path):
    log: list[FitContext] = []
    told: list[str] = []
    context = FitContext(
        tmp_path, Schedule(iterations=9), "paper", 7, "imagenet", progress=lambda _d, _t, text: told.append(text)
    )
    weights = run_stages(stages_that_write(log, "pretrain", "finetune"), context)
    assert weights == tmp_path / "finetune" / "weights.pth"
    assert [c.folder.name for c in log] == ["pretrain", "finetune"]
    assert [c.schedule.iterations for c in log] == [1, 2]
    assert [c.init for c in log] == ["imagenet", str(tmp_path / "pretrain" / "weights.pth")]
    assert {(c.seed, c.schedule_name) for c in log} == {(7, "paper")}
    assert told == ["1/2 pretrain: half", "2/2 finetune: half"]


@pytest.mark.parametrize("names", [(), ("train", "train")])
def test_stages_need_names_of_their_own(tmp_path: Path, names: tuple[str, ...]):
    with pytest.raises(ValueError, match="name of its own"):
        run_stages(stages_that_write([], *names), FitContext(tmp_path, Schedule(), "paper"))


# -- with real training -----------------------------------------------------------------------------


def train_in_stages(folder: Path, die_in: str = "") -> Path:
    """A line is fitted in two stages; the process dies in step 7 of the stage ``die_in``, as by SIGKILL."""
    import numpy as np
    import torch
    from mmengine.model import BaseModel

    from bench.api import Instances, Sample
    from methods import _runner

    class Line(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(4))

        def forward(self, x, mode="loss"):
            noise = torch.rand(1)  # what a network draws must be repeated as well
            return {"loss": ((self.weight * torch.stack(x) + noise - 1) ** 2).mean()}

    @dataclass
    class Source:
        ids = ("a", "b", "c")

        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Sample:
            return Sample(self.ids[index], np.full((4, 4), index, np.uint8), Instances.empty(4, 4))

    def fit(context: FitContext) -> Path:
        def build():
            network = Line()
            if Path(context.init).is_file():
                _runner.put_weights(network, _runner.read_weights(Path(context.init)), name="line")
            return network

        return _runner.train(
            build,
            Source(),
            lambda sample, rng: {"x": torch.tensor(rng.random(4) + sample.image[0], dtype=torch.float32)},
            context=context,
            device="cpu",
            optimizer={"type": "SGD", "lr": 0.05, "momentum": 0.9},
            scope="mmengine",
        )

    def progress(done: int, total: int, text: str) -> None:
        if die_in and die_in in text and done == 7:
            os._exit(9)

    torch.set_num_threads(1)
    stages = [Stage(name, Schedule(iterations=10, batch_size=2), fit) for name in ("first", "second")]
    return run_stages(stages, FitContext(folder, Schedule(), "paper", seed=3, progress=progress))


@pytest.mark.parametrize("stage", ["first", "second"])
def test_killed_inside_a_stage_and_resumed_equals_undisturbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
):
    torch = pytest.importorskip("torch", reason="needs the train extra")
    monkeypatch.setenv("BENCH_CHECKPOINT_SECONDS", "0")
    undisturbed = train_in_stages(tmp_path / "undisturbed")

    code = (
        f"import runpy, pathlib; module = runpy.run_path({__file__!r}); "
        f"module['train_in_stages'](pathlib.Path({str(tmp_path / 'killed')!r}), {stage!r})"
    )
    died = subprocess.run([sys.executable, "-c", code], check=False)
    assert died.returncode == 9
    killed = tmp_path / "killed"
    assert (killed / stage / "resume.pth").is_file()
    assert not (killed / stage / "weights.pth").exists()
    assert (killed / "first" / "weights.pth").is_file() == (stage == "second")
    first = (killed / "first" / "weights.pth").read_bytes() if stage == "second" else None

    resumed = train_in_stages(killed)
    assert resumed == killed / "second" / "weights.pth"
    one, other = (torch.load(path)["state_dict"]["weight"] for path in (undisturbed, resumed))
    assert torch.equal(one, other)
    if first is not None:  # a finished stage is not trained again
        assert (killed / "first" / "weights.pth").read_bytes() == first
    # The second stage goes on from the first: it did not end where the first did.
    assert not torch.equal(torch.load(killed / "first" / "weights.pth")["state_dict"]["weight"], other)
