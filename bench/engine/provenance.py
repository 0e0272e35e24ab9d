"""What a number came from: code, packages, machine, data and weights, as hashes and as plain facts."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import bench
from bench.api import Method, MissingDependencyError, UsageError
from bench.records import EnvironmentRecord, MachineRecord

BASE_PACKAGES = ("numpy", "scipy", "scikit-image", "pycocotools", "pillow", "tifffile", "imagecodecs")
"""Distributions whose version may change any method's prediction or score."""
PACKAGES_OF = {
    "torch": ("torch",),
    "mmengine": ("onedl-mmengine", "mmengine"),
    "mmcv": ("onedl-mmcv", "mmcv"),
    "mmdet": ("onedl-mmdetection", "mmdet"),
    "monai": ("monai",),
}
"""Import name -> the distributions that may provide it, where the two differ."""


def sha256_of(value: Any) -> str:
    """Hash of plain data, by its canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def code_hash(method: type[Method]) -> str:
    """Hash of the code that makes a method: its module or package, its bases outside ``bench``, their helpers.

    It is taken once of a class, which is what this process runs. The syntax tree is hashed, so that a comment or a
    line break changes nothing.
    """
    files: set[Path] = set()
    for base in method.__mro__:
        if base.__module__.partition(".")[0] in ("bench", "builtins", "abc"):
            continue
        try:
            path = Path(inspect.getfile(base))
        except (TypeError, OSError):
            continue
        files.update(path.parent.rglob("*.py") if path.name == "__init__.py" else [path])
        if (path.parent if path.name != "__init__.py" else path.parent.parent).name == "methods":
            root = path.parent if path.name != "__init__.py" else path.parent.parent
            files.update(root.glob("_*.py"))
    trees = {str(f): ast.dump(ast.parse(f.read_text(encoding="utf-8"))) for f in files}
    return sha256_of(sorted(hashlib.sha256(tree.encode()).hexdigest() for tree in trees.values()))


def missing_packages(method: type[Method]) -> list[str]:
    """Import names of ``method.requires`` that are not installed."""
    return [name for name in method.requires if importlib.util.find_spec(name) is None]


def require(method: type[Method]) -> None:
    """Raise unless everything a method needs is installed.

    Raises:
        MissingDependencyError: with what to install.
    """
    missing = missing_packages(method)
    if missing:
        ours = set(missing) <= set(PACKAGES_OF)
        raise MissingDependencyError(
            f"{method.name} needs {', '.join(missing)}, which is not installed",
            "pip install 'cellseg-bench[train]'" if ours else f"pip install {' '.join(missing)}",
        )


def version_of(import_name: str) -> str | None:
    """Version of the distribution that provides an import name, or None."""
    for distribution in PACKAGES_OF.get(import_name, (import_name,)):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def environment(method: type[Method], device: str) -> EnvironmentRecord:
    """The software that a run of ``method`` uses. Only what the method needs is asked and hashed."""
    packages = {name: version for name in (*BASE_PACKAGES, *method.requires) if (version := version_of(name))}
    uses_torch = "torch" in method.requires
    ops = cuda = None
    if "mmcv" in method.requires:
        from bench.ops import install

        ops = install()
    if uses_torch:
        import torch

        cuda = torch.version.cuda if device != "cpu" else None
    identity = {
        "python": platform.python_version(),
        "packages": packages,
        "ops": ops,
        "device": device.partition(":")[0],
        "cuda": cuda,
        "bench": bench.__version__,
    }
    return EnvironmentRecord(
        hash=sha256_of(identity),
        python=platform.python_version(),
        platform=platform.platform(),
        torch=packages.get("torch"),
        mmcv=packages.get("mmcv"),
        ops=ops,
        cuda=cuda,
        packages=packages,
    )


@lru_cache(maxsize=2)
def machine(device: str = "cpu") -> MachineRecord:
    """The hardware; the GPU only where the device is one."""
    import psutil

    gpu = gpu_memory = driver = None
    if device != "cpu" and (found := _gpu(device)) is not None:
        gpu, gpu_memory, driver = found
    cpu = _cpu_name()
    memory = psutil.virtual_memory().total
    # The size of memory as a machine reports it wobbles by a few pages: whole GiB name the machine.
    identity = [socket.gethostname(), cpu, os.cpu_count(), round(memory / 2**30), gpu]
    return MachineRecord(
        hash=sha256_of(identity),
        hostname=socket.gethostname(),
        cpu=cpu,
        cores=os.cpu_count() or 1,
        memory_bytes=memory,
        os=f"{platform.system()} {platform.release()}",
        gpu=gpu,
        gpu_memory_bytes=gpu_memory,
        driver=driver,
    )


def known_device(wanted: str) -> None:
    """Raise unless it is the name of a device, be it here or not.

    Raises:
        UsageError: it is none.
    """
    if not _DEVICE.fullmatch(wanted):
        raise UsageError(f"unknown device {wanted!r}", "auto, cpu, cuda or cuda:N")


_DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]{1,4})?")


def resolve_device(wanted: str, method: type[Method]) -> str:
    """The device to use: ``auto`` is a GPU if there is one and the method can use it.

    A tool in an environment of its own runs on the CPU unless a GPU is asked for by name: only the tool knows whether
    its environment can use one, and it must fail if not. What knows no GPU runs on the CPU whatever is asked for.

    Raises:
        UsageError: not a device.
        MissingDependencyError: a GPU is asked for and none can be used.
    """
    known_device(wanted)
    if not method.in_process:
        device = {"auto": "cpu", "cuda": "cuda:0"}.get(wanted, wanted)
        if device != "cpu" and _gpu(device) is None:
            raise MissingDependencyError(f"device {wanted} is not here: no such GPU is found", "use --device cpu")
        return device
    if wanted == "cpu" or "torch" not in method.requires:
        return "cpu"
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "auto":
        return "cuda:0" if count else "cpu"
    index = int(wanted.partition(":")[2] or 0)
    if index >= count:
        build = "" if torch.version.cuda else f"; torch {torch.__version__} is built without CUDA"
        raise MissingDependencyError(
            f"device {wanted} is not here: {count} GPUs can be used{build}", "use --device cpu, or see `bench doctor`"
        )
    return f"cuda:{index}"


def commit() -> tuple[str | None, bool | None]:
    """(commit, whether files differ from it) of this project's own checkout; (None, None) outside one.

    It is asked of the folder that the code lies in, never of the one the user happens to stand in.
    """
    root = Path(bench.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None, None
    try:
        head = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None, None
    return head, bool(changed)


_SECRETS = (
    (re.compile(r"(://[^:/@\s]*):[^@\s]*@"), r"\1:***@"),
    (re.compile(r"([?&](?:password|passfile|sslpassword)=)[^&\s]*"), r"\1***"),
)
"""Where the URL of a database holds a password, and what is kept of it."""


def command_line() -> str:
    """The command as it was typed, without passwords: it is stored, and shown on the board."""
    import shlex

    name = Path(sys.argv[0]).name
    typed = [name if name != "__main__.py" else "bench", *sys.argv[1:]]
    for secret, kept in _SECRETS:
        typed = [secret.sub(kept, argument) for argument in typed]
    return shlex.join(typed)


def plain(params: Any) -> Mapping[str, Any]:
    """A settings dataclass as plain data."""
    import dataclasses

    return dataclasses.asdict(params) if dataclasses.is_dataclass(params) and not isinstance(params, type) else {}


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True, timeout=20
    ).stdout.strip()


def _gpu(device: str) -> tuple[str, int | None, str | None] | None:
    """Name, bytes of memory and driver of a GPU; None where there is none such.

    Where torch cannot use it, the driver is asked: a tool in an environment of its own may.
    """
    known = _from_driver(device)
    with suppress(ImportError):
        import torch

        if torch.cuda.is_available() and int(device.partition(":")[2] or 0) < torch.cuda.device_count():
            properties = torch.cuda.get_device_properties(device)
            return properties.name, properties.total_memory, known[2] if known else None
    return known


def _from_driver(device: str) -> tuple[str, int | None, str | None] | None:
    index = device.partition(":")[2] or "0"
    # torch counts the GPUs that this variable lets it see, by number or by identifier.
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",") if name.strip()]
        if int(index) >= len(names):
            return None
        index = names[int(index)]
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits", "-i", index]
    try:
        said = subprocess.run(query, check=True, capture_output=True, text=True, timeout=20).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return None
    fields = [field.strip() for field in said[0].split(",")] if said else []
    if len(fields) != 3:
        return None
    name, mebibytes, driver = fields
    return name, int(mebibytes) * 2**20 if mebibytes.isdigit() else None, driver


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
