"""A benchmark and leaderboard harness for instance segmentation of cells and nuclei in microscopy images.

import bench

bench.run("mask_rcnn", "bbbc039", data_root="data")   # the stored runs, as a pandas frame
bench.results(dataset="bbbc039")                      # every stored number, one row each
bench.leaderboard(dataset="bbbc039")                  # one row a run, ranked
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.engine.service import leaderboard, results, run

    __version__: str

__all__ = ["__version__", "leaderboard", "results", "run"]


def __getattr__(name: str) -> Any:
    """The version, and the functions for notebooks, at first use: ``import bench`` stays light."""
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("cellseg-bench")
        except PackageNotFoundError:  # a checkout on the path that was never installed
            return "0+unknown"
    if name in ("run", "results", "leaderboard"):
        from bench.engine import service

        return getattr(service, name)
    raise AttributeError(f"module 'bench' has no attribute {name!r}")
