"""Packing: whole documents into rows of a fixed length, boundaries kept.

Not here: which documents (`windows.py`), what a boundary does to attention (`lightning_modules/models/attention.py`).
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Literal

Fit = Literal["best", "first"]


def pack(lengths: Sequence[int], row_length: int, *, fit: Fit = "best") -> list[list[int]]:
    """Put each document, longest first, where the least room is left ("best"), or into the first row with room ("first").

    First-fit decreasing is how the authors of arXiv:2512.07783 packed.

    Args:
        lengths: tokens of each document.
        row_length: tokens of a row.
        fit: which row a document goes to.

    Returns:
        Rows of document indices; every document stands in exactly one row.

    Raises:
        ValueError: a document longer than a row.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    if order and lengths[order[0]] > row_length:
        raise ValueError(
            f"a document of {lengths[order[0]]} tokens does not fit a row of {row_length}; raise `row_length`, lower `ops`, "
            "or set `long_documents: drop`."
        )
    return (_best_fit if fit == "best" else _first_fit)(order, lengths, row_length)


def _best_fit(order: list[int], lengths: Sequence[int], row_length: int) -> list[list[int]]:
    rows: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # (room left, row), the least first
    for document in order:
        at = bisect_left(rooms, (lengths[document], -1))
        if at < len(rooms):
            room, row = rooms.pop(at)
        else:
            room, row = row_length, len(rows)
            rows.append([])
        rows[row].append(document)
        insort(rooms, (room - lengths[document], row))
    return rows


def _first_fit(order: list[int], lengths: Sequence[int], row_length: int) -> list[list[int]]:
    rows: list[list[int]] = []
    rooms: list[int] = []
    for document in order:
        length = lengths[document]
        row = next((r for r, room in enumerate(rooms) if room >= length), len(rows))
        if row == len(rows):
            rows.append([])
            rooms.append(row_length)
        rows[row].append(document)
        rooms[row] -= length
    return rows


def pack_first(lengths: Sequence[int], row_length: int, rows: int, *, fit: Fit = "best") -> list[list[int]]:
    """Pack as many of the first documents as `rows` rows hold; those after them are left out.

    Returns:
        `rows` rows of document indices, empty ones where documents are too few.
    """
    for kept in range(len(lengths), -1, -1):
        packed = pack(lengths[:kept], row_length, fit=fit)
        if len(packed) <= rows:
            break
    return packed + [[] for _ in range(rows - len(packed))]
