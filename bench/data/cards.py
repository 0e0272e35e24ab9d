"""Data set cards: one TOML file says everything about a data set that the harness needs to know.

A card is found by its file name: ``datasets/<name>.toml`` beside the ``bench`` package in a checkout, or inside an
installed wheel, and then in every folder that the environment variable ``BENCH_CARDS`` names. The keys are the fields
of :class:`CardFile`; ``docs/add-a-data-set.md`` has an example.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

import bench
from bench.errors import BenchError, DataError, UnknownNameError
from bench.task import DEFAULT_MAX_DETECTIONS, ObjectStatistics

CARDS_VARIABLE = "BENCH_CARDS"

Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]
SplitName = Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9_.-]*$")]


class TaskTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[task]``: what is asked of a method; see :class:`bench.task.Task`. No classes: the files name them."""

    classes: tuple[str, ...]
    modality: str
    overlap: bool = False
    max_detections: Annotated[int, msgspec.Meta(gt=0)] = DEFAULT_MAX_DETECTIONS


class ObjectsTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[objects]``: sizes of the objects of the real data; see :class:`bench.task.ObjectStatistics`."""

    size_p05: Positive
    size_median: Positive
    size_p95: Positive
    aspect_p95: Positive
    per_image_median: Annotated[float, msgspec.Meta(ge=0)]
    per_image_max: Count

    def statistics(self) -> ObjectStatistics:
        """The same as methods are given it."""
        return ObjectStatistics(**msgspec.structs.asdict(self))


class PartsRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="rule", tag="parts"):
    """The files say it: a split is one or several parts (folders, annotation files) of the data set on disk.

    ``groups`` limits it to images of these groups (cell lines, donors).
    """

    splits: dict[SplitName, tuple[str, ...]]
    groups: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all its splits."""
        return tuple(self.splits)


class SeededRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="rule", tag="seeded"):
    """Shared out by a seed, as :mod:`bench.data.splits` describes.

    ``splits`` are fractions, which sum to 1, or counts; only the proportion of counts matters.
    ``parts`` limits what is shared out; ``whole`` names further splits that are parts as they are.
    """

    splits: dict[SplitName, Positive]
    seed: int
    by: Literal["image", "group"] = "image"
    parts: tuple[str, ...] = ()
    whole: dict[SplitName, tuple[str, ...]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all its splits."""
        return (*self.splits, *self.whole)


class ListRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="rule", tag="lists"):
    """Listed: a text file a split, one image id a line, by a path relative to the card. ``#`` begins a comment."""

    splits: dict[SplitName, str]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all its splits."""
        return tuple(self.splits)


SplitRule = PartsRule | SeededRule | ListRule


class ProtocolTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of ``[[protocols]]``: a metric protocol and its parameters for this data set."""

    name: str
    params: dict[str, Any] = msgspec.field(default_factory=dict)


class StandInTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[stand_in]``: the generator that makes a stand-in for files a user may not have.

    ``format`` is how its files are read where that is not as the generator says.
    """

    generator: str
    seed: int = 0
    params: dict[str, Any] = msgspec.field(default_factory=dict)
    format: dict[str, Any] | None = None


class ExpectedTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[expected]``: what the complete real data set counts; ``bench data check`` compares.

    ``splits`` are images of a split, ``split_instances`` its instances. ``classes`` is how many classes the files
    name, where the card does not: files that name more or fewer are those of another data set, and are not opened.
    """

    images: Count | None = None
    instances: Count | None = None
    splits: dict[str, Count] = msgspec.field(default_factory=dict)
    split_instances: dict[str, Count] = msgspec.field(default_factory=dict)
    classes: Annotated[int, msgspec.Meta(gt=0)] | None = None


class DownloadTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of ``[[downloads]]``: a file that may be downloaded from where its owners published it.

    ``to`` is its path in the data set's folder, or, for an archive with ``unpack``, the folder for its content.
    """

    url: Annotated[str, msgspec.Meta(pattern="^https?://")]
    to: str
    unpack: bool = False
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")] | None = None
    md5: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")] | None = None


class CardFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What stands in a card.

    Attributes:
        name: the file's name without ``.toml``.
        title: as it is written in tables.
        description: what is seen in the images, and where they come from.
        licence: of the images and annotations, in short.
        citation: what to cite.
        url: where the data set is described or had.
        folders: names that its folder may have under the data root, the first being the one to use.
        task: see :class:`TaskTable`.
        format: ``name`` of a reader of :mod:`bench.data.readers`, and that reader's options.
        schemes: ways to split the data, by name. Splits of the default scheme go by their plain name ("test"), those
            of another by ``scheme/split``.
        default_scheme: the scheme of the plain names.
        evaluate: the split that a run is evaluated on unless the user says otherwise.
        protocols: metric protocols that are reported; the first one ranks.
        objects: ``[objects]``, the sizes of the objects of the real data, which methods take anchors and caps from; or
            ``objects = "measured"``: nobody stated them, and they are measured on the training split of the default
            scheme when the data set is first used (for a stand-in they always are).
        expected: counts of the complete real data set.
        flaws: what is known to be wrong with the data.
        stand_in: how a stand-in is generated, or None.
        downloads: files that ``bench data download`` may fetch.
        obtain: what a user does to get the files where the program may not, or cannot, fetch them.
    """

    name: Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_]*$")]
    title: str
    description: str
    licence: str
    citation: str
    url: str
    folders: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    task: TaskTable
    format: dict[str, Any]
    schemes: dict[SplitName, SplitRule]
    default_scheme: str
    evaluate: str = "test"
    protocols: Annotated[tuple[ProtocolTable, ...], msgspec.Meta(min_length=1)]
    objects: ObjectsTable | Literal["measured"] = "measured"
    expected: ExpectedTable = ExpectedTable()
    flaws: tuple[str, ...] = ()
    stand_in: StandInTable | None = None
    downloads: tuple[DownloadTable, ...] = ()
    obtain: str = ""


