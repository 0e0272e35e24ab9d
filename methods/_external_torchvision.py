"""Run by a tool's script before it imports torchvision: ``runpy.run_path(...)``; on Python 3.8 and later.

torchvision's compiled operators fit one build of torch only: those of the package registry do not load beside a torch
that was built for the CPU. torchvision then still has its transforms, which is all that a tool here uses, but cannot be
imported because it describes two of the missing operators. They are declared here, without anything behind them.
"""

import importlib.util
from pathlib import Path

import torch

_MISSING = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def _operators_load(package):
    libraries = [*package.glob("_C*.so"), *package.glob("_C*.pyd"), *package.glob("_C*.dylib")]
    try:
        for library in libraries:
            torch.ops.load_library(str(library))
    except (OSError, RuntimeError):
        return False
    return bool(libraries)


_found = importlib.util.find_spec("torchvision")
if _found is not None and not _operators_load(Path(_found.origin).parent):
    for _name, _signature in _MISSING.items():
        if not hasattr(torch.ops.torchvision, _name):
            torch.library.define(f"torchvision::{_name}", _signature)
