"""Which of a method's runs stand for it where it has a single value: those of one version, one setting, every seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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

    Runs belong together that agree in code, settings, initial weights and what was given by hand. Of several such
    groups the one with the method's default settings stands, then one of which nobody knows whether they are, then any
    other; of equal ones the one run last. Of a seed that was run twice the last run counts.

    Args:
        runs: a row each: ``run_id``, ``seed``, ``code_hash``, ``params_hash``, ``init`` and ``changed``, as
            :func:`bench.store.views.marks` gives it, or None.
        only_default: runs with other settings never stand.

    Returns:
        None where there are none.
    """
    ids, changes = runs["run_id"].tolist(), runs["changed"].tolist()
    groups: dict[tuple[Any, ...], list[int]] = {}
    versions = zip(runs["code_hash"], runs["params_hash"], runs["init"], strict=True)
    for place, (version, changed) in enumerate(zip(versions, changes, strict=True)):
        if not (only_default and changed):
            known = json.dumps(changed, sort_keys=True, default=str)
            groups.setdefault((*version, known), []).append(place)
    if not groups:
        return None

    def order(places: list[int]) -> tuple[int, int]:
        changed = changes[places[0]]
        return (0 if changed else 1 if changed is None else 2, max(ids[place] for place in places))

    best = max(groups.values(), key=order)
    chosen = runs.iloc[best].sort_values("run_id").drop_duplicates("seed", keep="last")
    return Standing(chosen, changes[best[0]] or {})
