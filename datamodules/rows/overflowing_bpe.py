"""Byte-pair encoding as the tokenizer of arXiv:2512.07783 learned it: with counts of pairs that overflow.

That tokenizer was trained on 226,072,511 lines by a library that counts pairs in signed 32-bit integers. Pairs that occur more
than 2^31 times had a wrong count, often a negative one, and were never merged: "number", "of", "the" and "so" are spelled letter
by letter, and texts have half as many tokens again or more. Counting alike reproduces it: tests compare published lengths.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

LINES = 226_072_511  # of the published training
Pair = tuple[str, str]


def learn_merges(counts: Mapping[str, int], merges: int, scale: float = 1.0) -> list[Pair]:
    """The first merges, in order; fewer if no pair has a positive count.

    Args:
        counts: of each piece of text, in byte-level letters.
        merges: at most so many.
        scale: factor of all counts; with a large one the most frequent pairs overflow.
    """
    pieces = [list(piece) for piece in sorted(counts)]
    weights = [round(counts[piece] * scale) for piece in sorted(counts)]
    totals: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)
    for number, (piece, weight) in enumerate(zip(pieces, weights, strict=True)):
        _count(piece, number, weight, totals, places)
    learned: list[Pair] = []
    for _ in range(merges):
        best = max(totals, key=lambda pair: (overflowed(totals[pair]), pair), default=None)
        if best is None or overflowed(totals[best]) < 1:
            break
        learned.append(best)
        for number in sorted(places[best]):
            _count(pieces[number], number, -weights[number], totals, places)
            pieces[number] = _merged(pieces[number], best)
            _count(pieces[number], number, weights[number], totals, places)
        del totals[best]
    return learned


def overflowed(count: int) -> int:
    """A count as a signed 32-bit integer holds it."""
    return (count + 2**31) % 2**32 - 2**31


def _count(piece: Sequence[str], number: int, weight: int, totals: Counter[Pair], places: Mapping[Pair, set[int]]) -> None:
    for pair in pairwise(piece):
        totals[pair] += weight
        places[pair].add(number)


def _merged(piece: Sequence[str], pair: Pair) -> list[str]:
    found: list[str] = []
    at = 0
    while at < len(piece):
        whole = tuple(piece[at : at + 2]) == pair
        found.append("".join(pair) if whole else piece[at])
        at += 1 + whole
    return found
