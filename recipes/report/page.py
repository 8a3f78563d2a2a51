"""The page: one file that opens without a network, prints, and fits a phone.

Verdicts, charts and the first table stand in it as they are. What is opened on demand (further tables, sources of numbers,
samples, configs) is one compressed block, which the page's script unpacks.
"""

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from gzip import compress
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from callbacks.files import write_text
from callbacks.records.run_record import environment
from recipes.report.chart import Chart
from recipes.report.panel_svg import key_svg, panel_svg, small_multiples
from recipes.report.sourced_numbers import Files
from recipes.report.studies import StageFiles, Study
from recipes.report.tables import Shown, Table, show
from recipes.report.verdicts import Effect, Verdict


@dataclass(frozen=True)
class Section:
    """A study on the page; `title` is its question in short."""

    study: Study
    title: str
    verdict: Verdict
    charts: tuple[Chart, ...]
    tables: tuple[Table, ...]
    samples: tuple[dict[str, Any], ...]
    stages: tuple[StageFiles, ...]

    @property
    def first_charts(self) -> list[Chart]:
        """Those that are open at once."""
        return [chart for chart in self.charts if chart.first]

    @property
    def more_charts(self) -> list[Chart]:
        """The others."""
        return [chart for chart in self.charts if not chart.first]


@dataclass
class Block:
    """What is opened on demand; the methods take a part and return its place in it."""

    numbers: list[dict[str, Any]] = field(default_factory=list)
    tables: list[dict[str, Any]] = field(default_factory=list)
    places: dict[tuple[str, str], int] = field(default_factory=dict)

    def number(self, shown: Shown) -> int:
        """A number with its sources; equal ones are kept once."""
        terms, text = shown.number.terms, shown.text
        if (text, terms) not in self.places:
            self.places[text, terms] = len(self.numbers)
            found = {"text": text, "form": shown.form, "terms": json.loads(terms), "title": shown.number.title}
            self.numbers.append(found)
        return self.places[text, terms]

    def table(self, table: Table) -> int:
        """A table; a number is its place and its interval."""
        rows = [[[self.number(c), c.interval] if isinstance(c, Shown) else c for c in row] for row in table.rows]
        self.tables.append({"head": list(table.head), "rows": rows, "note": table.note})
        return len(self.tables) - 1

    def text(self, samples: object, origins: object) -> str:
        """All of it as JSON, compressed, in letters."""
        whole = {"numbers": self.numbers, "tables": self.tables, "samples": samples, "origins": origins}
        return b64encode(compress(json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode(), mtime=0)).decode()


def write_page(sections: Sequence[Section], files: Files, path: Path) -> Path:
    """Write the page of several studies."""
    loader, block = FileSystemLoader(Path(__file__).parent), Block()
    page = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.globals |= {
        "panels_of": small_multiples, "drawing": lambda panel: Markup(panel_svg(panel)),
        "key": lambda line, kind: Markup(key_svg(line, kind)), "number": block.number, "table": block.table,
        "chart_table": chart_table, "shown": lambda cell: isinstance(cell, Shown), "show": show, "strips": strips,
    }  # fmt: skip
    text = page.get_template("page.html").render(
        sections=sections, folders=[[stage.folder for stage in section.stages] for section in sections], made=environment(),
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        script=Markup((Path(__file__).parent / "page.js").read_text(encoding="utf-8")),
        style=Markup((Path(__file__).parent / "page.css").read_text(encoding="utf-8")),
    )  # fmt: skip
    origins = {stage.folder: _origin(stage, files) for section in sections for stage in section.stages}
    place = '<script type="text/plain" id="block">'  # with quotation marks: no text of a recipe looks like it
    held = block.text([list(section.samples) for section in sections], origins)
    write_text(path, text.replace(place, place + held, 1))
    return path


def chart_table(chart: Chart) -> Table:
    """The numbers of a chart."""
    rows: list[list[str | Shown | None]] = []
    for panel in chart.panels:
        for line in panel.lines:
            for x, number in line.points:
                rows.append([panel.title, line.label, f"{x:g}" if isinstance(x, float | int) else x, show(number)])
    return Table("Numbers", ("panel", "line", "x", "value"), rows)


def strips(effects: Sequence[Effect]) -> dict[str, Any]:
    """Effects on one scale, in percent of its width.

    Returns:
        `zero`; `low` and `high`, the ends of the scale; `rows` [effect, seeds, low, high, value].
    """
    values = [v for e in effects for v in (0.0, e.number.value, e.number.low, e.number.high, *e.seeds) if v is not None]
    low, high = min(values), max(values)
    low, high = low - 0.04 * (high - low or 1), high + 0.04 * (high - low or 1)

    def at(value: float | None) -> float | None:
        return None if value is None else round(100 * (value - low) / (high - low), 1)

    rows = [
        {
            "effect": e, "seeds": [at(seed) for seed in e.seeds], "value": at(e.number.value),
            "low": at(e.number.low), "high": at(e.number.high),
        }
        for e in effects
    ]  # fmt: skip
    return {"zero": at(0.0), "low": f"{low:+.2f}", "high": f"{high:+.2f}", "rows": rows}


def _origin(stage: StageFiles, files: Files) -> dict[str, Any]:
    config = files.root / stage.path("config.yaml")
    text = config.read_text(encoding="utf-8") if config.is_file() else "not kept"
    return {"name": stage.name, "config": text, "environment": files.json(stage.path("environment.json")) or {}}
