"""Who serves mmcv's operators in this environment: the one place where that is chosen.

mmcv's operators (suppression, RoIAlign, deformable convolution ...) are compiled code that a plain ``pip install`` does
not bring. In order of preference they come from

- ``mmcv``: its own compiled extension, where it is installed and works (:mod:`bench.ops.build` builds it);
- ``torchvision``: its kernels, where a torchvision is installed that fits torch;
- ``torch``: plain torch code, :mod:`bench.ops.torch_ops`, which always works.

The environment variable ``BENCH_OPS`` (``mmcv``, ``torchvision``, ``torch``, or ``auto``) overrules the order.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import sys
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal

from bench.errors import MissingDependencyError, UnknownNameError, UsageError
from bench.ops import extension

Provider = Literal["mmcv", "torchvision", "torch"]

PROVIDERS: tuple[Provider, ...] = ("mmcv", "torchvision", "torch")
"""In order of preference."""

VARIABLE = "BENCH_OPS"
INSTALL_HINT = "pip install 'cellseg-bench[train]'"
BUILD_HINT = "python -m bench.ops.build"

_DISTRIBUTIONS = {
    "torch": "torch",
    "torchvision": "torchvision",
    "mmengine": "onedl-mmengine",
    "mmcv": "onedl-mmcv",
    "mmdet": "onedl-mmdetection",
}

# What importing a package that does not fit its surroundings has been seen to raise.
_IMPORT_FAULTS = (ImportError, OSError, RuntimeError, AttributeError)


@dataclass(frozen=True)
class Candidate:
    """A provider, and whether it could serve.

    Attributes:
        provider: which.
        fault: why it cannot serve, or None.
        drawback: why it is not taken unless asked for, or None.
    """

    provider: Provider
    fault: str | None = None
    drawback: str | None = None


@dataclass(frozen=True)
class OpsInfo:
    """Who serves mmcv's operators here, and what would mend what is missing.

    Attributes:
        provider: ``mmcv``, ``torchvision`` or ``torch``; None where the operators cannot be served at all.
        reason: why this one, in words.
        hint: what to do for other operators, or for any; None where there is nothing to add.
        forced: whether ``BENCH_OPS`` decided.
        versions: installed version of each package that takes part, by import name.
        candidates: every provider, in order of preference; empty where torch or mmcv is missing.
    """

    provider: Provider | None
    reason: str
    hint: str | None = None
    forced: bool = False
    versions: dict[str, str] = field(default_factory=dict)
    candidates: tuple[Candidate, ...] = ()


def install() -> Provider:
    """Make mmcv's operators usable. Call it before mmdet or ``mmcv.ops`` is imported; later calls do nothing.

    Worker processes that are started afresh instead of forked must call it, too. A torchvision that does not fit torch
    looks absent afterwards.

    Returns:
        who serves them.

    Raises:
        MissingDependencyError: torch or mmcv is not installed, or what ``BENCH_OPS`` asks for is not.
        UnknownNameError: ``BENCH_OPS`` names no provider.
        UsageError: ``mmcv.ops`` is in use already, served by another than ``BENCH_OPS`` asks for.
    """
    asked = _asked()
    serving = _serving()
    if serving is not None:
        if asked not in (None, serving):
            raise UsageError(
                f"{VARIABLE} asks for the operators of {asked}, but those of {serving} are in use already",
                f"set {VARIABLE} before Python starts",
            )
        return serving
    require("torch", "mmcv")
    candidates = list_candidates()
    chosen = _choose(candidates, asked)
    if chosen == "mmcv":
        compiled = compiled_extension()
        assert compiled is not None
        sys.modules[extension.NAME] = compiled
        importlib.import_module("mmcv")._ext = compiled  # type: ignore[attr-defined]
    else:
        source = importlib.import_module(f"bench.ops.{chosen}_ops")
        extension.put_in_place(chosen, source.OPERATORS)
    return chosen


def describe() -> OpsInfo:
    """Who serves mmcv's operators, or would if :func:`install` were called now. Installs nothing.

    Takes the time to import torch and mmcv where they are there. A torchvision that does not fit torch looks absent
    afterwards.

    Raises:
        UnknownNameError: ``BENCH_OPS`` names no provider.
    """
    asked = _asked()
    versions = {name: v for name, d in _DISTRIBUTIONS.items() if (v := _version(d)) is not None}
    faults = [f"{name} {fault}" for name in ("torch", "mmcv") if (fault := _fault_of(name)) is not None]
    if faults:
        return OpsInfo(None, "; ".join(faults), INSTALL_HINT, asked is not None, versions)
    candidates = list_candidates()
    try:
        provider = _serving() or _choose(candidates, asked)
    except MissingDependencyError as error:
        return OpsInfo(None, error.message, error.hint, True, versions, candidates)
    reason, hint = _explain(provider, candidates)
    if asked:
        reason = f"{reason}; {VARIABLE}={asked} asks for it"
    return OpsInfo(provider, reason, hint, asked is not None, versions, candidates)


def _explain(provider: Provider, candidates: tuple[Candidate, ...]) -> tuple[str, str | None]:
    """Why this provider, and what would mend what it lacks."""
    sources = {"mmcv": "mmcv's compiled operators", "torchvision": "torchvision's kernels", "torch": "plain torch"}
    faults = "; ".join(f"{c.provider}: {c.fault or c.drawback}" for c in candidates if c.fault or c.drawback)
    reason = sources[provider] if provider == "mmcv" or not faults else f"{sources[provider]} ({faults})"
    if provider != "torch" or not candidates[0].fault:
        return reason, None
    import torch

    if torch.cuda.is_available():
        return reason, f"faster on the GPU: {BUILD_HINT}, or install the torchvision made for torch {torch.__version__}"
    return reason, f"nothing is missing; to have mmcv's own: {BUILD_HINT}"


def _asked() -> Provider | None:
    """What ``BENCH_OPS`` asks for; None for no preference."""
    value = os.environ.get(VARIABLE, "").strip().lower()
    if value in ("", "auto"):
        return None
    for provider in PROVIDERS:
        if value == provider:
            return provider
    raise UnknownNameError(f"provider of operators in {VARIABLE}", value, (*PROVIDERS, "auto"))


def _choose(candidates: tuple[Candidate, ...], asked: Provider | None) -> Provider:
    if asked is None:
        return next(c.provider for c in candidates if not c.fault and not c.drawback)
    candidate = next(c for c in candidates if c.provider == asked)
    if candidate.fault:
        hint = f"{BUILD_HINT}, or unset {VARIABLE}" if asked == "mmcv" else f"unset {VARIABLE}"
        raise MissingDependencyError(
            f"{VARIABLE} asks for the operators of {asked}, which are not here: {candidate.fault}", hint
        )
    return asked


def _serving() -> Provider | None:
    """Who serves the operators in this process, if that is decided: mmcv's modules keep what they once imported."""
    module = sys.modules.get(extension.NAME)
    if isinstance(module, extension.StandIn):
        return next(p for p in PROVIDERS if p == module.provider)
    if module is not None and "mmcv.ops" in sys.modules:
        return "mmcv"
    return None


