"""Who serves the operators: every case of what may be installed, and what may be asked for."""

import importlib
import os
import subprocess
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from bench import ops
from bench.errors import MissingDependencyError, UnknownNameError, UsageError
from bench.ops import provider
from bench.ops.provider import Candidate, OpsInfo


def python(code: str, *, path: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter, ``path`` before all else on its import path."""
    kept = {k: v for k, v in os.environ.items() if k != provider.VARIABLE}
    lines = f"import sys; sys.path.insert(0, {str(path)!r})\n{code}" if path else code
    return subprocess.run(
        [sys.executable, "-c", lines], capture_output=True, text=True, timeout=120, env={**kept, **environment}
    )


def test_importing_the_package_is_cheap() -> None:
    result = python("import sys, bench.ops; print({'torch', 'mmcv', 'mmdet', 'mmengine'} & set(sys.modules))")
    assert result.stdout == "set()\n", result.stderr


# -- the choice ---------------------------------------------------------------------------------------

MMCV, TORCHVISION, TORCH = (Candidate(p) for p in ops.PROVIDERS)
NO_MMCV = Candidate("mmcv", "installed without its compiled operators")
NO_TORCHVISION = Candidate("torchvision", "not installed")
SLOW_MMCV = Candidate("mmcv", drawback="compiled for the CPU only, and this machine has a GPU")


@pytest.mark.parametrize(
    ("candidates", "asked", "chosen"),
    [
        ((MMCV, TORCHVISION, TORCH), None, "mmcv"),
        ((NO_MMCV, TORCHVISION, TORCH), None, "torchvision"),
        ((NO_MMCV, NO_TORCHVISION, TORCH), None, "torch"),
        ((SLOW_MMCV, NO_TORCHVISION, TORCH), None, "torch"),
        ((SLOW_MMCV, NO_TORCHVISION, TORCH), "mmcv", "mmcv"),
        ((MMCV, TORCHVISION, TORCH), "torchvision", "torchvision"),
        ((MMCV, TORCHVISION, TORCH), "torch", "torch"),
    ],
)
def test_choice(candidates, asked, chosen) -> None:
    assert provider._choose(candidates, asked) == chosen


@pytest.mark.parametrize(("asked", "hint"), [("mmcv", "bench.ops.build"), ("torchvision", "unset BENCH_OPS")])
def test_what_is_asked_for_but_absent(asked, hint: str) -> None:
    with pytest.raises(MissingDependencyError) as caught:
        provider._choose((NO_MMCV, NO_TORCHVISION, TORCH), asked)
    assert "BENCH_OPS" in caught.value.message
    assert asked in caught.value.message
    assert hint in (caught.value.hint or "")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("gpu", [False, True])
def test_the_hint_leads_on(gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("mmcv")
    monkeypatch.setattr(provider, "_serving", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.delenv("BENCH_OPS", raising=False)
    monkeypatch.setattr(provider, "list_candidates", lambda: (NO_MMCV, NO_TORCHVISION, TORCH))
    info = ops.describe()
    assert "bench.ops.build" in (info.hint or "")
    assert ("torchvision" in (info.hint or "")) == gpu
    assert NO_MMCV.fault in info.reason
    monkeypatch.setattr(provider, "list_candidates", lambda: (MMCV, NO_TORCHVISION, TORCH))
    assert ops.describe().hint is None
    monkeypatch.setenv("BENCH_OPS", "torch")
    info = ops.describe()
    assert (info.provider, info.forced, info.hint) == ("torch", True, None)
    monkeypatch.setattr(provider, "list_candidates", lambda: (NO_MMCV, NO_TORCHVISION, TORCH))
    monkeypatch.setenv("BENCH_OPS", "mmcv")
    info = ops.describe()
    assert info.provider is None
    assert "bench.ops.build" in (info.hint or "")


@pytest.mark.parametrize(
    ("value", "asked"), [("", None), ("auto", None), ("torch", "torch"), (" MMCV ", "mmcv"), ("torchvision",) * 2]
)
def test_the_variable(value: str, asked: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_OPS", value)
    assert provider._asked() == asked


def test_a_variable_with_a_typing_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_OPS", "torchvison")
    for call in (ops.install, ops.describe):
        with pytest.raises(UnknownNameError, match="did you mean torchvision"):
            call()


def test_another_provider_than_the_one_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "_serving", lambda: "torch")
    monkeypatch.setenv("BENCH_OPS", "mmcv")
    with pytest.raises(UsageError, match="those of torch are in use"):
        ops.install()
    monkeypatch.setenv("BENCH_OPS", "torch")
    assert ops.install() == "torch"


@pytest.mark.parametrize("package", ["torch", "mmcv"])
def test_without_the_train_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(provider, "_serving", lambda: None)
    monkeypatch.delenv("BENCH_OPS", raising=False)
    info = ops.describe()
    assert info.provider is None
    assert package in info.reason
    assert info.hint == "pip install 'cellseg-bench[train]'"
    for call in (ops.install, ops.import_mmdet):
        with pytest.raises(MissingDependencyError, match=package) as caught:
            call()
        assert caught.value.hint == info.hint


# -- what is installed --------------------------------------------------------------------------------


@pytest.fixture
def fake_extension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a compiled extension in mmcv's folder, written in Python."""
    pytest.importorskip("torch")
    mmcv = pytest.importorskip("mmcv")

    def put(source: str) -> Candidate:
        (tmp_path / "_ext.py").write_text(source)
        provider.compiled_extension.cache_clear()
        return provider._try_mmcv()

    monkeypatch.setattr(mmcv, "__path__", [str(tmp_path)])
    yield put
    provider.compiled_extension.cache_clear()


WORKING = """
import torch
def nms(boxes, scores, iou_threshold, offset): return torch.tensor([1])
def get_compiling_cuda_version(): return "not available"
"""


def test_compiled_operators_that_work(fake_extension) -> None:
    assert fake_extension(WORKING) == Candidate("mmcv")


def test_no_compiled_operators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    mmcv = pytest.importorskip("mmcv")
    monkeypatch.setattr(mmcv, "__path__", [str(tmp_path)])
    provider.compiled_extension.cache_clear()
    assert provider._try_mmcv() == NO_MMCV
    provider.compiled_extension.cache_clear()


@pytest.mark.parametrize(
    "source",
    [
        "raise ImportError('undefined symbol: _ZN3c10')",
        WORKING.replace("return torch.tensor([1])", "raise RuntimeError('undefined symbol: _ZN3c10')"),
    ],
    ids=["at import", "in use"],
)
def test_compiled_operators_for_another_torch(fake_extension, source: str) -> None:
    fault = fake_extension(source).fault
    assert "do not fit torch" in fault
    assert "undefined symbol" in fault


def test_compiled_operators_that_give_wrong_results(fake_extension) -> None:
    assert "wrong results" in fake_extension(WORKING.replace("[1]", "[0, 1]")).fault


def test_compiled_operators_without_cuda_on_a_machine_with_a_gpu(
    fake_extension, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert fake_extension(WORKING).drawback == SLOW_MMCV.drawback
    assert fake_extension(WORKING.replace("not available", "13.0")) == Candidate("mmcv")


# -- in a fresh interpreter ---------------------------------------------------------------------------


def test_torch_serves_where_it_is_asked_for() -> None:
    """The whole of mmdet comes up on the stand-in, silently, and what has no operator says so."""
    pytest.importorskip("mmdet")
    result = python(
        """
import sys
from bench import ops
from bench.errors import MissingDependencyError
before = ops.describe()
assert "mmcv._ext" not in sys.modules, "describe() installed something"
assert ops.install() == ops.install() == before.provider == "torch", before
mmdet = ops.import_mmdet()
assert ops.import_mmdet() is mmdet
from mmengine.registry import DefaultScope
assert DefaultScope.get_current_instance().scope_name == "mmdet"
from mmengine.utils.dl_utils.misc import mmcv_full_available
assert mmcv_full_available(), "mmengine treats deformable convolutions apart only if it believes in the operators"
import mmcv.utils
assert mmcv.utils.collect_env()["MMCV Compiler"] == "not compiled"
carafe = sys.modules["mmcv.ops.carafe"]
try:
    carafe.ext_module.carafe_forward()
except MissingDependencyError as error:
    assert "carafe_forward" in error.message and "bench.ops.build" in error.hint
else:
    raise AssertionError("an operator that nobody serves was called")
import torch
kept = sys.modules["mmcv.ops.nms"].nms(torch.tensor([[0., 0, 8, 8], [0, 0, 9, 8]]), torch.tensor([.5, .9]), .5)[1]
assert kept.tolist() == [1]
roi_align = sys.modules["mmcv.ops.roi_align"].roi_align
features, rois = torch.rand(1, 2, 16, 16), torch.tensor([[0, 1.3, 2.1, 9.2, 11.7]])
exact = roi_align(features, rois, 5)
with torch.autocast("cpu", dtype=torch.bfloat16):
    assert torch.equal(roi_align(features, rois, 5), exact), "mixed precision changed an operator"
""",
        BENCH_OPS="torch",
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert result.stderr == ""


def test_a_torchvision_that_does_not_fit_breaks_nothing(tmp_path: Path) -> None:
    """It looks absent to everything after, mmengine's report of the environment included."""
    pytest.importorskip("mmdet")
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "half.py").write_text("")
    (package / "__init__.py").write_text(
        "from torchvision import half\nraise RuntimeError('operator torchvision::nms does not exist')\n"
    )
    result = python(
        """
import sys
from bench import ops
info = ops.describe()
fault = next(c.fault for c in info.candidates if c.provider == "torchvision")
assert fault.startswith("does not fit torch"), fault
assert info.provider in ("mmcv", "torch") and ops.install() == info.provider
ops.import_mmdet()
import mmcv.utils
assert "TorchVision" not in mmcv.utils.collect_env()
assert "torchvision.half" not in sys.modules
""",
        path=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""


def test_a_torchvision_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """It imports, but what was compiled in it cannot be loaded."""
    pytest.importorskip("torch")

    def nms(*_arguments):
        raise NotImplementedError("could not run 'torchvision::nms' with arguments from the 'CPU' backend")

    fake = types.ModuleType("torchvision")
    fake.__spec__ = ModuleSpec("torchvision", None)
    fake.ops = types.SimpleNamespace(nms=nms)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", fake)
    assert "does not fit torch" in (provider._try_torchvision().fault or "")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("torchvision")


def test_describe_names_what_is_installed() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("mmcv")
    info = ops.describe()
    assert isinstance(info, OpsInfo)
    assert info.provider in ops.PROVIDERS
    assert [c.provider for c in info.candidates] == list(ops.PROVIDERS)
    assert info.versions["torch"] == torch.__version__
