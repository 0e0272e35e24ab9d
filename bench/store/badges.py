"""What a reader must know of a run before its numbers, and whether it may rank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.store.queries import StoredRun

PARTIAL_SCHEDULES = ("short", "smoke")
"""Schedules that are not the whole of a method's training; only a board of ``short`` alone ranks such runs."""

TRAINED_ON_THIS = "trained-on-this"


def badges(run: StoredRun, marks: Mapping[str, Any]) -> list[str]:
    """Every badge of a run, how it came about first.

    Args:
        run: as the store lists it.
        marks: what its plan says of it, as :func:`bench.store.views.marks` gives it; empty where it says nothing.
    """
    trained_on_this = said_to_know(run.dataset, marks) or run.dataset in _names(marks.get("further_data"))
    return [
        run.badge,
        *(["synthetic"] if run.source == "synthetic" else []),
        *([run.schedule] if run.schedule in PARTIAL_SCHEDULES else []),
        *([] if run.complete else ["incomplete"]),
        *(["superseded"] if run.superseded else []),
        *([TRAINED_ON_THIS] if trained_on_this else []),
        *(["demo"] if marks.get("demo") else []),
    ]


def ranks(run: StoredRun, marks: Mapping[str, Any], schedule: str | None = None) -> bool:
    """Whether a run may have a rank, on a board of one ``schedule`` or of all (None).

    Weights that somebody says were trained on the evaluated data set never rank: nobody can say that the evaluated
    images were left out. Further data that a method trains on here are known image by image, and these are left out.
    """
    if run.badge == "control" or run.origin == "control" or run.superseded:
        return False
    if said_to_know(run.dataset, marks) or not run.complete or run.schedule == "smoke":
        return False
    return run.schedule not in PARTIAL_SCHEDULES or run.schedule == schedule


def said_to_know(dataset: str, marks: Mapping[str, Any]) -> bool:
    """Whether a run's author says that its weights were trained on the data set, beyond its training split."""
    return dataset in _names(marks.get("trained_on"))


def _names(said: Any) -> list[str]:
    """Names of data sets in what a plan says of its training data."""
    if isinstance(said, str):
        return [said]
    if isinstance(said, Mapping):
        return [str(said["dataset"])] if "dataset" in said else []
    return [name for part in said for name in _names(part)] if isinstance(said, list | tuple) else []
