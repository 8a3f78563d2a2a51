"""Tables as text."""

from collections.abc import Iterable, Sequence


def align(rows: Sequence[Sequence[str]], *, underline: bool = True) -> str:
    """Rows as text in columns; the first row is the head, underlined by default."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], *(["-" * len(lines[0])] if underline else []), *lines[1:]])


def bands_of(names: Iterable[str]) -> list[str]:
    """Names of bands among those of bands and single operations ("op5")."""
    return [name for name in names if not name.removeprefix("op").isdigit()]
