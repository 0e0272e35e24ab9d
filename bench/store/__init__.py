"""The store: every run, its numbers and where they come from, in an SQL database.

    from bench.store import open_store

    with open_store() as store:
        store.leaderboard("dsb2018")

Importing this package loads neither SQLAlchemy nor pandas; opening a store loads the first, its frames the second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.store.faults import NoDatabaseError
    from bench.store.latency import LatencySummary
    from bench.store.queries import StoredDataset, StoredRun
    from bench.store.store import Store, open_store, store_if_there

__all__ = [
    "LatencySummary",
    "NoDatabaseError",
    "Store",
    "StoredDataset",
    "StoredRun",
    "open_store",
    "store_if_there",
]

_HOMES = {
    "LatencySummary": "bench.store.latency",
    "NoDatabaseError": "bench.store.faults",
    "StoredDataset": "bench.store.queries",
    "StoredRun": "bench.store.queries",
    "Store": "bench.store.store",
    "open_store": "bench.store.store",
    "store_if_there": "bench.store.store",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
