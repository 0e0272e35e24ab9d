"""Peak memory of a stretch of work on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.engine import memory

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell")


def test_a_hundred_megabytes_that_come_and_go_are_seen():
    before = memory.held("cpu")
    if not memory.reset_peak("cpu"):
        pytest.skip("the system does not let us begin a new peak")
    block = np.ones(100 * 2**20, np.uint8)
    block += 1
    del block
    assert memory.peak("cpu") - before >= 95 * 2**20
    assert memory.held("cpu") - before < 50 * 2**20


def test_a_system_that_does_not_tell_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_PROC", tmp_path)
    assert not memory.reset_peak("cpu")
    assert memory.peak("cpu") is None
    assert memory.held("cpu") is None
