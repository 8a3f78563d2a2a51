"""A panel as SVG within the page: small, sharp, and coloured by the page's palette, so that it follows light and dark.

Lines have at most three to a panel. Bars lie: a row for each name, so that names are read and a phone's width is enough.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from math import floor, log2, log10

from recipes.report.chart import Line, Panel
from recipes.report.sourced_numbers import Number

MOST_LINES = 3
COLOURS = 8  # of the page's palette
WIDTH, HEIGHT = 320, 190
LEFT, RIGHT, TOP, BOTTOM = 38, 8, 8, 30
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 2")
DOTS = (
    "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0z",
    "M-3-3h6v6h-6z",
    "M0-3.6l3.6 6.4h-7.2z",
    "M0-4l4 4-4 4-4-4z",
    "M-4-1h3v-3h2v3h3v2h-3v3h-2v-3h-3z",
)
ROW, BAND = 15, 9  # of a row's name, of one of its bars


def small_multiples(panel: Panel) -> list[Panel]:
    """A panel as panels of at most `MOST_LINES` lines; the first line, which others are compared with, is in each."""
    if panel.kind != "line" or len(panel.lines) <= MOST_LINES:
        return [panel]
    first, others, size = panel.lines[0], panel.lines[1:], MOST_LINES - 1
    return [replace(panel, lines=(first, *others[at : at + size])) for at in range(0, len(others), size)]


@dataclass(frozen=True)
class Scale:
    """Values to pixels: `low` at `start`, `high` at `end`; `log`: by their logarithm to that base."""

    low: float
    high: float
    start: float
    end: float
    log: int = 0

    def __call__(self, value: float) -> float:
        """The place of a value, to a tenth of a pixel."""
        low, high, at = (self._moved(v) for v in (self.low, self.high, value))
        return round(self.start + (at - low) / ((high - low) or 1.0) * (self.end - self.start), 1)

    def _moved(self, value: float) -> float:
        if not self.log:
            return value
        return log2(max(value, 1e-12)) if self.log == 2 else log10(max(value, 1e-12))

    def ticks(self, most: int = 5) -> list[float]:
        """Round values within the ends."""
        if self.log:
            first, last = self._moved(self.low), self._moved(self.high)
            step = max(1, -(-floor(last - first + 1) // most))
            return [float(self.log**power) for power in range(-floor(-first), floor(last) + 1, step)] or [self.low]
        raw = ((self.high - self.low) or 1.0) / most
        size = 10.0 ** floor(log10(raw))
        width = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw * 0.999)
        return [width * i for i in range(-floor(-self.low / width + 1e-9), floor(self.high / width + 1e-9) + 1)]


def panel_svg(panel: Panel) -> str:
    """The drawing."""
    height, marks = _line_marks(panel) if panel.kind == "line" else _bar_marks(panel)
    label = escape(f"{panel.title}: {panel.y} against {panel.x or 'arms'}; the numbers stand in the table below", quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{"".join(marks)}</svg>'


def key_svg(line: Line, kind: str) -> str:
    """A line's mark in the legend."""
    marks = _dot(12, 5, line.style) if kind != "line" else _path([(1, 5), (23, 5)], line.style) + _dot(12, 5, line.style)
    return f'<svg viewBox="0 0 24 10" class="key" aria-hidden="true">{marks}</svg>'


def _text(x: float, y: float, text: str, how: str = "") -> str:
    return f'<text x="{x}" y="{y}"{f" class={how}" if how else ""}>{escape(text)}</text>'


def _dot(x: float, y: float, style: int) -> str:
    return f'<path class="d c{style % COLOURS}" d="{DOTS[style % len(DOTS)]}" transform="translate({x} {y})"/>'


def _path(points: Sequence[tuple[float, float]], style: int) -> str:
    dashes = DASHES[style % len(DASHES)]
    way = "M" + "L".join(f"{x} {y}" for x, y in points)
    return f'<path class="l c{style % COLOURS}" d="{way}"{f" stroke-dasharray={chr(34)}{dashes}{chr(34)}" if dashes else ""}/>'


