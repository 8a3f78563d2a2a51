"""The page: one file that opens without a network, prints, and fits a phone."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from callbacks.files import write_text
from callbacks.records.run_record import environment
from recipes.report.chart import Chart, panel_image
from recipes.report.sourced_numbers import Files
from recipes.report.studies import StageFiles, Study
from recipes.report.tables import Shown, Table, show


@dataclass(frozen=True)
class Section:
    """A study on the page."""

    study: Study
    charts: tuple[Chart, ...]
    tables: tuple[Table, ...]
    samples: tuple[dict[str, Any], ...]
    stages: tuple[StageFiles, ...]


def write_page(sections: Sequence[Section], files: Files, path: Path) -> Path:
    """Write the page of several studies."""
    loader = FileSystemLoader(Path(__file__).parent)
    page = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.globals |= {"image": panel_image, "chart_table": chart_table, "shown": lambda cell: isinstance(cell, Shown)}
    text = page.get_template("page.html").render(
        sections=sections, origins={s.folder: _origin(s, files) for section in sections for s in section.stages},
        samples=_as_script([list(section.samples) for section in sections]), made=environment(),
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )  # fmt: skip
    write_text(path, text)
    return path


def chart_table(chart: Chart) -> Table:
    """The numbers of a chart."""
    rows: list[list[str | Shown | None]] = []
    for panel in chart.panels:
        for line in panel.lines:
            for x, number in line.points:
                rows.append([panel.title, line.label, f"{x:g}" if isinstance(x, float | int) else x, show(number)])
    return Table("Numbers", ("panel", "line", "x", "value"), rows)


def _origin(stage: StageFiles, files: Files) -> dict[str, Any]:
    config = files.root / stage.path("config.yaml")
    text = config.read_text(encoding="utf-8") if config.is_file() else "not kept"
    return {"config": text, "environment": files.json(stage.path("environment.json")) or {}}


def _as_script(data: object) -> Markup:
    """JSON for a <script>, in which nothing ends the element."""
    return Markup(json.dumps(data, ensure_ascii=False).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
