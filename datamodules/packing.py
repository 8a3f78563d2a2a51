"""Best-fit packing: whole documents into rows of a fixed length, boundaries kept.

Not here: which documents (`pretraining.py`), what a boundary does to attention (`lightning_modules/attention.py`).
"""

from collections.abc import Sequence


def pack(lengths: Sequence[int], row_length: int) -> list[list[int]]:
    """Best-fit decreasing: put each document, longest first, where the least room is left.

    Args:
        lengths: tokens of each document.
        row_length: tokens of a row.

    Returns:
        Rows of document indices; every document stands in exactly one row.

    Raises:
        ValueError: a document longer than a row.
    """
    rows: list[list[int]] = []
    by_room: list[list[int]] = [[] for _ in range(row_length + 1)]  # room left -> rows with that much
    for document in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[document]
        if length > row_length:
            raise ValueError(f"a document of {length} tokens does not fit a row of {row_length}; raise `row_length`.")
        room = next((r for r in range(length, row_length) if by_room[r]), row_length)
        if room == row_length:
            row = len(rows)
            rows.append([])
        else:
            row = by_room[room].pop()
        rows[row].append(document)
        by_room[room - length].append(row)
    return rows
