"""Formats of the user's own: a module beside the cards."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.data import list_cards, load_card, open_dataset
from bench.data.prepare import prepare
from bench.data.readers import reader_class, reader_names
from bench.errors import DataError, UnknownNameError

MODULE = """
import numpy as np
from bench.api import Instances
from bench.data.readers import Entry, Index, Reader, Truth

class Arrays(Reader):
    format = "arrays"

    def index(self):
        return Index(tuple(Entry(p.stem, p, (p,)) for p in sorted(self.root.glob("*.npy"))))

    def image(self, entry):
        return np.load(entry.image)[..., 1:]

    def truth(self, entry, height, width):
        return Truth(Instances.from_label_map(np.load(entry.image)[..., 0] * 1))
"""


@pytest.fixture
def arrays(cards: Path, write_card: Callable[..., Path], tmp_path: Path) -> Path:
    """A data root with four images of ``mine``, in two channels, and the module that reads them."""
    (cards / "arrays.py").write_text(MODULE)
    write_card("mine", format='[format]\nname = "arrays"')
    (tmp_path / "root" / "mine").mkdir(parents=True)
    for i in range(4):
        array = np.random.default_rng(i).integers(0, 256, (20, 30, 3)).astype(np.uint8)
        array[..., 0] = 0
        array[3:9, 4 : 10 + i, 0] = 2
        np.save(tmp_path / "root" / "mine" / f"{i}.npy", array)
    return tmp_path / "root"


def test_a_module_beside_the_cards_is_a_format(arrays: Path):
    assert "arrays" in reader_names()
    dataset = open_dataset("mine", arrays)
    assert [s.image.shape for s in dataset.everything()] == [(20, 30, 2)] * 4
    assert [s.instances.areas.tolist() for s in dataset.everything()] == [[6 * (6 + i)] for i in range(4)]


def test_pixels_that_only_their_own_reader_reads_are_prepared(arrays: Path, tmp_path: Path):
    prepare(load_card("mine"), arrays / "mine", tmp_path / "again")
    prepared = open_dataset("mine", tmp_path / "again")
    assert prepared.is_prepared
    assert prepared.content_hash == open_dataset("mine", arrays).content_hash


def test_a_changed_module_reads_the_files_again(arrays: Path, cards: Path):
    before = open_dataset("mine", arrays).content_hash
    (cards / "arrays.py").write_text(MODULE.replace("* 1)", "* 0)") + "# another length\n")
    reader = "from bench.data import open_dataset; from pathlib import Path; import sys; "
    code = f"{reader}print(open_dataset('mine', Path(sys.argv[1])).content_hash)"
    done = subprocess.run([sys.executable, "-c", code, str(arrays)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() != before


def test_it_goes_to_other_processes(arrays: Path, tmp_path: Path):
    (tmp_path / "split").write_bytes(pickle.dumps(open_dataset("mine", arrays).everything()))
    code = "import pickle, sys; print(len(pickle.load(open(sys.argv[1], 'rb'))[0].instances))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "split")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"


@pytest.mark.parametrize(
    ("module", "says"),
    [
        ("import nothing_of_the_kind", "arrays.py: the reader cannot be loaded: ModuleNotFoundError"),
        ("raise SystemExit(3)", "arrays.py: the reader cannot be loaded: SystemExit: 3"),
        ("class Arrays: pass", "arrays.py: no reader of the format 'arrays' in it .*it needs a class"),
        (MODULE.replace("def truth", "def truht"), "arrays.py: no reader of the format 'arrays' in it"),
        (MODULE.replace('"arrays"', '"array"'), "arrays.py: no reader of the format 'arrays' in it"),
    ],
)
def test_a_broken_module_is_named_and_hides_nothing(cards: Path, write_card, module: str, says: str):
    (cards / "arrays.py").write_text(module)
    write_card("mine", format='[format]\nname = "arrays"')
    with pytest.raises(DataError, match=says) as caught:
        reader_class("arrays")
    assert "\n" not in str(caught.value)
    found, broken = list_cards()
    assert list(broken) == ["mine"]
    assert "bbbc039" in found


def test_a_name_that_is_taken(cards: Path):
    (cards / "coco.py").write_text(MODULE.replace('"arrays"', '"coco"'))
    with pytest.raises(DataError, match=r"coco\.py: there is a format 'coco' already"):
        reader_class("coco")


def test_options_that_it_does_not_have(cards: Path, write_card: Callable[..., Path]):
    (cards / "arrays.py").write_text(MODULE)
    write_card("mine", format='[format]\nname = "arrays"\nchannel = 3')
    assert "mine.toml: format.channel: unknown key" in str(list_cards()[1]["mine"])
    with pytest.raises(UnknownNameError, match=r"unknown format 'arays' \(did you mean arrays\?\)"):
        reader_class("arays")
