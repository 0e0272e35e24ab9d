"""The journal of a run: what a kill cut off is dropped, everything else is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.api import DataError, Instances
from bench.engine.folder import Journal, from_record, to_record

records = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=20), max_size=4)


@given(st.lists(records, max_size=6), st.data())
def test_a_kill_at_any_byte_loses_the_last_line_at_most(tmp_path_factory, written, data):
    path = tmp_path_factory.mktemp("journal") / "lines.jsonl"
    journal = Journal(path)
    for record in written:
        journal.append(record)
    content = path.read_bytes() if path.exists() else b""
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut])
    kept = list(Journal(path).read())
    assert kept == written[: content[:cut].count(b"\n")]
    Journal(path).append({"next": 1})
    assert list(Journal(path).read()) == [*kept, {"next": 1}]


def test_a_long_cut_line_is_dropped_whole(tmp_path: Path):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"a":1}\n' + b"x" * 300_000)
    assert list(Journal(path).read()) == [{"a": 1}]


def test_an_edited_line_is_named(tmp_path: Path):
    (tmp_path / "lines.jsonl").write_text('{"a":1}\nhello\n')
    with pytest.raises(DataError, match=r"lines\.jsonl, line 2"):
        list(Journal(tmp_path / "lines.jsonl").read())


@pytest.mark.parametrize("scores", [None, [0.1 + 0.2, 1e-300]])
def test_a_prediction_comes_back_equal(scores):
    masks = np.zeros((2, 5, 6), np.bool_)
    masks[0, 1:3] = masks[1, 4, 2] = True
    found = Instances.from_masks(masks, scores=scores, class_ids=[1, 0], boxes=[[0, 0.1, 5, 3], [1, 2, 3, 4]])
    name, back = from_record(to_record("a/b", found))
    assert name == "a/b"
    assert back == found
