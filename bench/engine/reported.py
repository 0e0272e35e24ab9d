"""The papers' numbers, brought into a store."""

from __future__ import annotations

from bench.data.reported import reported_results
from bench.store import Store


def store_reported(store: Store) -> None:
    """Bring the papers' numbers in a store up to those of the files, where they differ; other papers' stay.

    Raises:
        DataError: a file of them is broken.
    """
    known = reported_results()
    papers = {record.paper for record in known}
    if {record for record in store.reported() if record.paper in papers} != set(known):
        store.add_reported(known, whole=True)
