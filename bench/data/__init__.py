"""Data sets: what they are (cards), how their files are read (readers), who is in which split, and the stand-ins.

>>> from bench.data import open_dataset
>>> test = open_dataset("bbbc039", "data").split("test")  # doctest: +SKIP
"""

from bench.data.cards import Card, card_names, list_cards, load_card
from bench.data.dataset import Dataset, Split, data_root, open_dataset, real_folder

__all__ = [
    "Card",
    "Dataset",
    "Split",
    "card_names",
    "data_root",
    "list_cards",
    "load_card",
    "open_dataset",
    "real_folder",
]
