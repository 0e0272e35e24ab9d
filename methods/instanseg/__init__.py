"""InstanSeg, called with a model that the user brings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bench.api import Paper
from methods._environment import locked
from methods._external import ExternalMethod

_HERE = Path(__file__).parent
_LOCK = locked(_HERE / "lock.txt")


class InstanSeg(ExternalMethod):
    """InstanSeg: seeds and per-cell embeddings from one network, exported with its own postprocessing."""

    name = "instanseg"
    title = "InstanSeg"
    summary = "The InstanSeg package with a TorchScript model that the user brings."
    paper = Paper(
        "InstanSeg: an embedding-based instance segmentation algorithm optimized for accurate, efficient and portable "
        "cell segmentation",
        "T. Goldsborough, B. Philps, A. O'Callaghan and others",
        2024,
        "arXiv",
        "https://arxiv.org/abs/2408.15954",
    )
    modules = ("instanseg",)
    distributions: ClassVar[Mapping[str, str]] = {"instanseg-torch": "0.1"}
    requirements = _LOCK
    script = _HERE / "tool.py"
    needs_weights = True
    deviations = (
        "Not trained here: the package trains by a script on data sets in a form of its own. It runs with a published"
        " model (instanseg.pt), given by path.",
        "The first of a model's outputs is taken: nuclei, where it gives nuclei and cells.",
    )

    @dataclass(frozen=True)
    class Params(ExternalMethod.Params):
        """Settings of InstanSeg.

        Attributes:
            python: interpreter that has the tool; empty to find one.
            timeout: seconds an image may take.
            start_timeout: seconds the tool may take to start and to load its weights.
            pixel_size: of the images, micrometres; 0 where unknown: the image is then not resized.
            gpu: whether the tool uses a GPU, if its environment can.
            environment: hash of its pinned environment; part of a run's identity.
        """

        pixel_size: float = 0.0
        gpu: bool = False
        environment: str = hashlib.sha256("\n".join(_LOCK).encode()).hexdigest()[:12]
