"""What is here and what is missing, with the way to mend it."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.api import BenchError, MissingDependencyError, OutputError
from bench.data import data_root as resolve_root
from bench.data.overview import is_partial, overview
from bench.engine import provenance
from bench.engine.service import runs_folder
from bench.registry import MethodEntry, registry
from bench.store import NoDatabaseError, open_store


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``missing`` may be fine; a ``problem`` is not.

    Attributes:
        subject: what was looked at.
        status: how it is.
        finding: what was seen.
        remedy: what to do about it.
        exit_code: that of a command that needs it, where nothing can be run or read before it is mended; else 0.
    """

    subject: str
    status: Literal["ok", "missing", "problem"]
    finding: str
    remedy: str | None = None
    exit_code: int = 0


def examine(*, db: str | None = None, data_root: Path | None = None) -> list[Finding]:
    """Look at everything; nothing is changed or created."""
    return [
        *_software(),
        *_operators(),
        *_hardware(),
        *_methods(),
        *_data(resolve_root(data_root)),
        *_places(db),
    ]


def failure(findings: Sequence[Finding]) -> BenchError | None:
    """What keeps this program from working, with the exit code of the first such finding; None where nothing does."""
    grave = [finding for finding in findings if finding.exit_code]
    if not grave:
        return None
    error = BenchError("; ".join(f"{one.subject}: {one.finding}" for one in grave), grave[0].remedy)
    error.exit_code = grave[0].exit_code
    return error


def _software() -> Iterator[Finding]:
    import bench

    yield Finding("cellseg-bench", "ok", f"{bench.__version__}, Python {platform.python_version()}")
    for name in ("torch", "mmengine", "mmcv", "mmdet", "monai"):
        version = provenance.version_of(name)
        if version is None:
            yield Finding(name, "missing", "not installed: networks cannot run", "pip install 'cellseg-bench[train]'")
        else:
            yield Finding(name, "ok", version)
    version = provenance.version_of("streamlit")
    if version is None:
        yield Finding("streamlit", "missing", "not installed: no board", "pip install 'cellseg-bench[board]'")
    else:
        yield Finding("streamlit", "ok", version)


def _operators() -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("mmcv") is None:
        return
    import bench.ops

    try:
        info = bench.ops.describe()
    except BenchError as error:
        yield Finding("operators", "problem", error.message, error.hint, error.exit_code)
        return
    yield Finding("operators", "ok" if info.provider else "problem", info.reason, info.hint)


def _hardware() -> Iterator[Finding]:
    machine = provenance.machine()
    yield Finding("machine", "ok", f"{machine.cpu}, {machine.cores} cores, {machine.memory_bytes / 2**30:.0f} GiB")
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            device = provenance.machine(f"cuda:{index}")
            memory = (device.gpu_memory_bytes or 0) / 2**30
            yield Finding(f"GPU {index}", "ok", f"{device.gpu}, {memory:.0f} GiB, driver {device.driver or 'unknown'}")
    else:
        build = torch.version.cuda
        why = "no GPU is found" if build else f"torch {torch.__version__} is built without CUDA"
        yield Finding("GPU", "missing", f"{why}: methods run on the CPU, by default with the smoke schedule")


def _methods() -> Iterator[Finding]:
    found = registry()
    lacking = {name: _lacking(entry) for name, entry in found.methods.items()}
    ready = [name for name, lack in lacking.items() if lack is None]
    yield Finding("methods", "ok", f"{len(ready)} of {len(found.methods)} can run: {', '.join(ready)}")
    for name, lack in lacking.items():
        if lack is not None:
            yield Finding(f"method {name}", "missing", lack.message, lack.hint)
    for name, problem in found.broken.items():
        yield Finding(f"method in {name}", "problem", problem, f"mend {name}")


def _lacking(entry: MethodEntry) -> MissingDependencyError | None:
    """What keeps a method from running here, or None."""
    try:
        provenance.require(entry.method)
        entry.method.require(entry.method.make_params(entry.variant), None)
    except MissingDependencyError as error:
        return error
    return None


def _data(root: Path) -> Iterator[Finding]:
    rows, broken = overview(root)
    for row in sorted(rows, key=lambda row: row.card.name):
        card, name = row.card, row.card.name
        if row.state in ("real", "prepared"):
            expected = card.expected.images
            if is_partial(row.images, expected):
                finding = f"{row.images} of {expected} images, real files in {row.folder}"
                yield Finding(f"data set {name}", "missing", finding, f"what is missing: bench data check {name}")
            else:
                counted = "" if row.images is None else f"{row.images} images, "
                yield Finding(f"data set {name}", "ok", f"{counted}real files in {row.folder}")
        elif card.stand_in is not None:
            remedy = f"the real files: {card.url}, into {root / card.folders[0]}"
            yield Finding(f"data set {name}", "missing", "no real files: the generated stand-in is used", remedy)
        else:
            remedy = f"get them from {card.url}, into {root / card.folders[0]}, or name their parent by --data-root"
            yield Finding(f"data set {name}", "missing", "no real files, and no stand-in", remedy)
    for name, error in broken.items():
        yield Finding(f"card {name}", "problem", str(error), "mend the card")


def _places(db: str | None) -> Iterator[Finding]:
    try:
        with open_store(db, read_only=True) as store:
            yield Finding("store", "ok", f"{store.location}, {len(store.runs())} runs")
    except NoDatabaseError as error:
        yield Finding("store", "missing", error.message, error.hint)
    except BenchError as error:
        yield Finding("store", "problem", error.message, error.hint, error.exit_code)
    runs = runs_folder().resolve()
    place = next(p for p in (runs, *runs.parents) if p.exists())
    remedy = "choose another folder with --runs or BENCH_RUNS"
    if not place.is_dir():
        yield Finding("runs", "problem", f"{place} is no folder", remedy, OutputError.exit_code)
    elif os.access(place, os.W_OK):
        free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize / 2**30
        yield Finding("runs", "ok", f"{runs}, {free:.0f} GiB free")
    else:
        yield Finding("runs", "problem", f"{place} is read-only", remedy, OutputError.exit_code)
