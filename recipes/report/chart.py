"""Charts as data, and their drawing: lines and bars differ by marker, dash and hatch as well as by colour; legible when small."""

from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from callbacks.files import new_file
from recipes.report.sourced_numbers import Number

# Okabe and Ito's colours, distinct for any colour vision (jfly.uni-koeln.de/color), darkest first
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
# 7 markers and 5 dashes, numbers without a common divisor: 35 lines differ without their colours
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLES = ("-", "--", "-.", ":", (0, (8, 3)))
HATCHES = ("", "///", "---", "xxx", "\\\\\\", "|||", "+++", "--\\\\")  # lines: dots make an SVG five times as large
SIZE = (4.4, 3.7)  # inches of a panel
FEW = 16  # points that get a marker each, and a tick if they are whole numbers
MANY = 1000


@dataclass(frozen=True)
class Line:
    """Values along x: numbers, or names for bars; `style` chooses colour, marker, dashes and hatch."""

    label: str
    points: tuple[tuple[float | str, Number], ...]
    style: int = 0


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    kind:   "line"; "bar": bars of all lines side by side at each x; "stack": on top of each other.
    joined: points of a line are joined; else each is a mark with its whisker.
    """

    title: str
    x: str
    y: str
    lines: tuple[Line, ...]
    kind: Literal["line", "bar", "stack"] = "line"
    log_x: bool = False
    log_y: bool = False
    share: bool = True
    joined: bool = True


@dataclass(frozen=True)
class Chart:
    """Panels that belong together.

    key:   names its file.
    title: its subject, and the figures of the paper with this shape.
    note:  how to read it.
    first: it is open at once: pass@k, and what the recipe names.
    """

    key: str
    title: str
    note: str
    panels: tuple[Panel, ...]
    first: bool = False


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as a PNG file, and return the path."""
    with new_file(path) as part:
        figure.savefig(part, format="png", dpi=110)
    return path


def draw_png(chart: Chart, path: Path) -> None:
    """All panels, at most three side by side, as a picture."""
    columns = 2 if len(chart.panels) == 4 else min(3, len(chart.panels))
    rows = -(-len(chart.panels) // columns)
    figure = Figure(figsize=(SIZE[0] * columns, SIZE[1] * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, panel in zip_longest(axes.flat, chart.panels):
        if panel is None:
            axis.set_visible(False)
        else:
            draw_panel(axis, panel)
    _legend(figure, *axes.flat)
    save(figure, path)


def draw_panel(axis: Axes, panel: Panel) -> None:
    """Draw one panel."""
    {"line": _lines, "bar": _bars, "stack": _stack}[panel.kind](axis, panel)
    axis.set_title(panel.title, fontsize=10)
    axis.set_xlabel(panel.x)
    axis.set_ylabel(panel.y)
    axis.grid(alpha=0.3)
    if panel.share and panel.kind != "stack" and all(n.value >= 0 for line in panel.lines for _, n in line.points):
        axis.set_ylim(-0.03, 1.03)
    if panel.log_y:
        axis.set_yscale("log")
    if panel.log_x:
        ticks = sorted({x for line in panel.lines for x, _ in line.points})
        axis.set_xscale("log", base=2)
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()


def _lines(axis: Axes, panel: Panel) -> None:
    for line in panel.lines:
        i = line.style
        xs = [x for x, _ in line.points]
        ys = [number.value for _, number in line.points]
        colour, few = COLOURS[i % len(COLOURS)], len(xs) <= FEW
        dashes = STYLES[i % len(STYLES)] if panel.joined else ""
        axis.plot(
            xs, ys, linestyle=dashes, color=colour, marker=MARKERS[i % len(MARKERS)], markersize=5,
            markevery=1 if few else max(1, len(xs) // 8), linewidth=1.6, label=line.label, fillstyle="none" if i % 2 else "full",
        )  # fmt: skip
        _interval(
            axis, [(x, n) for x, n in line.points if n.low is not None], colour, shade=panel.joined and len(panel.lines) <= 3
        )
    xs = sorted({x for line in panel.lines for x, _ in line.points})
    if xs and not panel.log_x and all(float(x).is_integer() and float(x) < MANY for x in xs) and len(xs) <= FEW:
        axis.set_xticks(xs)


def _interval(axis: Axes, points: list[tuple[float | str, Number]], colour: str, *, shade: bool) -> None:
    """Shade between the ends of intervals; with one point, or many lines, whose shades would mix to grey, draw whiskers."""
    xs, lows, highs = [x for x, _ in points], [n.low for _, n in points], [n.high for _, n in points]
    if len(points) == 1 or not shade:
        axis.vlines(xs, lows, highs, color=colour, linewidth=1, alpha=0.6)
    elif points:
        axis.fill_between(xs, lows, highs, color=colour, alpha=0.12, lw=0)


def _bars(axis: Axes, panel: Panel) -> None:
    names = list(dict.fromkeys(x for line in panel.lines for x, _ in line.points))
    width = 0.8 / max(1, len(panel.lines))
    for i, line in enumerate(panel.lines):
        for x, number in line.points:
            place = names.index(x) + (i - (len(panel.lines) - 1) / 2) * width
            error = (
                None if number.low is None else [[max(0.0, number.value - number.low)], [max(0.0, number.high - number.value)]]
            )
            axis.bar(place, number.value, width * 0.92, yerr=error, capsize=2, label=line.label, **_filled(line.style))
    _names(axis, names)
    axis.axhline(0, color="black", linewidth=0.8)


def _stack(axis: Axes, panel: Panel) -> None:
    names = list(dict.fromkeys(x for line in panel.lines for x, _ in line.points))
    height = [0.0] * len(names)
    for line in panel.lines:
        for x, number in line.points:
            place = names.index(x)
            axis.bar(place, number.value, 0.7, bottom=height[place], label=line.label, **_filled(line.style))
            height[place] += number.value
    _names(axis, names)


def _filled(style: int) -> dict[str, Any]:
    colour = COLOURS[1 + style % (len(COLOURS) - 1)]
    return {"color": colour, "alpha": 0.75, "hatch": HATCHES[style % len(HATCHES)], "edgecolor": "black", "linewidth": 0.7}


def _names(axis: Axes, names: list[float | str]) -> None:
    long = max(len(str(name)) for name in names) * len(names) > 30
    axis.set_xticks(
        range(len(names)), [str(name) for name in names], rotation=30 if long else 0, ha="right" if long else "center"
    )
    axis.tick_params(axis="x", labelsize=8)


def _legend(figure: Figure, *axes: Axes) -> None:
    handles: dict[str, Artist] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if len(handles) > 1 or "" not in handles:
        columns = 2 if max(map(len, handles), default=0) > 12 else 3
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns, fontsize=8, handlelength=3.5)
