"""Build mmcv's compiled operators and install them into the running environment.

    python -m bench.ops.build              build, or take from the cache, and install
    python -m bench.ops.build --plain      put mmcv back as pip installs it, without compiled operators

They are optional: :mod:`bench.ops` serves them from torch where they are absent. A build takes ten minutes of processor
time and needs a C++ compiler; what it makes is kept by the versions of mmcv, torch and Python, by platform and
by what it is built for, so that the next environment of the same kind has it in seconds.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from bench.errors import BenchError, MissingDependencyError, OutputError
from bench.ops.provider import require

DISTRIBUTION = "onedl-mmcv"
BUILD_REQUIREMENTS = ("setuptools", "wheel", "ninja")
WITHOUT = "without compiled operators all methods run as well, on torch"

_STEP = re.compile(r"^\s*\[(\d+)/(\d+)\]")
_FAULT = re.compile(r"\b(?:(?:fatal )?error|ERROR): .*")


@dataclass(frozen=True)
class Target:
    """What a build is for: two environments with the same target can share it.

    Attributes:
        mmcv: version.
        torch: version, with its local part ("2.13.0+cpu").
        python: interpreter ("cpython-311").
        platform: operating system and processor ("linux-x86_64").
        accelerator: ``cpu``, or CUDA version and processor generations ("cu130-sm90").
    """

    mmcv: str
    torch: str
    python: str
    platform: str
    accelerator: str

    @classmethod
    def here(cls) -> Target:
        """That of the running environment.

        Raises:
            MissingDependencyError: torch or mmcv is not installed.
        """
        require("torch", "mmcv")
        import torch

        return cls(
            importlib.metadata.version(DISTRIBUTION),
            torch.__version__,
            str(sys.implementation.cache_tag),
            sysconfig.get_platform(),
            _accelerator(),
        )

    @property
    def folder(self) -> Path:
        """Where its build is kept."""
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        name = "-".join((self.mmcv, self.torch, self.python, self.platform, self.accelerator))
        return Path(root) / "cellseg-bench" / "ops" / name

    def cached(self) -> Path | None:
        """The wheel that was built for it, or None; a truncated file does not count."""
        whole = [wheel for wheel in self.folder.glob("*.whl") if zipfile.is_zipfile(wheel)]
        return max(whole, key=lambda wheel: wheel.stat().st_mtime) if whole else None


def _accelerator() -> str:
    """As mmcv's build decides: for CUDA where a GPU is there or ``FORCE_CUDA=1``, else for the CPU."""
    import torch

    if torch.version.cuda is None or not (torch.cuda.is_available() or os.environ.get("FORCE_CUDA") == "1"):
        return "cpu"
    generations = os.environ.get("TORCH_CUDA_ARCH_LIST", "").replace(";", " ").split()
    if not generations and torch.cuda.is_available():
        generations = sorted({"{}.{}".format(*torch.cuda.get_device_capability(i)) for i in range(_devices())})
    names = [f"sm{generation.replace('.', '')}" for generation in generations]
    return "-".join([f"cu{torch.version.cuda.replace('.', '')}", *names])


def _devices() -> int:
    import torch

    return int(torch.cuda.device_count())


def install(*, rebuild: bool = False, jobs: int | None = None) -> Path | None:
    """Install the compiled operators into the running environment, unless they serve there already.

    They come from the cache; where it has none for this environment they are built.

    Args:
        rebuild: build and install in any case.
        jobs: files compiled at a time; default one a processor.

    Returns:
        the wheel that was installed, or None where there was nothing to do.

    Raises:
        MissingDependencyError: torch, mmcv, pip or a compiler is missing.
        BenchError: the build failed, or what it made does not work.
        OutputError: the cache cannot be written.
    """
    _require_pip()
    target = Target.here()
    if not rebuild and _fault() is None:
        return None
    wheel = None if rebuild else target.cached()
    if wheel is None:
        _require_compiler(target)
        wheel = _build(target, jobs or os.cpu_count() or 1)
    else:
        _say(f"taken from the cache: {wheel}")
    _pip("install", "--force-reinstall", "--no-deps", "--no-index", str(wheel))
    fault = _fault()
    if fault is not None:
        wheel.unlink()
        raise BenchError(
            f"the compiled operators are installed but do not serve: {fault}",
            "python -m bench.ops.build --plain puts mmcv back as it was",
        )
    return wheel


def install_plain() -> None:
    """Put mmcv back as pip installs it, without compiled operators.

    Raises:
        MissingDependencyError: mmcv or pip is missing.
        BenchError: pip failed.
    """
    _require_pip()
    require("mmcv")
    version = importlib.metadata.version(DISTRIBUTION)
    # In pip's isolated build there is no torch, so mmcv leaves its operators out.
    _pip("install", "--force-reinstall", "--no-deps", "--no-cache-dir", f"{DISTRIBUTION}=={version}")


