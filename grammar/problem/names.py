"""What a quantity may be called, and what its name says about it.

A name is free text in one of four forms:
    adult owl in South Zoo                                        a count of an item in a place
    roses                                                         a count without a place
    total number of adult animals in South Zoo                    a total over a place
    average number of newborn children per adult owl in South Zoo an average per item
The first " in " ends the item. `names.lark` says what ends a name.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from grammar.language.lark_tables import TRACES

MAX_LENGTH = 1000  # characters of one name; the longest of the published noise has 129

_NAME = re.compile(TRACES.regexp("NAME"))
TOTAL = "total number of "
_AVERAGE = "average number of "


@dataclass(frozen=True, slots=True)
class Name:
    """A name taken apart.

    text:    the whole name.
    kind:    what it counts: "count" of an item, "total" over a place, "average" per item.
    counted: what a total or an average counts ("adult animals", "newborn children"); empty for a count.
    item:    the item counted, or the item an average is per; empty for a total.
    place:   where; empty for a name without a place.
    """

    text: str
    kind: Literal["count", "total", "average"]
    counted: str
    item: str
    place: str

    @property
    def phrase(self) -> str:
        """How a sentence refers to it: "the number of adult owl in South Zoo"."""
        return f"the number of {self.text}" if self.kind == "count" else f"the {self.text}"

    @property
    def question(self) -> str:
        """How a problem asks for it: "How many adult owl does South Zoo have?"."""
        if self.kind != "count":
            return f"What is the {self.text}?"
        return f"How many {self.item} does {self.place} have?" if self.place else f"How many {self.item} are there?"


@lru_cache(maxsize=1 << 14)
def read_name(text: str) -> Name:
    """Takes a name apart.

    Raises:
        ValueError: if the language could not tell this name from the words around it.
    """
    found = _NAME.match(f"{text} equals ") if len(text) <= MAX_LENGTH else None
    if found is None or found.end() != len(text):
        raise ValueError(
            f"name {text[:120]!r}: expected words joined by single blanks, at most {MAX_LENGTH} characters, without ',', ';', "
            "'<', '>' and phrases around names, such as 'does', 'equals' or 'and the'; rename it."
        )
    if text.startswith(TOTAL):
        counted, _, place = text[len(TOTAL) :].partition(" in ")
        return Name(text, "total", counted, "", place)
    if text.startswith(_AVERAGE):
        counted, per, rest = text[len(_AVERAGE) :].partition(" per ")
        if not per:
            raise ValueError(f"name {text!r}: an average is 'average number of THINGS per ITEM in PLACE'; add 'per ITEM'.")
        item, _, place = rest.partition(" in ")
        return Name(text, "average", counted, item, place)
    item, _, place = text.partition(" in ")
    return Name(text, "count", "", item, place)
