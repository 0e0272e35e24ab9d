"""Fixtures of the methods' tests."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="session")
def narrow_yi2018() -> dict[str, Any]:
    """Settings of Yi 2018 that make a network which a test can afford, on small images of any objects."""
    return {
        "resnet_depth": 18,
        "resnet_width": 8,
        "reduced_channels": 8,
        "fused_channels": 16,
        "extra_channels": (16, 16, 16),
        "patch_channels": 8,
        "fit_to_task": False,
    }


@pytest.fixture(scope="session")
def every_box() -> dict[str, Any]:
    """Every default box of Yi 2018 is a detection: there is something to train masks on before the detector is."""
    return {"score_threshold": 0.0, "nms_iou": 1.0, "candidates": 10**6}
