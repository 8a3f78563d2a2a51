"""Numbers with their sources: each is the mean over runs of a sum of values in files."""

import csv
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple, TextIO

import yaml

from recipes.report.paired_problems import Outcomes, outcomes, paired_interval

_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)  # 97.5% of Student's t, 1 ... 10 degrees of freedom
_Z = 1.959964
ROUNDING = 1e-12
_CELL = re.compile(r"(.+)\[step=(\d+)\]")


class Term(NamedTuple):
    """A weighted value of a file.

    weight: it is multiplied by.
    path:   of the file, relative to the report's folder.
    key:    JSON pointer (RFC 6901), or `COLUMN[step=N]` of a CSV file.
    """

    weight: float
    path: str
    key: str


def pointer(*keys: str | int) -> str:
    """A JSON pointer to nested keys."""
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)


def _place(term: Term) -> str:
    return f"{term.path} {term.key}"


@dataclass(frozen=True)
class Number:
    """A value with its interval and its sources.

    value:     the mean over runs.
    low, high: a 95% interval, or None.
    runs:      for each, the terms whose sum is that run's value.
    how:       what the interval covers.
    """

    value: float
    low: float | None
    high: float | None
    runs: tuple[tuple[Term, ...], ...]
    how: str = ""

    @property
    def terms(self) -> str:
        """The sources as JSON: run -> [weight, path, key]."""
        return json.dumps([[list(term) for term in run] for run in self.runs])

    @cached_property
    def title(self) -> str:
        """The sources, for people: those of the first run, of many the first and the last."""
        (first, *others), mean_of = self.runs[0], abs(self.runs[0][0].weight) != 1
        if mean_of or len(others) > 3:
            named = f"{'mean' if mean_of else 'sum'} of {len(self.runs[0])} values, {_place(first)} to {_place(others[-1])}"
        else:
            named = " ".join(f"{'+' if t.weight > 0 else '-'} {_place(t)}" for t in self.runs[0]).removeprefix("+ ")
        more = f" (and {len(self.runs) - 1} more seeds)" if len(self.runs) > 1 else ""
        known = self.how and (self.low is not None or len(self.runs) > 1)
        return f"{named}{more}{'; interval: ' + self.how if known else ''}"


def t_quantile(freedom: int) -> float:
    """97.5% quantile of Student's t; beyond 10 degrees of freedom the Cornish-Fisher expansion, within 0.003."""
    if freedom <= len(_T):
        return _T[freedom - 1]
    z = _Z
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def are_equal(values: Sequence[float]) -> bool:
    """Whether values are one but for rounding: their spread says nothing of the next one's."""
    return max(values) - min(values) < ROUNDING


class Files:
    """Values of the JSON, CSV and YAML files of a folder; each file is read once, a missing one reads as nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._read: dict[str, Any] = {}
        self._tested: dict[Path, Outcomes] = {}

    def json(self, path: str) -> Any:
        """A JSON file's content; None if it does not exist."""
        return self._content(path, json.load)

    def yaml(self, path: str) -> Any:
        """A YAML file's content; None if it does not exist."""
        return self._content(path, yaml.safe_load)

    def rows(self, path: str) -> list[dict[str, str]]:
        """A CSV file's rows; none if it does not exist."""
        return self._content(path, lambda file: list(csv.DictReader(file))) or []

    def _content(self, path: str, read: Callable[[TextIO], Any]) -> Any:
        if path not in self._read:
            self._read[path] = None
            if (self.root / path).is_file():
                with (self.root / path).open(encoding="utf-8") as file:
                    self._read[path] = read(file)
        return self._read[path]

    def value(self, path: str, key: str) -> float | None:
        """One value; None if there is none."""
        if path.endswith(".csv"):
            column, step = _CELL.fullmatch(key).groups()
            found = [row[column] for row in self.rows(path) if row["step"] == step and row.get(column)]
            return float(found[-1]) if found else None
        held: Any = self.json(path)
        for part in key.split("/")[1:]:
            held = held.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(held, dict) else None
        return None if held is None else float(held)

    def by_run(self, number: Number) -> list[float]:
        """The value of each run of a number."""
        return [sum(term.weight * (self.value(term.path, term.key) or 0.0) for term in run) for run in number.runs]

    def number(self, runs: Sequence[Sequence[Term]], *, share: bool = True) -> Number | None:
        """The mean over runs that have all their values; None if none has.

        With several runs the interval is over seeds (Student's t), and there is none if all are equal; with one, it is that over
        problems, if its files have one.

        Args:
            runs: for each, its terms.
            share: the value lies within 0 and 1 (-1 and 1 for a difference), which bounds the interval.
        """
        kept, values = [], []
        for run in runs:
            found = [self.value(term.path, term.key) for term in run]
            if run and None not in found:
                kept.append(tuple(run))
                values.append(sum(term.weight * value for term, value in zip(run, found, strict=True)))
        if not kept:
            return None
        if len(values) > 1 and are_equal(values):
            return Number(values[0], None, None, tuple(kept), f"none, as {len(values)} seeds are equal")
        if len(values) > 1:
            half = t_quantile(len(values) - 1) * stdev(values) / sqrt(len(values))
            low, high = mean(values) - half, mean(values) + half
            if share:
                floor = -1.0 if any(term.weight < 0 for term in kept[0]) else 0.0
                low, high = max(low, floor), min(high, 1.0)
            return Number(mean(values), low, high, tuple(kept), f"over {len(values)} seeds, Student's t")
        low, high = self._interval(kept[0])
        return Number(values[0], low, high, tuple(kept), "over problems, bootstrap; one seed")

    def _interval(self, run: tuple[Term, ...]) -> tuple[float | None, float | None]:
        """Over problems: that of the file for one value, a paired one for the difference of two."""
        first, *others = run
        if not others and first.weight == 1 and first.key.endswith("/mean"):
            stem = first.key.removesuffix("mean")
            return self.value(first.path, f"{stem}low"), self.value(first.path, f"{stem}high")
        if [(term.weight, term.key) for term in run] == [(1, first.key), (-1, first.key)]:
            one, other = (self._outcomes(term.path) for term in run)
            return paired_interval(one, other, first.key) or (None, None)
        return None, None

    def _outcomes(self, evaluation: str) -> Outcomes:
        stage = (self.root / evaluation).parent.parent
        if stage not in self._tested:
            self._tested[stage] = outcomes(stage)
        return self._tested[stage]