class Card(CardFile, frozen=True, kw_only=True):
    """A card, and the file it was read from."""

    path: Path

    @property
    def split_names(self) -> tuple[str, ...]:
        """Every split by the name it is addressed with, those of the default scheme first."""
        plain = self.schemes[self.default_scheme].names
        others = [
            f"{s}/{split}" for s, rule in self.schemes.items() if s != self.default_scheme for split in rule.splits
        ]
        return (*plain, *others)

    def address(self, split: str) -> tuple[str, str]:
        """A split's name taken apart into scheme and split.

        Raises:
            UnknownNameError: there is no such split.
        """
        scheme, _, name = split.rpartition("/")
        scheme = scheme or self.default_scheme
        if scheme not in self.schemes or name not in self.schemes[scheme].names:
            raise UnknownNameError(f"split of {self.name}", split, self.split_names)
        return scheme, name

    def check_classes(self, found: Sequence[str], folder: Path) -> None:
        """Refuse files that name another number of classes than the data set has.

        Args:
            found: the classes that the files name.
            folder: of the files, for the error.

        Raises:
            DataError: another number.
        """
        expected = self.expected.classes
        if expected is not None and len(found) != expected:
            named = f"{', '.join(found[:4])}{', ...' if len(found) > 4 else ''}"
            raise DataError(
                f"{folder}: its annotation files name {len(found)} classes ({named}), {self.name} has {expected}",
                "they may be the files of another data set under the same names",
            )

    def plain(self) -> dict[str, Any]:
        """The card as plain data (dictionaries, lists, numbers and text), without the place of its file."""
        data: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self, enc_hook=str))
        del data["path"]
        return data


# -- finding -------------------------------------------------------------------------------------------


def card_folders() -> tuple[Path, ...]:
    """Folders that are searched for cards: the project's own, then those in ``BENCH_CARDS``.

    Raises:
        DataError: ``BENCH_CARDS`` names a folder that is not there.
    """
    package = Path(bench.__file__).resolve().parent
    installed = package / "_datasets"
    return (installed if installed.is_dir() else package.parent / "datasets", *user_folders())


def user_folders() -> tuple[Path, ...]:
    """The folders in ``BENCH_CARDS``: of the user's cards, and of modules that read formats of their own.

    Raises:
        DataError: it names a folder that is not there.
    """
    folders = []
    for entry in os.environ.get(CARDS_VARIABLE, "").split(os.pathsep):
        if not entry:
            continue
        folder = Path(entry).expanduser()
        if not folder.is_dir():
            raise DataError(f"{CARDS_VARIABLE} names {entry}, which is not a folder", "correct or unset it")
        folders.append(folder)
    return tuple(folders)


def card_names() -> tuple[str, ...]:
    """Names of all cards, broken ones included, sorted."""
    return tuple(sorted(_card_files()))


def load_card(name: str) -> Card:
    """The card of that name.

    Raises:
        UnknownNameError: there is none.
        DataError: its file is broken; the message names the file and the key.
    """
    files = _card_files()
    if name not in files:
        raise UnknownNameError("data set", name, files)
    return read_card(files[name])


def list_cards() -> tuple[dict[str, Card], dict[str, BenchError]]:
    """All cards by name that can be read, and what is wrong with each of the others."""
    cards: dict[str, Card] = {}
    broken: dict[str, BenchError] = {}
    files = _card_files()
    for name, path in sorted(files.items()):
        try:
            cards[name] = read_card(path)
        except DataError as error:
            broken[name] = error
    for folder in card_folders():
        for path in sorted(folder.glob("*.toml")):
            if (first := files[path.stem]) != path:
                broken[str(path)] = DataError(f"{path}: the name is that of {first}", "rename it, inside and outside")
    return cards, broken


