"""Mixed precision, channels-last layout and compilation of a network's trunk, in place.

The trunk is what takes the time: backbone and feature pyramid, or the whole of a network that labels pixels. Heads stay
in float32: bfloat16 keeps 8 bits, so a box edge at pixel 700 would move by up to 2 pixels, which is much for a cell of
10. Weights stay in float32 and keep their names, so a checkpoint fits whatever it was trained with.

Imports torch: import it inside the methods that need it, never at the top of a method's module.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from bench.api import Compute, MissingDependencyError

TRUNK = ("backbone", "neck", "network")
"""Names of the modules that make the trunk, in detectors and in dense models."""


def accelerate(model: nn.Module, compute: Compute, device: str) -> None:
    """Make the trunk of ``model`` compute as asked.

    Args:
        model: a detector, a dense model, or a bare network, which then is its own trunk.
        compute: what is asked for; nothing changes where it asks for nothing.
        device: that it will run on.

    Raises:
        MissingDependencyError: compilation is asked for and there is no compiler.
    """
    if not compute.asked():
        return
    if compute.compile:
        _require_compiler(device)
    named = [getattr(model, name) for name in TRUNK if isinstance(getattr(model, name, None), nn.Module)]
    for part in named or [model]:
        if compute.channels_last:
            part.to(memory_format=torch.channels_last)
        if compute.amp:
            part.forward = _in_low_precision(part.forward, getattr(torch, compute.amp), device.partition(":")[0])
        if compute.compile:
            part.compile(dynamic=True)


def _in_low_precision(forward: Callable[..., Any], dtype: torch.dtype, kind: str) -> Callable[..., Any]:
    @functools.wraps(forward)
    def run(*arguments: Any, **named: Any) -> Any:
        with torch.autocast(kind, dtype=dtype):
            outputs = forward(*arguments, **named)
        return _in_float32(outputs)

    return run


def _in_float32(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, Mapping):
        return {name: _in_float32(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_in_float32(part) for part in value)
    return value


def _require_compiler(device: str) -> None:
    if device == "cpu":
        found = any(shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++") if name)
        what, remedy = "a C++ compiler", "install g++, or leave --compile out"
    else:
        found = importlib.util.find_spec("triton") is not None
        what, remedy = "triton", "pip install triton, or leave --compile out"
    if not found:
        raise MissingDependencyError(f"torch.compile needs {what} on {device}", remedy)
