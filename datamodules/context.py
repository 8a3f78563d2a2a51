"""A context: the words that dress a dependency graph, read from one YAML file.

Words only; how a graph is drawn is `sampler.py`, how a sentence is built is `grammar/render.py`.
"""

from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import yaml

CONTEXT_FOLDER = Path(__file__).parent / "contexts"


@dataclass(frozen=True, slots=True)
class Context:
    """The vocabulary of one context. A problem draws from one group of items and, where there are any, one of places.

    name:    the file's stem.
    items:   groups of countable things; a quantity is `ITEM in PLACE`, or the bare `ITEM` where there are no places.
    places:  groups of places; empty means bare names and no totals.
    noun:    what a total counts ("adult animals"): `total number of NOUN in PLACE`; None exactly when `places` is empty.
    modulus: every number is taken modulo this, which is at least 2; None: plain integers.
    """

    name: str
    items: tuple[tuple[str, ...], ...]
    places: tuple[tuple[str, ...], ...] = ()
    noun: str | None = None
    modulus: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot dress a graph."""
        if not self.items or not all(self.items):
            raise ValueError(f"context {self.name!r}: `items` needs at least one non-empty group.")
        if bool(self.places) != (self.noun is not None):
            raise ValueError(f"context {self.name!r}: `noun` and `places` go together; give both or neither.")
        if self.modulus is not None and self.modulus < 2:
            raise ValueError(f"context {self.name!r}: `modulus` is {self.modulus}; it must be at least 2 or absent.")
        for group in (*self.items, *self.places):
            if len(set(group)) != len(group):
                raise ValueError(f"context {self.name!r}: a word stands twice in the group {list(group)}.")


def context_names() -> list[str]:
    """Return the names of all contexts at hand, sorted."""
    return sorted(path.stem for path in CONTEXT_FOLDER.glob("*.yaml"))


@cache
def load_context(name: str) -> Context:
    """Read and check `contexts/<name>.yaml`; `name` may also be the path of a YAML file elsewhere.

    Raises:
        ValueError: no such context, a key that is none of Context's fields, or words of the wrong shape.
    """
    path = Path(name) if name.endswith(".yaml") else CONTEXT_FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"context {name!r} does not exist; choose one of {context_names()} or add {path}.")
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    allowed = {field.name for field in fields(Context)} - {"name"}
    if not isinstance(raw, dict) or not raw.keys() <= allowed:
        unknown = sorted(raw.keys() - allowed) if isinstance(raw, dict) else raw
        raise ValueError(f"{path}: {unknown!r} is not a key of a context; allowed: {sorted(allowed)}.")
    for key in ("items", "places"):
        raw[key] = tuple(_words(group, f"{path}: {key}") for group in raw.get(key, ()))
    return Context(name=path.stem, **raw)


def _words(group: object, where: str) -> tuple[str, ...]:
    if not isinstance(group, list) or not all(isinstance(word, str) and word == word.strip() != "" for word in group):
        raise ValueError(f"{where}: expected a list of words, got {group!r}; write `- [first, second]`.")
    return tuple(group)
