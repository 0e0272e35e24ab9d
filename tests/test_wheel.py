"""The wheel outside a checkout: methods, cards and migrations travel in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_wheel_works_outside_a_checkout(checkout: Path, tmp_path: Path):
    """Built, installed beside nothing of the checkout, and run on a data set of its own."""
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(checkout)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", str(site), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    # The dependencies of this environment, and the wheel's own code before the editable checkout.
    paths = os.pathsep.join([str(site), sysconfig.get_paths()["purelib"]])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BENCH_")} | {"PYTHONPATH": paths}

    def bench(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "bench", *arguments],
            cwd=tmp_path,
            env={**environment, "BENCH_CACHE": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = subprocess.run(
        [sys.executable, "-P", "-c", "import bench; print(bench.__file__)"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert where.startswith(str(site))
    assert {"mnc", "mask_rcnn", "unet-bce"} <= {
        m["name"] for m in json.loads(bench("list", "methods", "--json"))["items"]
    }
    assert {"neural", "dsb2018"} <= {d["name"] for d in json.loads(bench("list", "datasets", "--json"))["items"]}
    (run,) = json.loads(bench("run", "-m", "truth", "-d", "neural", "--limit", "2", "--json"))
    assert run["protocols"]["voc"]["AP@0.5"]["value"] == 1.0
    assert "bench check mine" in bench("new", "method", "mine", "--base", "external")
    assert '"ok": true' in bench("check", "jitter", "--json")
