"""ExternalMethod: a tool that is called, in this or in its own environment, talking through files.

Two ways to call one:

- ``script``: a Python file with ``segment(model, image)`` and, if need be, ``load(options)``. It runs in one worker
  process that stays, so an image's time holds neither the tool's start nor the loading of its weights. What the script
  must define stands in :mod:`methods._external_worker`.
- :meth:`ExternalMethod.command`: a command line that is run anew for each image.

The interpreter is, in this order: the one that the setting ``python`` names, this one where it has the tool's
``modules``, that of an environment made from its ``requirements`` (:mod:`methods._environment`). Without one the method
is not available, and says what to do about it. Nothing is installed or downloaded at prediction.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

from numpy.typing import NDArray

from bench.api import DataError, Instances, Method, MethodError, MissingDependencyError, Schedule, Task, UsageError
from methods._environment import ToolEnvironment, clean_environment
from methods._external_files import read_answer, write_image

WORKER = Path(__file__).with_name("_external_worker.py")
EXIT_SECONDS = 5.0
"""How long a worker that has closed its answers may take to end."""
STDERR_KEPT = 8000
"""Characters of a tool's standard error that an error carries."""


class ToolError(MethodError):
    """An external tool failed.

    Attributes:
        stderr: the end of what it wrote to its standard error.
    """

    def __init__(self, message: str, hint: str | None = None, stderr: str = "") -> None:
        super().__init__(message, hint)
        self.stderr = stderr

    def __reduce__(self) -> tuple[type, tuple[str, str | None, str]]:  # type: ignore[override]
        return type(self), (self.message, self.hint, self.stderr)


