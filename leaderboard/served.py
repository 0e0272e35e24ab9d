"""The board as ``bench leaderboard`` serves it: everything that the first visitor would wait for is done before.

``streamlit run leaderboard/app.py`` shows the same pages, somewhat later.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.middleware import Middleware

from bench.errors import BenchError
from leaderboard.assets import Assets


@asynccontextmanager
async def warmed(_app: Any) -> AsyncIterator[None]:
    """Read the pages, and remember the board that comes first, while nobody waits for it."""
    importlib.import_module("leaderboard.app")
    picking = importlib.import_module("leaderboard.views.picking")
    with suppress(BenchError):  # no database yet, or none of ours: the page says so itself
        picking.first_board()
    yield


app = st.App(
    Path(__file__).with_name("app.py"),
    middleware=[Middleware(Assets, root=Path(st.__file__).parent / "static")],
    lifespan=warmed,
)