@functools.cache
def list_candidates() -> tuple[Candidate, ...]:
    """Every provider, tried. torch and mmcv must be installed."""
    return _try_mmcv(), _try_torchvision(), Candidate("torch")


@functools.cache
def compiled_extension() -> ModuleType | None:
    """mmcv's compiled extension, loaded but in nobody's way; None where mmcv is installed without.

    Raises:
        ImportError: it does not fit the installed torch, or lacks a library.
    """
    import mmcv
    import torch  # noqa: F401  (its libraries must be loaded before the extension)

    spec = importlib.machinery.PathFinder.find_spec(extension.NAME, list(mmcv.__path__))
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _try_mmcv() -> Candidate:
    import torch

    try:
        compiled = compiled_extension()
        if compiled is None:
            return Candidate("mmcv", "installed without its compiled operators")
        kept = compiled.nms(*_two_boxes(), iou_threshold=0.5, offset=0)
    except _IMPORT_FAULTS as error:
        return Candidate("mmcv", f"its compiled operators do not fit torch {torch.__version__}: {_first_line(error)}")
    if kept.tolist() != [1]:
        return Candidate("mmcv", f"its compiled operators give wrong results with torch {torch.__version__}")
    if torch.cuda.is_available() and compiled.get_compiling_cuda_version() == "not available":
        return Candidate("mmcv", drawback="compiled for the CPU only, and this machine has a GPU")
    return Candidate("mmcv")


def _try_torchvision() -> Candidate:
    import torch

    if importlib.util.find_spec("torchvision") is None:
        return Candidate("torchvision", "not installed")
    try:
        torchvision = importlib.import_module("torchvision")
        kept = torchvision.ops.nms(*_two_boxes(), 0.5)
    except _IMPORT_FAULTS as error:
        _block_torchvision()
        return Candidate("torchvision", f"does not fit torch {torch.__version__}: {_first_line(error)}")
    if kept.tolist() != [1]:
        return Candidate("torchvision", f"gives wrong results with torch {torch.__version__}")
    if torch.cuda.is_available() and torchvision.version.cuda is None:
        return Candidate("torchvision", drawback="built for the CPU only, and this machine has a GPU")
    return Candidate("torchvision")


def _block_torchvision() -> None:
    """Let a broken torchvision look absent. mmengine imports it if it can, and does not expect it to fail."""
    for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    sys.modules["torchvision"] = None  # type: ignore[assignment]


def _two_boxes() -> tuple[Any, Any]:
    """Two boxes of IoU 0.8, and their scores: suppression at 0.5 leaves the second."""
    import torch

    return torch.tensor([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 10.0, 8.0]]), torch.tensor([0.5, 0.9])


def require(*packages: str) -> None:
    """Import packages, or say how to get them.

    Raises:
        MissingDependencyError: one is missing or cannot be imported.
    """
    for name in packages:
        fault = _fault_of(name)
        if fault is not None:
            raise MissingDependencyError(f"the methods that train need {name}: {fault}", INSTALL_HINT)


def _fault_of(package: str) -> str | None:
    """Why a package cannot be imported, or None: it now is."""
    if importlib.util.find_spec(package) is None:
        return "not installed"
    try:
        importlib.import_module(package)
    except _IMPORT_FAULTS as error:
        return f"cannot be imported: {_first_line(error)}"
    return None


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
