"""Environments of the external tools: one virtual environment a pinned list of requirements, in the user's cache.

``python -m methods._environment METHOD`` makes that of a method.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.api import BenchError, MissingDependencyError, OutputError, UsageError

COMPLETE = "complete.json"
"""Written last into an environment: the requirements, and every version that they brought."""


def environments_folder() -> Path:
    """Where the environments lie: below ``BENCH_CACHE``, else the user's cache folder."""
    base = os.environ.get("BENCH_CACHE")
    if base:
        return Path(base).expanduser() / "environments"
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "cellseg-bench" / "environments"


def locked(lock: Path) -> tuple[str, ...]:
    """The pinned requirements of a lock file, one a line; what follows a ``#`` is a remark."""
    lines = (line.partition("#")[0].strip() for line in lock.read_text(encoding="utf-8").splitlines())
    return tuple(line for line in lines if line)


@dataclass(frozen=True)
class ToolEnvironment:
    """A virtual environment that is made once for a list of requirements and found again by its hash.

    Attributes:
        name: of the tool, the first part of the folder's name.
        requirements: what pip installs, each pinned: ``name==version``, or ``name @ URL``.
    """

    name: str
    requirements: tuple[str, ...]

    def __post_init__(self) -> None:
        from packaging.requirements import InvalidRequirement, Requirement

        for text in self.requirements:
            try:
                requirement = Requirement(text)
            except InvalidRequirement as error:
                raise UsageError(f"{self.name}: {text!r} is no requirement") from error
            exact = [s for s in requirement.specifier if s.operator == "==" and "*" not in s.version]
            if not exact and requirement.url is None:
                raise UsageError(f"{self.name}: requirement {text!r} is not pinned", "write name==version")

    @property
    def key(self) -> str:
        """Hash of the requirements, of Python's version and of the platform."""
        version = ".".join(map(str, sys.version_info[:2]))
        parts = (*sorted(self.requirements), version, sys.platform, platform.machine())
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]

    @property
    def folder(self) -> Path:
        """Where it lies, or would."""
        return environments_folder() / f"{self.name}-{self.key}"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def ready(self) -> bool:
        """Whether it is complete."""
        return (self.folder / COMPLETE).is_file()

    def create(self) -> Path:
        """Make it unless it is there, and return its interpreter. One process makes it, others wait.

        Raises:
            MissingDependencyError: pip cannot install the requirements; the message has its last line.
            OutputError: the cache folder cannot be written.
        """
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with _lock(self.folder.with_suffix(".lock")):
                if not self.ready:
                    self._make()
        except OSError as error:
            raise OutputError(
                f"cannot write to {self.folder.parent}: {error.strerror or error}", "set BENCH_CACHE to another folder"
            ) from error
        return self.python

    def _make(self) -> None:
        if self.folder.exists():
            shutil.rmtree(self.folder)  # an earlier attempt that did not come to its end
        self._run([sys.executable, "-m", "venv", str(self.folder)])
        pip = [str(self.python), "-m", "pip", "--disable-pip-version-check", "--no-input"]
        if self.requirements:
            self._run([*pip, "install", "--quiet", *self.requirements])
        versions = self._run([*pip, "freeze"]).splitlines()
        partial = self.folder / f"{COMPLETE}.partial"
        partial.write_text(json.dumps({"requirements": self.requirements, "installed": versions}, indent=1))
        partial.replace(self.folder / COMPLETE)

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(command, capture_output=True, text=True, env=clean_environment(), check=False)
        if done.returncode:
            lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:] or [f"exit {done.returncode}"]
            raise MissingDependencyError(
                f"the environment of {self.name} cannot be made: {errors[0]}",
                f"needed: {', '.join(self.requirements)}",
            )
        return done.stdout


def clean_environment() -> dict[str, str]:
    """This process's environment variables without those that would lead another interpreter to our packages."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        try:
            import fcntl
        except ImportError:  # Windows has none: two processes may then make the same environment at once
            yield
            return
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(arguments: list[str]) -> int:
    """Make the environments of the named methods."""
    from bench.registry import find_method

    try:
        for name in arguments:
            environment = getattr(find_method(name).method, "environment", lambda: None)()
            if environment is None:
                raise UsageError(f"{name} needs no environment of its own")
            sys.stdout.write(f"{name}: {environment.folder} ...\n")
            sys.stdout.flush()
            environment.create()
    except BenchError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
