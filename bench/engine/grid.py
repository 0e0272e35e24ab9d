"""The grid of methods, data sets and seeds: which of its runs can be made here, and why the others cannot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product

from bench.api import BenchError, DataError, MissingDependencyError
from bench.data import load_card
from bench.engine.plan import Choices, Request, choose
from bench.engine.scoring import made_protocols
from bench.registry import MethodEntry


class Obstacles:
    """What keeps runs from being made here: each reason once, in the order in which they were met.

    A package, a device, weights or files that are not here stand in the way of the runs that need them, and of no
    others. A mistake in what was asked for (a name, a setting, an option) is no obstacle: it is the user's to mend
    before anything runs.
    """

    def __init__(self) -> None:
        self._errors: dict[str, BenchError] = {}

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note an obstacle that is met inside, and go on after it."""
        try:
            yield
        except (MissingDependencyError, DataError) as error:
            self._errors.setdefault(str(error), error)

    @property
    def errors(self) -> tuple[BenchError, ...]:
        """Every reason, as the error that it was."""
        return tuple(self._errors.values())


def chosen(
    entries: Sequence[MethodEntry],
    datasets: Sequence[str],
    seeds: Iterable[int],
    request: Request,
    obstacles: Obstacles,
) -> dict[str, list[Choices]]:
    """Every run that can be made as far as that is known without an image: by data set, then method, then seed.

    Args:
        entries: the methods.
        datasets: names of the data sets.
        seeds: one run each.
        request: what was asked for.
        obstacles: take what keeps the other runs from being made.

    Raises:
        UsageError: a schedule, an initialisation or a setting that a method does not have.
        UnknownNameError: a data set that has no card, or a split that it does not have.
    """
    found: dict[str, list[Choices]] = {}
    runs = list(product(entries, seeds))
    for name in datasets:
        with obstacles.noted():
            card = load_card(name)
            made_protocols(card)
            found[name] = []
            for entry, seed in runs:
                with obstacles.noted():
                    found[name].append(choose(entry, card, seed, request))
    return found
