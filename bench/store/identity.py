"""What was measured: the one rule by which a later run takes the place of an earlier one, wherever runs are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sqlalchemy import Row

    from bench.store.queries import StoredRun

GIVEN = "weights"
"""``init`` of a run with weights that were given instead of trained."""

SUBMITTED: Final = "submitted"
"""Badge, schedule and origin of predictions made elsewhere: nobody here knows how they were made."""

Measurement = tuple[Any, ...]
"""Equal for two runs where a later one of the same seed replaces the earlier; hashable, and nothing to be read."""


def measurement(run: StoredRun | Row[Any], changed: Mapping[str, Any] | None) -> Measurement:
    """What of a run is the same for all its seeds: method, code, settings, weights, training, computing, submitter.

    Machine, software and what somebody says of the weights are no part of it: of runs that differ only in these the
    last one stands.

    Args:
        run: as it is stored; a row has ``family``, ``variant``, ``code_hash``, ``params_hash``, ``schedule``,
            ``submitted_by``, ``init`` and ``weights_sha256``.
        changed: what its plan says is not the method's default (:func:`bench.store.views.marks`). Runs of older stores
            do not say; these count as computing by default, with weights that were given told apart by their hash.
    """
    said = changed or {}
    given = said.get("weights") or (run.weights_sha256 if run.init == GIVEN else None)
    return (
        *(run.family, run.variant, run.code_hash, run.params_hash, run.schedule, run.submitted_by),
        *(said.get("init", run.init), given, tuple(said.get("compute", ()))),
    )