def _card_files() -> dict[str, Path]:
    """Name -> file; where two folders have a card of one name, the one of the first folder."""
    files: dict[str, Path] = {}
    for folder in card_folders():
        for path in sorted(folder.glob("*.toml")):
            files.setdefault(path.stem, path)
    return files


# -- reading -------------------------------------------------------------------------------------------


def read_card(path: Path) -> Card:
    """Read and check one card.

    Raises:
        DataError: not readable, not TOML, or a key that is missing, unknown or of another kind. The message names
            the file and the key.
    """
    table = convert(read_toml(path), CardFile, path)
    card = Card(**{name: getattr(table, name) for name in CardFile.__struct_fields__}, path=path)
    _check(card)
    return card


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        DataError: not readable, or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path}: not TOML: {error}", "see the files beside it for the form") from None


def convert(raw: Any, kind: Any, path: Path, prefix: str = "") -> Any:
    """``raw`` as an object of ``kind``.

    Args:
        raw: plain data, as TOML or JSON gives it.
        kind: a msgspec type.
        path: the file that an error names.
        prefix: the key under which ``raw`` stands in the file.

    Raises:
        DataError: ``<path>: <key>: expected float, got str`` and the like.
    """
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        key, problem, hint = _explain(str(error), raw, kind)
        where = ".".join(part for part in (prefix, key) if part)
        raise DataError(f"{path}: {where}: {problem}" if where else f"{path}: {problem}", hint) from None


def _check(card: Card) -> None:
    """What a card says must agree with itself; raises DataError with the key."""

    def wrong(key: str, problem: str, hint: str | None = None) -> DataError:
        return DataError(f"{card.path}: {key}: {problem}", hint)

    if card.name != card.path.stem:
        raise wrong("name", f"it is {card.name!r}, the file's name says {card.path.stem!r}", "make them the same")
    if len(set(card.task.classes)) != len(card.task.classes):
        raise wrong("task.classes", "a class is named twice")
    if card.default_scheme not in card.schemes:
        known = ", ".join(card.schemes) or "none"
        raise wrong("default_scheme", f"no scheme {card.default_scheme!r} among the schemes", f"there are: {known}")
    for scheme, rule in card.schemes.items():
        if not rule.splits:
            raise wrong(f"schemes.{scheme}.splits", "it names no split")
        if isinstance(rule, SeededRule) and (twice := set(rule.splits) & set(rule.whole)):
            raise wrong(f"schemes.{scheme}.whole", f"the split {min(twice)!r} is also one of splits")
        if isinstance(rule, SeededRule) and (total := _total_of_fractions(rule)) not in (None, 1):
            raise wrong(
                f"schemes.{scheme}.splits",
                f"the shares sum to {float(total):g}, not to 1",
                "correct them, or give whole numbers: how many images, or groups, of each split",
            )
        if isinstance(rule, ListRule):
            for split, file in rule.splits.items():
                if not (card.path.parent / file).is_file():
                    raise wrong(f"schemes.{scheme}.splits.{split}", f"no such file {card.path.parent / file}")
    if card.evaluate not in card.schemes[card.default_scheme].names:
        raise wrong("evaluate", f"the scheme {card.default_scheme!r} has no split {card.evaluate!r}")
    if isinstance(its := card.objects, ObjectsTable):
        if not its.size_p05 <= its.size_median <= its.size_p95:
            raise wrong("objects", "size_p05, size_median and size_p95 do not ascend")
        if its.per_image_median > its.per_image_max:
            raise wrong("objects", "per_image_median is above per_image_max")
    seen: set[str] = set()
    for protocol in card.protocols:
        if protocol.name in seen:
            raise wrong("protocols", f"{protocol.name!r} stands there twice")
        seen.add(protocol.name)
    for key in ("splits", "split_instances"):
        if unknown := set(getattr(card.expected, key)) - set(card.split_names):
            raise wrong(f"expected.{key}", f"no split {min(unknown)!r}", f"there are: {', '.join(card.split_names)}")
    for i, item in enumerate(card.downloads):
        if PurePosixPath(item.to).is_absolute() or ".." in PurePosixPath(item.to).parts:
            raise wrong(f"downloads[{i}].to", f"{item.to!r} leaves the folder of the data set")
    from bench.data.readers import make_options  # readers and generators lean on this module
    from bench.data.synthetic import make_generator

    if card.stand_in is not None:
        make_generator(card.stand_in.generator, card.stand_in.seed, card.stand_in.params, card.path)
        if card.stand_in.format is not None:
            make_options(card.stand_in.format, card.path, "stand_in.format")
    reader, options = make_options(card.format, card.path)
    if reader.names_classes(options) == bool(card.task.classes):
        problem = "the files name the classes" if card.task.classes else "no class is named"
        raise wrong("task.classes", problem, "let it be [] where the format takes the classes from the files")


