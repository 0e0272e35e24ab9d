"""A grid of runs of which some cannot be made here: the others are, and what is missing is said in one line each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import bench
from bench.api import DataError, MissingDependencyError
from bench.engine import service
from bench.engine.folder import RunFolder
from bench.registry import registry
from bench.store import open_store

ADAPTERS = """
from bench.api import Instances, Method, MissingDependencyError, Schedule


class Picky(Method):
    name = "picky"
    title = "Picky"
    trainable = False
    scored = False
    inits = ("none",)
    schedules = {"paper": Schedule()}

    @classmethod
    def require(cls, params, weights):
        raise MissingDependencyError("picky is not run without weights", "give their path with --weights")

    def predict(self, image):
        return Instances.empty(*image.shape[:2])


class Lacking(Picky):
    name = "lacking"
    title = "Lacking"
    requires = ("a_package_that_is_not_here",)
"""
WEIGHTS = "picky is not run without weights (give their path with --weights)"
PACKAGE = "lacking needs a_package_that_is_not_here, which is not installed (pip install a_package_that_is_not_here)"


@pytest.fixture
def place(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``tiny``, the data set ``absent`` that is not there, and two methods that cannot run."""
    (workplace / "mine").mkdir()
    (workplace / "mine" / "adapters.py").write_text(ADAPTERS)
    card = (workplace / "cards" / "tiny.toml").read_text()
    absent = card.replace('"tiny"', '"absent"', 1).replace('folders = ["tiny"]', 'folders = ["absent"]')
    (workplace / "cards" / "absent.toml").write_text(absent)
    monkeypatch.setenv("BENCH_METHODS", str(workplace / "mine"))
    registry.cache_clear()
    yield workplace
    registry.cache_clear()


def stored() -> list[str]:
    with open_store(read_only=True) as store:
        return sorted(f"{run.method} {run.seed}" for run in store.runs())


def test_what_can_run_runs_and_what_cannot_is_said_before_and_after(place: Path, cli):
    code, out, told = cli("run", "-m", "picky,truth,lacking,jitter", "-d", "tiny", "--seed", "0,1", "--json")
    err = told.splitlines()
    assert code == MissingDependencyError.exit_code
    assert [run["method"] for run in json.loads(out)] == ["truth", "truth", "jitter", "jitter"]
    assert stored() == ["jitter 0", "jitter 1", "truth 0", "truth 1"]
    assert err[:2] == [f"left out: {WEIGHTS}", f"left out: {PACKAGE}"]
    assert err[-2:] == [f"error: {WEIGHTS}", f"error: {PACKAGE}"]


def test_a_protocol_that_there_is_not_is_a_mistake_in_the_card_named_with_its_file(place: Path, cli):
    absent = place / "cards" / "absent.toml"
    absent.write_text(absent.read_text().replace('name = "kaggle"', 'name = "kaggles"'))
    code, out, err = cli("run", "-m", "truth", "-d", "absent,tiny", "--json")
    assert code == DataError.exit_code
    assert [run["dataset"] for run in json.loads(out)] == ["tiny"]
    assert "absent.toml: protocols: unknown protocol 'kaggles'" in err.splitlines()[-1]


def test_a_data_set_that_is_not_there_stands_in_the_way_of_its_own_runs_only(place: Path, cli):
    code, out, told = cli("run", "-m", "truth", "-d", "absent,tiny", "--json")
    err = told.splitlines()
    assert code == DataError.exit_code
    assert [run["dataset"] for run in json.loads(out)] == ["tiny"]
    assert err[0].startswith("left out: ")
    assert "absent" in err[0]
    assert err[-1] == err[0].replace("left out", "error", 1)


def test_a_dry_run_says_the_same(place: Path, cli):
    code, out, told = cli("run", "-m", "picky,truth", "-d", "tiny", "--dry-run", "--json")
    err = told.splitlines()
    assert code == MissingDependencyError.exit_code
    assert [plan["method"] for plan in json.loads(out)] == ["truth"]
    assert err == [f"error: {WEIGHTS}"]
    assert not (place / "bench.db").exists()
    assert not (place / "runs").exists()


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_where_nothing_can_run_nothing_is_begun_and_it_is_said_once(place: Path, cli, more: tuple[str, ...]):
    code, out, told = cli("run", "-m", "picky,lacking", "-d", "tiny", *more)
    err = told.splitlines()
    assert (code, out) == (MissingDependencyError.exit_code, "")
    assert err == [f"error: {WEIGHTS}", f"error: {PACKAGE}"]
    assert not (place / "bench.db").exists()


@pytest.mark.parametrize(
    "mistake",
    [
        ("-m", "trut"),
        ("-d", "tinny"),
        ("--split", "tset"),
        ("--schedule", "nonsense"),
        ("--set", "nothing=1"),
        ("--device", "gpu"),
    ],
)
def test_a_mistake_refuses_the_whole_grid_before_anything_is_made(place: Path, cli, mistake: tuple[str, str]):
    code, out, told = cli("run", "-m", "picky,truth", "-d", "tiny", *mistake)
    err = told.splitlines()
    assert (code, out) == (2, "")
    assert len([line for line in err if line.startswith("error: ")]) == 1
    assert not (place / "bench.db").exists()
    assert not (place / "runs").exists()


def test_what_another_process_holds_is_left_out_and_the_rest_is_printed(place: Path, cli):
    held = service.plan("truth", "tiny")[0]["folder"]
    with RunFolder(Path(held)).locked():
        code, out, told = cli("run", "-m", "truth,jitter", "-d", "tiny", "--json")
    err = told.splitlines()
    assert code == 8
    assert [run["method"] for run in json.loads(out)] == ["jitter"]
    assert "another process is at work on this run" in err[-1]


def test_a_notebook_gets_the_reason_after_the_others_have_run(place: Path):
    with pytest.raises(MissingDependencyError, match="without weights"):
        bench.run(["picky", "truth"], "tiny")
    assert stored() == ["truth 0"]
    with pytest.raises(MissingDependencyError, match="without weights"):
        service.run_all(["picky", "truth"], "tiny", seeds=[1])
    assert stored() == ["truth 0", "truth 1"]
    with pytest.raises(MissingDependencyError, match="without weights"):
        service.plan(["picky", "truth"], "tiny")


def test_the_key_of_a_run_does_not_depend_on_what_was_left_out(place: Path):
    (alone,) = service.plan("truth", "tiny")
    planned, left_out = service.plan_grid(["lacking", "truth"], ["absent", "tiny"])
    assert [plan["key"] for plan in planned] == [alone["key"]]
    assert len(left_out) == 2