class ExternalMethod(Method):
    """A tool that is called. A subclass gives ``script`` or :meth:`command`.

    Attributes:
        modules: top-level modules that the tool's interpreter must have; where this one has them, it serves.
        distributions: distribution -> version that this interpreter must have of it to serve ("3.1" is any 3.1).
        requirements: pinned requirements of an environment of its own.
        script: file that runs in the worker process.
        image_format: of the images for :meth:`command`: ``.tif``, ``.png`` or ``.npy``.
        answer_format: of its answers: ``.npy``, ``.tif``, ``.png``, ``.npz`` or ``.json`` (COCO results).
        needs_weights: whether it can do nothing without ``--weights PATH``.
    """

    origin = "external"
    in_process = False
    trainable = False
    scored = False
    inits: ClassVar[tuple[str, ...]] = ("none",)
    schedules: ClassVar[Mapping[str, Schedule]] = {
        "paper": Schedule(),
        "short": Schedule(),
        "smoke": Schedule(eval_images=6),
    }
    modules: ClassVar[tuple[str, ...]] = ()
    distributions: ClassVar[Mapping[str, str]] = {}
    requirements: ClassVar[tuple[str, ...]] = ()
    script: ClassVar[Path | None] = None
    image_format: ClassVar[str] = ".tif"
    answer_format: ClassVar[str] = ".tif"
    needs_weights: ClassVar[bool] = False

    @dataclass(frozen=True)
    class Params:
        """Settings of every external tool.

        Attributes:
            python: interpreter that has the tool; empty to find one.
            timeout: seconds an image may take.
            start_timeout: seconds the tool may take to start and to load its weights.
        """

        python: str = ""
        timeout: float = 600.0
        start_timeout: float = 600.0

        def __post_init__(self) -> None:
            for name in ("timeout", "start_timeout"):
                if not getattr(self, name) > 0:
                    raise UsageError(f"setting {name} must be above 0 seconds, not {getattr(self, name)}")

    def __init__(self, task: Task, params: Any = None, device: str = "cpu") -> None:
        super().__init__(task, params, device)
        self.weights: Path | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._worker: _Worker | None = None
        self._images = 0

    # -- what a subclass gives ----------------------------------------------------------------------

    def command(self, image: Path, answer: Path) -> Sequence[str | Path]:
        """The command line that segments the file ``image`` and writes the file ``answer``.

        ``self.interpreter()`` is the Python to call where the tool is a Python package.
        """
        raise TypeError(f"{type(self).__name__} gives neither a script nor a command()")

    def options(self) -> dict[str, Any]:
        """What the script's ``load`` is given: the settings, ``device`` and ``weights``; plain values only."""
        return {**asdict(self.params), "device": self.device, "weights": str(self.weights) if self.weights else None}

    # -- whether it can run -------------------------------------------------------------------------

    @classmethod
    def environment(cls) -> ToolEnvironment | None:
        """Its own environment, made or not; None where it declares no requirements."""
        return ToolEnvironment(cls.name, cls.requirements) if cls.requirements else None

    def interpreter(self) -> Path:
        """The Python that has the tool.

        Raises:
            MissingDependencyError: none has; the hint says how to get one.
        """
        if self.params.python:
            python = Path(self.params.python).expanduser()
            if not python.is_file():
                raise MissingDependencyError(f"{self.name}: no interpreter at {python}", "give another setting python")
            return python
        missing = [f"module {module}" for module in self.modules if importlib.util.find_spec(module) is None]
        missing = missing or [f"{d} {v}" for d, v in self.distributions.items() if not _installed(d, v)]
        environment = self.environment()
        if not missing and (self.modules or environment is None):
            return Path(sys.executable)
        if environment is not None and environment.ready:
            return environment.python
        raise MissingDependencyError(
            f"{self.name} is not installed" + (f": no {missing[0]}" if missing else ""),
            f"make its environment with: python -m methods._environment {self.name}"
            if environment is not None
            else "give an interpreter that has it with the setting python",
        )

    @classmethod
    def require(cls, params: Any, weights: Path | None) -> None:
        """Raise unless the tool can run with these settings; see :meth:`check_available`."""
        tool = cls(Task(), params)
        tool.weights = weights
        tool.check_available()

    def unavailable(self) -> str | None:
        """Why it cannot run here, or None if it can."""
        try:
            self.check_available()
        except MissingDependencyError as error:
            return str(error)
        return None

    def check_available(self) -> None:
        """Return if it can run.

        Raises:
            MissingDependencyError: no interpreter, no program, or no weights.
        """
        if self.needs_weights and self.weights is None:
            raise MissingDependencyError(f"{self.name} is not run without weights", "give their path with --weights")
        if self.script is not None:
            self.interpreter()
            return
        program = str(self.command(Path(f"image{self.image_format}"), Path(f"answer{self.answer_format}"))[0])
        if shutil.which(program) is None:
            raise MissingDependencyError(f"{self.name}: there is no program {program}", "install it, or put it on PATH")

    # -- the contract -------------------------------------------------------------------------------

    def load(self, weights: Path) -> None:
        """Give the tool a file (or folder) of weights.

        Raises:
            MethodError: there is none.
        """
        if not weights.exists():
            raise MethodError(f"{self.name}: no weights at {weights}", "give their path with --weights")
        self.weights = weights.resolve()
        self.close()

    def predict(self, image: NDArray[Any]) -> Instances:
        """The instances of one image. The phases are: writing it, the tool's work, reading the answer.

        Raises:
            MissingDependencyError: the tool is not here.
            ToolError: it crashed, was too slow, or its answer is not one; the next image starts it anew.
        """
        folder = self._ready()
        self._images += 1
        suffixes = (".npy", ".npz") if self.script is not None else (self.image_format, self.answer_format)
        given, answer = (
            folder / f"{stem}{self._images}{s}" for stem, s in zip(("image", "answer"), suffixes, strict=True)
        )
        try:
            with self.phase("preprocess"):
                write_image(given, image)
            with self.phase("network"):
                if self._worker is not None:
                    self._worker.ask({"image": str(given), "answer": str(answer)}, self.params.timeout)
                else:
                    _run(self.name, [str(part) for part in self.command(given, answer)], self.params.timeout, folder)
            with self.phase("postprocess"):
                from methods._decoders import at_most

                found = read_answer(answer, *image.shape[:2], len(self.task.classes))
                if self.scored and not len(found):  # of nothing there are no scores to be left out
                    return Instances.empty(*found.shape, scored=True)
                return at_most(found, self.task.max_detections)
        except DataError as error:
            raise ToolError(f"{self.name}: {error.message}", error.hint, _tail(folder / "stderr.log")) from error
        finally:
            given.unlink(missing_ok=True)
            answer.unlink(missing_ok=True)

    def close(self) -> None:
        """Stop the worker and remove the temporary files; the next prediction begins anew."""
        if self._worker is not None:
            self._worker.stop()
        if self._folder is not None:
            self._folder.cleanup()
        self._worker = self._folder = None

    def _ready(self) -> Path:
        """The folder to talk through, with a worker running if the tool has one."""
        if self._worker is not None and not self._worker.alive:
            self.close()
        if self._folder is None:
            self.check_available()
            self._folder = tempfile.TemporaryDirectory(prefix=f"bench-{self.name}-")
        folder = Path(self._folder.name)
        if self.script is not None and self._worker is None:
            worker = _Worker(self.name, self.interpreter(), self.script, folder)
            worker.ask({"options": self.options()}, self.params.start_timeout)
            self._worker = worker
        return folder


