"""Who ranks, in which order, and what is never mixed."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest

from bench.errors import UnknownNameError, UsageError
from bench.records import ResultRecord
from bench.store import Store


def add(store: Store, make, name: str, value: float | None, **fields: object) -> int:
    """A run of a method called ``name``."""
    method = {"name": name, "variant": "", "title": name, "code_hash": name} | fields.pop("method", {})
    return store.add(make((name, *sorted(map(str, fields.items()))), value=value, method=method, **fields))


def ranks(frame: pd.DataFrame) -> dict[str, int | None]:
    return {title: None if pd.isna(rank) else int(rank) for title, rank in zip(frame.title, frame["rank"], strict=True)}


def test_best_first_and_ties_share_a_rank(board: Store, make) -> None:
    for name, value in (("c", 0.3), ("a", 0.5), ("b", 0.5), ("d", None), ("e", 0.1)):
        add(board, make, name, value)
    frame = board.leaderboard("cells")
    assert list(frame.title) == ["a", "b", "c", "e", "d"]
    assert ranks(frame) == {"a": 1, "b": 1, "c": 3, "e": 4, "d": None}
    assert frame.set_index("title").loc["d", "voc/AP@0.5:reason"] == "no scores"


def test_columns_and_what_is_shown(board: Store, make) -> None:
    add(board, make, "a", 0.5)
    frame = board.leaderboard("cells")
    numbers = [name for name in frame.columns if "/" in name and ":" not in name]
    assert numbers == ["voc/AP@0.5", "voc/IoU@0.5", "voc/AP@0.7", "semantic/rmse"]
    row = frame.iloc[0]
    assert (row["voc/IoU@0.5"], row["voc/IoU@0.5:low"], row["voc/IoU@0.5:high"]) == (0.8, 0.7, 0.9)
    assert row["voc/AP@0.5:reason"] is None
    assert (row.latency_median_ms, row.badges, row.n_parameters) == (17.5, "measured", 31_000_000)
    about = frame.attrs
    assert (about["dataset"], about["source"], about["split"], about["protocol"], about["metric"]) == (
        "cells",
        "real",
        "test",
        "voc",
        "AP@0.5",
    )
    assert about["columns"]["semantic/rmse"]["higher_is_better"] is False
    assert about["columns"]["semantic/rmse"]["params"] == {"threshold": 0.5}


def test_rows_of_one_method_say_in_which_settings_they_differ(board: Store, make) -> None:
    for score, crop in ((0.9, 160), (0.5, 160)):
        params = {"min_score": score, "crop": crop, "widths": [8, 16]}
        add(board, make, "unet", score, method={"params": params, "params_hash": str(score)}, seed=int(10 * score))
    add(board, make, "other", 0.2, method={"params": {"crop": 1}, "params_hash": "other"})
    frame = board.leaderboard("cells")
    assert dict(zip(frame["voc/AP@0.5"], frame["settings"], strict=True)) == {
        0.9: "min_score=0.9",
        0.5: "min_score=0.5",
        0.2: "",
    }


def test_what_has_no_rank(board: Store, make) -> None:
    add(board, make, "full", 0.2)
    add(board, make, "smoke", 0.9, schedule="smoke")
    add(board, make, "short", 0.8, schedule="short")
    add(board, make, "limited", 0.7, complete=False)
    add(board, make, "truth", 1.0, badge="control", method={"origin": "control"})
    add(board, make, "failed", 0.9, status="failed", failure_kind="error")
    frame = board.leaderboard("cells")
    assert ranks(frame) == {"full": 1, "truth": None, "smoke": None, "short": None, "limited": None}
    assert dict(zip(frame.title, frame.badges, strict=True)) == {
        "full": "measured",
        "truth": "control",
        "smoke": "measured, smoke",
        "short": "measured, short",
        "limited": "measured, incomplete",
    }


def test_a_board_of_short_runs_ranks_them_and_one_of_smoke_runs_does_not(board: Store, make) -> None:
    add(board, make, "full", 0.2)
    add(board, make, "short", 0.8, schedule="short")
    add(board, make, "smoke", 0.9, schedule="smoke")
    assert ranks(board.leaderboard("cells", schedule="short")) == {"short": 1}
    assert ranks(board.leaderboard("cells", schedule="smoke")) == {"smoke": None}
    assert ranks(board.leaderboard("cells", schedule="paper")) == {"full": 1}


def test_one_row_for_each_thing_that_was_measured(board: Store, make) -> None:
    old = add(board, make, "a", 0.3, device="cpu")
    new = add(board, make, "a", 0.4, device="cuda:0")
    seed = add(board, make, "a", 0.5, seed=1)
    init = add(board, make, "a", 0.6, init="coco")
    code = add(board, make, "a", 0.7, method={"code_hash": "changed"}, note="new code")
    partial = add(board, make, "a", 0.8, complete=False)
    shown = set(board.leaderboard("cells").run_id)
    assert shown == {new, seed, init, code}
    assert old not in shown
    assert partial not in shown, "a part of the images does not hide the whole"
    board.supersede(new)
    assert set(board.leaderboard("cells").run_id) == {old, seed, init, code}


def test_weights_and_ways_to_compute_do_not_hide_each_other(board: Store, make) -> None:
    trained = add(board, make, "a", 0.3, arguments={"changed": {}})
    given = {"init": "weights"}
    second = add(board, make, "a", 0.5, **given, weights_sha256="2", arguments={"changed": {"weights": "2"}})
    said = {"changed": {"weights": "3"}, "trained_on": ["cells"]}
    third = add(board, make, "a", 0.9, **given, weights_sha256="3", arguments=said)
    started = {"init": "start.pth", "arguments": {"changed": {"init": "4"}}}
    fourth = add(board, make, "a", 0.4, **started)
    fifth = add(board, make, "a", 0.2, arguments={"changed": {"compute": ["float16"]}})
    frame = board.leaderboard("cells").set_index("run_id")
    assert set(frame.index) == {trained, second, third, fourth, fifth}
    assert frame.index[frame["rank"].eq(1).fillna(False)].tolist() == [second]
    assert frame.loc[third, "badges"] == "measured, trained-on-this"
    # What somebody says of weights, and where the file of initial ones lies, is nothing that was measured.
    unsaid = add(board, make, "a", 0.8, **given, weights_sha256="3", arguments={"changed": {"weights": "3"}})
    moved = add(board, make, "a", 0.4, **{**started, "init": "elsewhere/start.pth"})
    assert set(board.leaderboard("cells").run_id) == {trained, second, unsaid, moved, fifth}


def test_runs_of_a_store_that_does_not_know_what_was_changed(board: Store, make) -> None:
    old = add(board, make, "a", 0.3, device="cpu")
    weights = [add(board, make, "a", 0.5, init="weights", weights_sha256=w) for w in "xy"]
    assert set(board.leaderboard("cells").run_id) == {old, *weights}
    new = add(board, make, "a", 0.4, arguments={"changed": {}})
    again = add(
        board, make, "a", 0.6, init="weights", weights_sha256="y", arguments={"changed": {"weights": "y"}}
    )  # fmt: skip
    assert set(board.leaderboard("cells").run_id) == {new, weights[0], again}


def test_lower_is_better(board: Store, make) -> None:
    for name, value in (("a", 0.4), ("b", 0.1), ("c", 0.2)):
        add(board, make, name, 0.5, results=(ResultRecord("semantic", "1", "rmse", value, "fraction", False),))
    frame = board.leaderboard("cells", protocol="semantic")
    assert list(frame.title) == ["b", "c", "a"]
    assert list(frame["rank"]) == [1, 2, 3]


def test_another_protocol_or_metric_ranks_on_request(board: Store, make) -> None:
    add(board, make, "a", 0.5)
    add(board, make, "b", 0.6)
    frame = board.leaderboard("cells", protocol="semantic")
    assert next(name for name in frame.columns if "/" in name) == "semantic/rmse"
    assert ranks(frame) == {"a": 1, "b": 1}
    assert ranks(board.leaderboard("cells", metric="AP@0.7")) == {"a": None, "b": None}
    with pytest.raises(UnknownNameError, match=r"unknown protocol 'vocc' .did you mean voc"):
        board.leaderboard("cells", protocol="vocc")
    with pytest.raises(UnknownNameError, match=r"unknown metric of voc 'AP@0\.6'"):
        board.leaderboard("cells", metric="AP@0.6")


def test_versions_of_a_data_set_never_mix(board: Store, make) -> None:
    real = add(board, make, "a", 0.5)
    stand_in = {"content_hash": "5eed" * 16, "source": "synthetic"}
    made = add(board, make, "a", 0.9, dataset=stand_in)
    frame = board.leaderboard("cells")
    assert list(frame.run_id) == [made], "the version run last"
    assert frame.attrs["source"] == "synthetic"
    assert frame.badges[0] == "measured, synthetic"
    assert [other["source"] for other in frame.attrs["other_versions"]] == ["real"]
    assert list(board.leaderboard("cells", source="real").run_id) == [real]
    assert list(board.leaderboard("cells", content_hash="c0ffee").run_id) == [real]
    with pytest.raises(UsageError, match="no runs of that version"):
        board.leaderboard("cells", content_hash="c0ffee", source="synthetic")


def test_a_version_on_which_everything_failed_hides_no_other(board: Store, make) -> None:
    real = add(board, make, "a", 0.5)
    add(board, make, "a", 0.5, dataset={"content_hash": "5"}, status="failed", failure_kind="error")
    assert list(board.leaderboard("cells").run_id) == [real]
    with pytest.raises(UsageError, match="no run of data set 'cells' has finished"):
        board.leaderboard("cells", content_hash="5")


def test_splits_never_mix(board: Store, make) -> None:
    test = add(board, make, "a", 0.5)
    add(board, make, "a", 0.5, split="val")
    add(board, make, "a", 0.5, split="val", seed=1)
    assert list(board.leaderboard("cells").run_id) == [test]
    assert len(board.leaderboard("cells", split="val")) == 2
    with pytest.raises(UsageError, match="no finished runs on split 'train'"):
        board.leaderboard("cells", split="train")
    board.supersede(test)
    assert board.leaderboard("cells").attrs["split"] == "val", "no test split: the one with most runs"


def test_versions_of_a_protocol_never_mix(board: Store, make) -> None:
    def scored(version: str, value: float, **params: object) -> tuple[ResultRecord, ...]:
        return (ResultRecord("voc", version, "AP@0.5", value, "fraction", True, params=params),)

    add(board, make, "ninth", 0.9, results=scored("9", 0.9))
    add(board, make, "tenth", 0.5, results=scored("10", 0.5, points=11))
    add(board, make, "eleven", 0.6, results=scored("10", 0.6, points=101))
    frame = board.leaderboard("cells")
    assert frame.attrs["protocol_version"] == "10"
    assert ranks(frame) == {"eleven": 1, "ninth": None, "tenth": None}
    reasons = dict(zip(frame.title, frame["voc/AP@0.5:reason"], strict=True))
    assert reasons == {
        "eleven": None,
        "ninth": "scored under version 9 of voc, not 10",
        "tenth": "scored with other parameters",
    }
    assert frame["voc/AP@0.5"].isna().tolist() == [False, True, True]


def test_a_run_that_was_rescored_ranks_by_its_new_number(board: Store, make) -> None:
    run_id = add(board, make, "a", 0.5)
    board.rescore(run_id, [ResultRecord("voc", "2", "AP@0.5", 0.7, "fraction", True)])
    frame = board.leaderboard("cells")
    assert frame["voc/AP@0.5"].tolist() == [0.7]
    assert [name for name in frame.columns if name.startswith("voc/") and ":" not in name] == ["voc/AP@0.5"]


def test_a_protocol_without_numbers_ranks_nobody(board: Store, make) -> None:
    bundle = make("a", results=(ResultRecord("other", "1", "x", 0.5, "", None),))
    board.add(dataclasses.replace(bundle, image_results=()))
    frame = board.leaderboard("cells")
    assert frame["rank"].isna().all()
    assert frame.attrs["metric"] is None
    assert "other/x" in frame.columns


def test_nothing_to_show(board: Store, make) -> None:
    with pytest.raises(UsageError, match=r"no runs of data set 'cells' are stored .begin with: bench run --dataset"):
        board.leaderboard("cells")
    add(board, make, "a", 0.5)
    with pytest.raises(UsageError, match=r"no runs of data set 'nuclei' are stored .there are some of: cells"):
        board.leaderboard("nuclei")
    empty = board.leaderboard("cells", schedule="short")
    assert empty.empty
    assert "rank" in empty.columns
