"""Cards: found, typed, and their faults named by file and key."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.data.cards import card_folders, card_names, list_cards, load_card, read_card
from bench.data.overview import overview
from bench.data.readers import reader_class
from bench.data.synthetic import make_generator
from bench.errors import DataError, UnknownNameError

OBJECTS = "[objects]\nsize_p05 = 10\nsize_median = 20\naspect_p95 = 2\nper_image_median = 3\n"
OURS = ("bbbc039", "dsb2018", "neural", "usiigaci")


def test_our_cards_are_all_sound():
    cards, broken = list_cards()
    assert not broken
    assert set(OURS) <= set(cards)
    for name, card in cards.items():
        assert card.name == name
        assert card.protocols
        assert card.evaluate in card.split_names
        assert reader_class(card.format["name"])
        if card.stand_in:
            assert make_generator(card.stand_in.generator, card.stand_in.seed, card.stand_in.params, card.path).plan()


def test_what_the_neural_card_says():
    card = load_card("neural")
    assert [p.name for p in card.protocols] == ["voc", "kaggle"]
    assert card.task.modality == "phase contrast"
    assert card.expected.splits == {"train": 386, "val": 129, "test": 129}
    assert card.stand_in is not None


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown data set 'usigaci' \(did you mean usiigaci\?\)") as caught:
        load_card("usigaci")
    assert caught.value.exit_code == 2


def test_a_folder_of_the_users(write_card: Callable[..., Path], cards: Path):
    write_card("mine")
    assert cards in card_folders()
    assert "mine" in card_names()
    assert load_card("mine").path == cards / "mine.toml"


@pytest.mark.parametrize(
    "shares", ["train = 134, val = 20, test = 34", "train = 0.333333, val = 0.333333, test = 0.333334"]
)
def test_shares_are_counts_or_sum_to_one(write_card: Callable[..., Path], shares: str):
    path = write_card("mine")
    path.write_text(path.read_text().replace("train = 0.5, val = 0.25, test = 0.25", shares))
    assert load_card("mine").schemes["seeded"].names == ("train", "val", "test")


def test_a_broken_card_does_not_hide_the_others(write_card: Callable[..., Path]):
    write_card("mine", text="name = 3 4\n")
    cards, broken = list_cards()
    assert set(OURS) <= set(cards)
    assert list(broken) == ["mine"]
    with pytest.raises(DataError, match=r"mine\.toml: not TOML: .*line 1"):
        load_card("mine")


def test_a_name_that_is_taken(write_card: Callable[..., Path], cards: Path):
    write_card("neural")
    found, broken = list_cards()
    assert found["neural"].title == "Neural cells (Yi et al. 2018)"
    assert list(broken) == [str(cards / "neural.toml")]
    assert "the name is that of" in broken[str(cards / "neural.toml")].message


def test_a_folder_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("BENCH_CARDS", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"BENCH_CARDS names .*nowhere, which is not a folder"):
        card_names()


def test_several_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, write_card: Callable[..., Path], cards: Path):
    write_card("mine")
    other = tmp_path / "other"
    other.mkdir()
    (other / "theirs.toml").write_text((cards / "mine.toml").read_text().replace("mine", "theirs"))
    monkeypatch.setenv("BENCH_CARDS", os.pathsep.join([str(cards), str(other), ""]))
    assert {"mine", "theirs"} <= set(card_names())


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ('title = "A small set"', "", "title: missing"),
        ('title = "A small set"', "title = 3", "title: expected str, got int"),
        ('title = "A small set"', 'title = "A"\ntitel = "B"', "titel: unknown key"),
        ('name = "mine"', 'name = "yours"', "name: it is 'yours', the file's name says 'mine'"),
        ('modality = "phase contrast"', "", "task.modality: missing"),
        ('modality = "phase contrast"', 'modality = "x"\nmax_detections = 0', "task.max_detections: expected int >= 1"),
        ('modality = "phase contrast"', 'modality = "x"\noverlap = "no"', "task.overlap: expected bool, got str"),
        ('classes = ["cell"]', "classes = []", "task.classes: no class is named"),
        ('classes = ["cell"]', 'classes = ["cell", "cell"]', "task.classes: a class is named twice"),
        ('classes = ["cell"]', 'classes = ["cell", 4]', r"task.classes\[1\]: expected str, got int"),
        ("test = 0.25", 'test = "many"', "schemes.seeded.splits.test: expected float, got str"),
        ("test = 0.25", "test = 0", "schemes.seeded.splits.test: expected float > 0"),
        ("test = 0.25", "test = 0.45", "schemes.seeded.splits: the shares sum to 1.2, not to 1"),
        ("test = 0.25", "test = 0.2499", "schemes.seeded.splits: the shares sum to 0.9999, not to 1"),
        ("test = 0.25", "test = inf", "schemes.seeded.splits: the shares sum to inf, not to 1"),
        ("seed = 1", "", "schemes.seeded.seed: missing"),
        ("seed = 1", 'seed = 1\nby = "week"', "schemes.seeded.by: invalid enum value 'week'"),
        ('rule = "seeded"', 'rule = "dice"', "schemes.seeded.rule: invalid value 'dice'"),
        ('rule = "seeded"', "", "schemes.seeded.rule: missing"),
        ('default_scheme = "seeded"', 'default_scheme = "x"', "default_scheme: no scheme 'x'"),
        ('default_scheme = "seeded"', 'default_scheme = "seeded"\nevaluate = "x"', "evaluate: .* no split 'x'"),
        ('name = "label_pairs"', 'name = "label_pair"', "format.name: unknown format 'label_pair'"),
        ('name = "label_pairs"', "", "format.name: missing"),
        ('name = "label_pairs"', 'name = "label_pairs"\ndecode = "magic"', "format.decode: invalid enum value 'magic'"),
        ('name = "label_pairs"', 'name = "label_pairs"\nmasks = "x"', "format.masks: unknown key"),
        ('labels = ["labels/{stem}.png"', 'labels = ["labels/{name}.png"', "format: .* a field that .* has not"),
        ('[[protocols]]\nname = "voc"', "", "protocols: missing"),
        ('[[protocols]]\nname = "voc"', "[[protocols]]", r"protocols\[0\].name: missing"),
        ('name = "voc"', 'name = "voc"\n[[protocols]]\nname = "voc"', "protocols: 'voc' stands there twice"),
        ('name = "voc"', 'name = "voc"\n[expected]\nsplits = { all = 3 }', "expected.splits: no split 'all'"),
        ('name = "voc"', 'name = "voc"\n[objects]\nsize_median = "big"', "objects"),
        ('name = "voc"', 'name = "voc"\n[stand_in]\nseed = 2', "stand_in.generator: missing"),
        ('name = "voc"', 'name = "voc"\n[stand_in]\ngenerator = "x"', "stand_in.generator: unknown generator 'x'"),
        ('name = "voc"', 'name = "voc"\n[stand_in]\ngenerator = "neural"\nparams.x = 1', "stand_in.params.x: unknown"),
        ('name = "voc"', 'name = "voc"\n[[downloads]]\nurl = "https://x/y"\nto = "../y"', "downloads.*to: '../y' le"),
        ('name = "voc"', 'name = "voc"\n[[downloads]]\nurl = "https://x/y"\nto = "/y"', "downloads.*to: '/y' leaves"),
        ("test = 0.25", '"Te st" = 0.25', "schemes.seeded.splits: 'Te st' cannot be a name there"),
        ('rule = "seeded"', 'rule = "dice"', r".*\(one of: parts, seeded, lists\)"),
        ('name = "label_pairs"', 'name = "label_pairs"\ndecode = "magic"', "format.decode: .*one of: 'ids'"),
        ('name = "voc"', f'name = "voc"\n{OBJECTS}size_p95 = 15\nper_image_max = 9', "objects: .* do not ascend"),
        ('name = "voc"', f'name = "voc"\n{OBJECTS}size_p95 = 25\nper_image_max = 2', "objects: per_image_median is"),
        ("[task]", 'objects = "measurd"\n[task]', "objects: invalid enum value 'measurd' .*one of: 'measured'"),
    ],
)  # fmt: skip
def test_a_fault_is_named_by_file_and_key(write_card: Callable[..., Path], before: str, after: str, complaint: str):
    path = write_card("mine")
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    with pytest.raises(DataError, match=rf"mine\.toml: {complaint}") as caught:
        read_card(path)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_card_as_windows_saves_it(write_card: Callable[..., Path]):
    path = write_card("mine")
    as_it_was = read_card(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_card(path) == as_it_was


def test_a_stand_in_that_nobody_makes_does_not_hide_the_others(write_card: Callable[..., Path]):
    path = write_card("mine")
    path.write_text(path.read_text() + '\n[stand_in]\ngenerator = "nobody"\n')
    cards, broken = list_cards()
    assert set(OURS) <= set(cards)
    assert "stand_in.generator: unknown generator 'nobody'" in str(broken["mine"])
    assert "mine" in overview(path.parent)[1]


def test_a_size_that_is_no_number(write_card: Callable[..., Path]):
    path = write_card("mine")
    sizes = "size_p05 = 1.0\nsize_p95 = 2.0\naspect_p95 = 1.0\nper_image_median = 3\nper_image_max = 4"
    path.write_text(path.read_text() + f'\n[objects]\nsize_median = "x"\n{sizes}\n')
    with pytest.raises(DataError, match=r"mine\.toml: objects\.size_median: expected float, got str$"):
        read_card(path)


def test_sizes_that_are_left_to_be_measured(write_card: Callable[..., Path]):
    path = write_card("mine")
    assert read_card(path).objects == "measured"  # as without the key
    path.write_text('objects = "measured"\n' + path.read_text())
    assert read_card(path).objects == "measured"
    path.write_text(path.read_text().replace('"measured"', '"guessed"'))
    with pytest.raises(DataError, match=r"mine\.toml: objects: .*guessed"):
        read_card(path)


def test_every_card_of_ours_states_sizes_or_says_that_they_are_measured():
    for name in card_names():
        text = load_card(name).path.read_text()
        assert ("\n[objects]\n" in text) != ('\nobjects = "measured"\n' in text), name


def test_an_expected_number_of_classes(write_card: Callable[..., Path]):
    path = write_card("mine")
    path.write_text(path.read_text() + "\n[expected]\nclasses = 3\nsplit_instances = { test = 4 }\n")
    card = read_card(path)
    card.check_classes(["a", "b", "c"], Path("folder"))
    with pytest.raises(
        DataError, match=r"^folder: its annotation files name 5 classes \(a, b, c, d, \.\.\.\), mine has 3"
    ):
        card.check_classes(list("abcde"), Path("folder"))
    path.write_text(path.read_text().replace("test = 4", "tset = 4"))
    with pytest.raises(DataError, match=r"mine\.toml: expected\.split_instances: no split 'tset'"):
        read_card(path)


def test_the_faulty_one_of_several_schemes_is_named(write_card: Callable[..., Path]):
    path = write_card("mine")
    path.write_text(
        path.read_text()
        + '\n[schemes.second]\nrule = "parts"\nsplits = { train = ["a"], test = "b" }\n'
        + '\n[schemes.third]\nrule = "lists"\nsplits = { test = "lists/x.txt" }\n'
    )
    with pytest.raises(DataError, match=r"mine\.toml: schemes\.second\.splits\.test: expected array, got str"):
        read_card(path)
    path.write_text(path.read_text().replace('test = "b"', 'test = ["b"]'))
    with pytest.raises(DataError, match=r"mine\.toml: schemes\.third\.splits\.test: no such file .*x\.txt"):
        read_card(path)


def test_splits_are_addressed_by_scheme(write_card: Callable[..., Path]):
    path = write_card("mine")
    path.write_text(path.read_text() + '\n[schemes.second]\nrule = "parts"\nsplits = { test = ["b"] }\n')
    card = read_card(path)
    assert card.split_names == ("train", "val", "test", "second/test")
    assert card.address("test") == ("seeded", "test")
    assert card.address("second/test") == ("second", "test")
    with pytest.raises(UnknownNameError, match=r"unknown split of mine 'tset'.*test"):
        card.address("tset")
    with pytest.raises(UnknownNameError):
        card.address("second/train")


def test_a_card_as_plain_data_is_the_file(write_card: Callable[..., Path]):
    plain = read_card(write_card("mine")).plain()
    assert "path" not in plain
    assert plain["task"]["classes"] == ["cell"]
    assert plain["schemes"]["seeded"]["rule"] == "seeded"


def test_listing_needs_nothing_heavy():
    code = (
        "import sys; from bench.data.cards import list_cards; assert list_cards()[0];"
        "heavy = {'torch', 'pandas', 'scipy', 'skimage', 'PIL', 'tifffile', 'matplotlib', 'sqlalchemy'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
