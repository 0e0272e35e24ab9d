"""A stand-in for ``mmcv._ext``, mmcv's compiled extension: the same names, served from elsewhere.

mmcv's own Python code goes on top of it unchanged, with its argument handling and its autograd functions.
"""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Mapping
from importlib.abc import Loader
from types import ModuleType
from typing import Any

from bench.errors import MissingDependencyError

NAME = "mmcv._ext"


class StandIn(ModuleType):
    """The module: some operators work, every other name is a function that says what is missing.

    Attributes:
        provider: who serves the operators.
    """

    provider: str = ""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(f"module {NAME!r} has no attribute {name!r}")

        def missing(*_args: Any, **_kwargs: Any) -> Any:
            raise MissingDependencyError(
                f"mmcv's operator {name!r} is needed; it exists only compiled, and mmcv is installed without",
                "build it: python -m bench.ops.build",
            )

        return missing


class _Loader(Loader):
    """Lets the import system see the stand-in as any other module."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> StandIn:
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def _without_autocast(operator: Callable[..., Any]) -> Callable[..., Any]:
    """The operator in the precision of its arguments, as compiled code works whatever mixed precision is in force."""
    import torch

    @functools.wraps(operator)
    def exact(first: torch.Tensor, *arguments: Any, **settings: Any) -> Any:
        with torch.autocast(first.device.type, enabled=False):
            return operator(first, *arguments, **settings)

    return exact


def put_in_place(provider: str, operators: Mapping[str, Callable[..., Any]]) -> None:
    """Make ``mmcv._ext`` a stand-in with these operators. mmcv must be importable."""
    import mmcv

    spec = importlib.machinery.ModuleSpec(NAME, _Loader(), origin=f"bench.ops ({provider})")
    module = importlib.util.module_from_spec(spec)
    assert isinstance(module, StandIn)
    module.provider = provider
    exact = {name: _without_autocast(operator) for name, operator in operators.items()}
    answers = {"get_compiler_version": lambda: "not compiled", "get_compiling_cuda_version": lambda: "not available"}
    for name, operator in {**answers, **exact}.items():
        setattr(module, name, operator)
    sys.modules[NAME] = module
    mmcv._ext = module