def _installed(distribution: str, version: str) -> bool:
    """Whether this interpreter has a distribution in that version, or in one that begins so."""
    try:
        found = importlib.metadata.version(distribution).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return False
    return f"{found}.".startswith(f"{version}.")


class _Worker:
    """One process of the tool that answers request after request.

    Args:
        name: of the method, for messages.
        python: its interpreter.
        script: what it runs.
        folder: where its standard error goes.
    """

    def __init__(self, name: str, python: Path, script: Path, folder: Path) -> None:
        self._name, self._log = name, folder / "stderr.log"
        own = python == Path(sys.executable)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(python), "-u", str(WORKER), str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env=None if own else clean_environment(),
                encoding="utf-8",
                start_new_session=os.name != "nt",
            )
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=_pump, args=(self._process.stdout, self._answers), daemon=True).start()
        self._end = weakref.finalize(self, _kill, self._process)

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End it now."""
        self._end()

    def ask(self, request: Mapping[str, Any], timeout: float) -> None:
        """Have one request done.

        Raises:
            ToolError: an exception in the tool, its end, or no answer within ``timeout`` seconds.
        """
        what = "loading" if "options" in request else "an image"
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=timeout)
        except BrokenPipeError:
            line = ""
        except queue.Empty:
            self.stop()
            raise ToolError(
                f"{self._name} did not finish {what} within {timeout:g} s",
                "raise the setting timeout" if what == "an image" else "raise the setting start_timeout",
                _tail(self._log),
            ) from None
        if not line:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(EXIT_SECONDS)
            self.stop()
            raise _crash(self._name, f"at {what}", self._process.returncode, _tail(self._log))
        answer = json.loads(line)
        if "error" in answer:
            if what == "loading":
                self.stop()
            raise ToolError(
                f"{self._name} failed at {what}: {_one_line(answer['error'])}",
                f"in {answer['where']}",
                _tail(self._log),
            )


def _pump(lines: IO[str], answers: queue.SimpleQueue[str]) -> None:
    """Hand on every line, and an empty one at the end."""
    with lines:
        for line in lines:
            answers.put(line)
    answers.put("")


def _run(name: str, command: list[str], timeout: float, folder: Path) -> None:
    """Run a command for one image.

    Raises:
        ToolError: it cannot be started, fails, or takes longer than ``timeout`` seconds.
    """
    log = folder / "stderr.log"
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                env=None if command[0] == sys.executable else clean_environment(),
                start_new_session=os.name != "nt",
            )
        except OSError as error:
            raise ToolError(f"{name}: {command[0]} cannot be run: {error.strerror}") from error
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ToolError(
                f"{name} did not finish an image within {timeout:g} s", "raise the setting timeout", _tail(log)
            ) from None
        finally:
            _kill(process)
    if code:
        raise _crash(name, "at an image", code, _tail(log))


def _kill(process: subprocess.Popen[Any]) -> None:
    """End a process that still runs, with what it has started, and wait for it."""
    if process.poll() is None:
        if os.name == "nt":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdin is not None:
        with contextlib.suppress(OSError):  # what was still to be written has no reader any more
            process.stdin.close()


def _crash(name: str, when: str, code: int, stderr: str) -> ToolError:
    how = f"exit status {code}"
    if code < 0:
        with contextlib.suppress(ValueError):
            how = f"signal {signal.Signals(-code).name}"
    lines = [line for line in stderr.splitlines() if line.strip()]
    last = f": {_one_line(lines[-1])}" if lines else ""
    return ToolError(f"{name} crashed {when} ({how}){last}", "run it by hand on this image to see more", stderr)


def _one_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:300] if lines else "no message"


def _tail(log: Path) -> str:
    """The end of a tool's standard error."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - STDERR_KEPT))
        return file.read().decode("utf-8", errors="replace")