def _total_of_fractions(rule: SeededRule) -> float | None:
    """What the shares of a seeded rule sum to, 1.0 where that is so but for rounding; None where they are counts."""
    if all(float(share).is_integer() for share in rule.splits.values()):
        return None
    total = math.fsum(rule.splits.values())
    return 1.0 if abs(total - 1) <= _ROUNDING else total


_ROUNDING = 1e-6
"""By so much the sum of fractions may miss 1: 0.333333 + 0.333333 + 0.333334."""

_AT = re.compile(r"^(?P<problem>.*?)(?: - at `(?:key` in `)?\$?(?P<path>[^`]*)`)?$", re.DOTALL)
_NAME = re.compile(r"^Expected `str` matching regex '(?P<pattern>.*)'$")
_VALUE = re.compile(r"^Invalid (enum )?value ")
_UNKNOWN_FIELD = re.compile(r"^Object contains unknown field `(?P<field>.*)`$")
_MISSING_FIELD = re.compile(r"^Object missing required field `(?P<field>.*)`$")


def _explain(message: str, raw: Any, kind: Any) -> tuple[str, str, str | None]:
    """A msgspec message as (key, problem, hint)."""
    match = _AT.match(message)
    assert match is not None  # the pattern takes any text
    problem, path = match["problem"], match["path"] or ""
    key = _named(path, raw, kind, message).lstrip(".")
    if field := _UNKNOWN_FIELD.match(problem):
        return _join(key, field["field"]), "unknown key", "check its spelling, or take it out"
    if field := _MISSING_FIELD.match(problem):
        return _join(key, field["field"]), "missing", "add it"
    if (name := _NAME.match(problem)) and " `key` in " in message:
        wrong = [k for k in _at(raw, f".{key}") or () if not re.search(name["pattern"], k)]
        return key, f"{wrong[0]!r} cannot be a name there" if wrong else problem, "a name is of a-z, 0-9, _, - and dots"
    if _VALUE.match(problem) and (choices := _choices(kind, key)):
        return key, problem[:1].lower() + problem[1:], f"one of: {', '.join(choices)}"
    problem = problem.replace("`", "")
    return key, problem[:1].lower() + problem[1:], None


def _choices(kind: Any, key: str) -> tuple[str, ...]:
    """The texts that a key of a struct may hold, where they are few; none if that is not known."""
    if kind is CardFile and key.startswith("schemes.") and key.endswith(".rule"):
        return tuple(str(rule.__struct_config__.tag) for rule in (PartsRule, SeededRule, ListRule))
    found = get_type_hints(kind).get(key) if isinstance(kind, type) else None
    kinds = (found, *get_args(found))
    return tuple(repr(value) for k in kinds if get_origin(k) is Literal for value in get_args(k))


def _join(key: str, field: str) -> str:
    return f"{key}.{field}" if key else field


def _named(path: str, raw: Any, kind: Any, message: str) -> str:
    """``path`` with each ``[...]``, by which msgspec means some key of a table, replaced by that key."""
    head, gap, tail = path.partition("[...]")
    if not gap:
        return path
    table = _at(raw, head)
    if not isinstance(table, Mapping):
        return path
    for key in table:
        narrowed = _replaced(raw, head, {key: table[key]})
        try:
            msgspec.convert(narrowed, kind)
        except msgspec.ValidationError as error:
            if str(error) == message:
                return _named(f"{head}.{key}{tail}", narrowed, kind, message)
    return path


def _steps(path: str) -> list[str | int]:
    return [int(s[1:-1]) if s.startswith("[") else s[1:] for s in re.findall(r"\[\d+\]|\.[^.\[]+", path)]


def _at(raw: Any, path: str) -> Any:
    for step in _steps(path):
        try:
            raw = raw[step]
        except (KeyError, IndexError, TypeError):
            return None
    return raw


def _replaced(raw: Any, path: str, value: Any) -> Any:
    """A copy of ``raw`` with ``value`` at ``path``."""

    def put(node: Any, steps: list[str | int]) -> Any:
        if not steps:
            return value
        if isinstance(node, list):
            return [put(child, steps[1:]) if i == steps[0] else child for i, child in enumerate(node)]
        return {k: put(child, steps[1:]) if k == steps[0] else child for k, child in node.items()}

    return put(raw, _steps(path))
