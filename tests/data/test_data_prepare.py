"""The prepared form: the same data set, opened at once."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bench.cli import main
from bench.data import load_card, open_dataset
from bench.data import prepare as room
from bench.data.cards import read_card
from bench.data.dataset import Dataset
from bench.data.opening import open_visibly
from bench.data.origin import Origin, states
from bench.data.prepare import is_prepared, prepare, prepared_folder
from bench.data.readers import prepared as form
from bench.data.readers.prepared import verify
from bench.errors import DataError, OutputError, UsageError


def same(one: Dataset, other: Dataset) -> None:
    assert one.content_hash == other.content_hash
    assert one.images() == other.images()
    assert one.task == other.task
    assert one.notes == other.notes
    for name in one.split_names:
        if one.ids_of(name):
            for a, b in zip(one.split(name), other.split(name), strict=True):
                assert (a.id, a.group) == (b.id, b.group)
                assert np.array_equal(a.image, b.image)
                assert a.instances == b.instances


@pytest.mark.parametrize("name", ["usiigaci", "bbbc039", "dsb2018"])
def test_the_real_sets(shared_data: Path, tmp_path: Path, name: str):
    if name == "dsb2018":  # some of its images are enough
        source = tmp_path / "some" / name
        for folder in sorted((shared_data / name).iterdir()):
            if Image.open(next((folder / "images").iterdir())).width <= 360:
                shutil.copytree(folder, source / folder.name)
    else:
        source = shared_data / name
    calls = []
    folder = prepare(load_card(name), source, tmp_path, lambda *call: calls.append(call))
    raw = open_dataset(name, source)
    assert [c[:2] for c in calls] == [(i, len(raw)) for i in range(1, len(raw) + 1)]
    again = []
    prepared = open_dataset(name, tmp_path, progress=lambda *call: again.append(call))
    assert again == []
    assert prepared.folder == folder
    assert prepared.source == "real"
    same(raw, prepared)
    verify(folder)


@pytest.fixture
def mine(tmp_path: Path, write_card: Callable[..., Path], cells: NDArray[np.uint16]) -> Path:
    """A download of the data set ``mine``: six images in two parts, one of them without truth."""
    form = """
        [format]
        name = "label_pairs"
        images = ["{part}/images/{stem}.png"]
        labels = ["{part}/labels/{stem}.png"]
        unlabelled = ["more"]
        min_side = 6
    """
    write_card("mine", format=form)
    source = tmp_path / "download"
    for part in ("train", "more"):
        for i in range(3):
            image = np.random.default_rng(i).integers(0, 256, cells.shape).astype(np.uint8)
            for kind, array in (("images", image), ("labels", np.roll(cells, i, axis=1))):
                path = source / part / kind / f"{part}{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
    return source


def test_images_without_truth_and_notes_are_kept(mine: Path, tmp_path: Path):
    shutil.copytree(mine, tmp_path / "raw" / "mine")
    prepare(load_card("mine"), mine, tmp_path / "root")
    raw, prepared = open_dataset("mine", tmp_path / "raw"), open_dataset("mine", tmp_path / "root")
    assert prepared.content_hash == raw.content_hash
    assert [n.split(": ", 1)[1] for n in prepared.notes] == ["1 instances thinner than 6 pixels, left out"] * 3
    everything = {s.id: s for name in ("train", "val", "test") for s in prepared.split(name)}
    assert everything["more1"].instances is None
    assert len(everything["train1"].instances) == 4


def test_it_is_made_once_and_again_if_wanted(mine: Path, tmp_path: Path):
    card = load_card("mine")
    folder = prepare(card, mine, tmp_path / "root")
    shutil.rmtree(mine / "more")
    assert prepare(card, mine, tmp_path / "root") == folder
    assert len(open_dataset("mine", tmp_path / "root")) == 6
    prepare(card, mine, tmp_path / "root", again=True)
    assert len(open_dataset("mine", tmp_path / "root")) == 3


def test_the_download_is_not_needed_any_more(mine: Path, tmp_path: Path):
    prepare(load_card("mine"), mine, tmp_path / "root")
    before = open_dataset("mine", tmp_path / "root").content_hash
    shutil.rmtree(mine)
    dataset = open_dataset("mine", tmp_path / "root")
    assert dataset.content_hash == before
    assert dataset.split("train")[0].image.shape == (40, 50)


def test_a_copy_is_as_good(mine: Path, tmp_path: Path):
    prepare(load_card("mine"), mine, tmp_path / "root")
    before = open_dataset("mine", tmp_path / "root").content_hash
    shutil.copytree(tmp_path / "root", tmp_path / "copy", copy_function=shutil.copyfile)
    os.utime(tmp_path / "copy" / "prepared" / "mine" / "masks.bin", (5, 5))
    assert open_dataset("mine", tmp_path / "copy").content_hash == before


def test_a_changed_image_is_noticed(mine: Path, tmp_path: Path):
    folder = prepare(load_card("mine"), mine, tmp_path / "root")
    before = open_dataset("mine", tmp_path / "root").content_hash
    path = folder / "images" / "train" / "images" / "train1.png"
    changed = 255 - np.array(Image.open(path))
    path.unlink()
    Image.fromarray(changed).save(path)
    assert open_dataset("mine", tmp_path / "root").content_hash != before


def test_a_film_with_two_truths_for_a_frame(shared_data: Path, tmp_path: Path):
    import tifffile

    for t, name in enumerate(("set2", "set40")):
        labels = np.asarray(Image.open(shared_data / "usiigaci" / name / "instances_ids.png"))[500:920, 500:]
        for path, array in (
            (f"01/t{t:03d}.tif", labels > 0),
            (f"01_ST/SEG/man_seg{t:03d}.tif", labels),
            (f"01_GT/SEG/man_seg{t:03d}.tif", np.where(labels == 5, 0, labels)),
        ):
            target = tmp_path / "raw" / "dic_hela" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(target, array.astype(np.uint16))
    prepare(load_card("dic_hela"), tmp_path / "raw" / "dic_hela", tmp_path / "root")
    same(open_dataset("dic_hela", tmp_path / "raw"), open_dataset("dic_hela", tmp_path / "root"))


def test_classes_that_the_files_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from bench.data import synthetic
    from bench.data.synthetic import _base, make_generator

    card = load_card("evican60")
    few = {"train": 4, "val": 2, "easy": 1, "medium": 1, "difficult": 1}
    generator = make_generator("evican", 1, few, card.path)
    for item in generator.plan():
        _base.write_item(generator, item, tmp_path / "raw" / "evican")
    for name, content in generator.closing_files(tmp_path / "raw" / "evican").items():
        (tmp_path / "raw" / "evican" / name).write_bytes(content)
    assert msgspec.json.decode((tmp_path / "raw" / "evican" / "instances_val2019_EVICAN60.json").read_bytes())
    assert synthetic.MARKER not in {p.name for p in (tmp_path / "raw" / "evican").iterdir()}
    prepare(card, tmp_path / "raw" / "evican", tmp_path / "root")
    raw, prepared = open_dataset("evican60", tmp_path / "raw"), open_dataset("evican60", tmp_path / "root")
    same(raw, prepared)
    assert len(prepared.task.classes) == 60


def test_a_broken_download_leaves_nothing_that_could_be_opened(mine: Path, tmp_path: Path):
    path = mine / "train" / "images" / "train1.png"
    path.write_bytes(path.read_bytes()[:100])
    card = load_card("mine")
    with pytest.raises(DataError, match=r"train/images/train1\.png: not a readable image") as caught:
        prepare(card, mine, tmp_path / "root")
    assert "\n" not in str(caught.value)
    assert not is_prepared(card, tmp_path / "root")
    assert not list(prepared_folder(card, tmp_path / "root").glob(".part*"))


def test_a_kill_half_way_is_redone(mine: Path, tmp_path: Path, cards: Path):
    code = (
        "from pathlib import Path; from bench.data import load_card; from bench.data.prepare import prepare\n"
        f"prepare(load_card('mine'), Path({str(mine)!r}), Path({str(tmp_path / 'root')!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ, start_new_session=True)
    folder = tmp_path / "root" / "prepared" / "mine"
    deadline = time.monotonic() + 60
    staging = folder.with_name(".mine.part")
    while not any(staging.rglob("*.png")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.002)
    os.killpg(process.pid, 9)
    process.wait()
    prepare(read_card(cards / "mine.toml"), mine, tmp_path / "root")
    assert len(open_dataset("mine", tmp_path / "root")) == 6
    verify(folder)
    assert not staging.exists()


def test_faults_of_a_prepared_folder(mine: Path, tmp_path: Path):
    with pytest.raises(DataError, match=r"nowhere: no such folder .*download of mine"):
        prepare(load_card("mine"), tmp_path / "nowhere", tmp_path)
    folder = prepare(load_card("mine"), mine, tmp_path / "root")
    masks = bytearray((folder / "masks.bin").read_bytes())
    masks[5] ^= 1
    (folder / "masks.bin").write_bytes(bytes(masks))
    with pytest.raises(DataError, match=r"masks\.bin: its content is not what was written .*prepare"):
        verify(folder)
    with pytest.raises(DataError, match=r"masks\.bin: its content is not what was written .*prepare"):
        open_dataset("mine", tmp_path / "root")
    (folder / "masks.bin").unlink()
    with pytest.raises(DataError, match=r"masks\.bin: cannot be read: No such file"):
        open_dataset("mine", tmp_path / "root")
    index = bytearray((folder / "index.msgpack").read_bytes())
    index[-3] ^= 1
    (folder / "index.msgpack").write_bytes(bytes(index))
    with pytest.raises(
        DataError, match=r"index\.msgpack: not the index of a prepared data set: its digest is not that"
    ):
        verify(folder)
    (folder / "index.msgpack").write_bytes(b"\x00")
    with pytest.raises(DataError, match=r"index\.msgpack: not the index of a prepared data set"):
        open_dataset("mine", tmp_path / "root")


def test_nowhere_to_write(mine: Path, tmp_path: Path):
    (tmp_path / "root").write_text("a file")
    with pytest.raises(OutputError, match=r"prepared/mine: cannot be written"):
        prepare(load_card("mine"), mine, tmp_path / "root")


def test_an_image_that_lies_elsewhere(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    elsewhere = tmp_path / "elsewhere" / "a.png"
    elsewhere.parent.mkdir()
    shutil.copy(mine / "train" / "images" / "train0.png", elsewhere)
    assert room._place(elsewhere, mine, tmp_path / "out").startswith("images/elsewhere/")
    assert room._place(mine / "train" / ".." / "train" / "images" / "train0.png", mine, tmp_path / "out")
    monkeypatch.setattr(os, "link", lambda a, b: (_ for _ in ()).throw(OSError(18, "Invalid cross-device link")))
    name = room._place(mine / "train" / "images" / "train1.png", mine, tmp_path / "out")
    assert (tmp_path / "out" / name).read_bytes() == (mine / "train" / "images" / "train1.png").read_bytes()


# -- files that changed after they were prepared ------------------------------------------------------


def edit(mine: Path) -> None:
    path = mine / "train" / "labels" / "train1.png"
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "edited": edit,
    "deleted": lambda mine: (mine / "train" / "labels" / "train1.png").unlink(),
    "added": lambda mine: shutil.copy(mine / "train" / "images" / "train1.png", mine / "more" / "images" / "b.PNG"),
    "renamed": lambda mine: (mine / "train" / "images" / "train1.png").rename(mine / "train" / "images" / "b.png"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("dropped", [False, True])
def test_a_change_to_the_files_is_told_at_opening(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, dropped: bool
):
    prepare(load_card("mine"), mine, tmp_path / "root", drop_duplicates=dropped)
    open_visibly("mine", tmp_path / "root")
    assert "changed" not in capsys.readouterr().err
    CHANGES[change](mine)
    open_visibly("mine", tmp_path / "root")
    err = capsys.readouterr().err
    assert f"note: mine: the files in {mine} changed after they were prepared: bench data prepare mine --again" in err
    line = err.split("prepared: bench ", 1)[1].splitlines()[0]
    assert ("--drop-duplicates" in line) is dropped
    if change not in ("deleted", "renamed"):  # of an image without its label image nothing can be made
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(line))
        assert ended.value.code == 0
        assert open_dataset("mine", tmp_path / "root").outdated is None


def test_what_is_no_change_to_the_files(mine: Path, tmp_path: Path):
    root = tmp_path / "download"  # the data root is the folder of the files itself
    prepare(load_card("mine"), mine, root)
    (mine / "README.txt").write_text("not read")
    (mine / ".DS_Store").write_text("left there by a system")
    (root / "synthetic").mkdir()
    (root / "synthetic" / "a.png").write_text("made by the program")
    assert open_dataset("mine", root).outdated is None
    for part in ("train", "more"):
        shutil.rmtree(mine / part)
    assert open_dataset("mine", root).outdated is None  # they may be taken away
    shutil.rmtree(mine / "synthetic")
    other = tmp_path / "other"
    mine.rename(other)
    assert open_dataset("mine", other).outdated is None


def test_a_form_that_did_not_note_its_files_opens_without_a_word(mine: Path, tmp_path: Path):
    folder = prepare(load_card("mine"), mine, tmp_path / "root")
    older = msgspec.to_builtins(form.read_index(folder))
    del older["origin"]
    content = msgspec.msgpack.encode(older)
    stamp = b"cellseg-bench prepared 3\n"
    (folder / "index.msgpack").write_bytes(stamp + hashlib.sha256(content).digest() + content)
    edit(mine)
    assert len(open_dataset("mine", tmp_path / "root")) == 6
    assert open_dataset("mine", tmp_path / "root").outdated is None


def test_thousands_of_files_are_looked_at_in_far_less_than_a_second(tmp_path: Path):
    for i in range(50):
        (tmp_path / str(i)).mkdir()
        for j in range(100):
            (tmp_path / str(i) / f"{j}.png").touch()
    made = Origin.of(tmp_path, states(tmp_path, tmp_path), {".png"})
    start = time.process_time()
    assert not made.has_changed(tmp_path)
    assert time.process_time() - start < 0.5
    (tmp_path / "7" / "7.png").write_text("changed")
    assert made.has_changed(tmp_path)


# -- a copy, an older form, and a former one -----------------------------------------------------------


def test_a_copy_is_read_once_and_any_change_to_it_is_noticed(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    prepare(load_card("mine"), mine, tmp_path / "root")
    shutil.copytree(tmp_path / "root", tmp_path / "copy", copy_function=shutil.copyfile)
    folder = tmp_path / "copy" / "prepared" / "mine"
    for name in form.ARRAYS:
        os.utime(folder / name, (5, 5))
    read: list[str] = []
    of = form.Sealed.of
    monkeypatch.setattr(form.Sealed, "of", lambda path: read.append(path.name) or of(path))
    open_dataset("mine", tmp_path / "copy")
    assert read == list(form.ARRAYS)
    open_dataset("mine", tmp_path / "copy")
    assert read == list(form.ARRAYS)
    masks = bytearray((folder / "masks.bin").read_bytes())
    masks[5] ^= 1
    (folder / "masks.bin").write_bytes(bytes(masks))
    for _ in range(2):  # a failure is not remembered as a success
        with pytest.raises(DataError, match=r"masks\.bin: its content is not what was written"):
            open_dataset("mine", tmp_path / "copy")


def test_a_copy_opens_where_nothing_can_be_remembered(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = prepare(load_card("mine"), mine, tmp_path / "root")
    os.utime(folder / "masks.bin", (5, 5))
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    assert len(open_dataset("mine", tmp_path / "root")) == 6


@pytest.mark.parametrize(("number", "dropped"), [(1, False), (2, True), (4, True)])
def test_the_form_of_another_version_is_named_and_the_command_mends_it(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, dropped: bool
):
    from bench.cli import main

    root = tmp_path / "a root"
    shutil.copytree(mine, root / "mine")
    folder = prepare(load_card("mine"), root / "mine", root, drop_duplicates=dropped)
    count = len(open_dataset("mine", root))
    content = msgspec.msgpack.encode({"format": number, "without_duplicates": dropped, "images": 5})
    sealed = hashlib.sha256(content).digest() + content
    index = {1: content, 2: sealed, 4: b"cellseg-bench prepared 4\n" + sealed}[number]
    (folder / "index.msgpack").write_bytes(index)
    with pytest.raises(DataError) as caught:
        open_dataset("mine", root)
    kind = "a newer" if number == 4 else "an older"
    assert caught.value.message == (
        f"{folder / 'index.msgpack'}: prepared by {kind} version of this program (format {number}, this one reads 3)"
    )
    line = str(caught.value.hint).removeprefix("prepare the data set again: bench ")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["--quiet", *shlex.split(line)])
    assert ended.value.code == 0
    assert len(open_dataset("mine", root)) == count == (3 if dropped else 6)


def failing(monkeypatch: pytest.MonkeyPatch, name: str, end: BaseException) -> None:
    """Moving a folder of that name fails, or ends the program."""
    rename = Path.rename

    def instead(self: Path, target: Path) -> Path:
        if self.name == name:
            raise end
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", instead)


@pytest.mark.parametrize("end", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_the_former_set_stays_if_the_new_one_cannot_take_its_place(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException
):
    folder = prepare(load_card("mine"), mine, tmp_path / "root")
    shutil.rmtree(mine / "more")
    with monkeypatch.context() as patch:
        failing(patch, ".mine.part", end)
        with pytest.raises((OutputError, KeyboardInterrupt)):
            prepare(load_card("mine"), mine, tmp_path / "root", again=True)
    assert len(open_dataset("mine", tmp_path / "root")) == 6
    assert sorted(p.name for p in folder.parent.iterdir() if p.is_dir()) == ["mine"]
    prepare(load_card("mine"), mine, tmp_path / "root", again=True)
    assert len(open_dataset("mine", tmp_path / "root")) == 3
    assert sorted(p.name for p in folder.parent.iterdir() if p.is_dir()) == ["mine"]


def test_a_kill_between_the_two_moves_loses_nothing(mine: Path, tmp_path: Path):
    folder = prepare(load_card("mine"), mine, tmp_path / "root")
    former = folder.with_name(".mine.former")
    folder.rename(former)
    folder.with_name(".mine.part").mkdir()
    path = mine / "train" / "images" / "train1.png"
    sound = path.read_bytes()
    path.unlink()
    path.write_bytes(b"broken since")
    with pytest.raises(DataError, match="not a readable image"):
        prepare(load_card("mine"), mine, tmp_path / "root", again=True)
    assert len(open_dataset("mine", tmp_path / "root")) == 6
    folder.rename(former)
    assert prepare(load_card("mine"), mine, tmp_path / "root") == folder  # brought back, not made anew
    assert len(open_dataset("mine", tmp_path / "root")) == 6
    folder.rename(former)
    with pytest.raises(UsageError, match="already prepared with duplicates"):
        prepare(load_card("mine"), mine, tmp_path / "root", drop_duplicates=True)
    path.write_bytes(sound)
    shutil.copytree(folder, former)
    prepare(load_card("mine"), mine, tmp_path / "root", again=True)
    assert not former.exists()
