"""Mixed precision, channels-last and compilation: of the trunk only, kept out of the weights, part of the run."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bench.api import Compute, FitContext, Instances, MissingDependencyError, Sample, Schedule, Task, UsageError
from bench.data import open_dataset
from bench.engine.plan import Request, make_job
from bench.registry import find_method
from methods import _compute
from methods._compute import accelerate


class Detector(nn.Module):
    """A backbone that answers with a tuple, a neck, and a head that notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Conv2d(3, 8, 3)
        self.neck = nn.Conv2d(8, 8, 3)
        self.bbox_head = nn.Conv2d(8, 2, 1)
        self.inside: list[torch.dtype] = []
        self.neck.register_forward_hook(lambda module, given, out: self.inside.append(out.dtype))

    def forward(self, image):
        features = self.neck(self.backbone(image))
        assert features.dtype == torch.float32
        return self.bbox_head(features)


IMAGE = torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(1))


def test_asking_for_nothing_changes_nothing():
    plain, other = Detector(), Detector()
    accelerate(other, Compute(), "cpu")
    assert torch.equal(plain(IMAGE), other(IMAGE))


def test_mixed_precision_is_of_the_trunk_and_the_head_gets_float32():
    plain, mixed = Detector(), Detector()
    accelerate(mixed, Compute(amp="bfloat16"), "cpu")
    expected, found = plain(IMAGE), mixed(IMAGE)
    assert found.dtype == torch.float32
    assert not torch.equal(expected, found)
    torch.testing.assert_close(expected, found, atol=0.05, rtol=0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coarse = plain.neck(plain.backbone(IMAGE))
    torch.testing.assert_close(mixed.neck(mixed.backbone(IMAGE)), coarse.float())
    assert all(p.dtype == torch.float32 for p in mixed.parameters())


def test_gradients_flow_through_the_trunk():
    mixed = Detector()
    accelerate(mixed, Compute(amp="bfloat16", channels_last=True), "cpu")
    mixed(IMAGE).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in mixed.parameters())


def test_channels_last_gives_the_same_numbers():
    plain, other = Detector(), Detector()
    accelerate(other, Compute(channels_last=True), "cpu")
    assert other.backbone.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(plain(IMAGE), other(IMAGE), atol=1e-5, rtol=1e-5)


def test_weights_keep_their_names():
    plain, other = Detector(), Detector()
    accelerate(other, Compute(amp="bfloat16", channels_last=True), "cpu")
    assert list(plain.state_dict()) == list(other.state_dict())


def test_a_bare_network_is_its_own_trunk():
    network = nn.Sequential(nn.Conv2d(3, 4, 3))
    accelerate(network, Compute(amp="bfloat16"), "cpu")
    assert network(IMAGE).dtype == torch.float32


def test_dictionaries_and_lists_of_maps_come_back_whole():
    class Maps(nn.Module):
        def forward(self, image):
            return {"a": [image * image @ image.mT, torch.ones(2, dtype=torch.long)]}

    maps = Maps()
    accelerate(maps, Compute(amp="bfloat16"), "cpu")
    found = maps(IMAGE)["a"]
    assert [part.dtype for part in found] == [torch.float32, torch.long]


def test_no_compiler_is_one_line(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"torch\.compile needs a C\+\+ compiler on cpu"):
        accelerate(Detector(), Compute(compile=True), "cpu")
    monkeypatch.setattr(_compute.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"torch\.compile needs triton on cuda:0"):
        accelerate(Detector(), Compute(compile=True), "cuda:0")


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
def test_a_compiled_trunk_gives_the_same_numbers():
    plain, other = Detector(), Detector()
    accelerate(other, Compute(compile=True), "cpu")
    torch.testing.assert_close(plain(IMAGE), other(IMAGE), atol=1e-5, rtol=1e-5)
    assert list(plain.state_dict()) == list(other.state_dict())


# -- a run ------------------------------------------------------------------------------------------


class Samples(list):
    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(sample.id for sample in self)


def unet(**compute):
    entry = find_method("unet-bce")
    method = entry.method(Task(), entry.method.make_params("bce", {"widths": (4, 8), "crop": 16}))
    method.compute = Compute(**compute)
    return method


def test_a_dense_method_trains_and_predicts_so(tmp_path: Path):
    torch.set_num_threads(1)
    labels = np.zeros((32, 32), np.uint8)
    labels[8:20, 8:20] = 1
    sample = Sample("a", labels * 100, Instances.from_label_map(labels))
    states = {}
    for name, compute in (("plain", {}), ("mixed", {"amp": "bfloat16", "channels_last": True})):
        context = FitContext(tmp_path / name, Schedule(iterations=3), "smoke", seed=1)
        method = unet(**compute)
        weights = method.fit(Samples([sample]), None, context)
        method.load(weights)
        assert method.predict(sample.image).shape == (32, 32)
        states[name] = torch.load(weights, weights_only=True)["state_dict"]
    assert states["plain"].keys() == states["mixed"].keys()
    differences = [float((states["plain"][k] - v).abs().max()) for k, v in states["mixed"].items()]
    assert 0 < max(differences) < 0.05
    unet().load(tmp_path / "mixed" / "weights.pth")  # a plain network takes them


def test_float16_trains_with_a_scaled_loss(tmp_path, monkeypatch):
    """The wiring only, on the CPU, where the scaler itself is idle; float16 was not measured on a GPU."""
    from mmengine.optim.optimizer import amp_optimizer_wrapper

    from methods import _runner

    monkeypatch.setattr(amp_optimizer_wrapper, "is_cuda_available", lambda: True)
    built = []
    plain = _runner._ScaledLoss.__init__

    def noted(self, **arguments):
        built.append(arguments)
        plain(self, **arguments)

    monkeypatch.setattr(_runner._ScaledLoss, "__init__", noted)
    sample = Sample("a", np.zeros((32, 32), np.uint8), Instances.empty(32, 32))
    context = FitContext(tmp_path, Schedule(iterations=2), "smoke", seed=1)
    assert unet(amp="float16").fit(Samples([sample]), None, context).is_file()
    assert len(built) == 1


def job(workplace: Path, name: str = "unet-bce", **request):
    data = open_dataset("tiny", workplace / "data")
    return make_job(find_method(name), data, 0, Request(schedule="smoke", device="cpu", **request))


def test_it_is_part_of_the_runs_key_and_only_where_it_is_asked_for(workplace):
    plain = job(workplace)
    mixed = job(workplace, amp="bfloat16")
    assert "compute" not in plain.plan
    assert mixed.plan["compute"] == ["bfloat16"]
    keys = {plain.key, mixed.key, job(workplace, channels_last=True).key, job(workplace, compile=True).key}
    assert len(keys) == 4


def test_what_cannot_be_is_refused_before_anything_runs(workplace):
    with pytest.raises(UsageError, match="float16 is for GPUs"):
        job(workplace, amp="float16")
    with pytest.raises(UsageError, match="truth cannot compute with channels_last"):
        job(workplace, "truth", channels_last=True)
    with pytest.raises(UsageError, match="mnc cannot compute with float16"):
        job(workplace, "mnc", amp="float16")
