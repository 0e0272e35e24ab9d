"""``bench run`` of a control on every card, through its stand-in: every path from a card to a stored row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from bench.data import dataset as dataset_module
from bench.data import synthetic
from bench.data.cards import Card, card_names, load_card
from bench.engine import service
from bench.store import open_store

FEW: Mapping[str, Mapping[str, int]] = {
    "bbbc039": {"images": 3},
    "dsb2018": {"images": 4, "test": 1},
    "evican": {"train": 1, "val": 1, "easy": 1, "medium": 1, "difficult": 1},
    "hela": {"frames": 2},
    "livecell": {"train": 1, "val": 1, "test": 2},
    "mcf10a": {"train": 1, "val": 1, "test": 1},
    "neural": {"train": 1, "val": 1, "test": 1},
    "sartorius": {"train": 4, "unlabelled": 1, "competition": 1},
    "u373": {"frames": 2},
    "usiigaci": {"images": 3},
}
"""Generator -> parameters for a stand-in of a few images."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One data root and one store for all cards, so that those of one generator share its images."""
    return tmp_path_factory.mktemp("every-card")


@pytest.fixture
def few(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, with stand-ins of a few images."""

    def load(name: str) -> Card:
        card = load_card(name)
        assert card.stand_in is not None
        stand_in = msgspec.structs.replace(card.stand_in, params=dict(FEW[card.stand_in.generator]))
        return msgspec.structs.replace(card, stand_in=stand_in)

    monkeypatch.setattr(dataset_module, "load_card", load)
    monkeypatch.setattr(synthetic, "processors", lambda: 1)
    for variable, value in (
        ("BENCH_CACHE", place / "cache"),
        ("BENCH_DATA_ROOT", place / "data"),
        ("BENCH_DB", place / "bench.db"),
        ("BENCH_RUNS", place / "runs"),
    ):
        monkeypatch.setenv(variable, str(value))
    monkeypatch.chdir(place)
    return place


@pytest.mark.parametrize("name", card_names())
def test_the_truth_is_run_on_every_card_and_scores_best(few: Path, name: str):
    (run,) = service.run_all("truth", name)
    assert run.error is None
    assert (run.stored.status, run.stored.dataset, run.stored.source) == ("ok", name, "synthetic")
    card = load_card(name)
    assert run.stored.split == card.evaluate
    scored = {r.protocol for r in run.results}
    assert {p.name for p in card.protocols} <= scored
    ranking = next(r for r in run.results if r.protocol == card.protocols[0].name)
    assert ranking.value == (1.0 if ranking.higher_is_better else 0.0)
    with open_store(read_only=True) as store:
        board = store.leaderboard(name, source="synthetic")
    assert board["run_id"].tolist() == [run.stored.id]
