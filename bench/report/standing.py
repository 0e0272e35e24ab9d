"""Which of a method's runs stand for it where it has a single value: those of one version, one setting, every seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.store.identity import Measurement

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Standing:
    """The runs that stand for a method.

    Attributes:
        runs: their rows, one a seed.
        changed: in what they differ from the method's default settings; empty where in nothing that is known.
    """

    runs: pd.DataFrame
    changed: Mapping[str, Any]

    @property
    def mean(self) -> float:
        """Of their ``value``, over seeds."""
        return float(self.runs["value"].mean())


def standing(runs: pd.DataFrame, *, only_default: bool = False) -> Standing | None:
    """The runs among those of one method that stand for it: never a mean over different settings.

    Runs belong together where the same thing was measured (:func:`bench.store.identity.measurement`). Of several such
    groups the one with the method's default settings stands, then one of which nobody knows whether they are, then any
    other; of equal ones the one run last. Of a seed that was run twice the last run counts.

    Args:
        runs: a row each: ``run_id``, ``seed``, ``measurement``, and ``changed``, as
            :func:`bench.store.views.marks` gives it, or None.
        only_default: runs with other settings never stand.

    Returns:
        None where there are none.
    """
    groups: dict[Measurement, _Group] = {}
    rows = zip(runs["measurement"], runs["run_id"].tolist(), runs["changed"], strict=True)
    for place, (what, run_id, changed) in enumerate(rows):
        groups.setdefault(what, _Group()).add(place, run_id, changed)
    fitting = [group for group in groups.values() if not (only_default and group.changed)]
    if not fitting:
        return None
    best = max(fitting, key=lambda group: group.order)
    chosen = runs.iloc[best.places].sort_values("run_id").drop_duplicates("seed", keep="last")
    return Standing(chosen, best.changed or {})


@dataclass
class _Group:
    """Runs in which the same thing was measured."""

    places: list[int] = field(default_factory=list)
    last: int = 0
    changed: Mapping[str, Any] | None = None
    """As any of them says: those of older stores say nothing."""

    def add(self, place: int, run_id: int, changed: Mapping[str, Any] | None) -> None:
        self.places.append(place)
        self.last = max(self.last, run_id)
        self.changed = self.changed if changed is None else changed

    @property
    def order(self) -> tuple[int, int]:
        """The largest stands."""
        return (0 if self.changed else 1 if self.changed is None else 2, self.last)
