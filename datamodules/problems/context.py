"""A context: the words that name the quantities of a graph, read from one YAML file and checked against the grammar.

Words only; how a graph is drawn is `sampler.py`, how a sentence is built is `grammar/writing/render.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from itertools import chain
from pathlib import Path

import yaml

from datamodules.yaml_text import read_yaml
from grammar import parse_problem
from grammar.problem.linear import MAX_NUMBER
from grammar.problem.names import Name, read_name

CONTEXT_FOLDER = Path(__file__).parents[1] / "contexts"
PUBLISHED = ("crazy_zootopia", "teachers_in_school", "movie_festival_awards")  # contexts of arXiv:2512.07783
_TEXTS = ("noun", "parts", "all_parts")


@dataclass(frozen=True, slots=True)
class Context:
    """The vocabulary of one context. A problem draws from one group of items and, if there are places, one of places;
    further groups join only if it needs more names.

    The words decide the questions: "How many ITEM does PLACE have?", or without places "How many ITEM are
    there?"; "What is the total number of NOUN in PLACE?"; "What is the average number of PARTS per ITEM in PLACE?" and
    "What is the total number of ALL_PARTS in PLACE?".

    name:      the file's stem.
    items:     groups of countable things; a quantity is `ITEM in PLACE`, or the bare `ITEM` without places.
    places:    groups of places; empty means bare names and no totals.
    noun:      unit of a total ("adult animals"): `total number of NOUN in PLACE`; None exactly when `places` is empty.
    parts:     unit of averages ("newborn children"): `average number of PARTS per ITEM in PLACE`; None: no depth 3.
    all_parts: unit of their totals ("newborn animal children"); it holds all words of `parts`, and `noun` does not.
    modulus:   every number is taken modulo this, which is at least 2; None: plain integers.

    Raises:
        ValueError: words that cannot name quantities, or that the grammar would read otherwise.
    """

    name: str
    items: tuple[tuple[str, ...], ...]
    places: tuple[tuple[str, ...], ...] = ()
    noun: str | None = None
    parts: str | None = None
    all_parts: str | None = None
    modulus: int | None = None

    def __post_init__(self) -> None:
        if not self.items or not all(self.items):
            raise self._wrong("`items` needs at least one non-empty group")
        if not all(self.places):
            raise self._wrong("`places` has an empty group; remove it")
        if bool(self.places) != (self.noun is not None):
            raise self._wrong("`noun` and `places` go together; give both or neither")
        if (self.parts is None) != (self.all_parts is None) or (self.parts is not None and not self.places):
            raise self._wrong("`parts` and `all_parts` go together, and only with `places`; give all or none")
        if self.modulus is not None and (type(self.modulus) is not int or not 2 <= self.modulus <= MAX_NUMBER):
            raise self._wrong(f"`modulus` is {self.modulus!r}; it must be an integer from 2 to {MAX_NUMBER} or absent")
        for groups in (self.items, self.places):
            words = list(chain.from_iterable(groups))
            if twice := {word for word in words if words.count(word) > 1}:
                raise self._wrong(f"{sorted(twice)} occur twice; use each word once")
        self._check_parts()
        for name, said in self._sample():
            self._check_name(name, said)

    def _wrong(self, message: str) -> ValueError:
        return ValueError(f"context {self.name!r}: {message}.")

    def _check_parts(self) -> None:
        if self.parts is None:
            return
        words = set(self.parts.split())
        if not words <= set(self.all_parts.split()) or words <= set(self.noun.split()):
            raise self._wrong(f"`all_parts` must hold every word of `parts` ({self.parts!r}), and `noun` must not")

    def _sample(self) -> Iterator[tuple[str, Name]]:
        """Names that use each word in each of its roles, and how the grammar should read them."""
        items, places = list(chain.from_iterable(self.items)), list(chain.from_iterable(self.places))
        pairs = [(item, places[i % len(places)] if places else "") for i, item in enumerate(items)]
        pairs += [(items[i % len(items)], place) for i, place in enumerate(places)]
        for item, place in pairs:
            name = f"{item} in {place}" if place else item
            yield name, Name(name, "count", "", item, place)
            if self.parts is not None:
                average = f"average number of {self.parts} per {name}"
                yield average, Name(average, "average", self.parts, item, place)
        for noun in filter(None, (self.noun, self.all_parts)):
            for place in places:
                name = f"total number of {noun} in {place}"
                yield name, Name(name, "total", noun, "", place)

    def _check_name(self, name: str, said: Name) -> None:
        """Refuse a name that the grammar reads differently, alone or within a sentence."""
        try:
            read = read_name(name)
            phrase = said.phrase
            graph = parse_problem(
                f"The number of z equals 2 plus the sum of {phrase}, the number of y, and {phrase}.", said.question
            )
        except ValueError as error:
            raise self._wrong(f"a sentence with {name!r} cannot be read: {error}") from error
        if read != said:
            raise self._wrong(f"the grammar would not cut {name!r} into its words; no item may hold ' in ', no `parts` ' per '")
        if graph.question != name or graph.statements[0].parents != (name, "y", name):
            raise self._wrong(f"a sentence with {name!r} is read otherwise; choose other words")

    @property
    def words(self) -> str:
        """All its words, once."""
        texts = (getattr(self, key) for key in _TEXTS)
        return " ".join([*chain(*self.items, *self.places), *filter(None, texts)])


def context_names() -> list[str]:
    """Return the names of all contexts, sorted."""
    return sorted(path.stem for path in CONTEXT_FOLDER.glob("*.yaml"))


@cache
def load_context(name: str) -> Context:
    """Read and check `contexts/<name>.yaml`; `name` may also be the path of a YAML file elsewhere.

    Raises:
        ValueError: no such context, invalid YAML, a key that is not a field of Context, or words of the wrong shape.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else CONTEXT_FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"context {name!r} does not exist; choose one of {context_names()}, or give the path of a YAML file.")
    try:
        raw = read_yaml(path)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {error}") from error
    allowed = {field.name for field in fields(Context)} - {"name"}
    if raw is None:
        raise ValueError(f"{path}: the file is empty; a context has the keys {sorted(allowed)}.")
    if not isinstance(raw, dict) or not raw.keys() <= allowed:
        unknown = sorted(map(str, raw.keys() - allowed)) if isinstance(raw, dict) else raw
        raise ValueError(f"{path}: {unknown!r} is not a key of a context; allowed: {sorted(allowed)}.")
    for key in ("items", "places"):
        groups = raw.get(key, [])
        if not isinstance(groups, list):
            raise ValueError(f"{path}: {key}: expected a list of groups, got {groups!r}; write `- [first, second]`.")
        raw[key] = tuple(_words(group, f"{path}: {key}") for group in groups)
    for key in _TEXTS:
        if raw.get(key) is not None and not _is_words(raw[key]):
            raise ValueError(f"{path}: {key}: expected words, got {raw[key]!r}.")
    return Context(name=path.stem, **raw)


def _is_words(word: object) -> bool:
    return isinstance(word, str) and word == word.strip() != ""


def _words(group: object, where: str) -> tuple[str, ...]:
    if not isinstance(group, list) or not all(map(_is_words, group)):
        raise ValueError(f"{where}: expected a list of words, got {group!r}; write `- [first, second]`.")
    return tuple(group)