def _build(target: Target, jobs: int) -> Path:
    """Build the wheel and put it in the cache, whole or not at all."""
    missing = [name for name in BUILD_REQUIREMENTS if importlib.util.find_spec(name) is None]
    if missing:
        _say(f"installing what the build needs: {', '.join(missing)}")
        _pip("install", *missing)
    _say(f"building for {target.folder.name}, {jobs} files at a time; this takes minutes")
    with _writing(target.folder):
        target.folder.mkdir(parents=True, exist_ok=True)
        log = target.folder / "build.log"
        with tempfile.TemporaryDirectory(dir=target.folder) as work:
            command = ["wheel", "-v", "--no-cache-dir", "--no-build-isolation", "--no-deps", "--wheel-dir", work]
            command += ["--no-binary", DISTRIBUTION, f"{DISTRIBUTION}=={target.mmcv}"]
            _run(command, log, _build_environment(jobs))
            (wheel,) = Path(work).glob("*.whl")
            return Path(shutil.move(wheel, target.folder / wheel.name))


def _build_environment(jobs: int) -> dict[str, str]:
    # Debug symbols, which Python's own flags ask for, are nine tenths of the result.
    flags = f"{os.environ.get('CPPFLAGS', '')} -g0".strip()
    return {**os.environ, "MMCV_WITH_OPS": "1", "MAX_JOBS": str(jobs), "CPPFLAGS": flags}


def _run(arguments: list[str], log: Path, environment: Mapping[str, str]) -> None:
    """Run pip, its output into a log and its progress on the screen."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pip", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
    )
    assert process.stdout is not None
    fault = ""
    interval = 0.5 if sys.stderr.isatty() else 30.0
    with (
        log.open("w", encoding="utf-8") as record,
        tqdm(desc="compiling", unit="file", file=sys.stderr, mininterval=interval) as bar,
    ):
        try:
            for line in process.stdout:
                record.write(line)
                if step := _STEP.match(line):
                    bar.total = int(step[2])
                    bar.update(int(step[1]) - bar.n)
                elif not fault and (found := _FAULT.search(line)):
                    fault = found[0].strip()
        except BaseException:
            process.terminate()
            raise
        finally:
            process.wait()
    if process.returncode:
        raise BenchError(
            f"building mmcv's operators failed: {fault or f'pip ended with {process.returncode}'}",
            f"the whole output is in {log}; {WITHOUT}",
        )


def _pip(*arguments: str) -> None:
    """Run pip quietly, its packages from wherever the user's pip takes them."""
    result = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments, "-q"],
        capture_output=True,
        text=True,
    )
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or ["no reason given"]
        raise BenchError(f"pip {arguments[0]} failed: {lines[-1].removeprefix('ERROR: ')}", " ".join(arguments))


def _fault() -> str | None:
    """Why the operators now installed do not serve, asked of a fresh interpreter; None if they do."""
    code = (
        "from bench.ops import provider\n"
        "mmcv = next(c for c in provider.list_candidates() if c.provider == 'mmcv')\n"
        "print(mmcv.fault or mmcv.drawback or '', end='')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if result.returncode:
        return (result.stderr.strip().splitlines() or ["Python ended without a word"])[-1]
    return result.stdout or None


def _require_pip() -> None:
    if importlib.util.find_spec("pip") is None:
        raise MissingDependencyError("pip is not installed in this environment", "python -m ensurepip")


def _require_compiler(target: Target) -> None:
    compiler = os.environ.get("CXX", "cl" if sys.platform == "win32" else "c++").split()[0]
    if shutil.which(compiler) is None:
        raise MissingDependencyError(
            f"no C++ compiler: {compiler!r} is not on the path",
            f"install one (on Debian or Ubuntu: apt install g++), or name it in CXX; {WITHOUT}",
        )
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.is_file():
        raise MissingDependencyError(
            f"the headers of Python are missing: {header}",
            f"install them (on Debian or Ubuntu: apt install python3-dev); {WITHOUT}",
        )
    if target.accelerator != "cpu":
        from torch.utils.cpp_extension import CUDA_HOME

        if CUDA_HOME is None or shutil.which("nvcc", path=str(Path(CUDA_HOME) / "bin")) is None:
            raise MissingDependencyError(
                "no CUDA compiler: nvcc is not found",
                f"install the CUDA toolkit that torch was built with, or name its folder in CUDA_HOME; {WITHOUT}",
            )


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write to {error.filename or folder}: {error.strerror}",
            "set XDG_CACHE_HOME to a folder with room that you may write to",
        ) from error


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main(arguments: list[str] | None = None) -> int:
    """Run as a command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.ops.build",
        description="Build mmcv's compiled operators, or take them from the cache, and install them here.",
    )
    parser.add_argument("--plain", "--uninstall", action="store_true", help="put mmcv back without them")
    parser.add_argument("--rebuild", action="store_true", help="build and install in any case")
    parser.add_argument("--jobs", type=int, help="files compiled at a time (default: one a processor)")
    options = parser.parse_args(arguments)
    try:
        if options.plain:
            install_plain()
            _say("mmcv is as pip installs it, without compiled operators")
        else:
            wheel = install(rebuild=options.rebuild, jobs=options.jobs)
            _say(f"mmcv's compiled operators are installed{' already' if wheel is None else ''} and serve")
    except BenchError as error:
        _say(f"error: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
