"""Tables as text."""

from collections.abc import Mapping, Sequence
from typing import Any


def align(rows: Sequence[Sequence[str]], *, underline: bool = True) -> str:
    """Rows as text in columns; the first row is the head, underlined by default."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], *(["-" * len(lines[0])] if underline else []), *lines[1:]])


def bands_of(results: Mapping[str, Any]) -> list[str]:
    """Names of bands with results, among those of bands and of single operations ("op5"); of these if there are no bands."""
    names = [name for name, found in results.items() if found]
    return [name for name in names if not name.removeprefix("op").isdigit()] or names


def rounded(value: float | None, digits: int = 2) -> str:
    """A number with so many digits; "-" if there is none."""
    return "-" if value is None else f"{value:.{digits}f}"
