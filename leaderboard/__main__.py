"""Streamlit with the board's libraries read while it starts, so that its first visitor does not wait for them.

``bench leaderboard`` runs it; the arguments are those of ``streamlit``.
"""

from __future__ import annotations

import importlib
import sys
import threading

HEAVY = ("pandas", "altair", "sqlalchemy", "scipy.stats", "bench.metrics", "bench.data", "bench.report.charts")
"""What the pages import. They themselves follow in :mod:`leaderboard.served`."""


def warm() -> None:
    """Import what the pages need."""
    for name in HEAVY:
        importlib.import_module(name)


def main() -> None:
    """Start Streamlit."""
    threading.Thread(target=warm, daemon=True).start()
    from streamlit.web.cli import main as streamlit

    sys.argv[0] = "streamlit"
    streamlit()


if __name__ == "__main__":
    main()