def _rounded(value: float) -> str:
    for least, unit, letter in ((1e9, 1e9, "B"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least and value < 1e13:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.0e}" if abs(value) >= 1e13 else f"{value:.3g}"


def _ends(numbers: Sequence[Number], panel: Panel) -> tuple[float, float]:
    """The least value and the greatest that a scale shows, intervals included."""
    values = [v for n in numbers for v in (n.value, n.low, n.high) if v is not None]
    if panel.share and min(values) >= 0:
        return 0.0, 1.0
    low, high = min(values), max(values)
    if panel.log_y:
        return low, high
    if panel.kind != "line":
        low, high = min(low, 0.0), max(high, 0.0)
    room = 0.06 * ((high - low) or 1.0)
    return low - room * (low < 0 or panel.kind == "line"), high + room


def _line_marks(panel: Panel) -> tuple[int, list[str]]:
    xs = [float(x) for line in panel.lines for x, _ in line.points]
    low, high = min(xs), max(xs)
    across = Scale(low, high if high > low else low + 1, LEFT, WIDTH - RIGHT - 6, 2 if panel.log_x else 0)
    ends = _ends([n for line in panel.lines for _, n in line.points], panel)
    up = Scale(*ends, HEIGHT - BOTTOM, TOP, 10 if panel.log_y else 0)
    marks = [*_axes(panel, across, up, sorted(set(xs)))]
    for line in panel.lines:
        points = [(across(float(x)), up(n.value)) for x, n in line.points]
        known = [(across(float(x)), up(n.low), up(n.high)) for x, n in line.points if n.low is not None and n.high is not None]
        shaded = panel.joined and len(known) > 1
        if shaded:
            area = [(x, high) for x, _, high in known] + [(x, low) for x, low, _ in reversed(known)]
            marks.append(f'<path class="a c{line.style % COLOURS}" d="M{"L".join(f"{x} {y}" for x, y in area)}z"/>')
        marks += [f'<path class="w c{line.style % COLOURS}" d="M{x} {low}V{high}"/>' for x, low, high in known if not shaded]
        marks += [_path(points, line.style)] if panel.joined else []
        marks += [_dot(x, y, line.style) for x, y in points[:: max(1, len(points) // 8) if panel.joined else 1]]
    return HEIGHT, marks


def _axes(panel: Panel, across: Scale, up: Scale, xs: Sequence[float]) -> Iterator[str]:
    for tick in up.ticks():
        yield f'<path class="g" d="M{LEFT} {up(tick)}H{WIDTH - RIGHT}"/>' + _text(LEFT - 4, up(tick) + 3, _rounded(tick), "e")
    few = len(xs) <= 9 and (panel.log_x or all(x.is_integer() and x < 1000 for x in xs))
    for tick in xs if few else across.ticks(4):
        yield _text(across(tick), HEIGHT - BOTTOM + 13, _rounded(tick), "m")
    yield f'<path class="x" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>'
    yield _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, panel.x, "m")


def _bar_marks(panel: Panel) -> tuple[int, list[str]]:
    names = list(dict.fromkeys(x for line in panel.lines for x, _ in line.points))
    stacked = panel.kind == "stack"
    size = ROW + BAND * (1 if stacked else len(panel.lines)) + 4
    height = size * len(names) + BOTTOM - 8
    numbers = [n for line in panel.lines for _, n in line.points]
    ends = (0.0, 1.0) if stacked else _ends(numbers, panel)
    across = Scale(*ends, 6, WIDTH - RIGHT - 6)
    bottom = height - BOTTOM + 10
    marks = [
        f'<path class="g" d="M{across(tick)} 0V{bottom}"/>' + _text(across(tick), bottom + 12, _rounded(tick), "m")
        for tick in across.ticks()
    ]
    marks.append(f'<path class="x" d="M{across(0.0)} 0V{bottom}"/>')
    for row, name in enumerate(names):
        marks.append(_text(6, row * size + 11, str(name)))
        at = 0.0
        for place, line in enumerate(panel.lines):
            for number in (n for x, n in line.points if x == name):
                y = row * size + ROW + (0 if stacked else place * BAND)
                start = across(at if stacked else 0.0)
                end = across(at + number.value if stacked else number.value)
                at += number.value if stacked else 0.0
                marks.append(f'<path class="b c{line.style % COLOURS}" d="M{start} {y}H{end}V{y + BAND - 2}H{start}z"/>')
                if number.low is not None and number.high is not None and not stacked:
                    marks.append(f'<path class="w" d="M{across(number.low)} {y + BAND / 2 - 1}H{across(number.high)}"/>')
    return height, marks
