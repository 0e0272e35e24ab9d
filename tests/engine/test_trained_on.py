"""``bench run --weights``: what is kept of given weights, and of every departure from a method's defaults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.api import UnknownNameError, UsageError
from bench.cli import main
from bench.engine import service
from bench.registry import registry
from bench.store import open_store


@pytest.fixture
def weights(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights for the method ``threshold``, which is found in a folder of the user's."""
    (workplace / "my_methods").mkdir()
    source = Path(__file__).with_name("methods_for_tests.py").read_text()
    (workplace / "my_methods" / "threshold.py").write_text(source)
    monkeypatch.setenv("BENCH_METHODS", str(workplace / "my_methods"))
    registry.cache_clear()
    (workplace / "given.pth").write_text("60")
    yield workplace / "given.pth"
    registry.cache_clear()


def test_weights_that_know_the_data_set_are_marked_and_never_rank(weights: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as exit_:
        main(["run", "-m", "threshold", "-d", "tiny", "--weights", str(weights), "--trained-on", "tiny", "--json"])
    assert not exit_.value.code
    (run,) = json.loads(capsys.readouterr().out)
    (plain,) = service.run_all("threshold", "tiny", weights=weights, schedule="paper")
    assert plain.stored.key != run["key"]
    with open_store(read_only=True) as store:
        board = store.leaderboard("tiny")
        arguments = store.provenance(run["run"]).arguments
        assert store.badges([store.run(run["run"])])[run["run"]] == ["measured", "trained-on-this"]
    assert arguments["trained_on"] == ["tiny"]
    # The same weights without the statement: the later of the two is shown.
    assert board[["run_id", "badges"]].values.tolist() == [[plain.stored.id, "measured"]]
    (said,) = service.run_all("threshold", "tiny", weights=weights, schedule="paper", trained_on=["tiny"], force=True)
    with open_store(read_only=True) as store:
        board = store.leaderboard("tiny")
    assert board[["run_id", "badges"]].values.tolist() == [[said.stored.id, "measured, trained-on-this"]]
    assert board["rank"].isna().all()


def test_other_weights_do_not_hide_each_other(weights: Path):
    third = weights.with_name("third.pth")
    third.write_text("70")
    (plain,) = service.run_all("threshold", "tiny", schedule="paper")
    (second,) = service.run_all("threshold", "tiny", weights=weights, schedule="paper")
    (said,) = service.run_all("threshold", "tiny", weights=third, schedule="paper", trained_on=["tiny"])
    with open_store(read_only=True) as store:
        board = store.leaderboard("tiny").set_index("run_id")
    assert board["may_rank"].to_dict() == {plain.stored.id: True, second.stored.id: True, said.stored.id: False}


def test_what_weights_were_trained_on_is_asked_of_given_weights_only(weights: Path):
    with pytest.raises(UsageError, match="--trained-on says what given weights were trained on"):
        service.plan("threshold", "tiny", trained_on=["tiny"])
    with pytest.raises(UnknownNameError, match="unknown data set 'tinny'"):
        service.plan("threshold", "tiny", weights=weights, trained_on=["tinny"])


def test_a_run_without_the_statement_keeps_its_key(weights: Path):
    base, same, other = (
        service.plan("threshold", "tiny", weights=weights, trained_on=said)[0] for said in ([], (), ["tiny"])
    )
    assert base["key"] == same["key"] != other["key"]
    assert "trained_on" not in base


@pytest.mark.parametrize(
    ("asked", "changed"),
    [
        ({}, {}),
        ({"settings": {"offset": "30"}}, {}),
        ({"settings": {"offset": "20"}}, {"offset": 20.0}),
    ],
)
def test_what_departs_from_the_defaults_is_kept(weights: Path, asked: dict, changed: dict):
    (run,) = service.run_all("threshold", "tiny", schedule="paper", **asked)
    with open_store(read_only=True) as store:
        assert store.marks([run.stored.id]) == {run.stored.id: {"changed": changed}}


def test_given_weights_depart_from_the_defaults(weights: Path):
    (run,) = service.run_all("threshold", "tiny", weights=weights, schedule="paper")
    with open_store(read_only=True) as store:
        assert store.marks([run.stored.id])[run.stored.id]["changed"] == {"weights": run.stored.weights_sha256}
