"""How a run is named wherever several stand side by side: by its number, its method, and what was changed of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.store.identity import GIVEN, SUBMITTED
from bench.store.plain import as_text

if TYPE_CHECKING:
    from bench.store import StoredRun

HASH_SHOWN = 8
"""Characters of the hash of weights, or of code."""

_HASH = re.compile(r"[0-9a-f]{64}")

_PLAIN_INITS = ("none", "unknown", "random", GIVEN)
"""Of older stores, which do not say what was changed: initial weights that go without saying."""


def described(run: StoredRun, changed: Mapping[str, Any] | None = None) -> str:
    """A run in words, without its number: "U-Net, BCE loss, seed 0, smoke, width=8".

    Args:
        run: as the store has it.
        changed: what of it is not as the method has it by default (:func:`bench.store.views.marks`); None where nobody
            knows.
    """
    return ", ".join([run.title, *_details(run, changed)])


def run_names(runs: Sequence[StoredRun], marks: Mapping[int, Mapping[str, Any]]) -> dict[int, str]:
    """How runs are named in a comparison, by their numbers: "run 3 (U-Net, BCE loss, seed 0)"; no two alike.

    Where two of them differ in nothing else, their versions of the method's code are named too.

    Args:
        runs: that stand side by side.
        marks: of them, as :meth:`bench.store.Store.marks` gives them.
    """
    words = {run.id: described(run, marks.get(run.id, {}).get("changed")) for run in runs}
    codes: dict[str, set[str]] = {}
    for run in runs:
        codes.setdefault(words[run.id], set()).add(run.code_hash)
    return {
        run.id: f"run {run.id} ({words[run.id]}"
        + (f", code {run.code_hash[:HASH_SHOWN]})" if len(codes[words[run.id]]) > 1 else ")")
        for run in runs
    }


def _details(run: StoredRun, changed: Mapping[str, Any] | None) -> list[str]:
    if run.schedule == SUBMITTED:  # nobody here knows the seed, or anything else, of what was submitted
        return [f"by {run.submitted_by}"] if run.submitted_by else []
    said = dict(changed or {})
    schedule = [] if run.schedule == "paper" else [run.schedule]
    init, weights, compute = said.pop("init", None), said.pop("weights", None), said.pop("compute", ())
    if changed is None and run.init not in _PLAIN_INITS:
        init = run.init
    return [
        f"seed {run.seed}",
        *schedule,
        *([f"init {_short(init)}"] if init else []),
        *([f"weights {_short(weights)}"] if weights else []),
        *map(str, compute),
        *(f"{name}={as_text(value)}" for name, value in said.items()),
    ]


def _short(said: str) -> str:
    """The beginning of a hash; a name as it is."""
    return said[:HASH_SHOWN] if _HASH.fullmatch(said) else said
