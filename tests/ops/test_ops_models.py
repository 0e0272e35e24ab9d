"""mmdet's networks on our operators: they build, train a step and predict."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("tiny_models.py")


def run(provider: str, *names: str, threads: int = 1) -> dict[str, dict[str, Any]]:
    pytest.importorskip("mmdet")
    result = subprocess.run(
        [sys.executable, str(PROGRAM), *names],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "BENCH_OPS": provider, "OMP_NUM_THREADS": str(threads)},
    )
    assert result.returncode == 0, result.stderr
    found = {row["model"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert list(found) == list(names)
    assert {row["provider"] for row in found.values()} == {provider}
    return found


def check(row: dict[str, Any]) -> None:
    assert row["loss"] > 0
    assert row["finite"]
    assert row["trained"] > 50
    assert row["deformable_trained"] == row["deformable"]
    assert row["predictions"] > 0
    assert row["mask_shape"] == [96, 96]


def test_two_stage_networks() -> None:
    found = run("torch", "mask_rcnn", "cascade_dcn_v2")
    for row in found.values():
        check(row)
    assert found["mask_rcnn"]["deformable"] == 0
    assert found["cascade_dcn_v2"]["deformable"] == 2 * (4 + 6 + 3)  # weight and bias of each block's offsets


@pytest.mark.slow
def test_other_networks() -> None:
    names = ("mask_rcnn_soft_nms", "cascade_dcn_v1", "solov2", "rtmdet_ins", "mask2former")
    for row in run("torch", *names).values():
        check(row)


@pytest.mark.slow
def test_two_runs_give_the_same_gradients_bit_by_bit() -> None:
    names = ("mask_rcnn", "cascade_dcn_v2")
    first, second = (run("torch", *names, threads=2) for _ in range(2))
    for name in names:
        assert first[name]["digest"] == second[name]["digest"]


@pytest.mark.slow
def test_the_same_losses_with_compiled_operators() -> None:
    pytest.importorskip("mmcv")
    from bench.ops import provider

    compiled = next(c for c in provider.list_candidates() if c.provider == "mmcv")
    if compiled.fault:
        pytest.skip(f"no compiled operators to compare with: {compiled.fault}")
    names = ("mask_rcnn", "cascade_dcn_v1", "cascade_dcn_v2")
    ours, theirs = run("torch", *names), run("mmcv", *names)
    for name in names:
        assert ours[name]["loss"] == pytest.approx(theirs[name]["loss"], rel=1e-4)
        assert ours[name]["trained"] == theirs[name]["trained"]
