"""Methods that train on more than the training split of their data set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.api import DataError, FitContext, MethodError, UnknownNameError, UsageError
from bench.cli import main
from bench.engine import service
from bench.registry import registry
from bench.store import open_store

METHOD = '''
import json
from dataclasses import dataclass

from bench.api import Instances, Method, Schedule


class Collector(Method):
    """Writes down what it is given to train on."""

    name = "collector"
    title = "Collector"
    schedules = {"paper": Schedule(iterations=1), "smoke": Schedule(iterations=1, train_images=2)}

    @dataclass(frozen=True)
    class Params:
        """Settings."""

        also: str = "more:train"
        opens: str = ""

    @classmethod
    def trains_on(cls, params, dataset):
        return tuple(tuple((one if ":" in one else dataset + ":" + one).split(":")) for one in params.also.split())

    def fit(self, train, val, context):
        context.folder.mkdir(parents=True, exist_ok=True)
        pairs = list(self.trains_on(self.params, "tiny"))
        if self.params.opens:
            pairs.append(self.params.opens.split(":"))
        seen = {}
        for dataset, split in pairs:
            samples = list(context.data(dataset, split))
            seen[dataset + ":" + split] = {s.id: None if s.instances is None else len(s.instances) for s in samples}
        weights = context.folder / "weights.pth"
        weights.write_text(json.dumps(seen))
        return weights

    def load(self, weights):
        """Nothing to load."""

    def predict(self, image):
        return Instances.empty(*image.shape[:2], scored=True)
'''


@pytest.fixture
def collector(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The method ``collector``, and a second data set ``more``."""
    folder = workplace / "my_methods"
    folder.mkdir()
    (folder / "collector.py").write_text(METHOD)
    monkeypatch.setenv("BENCH_METHODS", str(folder))
    card = (workplace / "cards" / "tiny.toml").read_text().replace("tiny", "more")
    (workplace / "cards" / "more.toml").write_text(card)
    for part, count in (("train", 3), ("test", 1), ("val", 2)):
        for kind in ("images", "labels"):
            (workplace / "data" / "more" / part / kind).mkdir(parents=True)
        for number in range(count):
            image = np.random.default_rng([number, len(part)]).integers(0, 99, (32, 32)).astype(np.uint8)
            path = workplace / "data" / "more" / part
            Image.fromarray(image).save(path / "images" / f"{part}{number}.png")
            Image.fromarray((image > 60).astype(np.uint16)).save(path / "labels" / f"{part}{number}.png")
    registry.cache_clear()
    yield workplace
    registry.cache_clear()


def seen(run: service.FinishedRun) -> dict:
    assert run.error is None, run.error
    return json.loads((Path(run.stored.folder) / "training" / "weights.pth").read_text())


def test_a_split_of_another_data_set_is_opened_and_stored_and_shown(
    collector: Path, capsys: pytest.CaptureFixture[str]
):
    (run,) = service.run_all("collector", "tiny", schedule="paper")
    assert list(seen(run)["more:train"].values()) == [1, 1, 1]
    with open_store(read_only=True) as store:
        (stored,) = store.bundle(run.stored.id).run.arguments["further_data"]
    assert {k: stored[k] for k in ("dataset", "split", "source", "images", "left_out")} == {
        "dataset": "more",
        "split": "train",
        "source": "real",
        "images": 3,
        "left_out": 0,
    }
    assert len(stored["dataset_version"]) == 64
    with pytest.raises(SystemExit) as exit_:
        main(["show", str(run.stored.id)])
    assert not exit_.value.code
    assert stored["dataset_version"] in capsys.readouterr().out


def test_what_is_opened_is_part_of_the_key_and_its_content_too(collector: Path):
    def key(**settings: str) -> str:
        return service.plan("collector", "tiny", schedule="paper", settings=settings)[0]["key"]

    before = key()
    assert len({before, key(also="more:test"), key(also="")}) == 3
    image = next((collector / "data" / "more" / "train" / "images").iterdir())
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(image)
    assert key() != before


def test_a_dry_run_says_what_else_is_trained_on(collector: Path, capsys: pytest.CaptureFixture[str]):
    service.plan("collector", "tiny", schedule="paper")
    assert "collector trains on more too (split train, 3 images)" in capsys.readouterr().err


def test_a_method_without_further_data_keeps_its_key(collector: Path):
    assert "further_data" not in service.plan("collector", "tiny", schedule="paper", settings={"also": ""})[0]


def test_the_limit_of_a_schedule_holds_for_every_split(collector: Path):
    (run,) = service.run_all("collector", "tiny", schedule="smoke")
    assert len(seen(run)["more:train"]) == 2


def test_images_that_are_evaluated_are_never_trained_on(collector: Path, capsys: pytest.CaptureFixture[str]):
    judged = collector / "data" / "tiny" / "test" / "images" / "test1.png"
    (collector / "data" / "more" / "train" / "images" / "train0.png").write_bytes(judged.read_bytes())
    labels = collector / "data" / "tiny" / "test" / "labels" / "test1.png"
    (collector / "data" / "more" / "train" / "labels" / "train0.png").write_bytes(labels.read_bytes())
    (run,) = service.run_all("collector", "tiny", schedule="paper")
    assert len(seen(run)["more:train"]) == 2
    assert "1 images that it is evaluated on are left out" in capsys.readouterr().err
    with pytest.raises(DataError, match="evaluated on all its images"):
        service.plan("collector", "tiny", schedule="paper", settings={"also": "test"})


@pytest.mark.parametrize(
    ("also", "error", "message"),
    [
        ("mroe:train", UnknownNameError, "did you mean more"),
        ("more:tain", UnknownNameError, "tain"),
    ],
)
def test_names_that_do_not_exist_are_refused_before(collector: Path, also: str, error: type, message: str):
    with pytest.raises(error, match=message):
        service.run_all("collector", "tiny", schedule="paper", settings={"also": also})
    assert not (collector / "runs").exists()


def test_missing_data_is_one_clear_line_before_anything_trains(collector: Path):
    (collector / "data" / "more").rename(collector / "data" / "elsewhere")
    with pytest.raises(DataError, match="collector trains on the split 'train' of more too") as caught:
        service.run_all("collector", "tiny", schedule="paper")
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert not (collector / "runs").exists()
    (trained,) = service.run_all("collector", "tiny", schedule="paper", settings={"also": ""})
    weights = Path(trained.stored.folder) / "training" / "weights.pth"
    (given,) = service.run_all("collector", "tiny", schedule="paper", weights=weights)  # then nobody needs it
    assert given.error is None


def test_what_is_not_declared_is_not_opened(collector: Path):
    (run,) = service.run_all("collector", "tiny", schedule="paper", settings={"opens": "more:test"})
    assert isinstance(run.error, MethodError)
    assert "without having declared it" in run.error.message


def test_outside_the_harness_a_context_opens_nothing(tmp_path: Path):
    from bench.api import Schedule

    with pytest.raises(UsageError, match="livecell"):
        FitContext(tmp_path, Schedule(), "paper").data("livecell", "train")
