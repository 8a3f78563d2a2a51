"""What a stage's results say, in a table and two sentences, for people who watch a recipe run."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from callbacks.text_tables import bands_of

SURE, EVER = 0.9, 0.05  # pass@1 from which a band counts as solved; pass@n up to which it counts as out of reach
CHANGE = 0.05  # differences below it are not spoken of
GRADER = "executable"
Passes = Mapping[str, Any]


def tell(name: str, passes: Passes, before: tuple[str, Passes] | None) -> None:
    """Print the table and the sentences.

    Args:
        name: of the stage.
        passes: its `pass_at_k.json`.
        before: name and results of the stage that it started from.
    """
    table = Table(title=f"after {name}: problems solved with every step right", title_justify="left", box=box.SIMPLE_HEAD)
    earlier = before[1] if before else {}
    last = _last(passes)
    for column in ("band", "pass@1", "", last, "", "right answers"):
        table.add_column(column, justify="left" if column == "band" else "right")
    for band in bands_of(passes):
        cells = [_mean(passes, band, metric) for metric in ("pass@1", last)]
        changes = [_change(cell, _mean(earlier, band, metric)) for cell, metric in zip(cells, ("pass@1", last), strict=True)]
        answers = _mean(passes, band, "pass@1", "answer")
        table.add_row(band, _share(cells[0]), changes[0], _share(cells[1]), changes[1], _share(answers))
    console = Console(width=100, highlight=False)
    console.print(table)
    console.print(f"{reach(name, passes)} {'' if before is None else growth(name, passes, *before)}".strip(), soft_wrap=True)


def reach(name: str, passes: Passes) -> str:
    """The sentence that says which bands a model solves, sometimes solves and never solves."""
    last, groups = _last(passes), dict[str, list[str]](solves=[], sometimes=[], never=[])
    for band in bands_of(passes):
        once, ever = _mean(passes, band, "pass@1") or 0.0, _mean(passes, band, last) or 0.0
        kind = "solves" if once >= SURE else "never" if ever <= EVER else "sometimes"
        groups[kind].append(f"{band} ({once:.2f})" if kind == "sometimes" else band)
    verbs = {"solves": "solves", "sometimes": "sometimes solves", "never": "never solves"}
    said = [f"{verbs[kind]} {_listed(bands)}" for kind, bands in groups.items() if bands]
    if not said:
        return f"After {name} the model was asked nothing."
    return f"After {name} the model {', '.join(said[:-1])}{' and ' if len(said) > 1 else ''}{said[-1]}."


def growth(name: str, passes: Passes, source: str, earlier: Passes) -> str:
    """The sentence that says where pass@1 moved most, and whether pass@n moved with it."""
    last = _last(passes)
    moves = {}
    for band in bands_of(passes):
        now, then = _mean(passes, band, "pass@1"), _mean(earlier, band, "pass@1")
        if now is not None and then is not None:
            moves[band] = now - then
    if not moves:
        return ""
    band = max(moves, key=lambda of: abs(moves[of]))
    if abs(moves[band]) < CHANGE:
        return f"{name} changed no band's pass@1 by more than {CHANGE}."
    now, then = _mean(passes, band, last), _mean(earlier, band, last)
    if now is None or then is None:
        return f"It changed {band} most: pass@1 by {moves[band]:+.2f} over {source}."
    ever = now - then
    if moves[band] < 0:
        meaning = "it has forgotten" if ever < -CHANGE else "it has become less sure, not less able"
    elif ever > CHANGE:
        meaning = "it solves problems that it never solved before"
    else:
        meaning = "it is surer of what it could already solve, and solves no more of it"
    return f"It changed {band} most: pass@1 by {moves[band]:+.2f} over {source}, {last} by {ever:+.2f}; {meaning}."


def _last(passes: Passes) -> str:
    return next((list(found)[-1] for band in bands_of(passes) if (found := passes[band].get(GRADER))), "pass@1")


def _mean(passes: Passes, band: str, metric: str, grader: str = GRADER) -> float | None:
    found: float | None = passes.get(band, {}).get(grader, {}).get(metric, {}).get("mean")
    return found


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _change(now: float | None, then: float | None) -> str:
    if now is None or then is None:
        return ""
    colour = "green" if now - then > CHANGE else "red" if then - now > CHANGE else "dim"
    return f"[{colour}]{now - then:+.2f}[/]"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
