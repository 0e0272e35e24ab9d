"""TrainedTool: an external tool that is trained from scratch in its own process, on the same images as everybody.

The tool's script defines, beside what :mod:`methods._external_worker` asks for,

    train(images, truths, options, folder, report)

``images`` and ``truths`` are lists of arrays: images as the data set has them, and label images. It trains with
``options["seed"]``, for ``options["steps"]`` optimiser steps of ``options["batch_size"]`` images, calls
``report(done, total)`` as it goes, and returns the path of one file of weights below ``folder``. That of a tool which
looks at validation images while it trains (:attr:`TrainedTool.validates`) is called with one more argument,
``validation=(images, truths)``.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bench.api import DataError, FitContext, MethodError, OutputError, SampleSource, UsageError
from methods._environment import clean_environment
from methods._external import ExternalMethod, ToolError
from methods._hold_out import Part, hold_out

TRAINER = Path(__file__).with_name("_external_trainer.py")
WEIGHTS = "weights.pth"
EXAMPLES = "examples"
VALIDATION = "validation"
MOST_VALIDATED = 200
"""Validation images that a tool is given at most, evenly out of all; it holds them in memory."""
CHATTER = "tool.txt"
"""What the tool prints while it trains."""


class TrainedTool(ExternalMethod):
    """A tool with a script that can train. A training that was killed begins anew, with the same seed.

    Attributes:
        validates: whether the tool chooses its weights, or how they are read, by validation images. Where a data set
            has none, training images are held out (see :mod:`methods._hold_out`); of a single image none.
    """

    trainable = True
    validates: ClassVar[bool] = False
    inits: ClassVar[tuple[str, ...]] = ("random",)

    def fit(self, train: SampleSource, val: SampleSource | None, context: FitContext) -> Path:
        """Hand the images to the tool, have it train, and keep its weights as ``weights.pth``.

        Raises:
            MissingDependencyError: the tool is not here.
            ToolError: it failed; the end of what it printed is in the message, all of it in the folder.
        """
        weights = context.folder / WEIGHTS
        if weights.is_file():
            return weights
        if context.init != "random":
            raise UsageError(f"{self.name} begins from random weights", "leave --init out, or give --weights PATH")
        assert self.script is not None
        python = self.interpreter()
        try:
            held: SampleSource | None = None
            if self.validates:
                if not val:
                    train, val = hold_out(
                        train, seed=context.seed, folder=context.folder, name=self.name, purpose="the choice of weights"
                    )
                held = Part(val, range(0, len(val), max(1, math.ceil(len(val) / MOST_VALIDATED))))
            examples = _export(train, context.folder / EXAMPLES)
            validation = None if held is None else _export(held, context.folder / VALIDATION)
            begun = context.folder / "begun"
            shutil.rmtree(begun, ignore_errors=True)  # of a training that was killed
            begun.mkdir(parents=True)
            options = {
                **self.options(),
                "seed": context.seed,
                "steps": context.schedule.steps(len(train)),
                "batch_size": context.schedule.batch_size,
            }
            request = {
                "script": str(self.script),
                "examples": examples,
                "validation": validation,
                "folder": str(begun),
                "options": options,
            }
            (begun / "request.json").write_text(json.dumps(request))
            made = self._train(python, begun / "request.json", context)
            made.replace(weights)
            shutil.rmtree(begun)
            for exported in (context.folder / EXAMPLES, context.folder / VALIDATION):
                if exported.is_dir():
                    shutil.rmtree(exported)
        except OSError as error:
            raise OutputError(
                f"cannot write to {context.folder}: {error.strerror or error}", "free space, or choose another --runs"
            ) from error
        return weights

    def _train(self, python: Path, request: Path, context: FitContext) -> Path:
        own = python == Path(sys.executable)
        chatter = context.folder / CHATTER
        answer: Mapping[str, Any] = {}
        with chatter.open("wb") as output:
            process = subprocess.Popen(
                [str(python), "-u", str(TRAINER), str(request)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                env=None if own else clean_environment(),
                encoding="utf-8",
                start_new_session=os.name != "nt",
            )
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    answer = json.loads(line)
                    if "done" in answer:
                        context.progress(answer["done"], answer["total"], "")
                process.wait()
            finally:
                _end(process)
        said = chatter.read_text(errors="replace")[-8000:]
        if "weights" in answer:
            made = Path(answer["weights"])
            if not made.is_file():
                raise MethodError(f"{self.name} returned no file of weights: {made}", "its train() must return one")
            return made
        if "error" in answer:
            raise ToolError(f"{self.name} failed at training: {answer['error']}", f"in {answer['where']}", said)
        lines = [line for line in said.splitlines() if line.strip()]
        last = f": {lines[-1][:300]}" if lines else ""
        raise ToolError(f"{self.name} crashed at training (exit status {process.returncode}){last}", str(chatter), said)


def _export(source: SampleSource, folder: Path) -> list[str]:
    """Images with their truth as files, one an image.

    Raises:
        DataError: an image without truth.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for index in range(len(source)):
        path = folder / f"{index:05d}.npz"
        files.append(str(path))
        if path.is_file():
            continue
        sample = source[index]
        if sample.instances is None:
            raise DataError(f"image {sample.id} has no truth to learn from", "train on a split with annotations")
        truth = sample.instances.take(~sample.instances.crowd)
        partial = path.with_suffix(".part.npz")
        np.savez(partial, image=sample.image, truth=truth.to_label_map("smallest"))
        partial.replace(path)
    return files


def _end(process: subprocess.Popen[Any]) -> None:
    """End a training that still runs, with what it has started."""
    from methods._external import _kill

    _kill(process)
    if process.stdout is not None:
        process.stdout.close()
