"""Which device a run is on, and what is stored of it."""

import subprocess
from types import SimpleNamespace

import pytest

from bench.api import Method, MissingDependencyError
from bench.engine import provenance, timing

SMI = "NVIDIA H100 80GB HBM3, 81559, 570.86.15\n"


def kind(in_process=True, requires=()):
    return type("Kind", (Method,), {"in_process": in_process, "requires": requires})


@pytest.fixture
def one_gpu(monkeypatch):
    """A driver that knows one GPU, which is number 0."""

    def run(command, **named):
        if command[0] != "nvidia-smi" or command[-1] != "0":
            raise subprocess.CalledProcessError(6, command)
        return SimpleNamespace(stdout=SMI)

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(provenance.subprocess, "run", run)


@pytest.mark.parametrize(
    ("wanted", "device"), [("auto", "cpu"), ("cpu", "cpu"), ("cuda", "cuda:0"), ("cuda:0", "cuda:0")]
)
def test_a_tool_in_its_own_environment_uses_a_gpu_when_one_is_named(one_gpu, wanted, device):
    assert provenance.resolve_device(wanted, kind(in_process=False)) == device


def test_a_gpu_that_is_not_there_is_refused(one_gpu):
    with pytest.raises(MissingDependencyError, match="device cuda:1 is not here"):
        provenance.resolve_device("cuda:1", kind(in_process=False))


def test_what_knows_no_gpu_runs_on_the_cpu():
    assert provenance.resolve_device("cuda", kind()) == "cpu"


@pytest.mark.parametrize(("visible", "found"), [("", False), ("3", False), ("0", True), ("0,1", True)])
def test_only_visible_gpus_count(one_gpu, monkeypatch, visible, found):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert (provenance._from_driver("cuda:0") is not None) == found


def test_the_machine_is_named_by_its_gpu_although_torch_cannot_use_it(one_gpu):
    provenance.machine.cache_clear()
    try:
        record = provenance.machine("cuda:0")
    finally:
        provenance.machine.cache_clear()
    assert (record.gpu, record.gpu_memory_bytes, record.driver) == ("NVIDIA H100 80GB HBM3", 81559 * 2**20, "570.86.15")
    assert record.hash != provenance.machine("cpu").hash


def test_a_tool_is_not_waited_for_by_torch():
    assert timing.computed_here(kind(in_process=False), "cuda:0") == "cpu"
    assert timing.computed_here(kind(), "cuda:0") == "cuda:0"
