"""Two models on the same held-out problems: an interval of the difference of their pass@k, for these two models alone.

With one seed nothing says what other models would do. What can be said is whether other problems of the same kind would show
the same difference: by the percentile bootstrap over problems, each with its difference of pass@k, so that what makes a problem
hard for both models cancels (Efron, 1979; Miller 2024, arXiv 2411.00640, section 4.2).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from math import comb
from operator import itemgetter
from pathlib import Path
from random import Random

import yaml

from datamodules.problems.mixture import parse_ops

RESAMPLES, LEVEL = 2000, 0.95
GRADE = re.compile(r"/grades/(all|band|op)/([^/]+)/([^/]+)/pass@(\d+)/mean")


@dataclass(frozen=True)
class Outcome:
    """What became of a held-out problem.

    bands:    names of what it belongs to: ("band", name), ("op", number), ("all", "all").
    samples:  number of them.
    accepted: grader -> number of those that it accepted.
    """

    bands: frozenset[tuple[str, str]]
    samples: int
    accepted: Mapping[str, int]

    def passes(self, grader: str, k: int) -> float:
        """Chance that one of k samples, drawn without replacement, is accepted (Chen et al. 2021, arXiv 2107.03374, eq. 1)."""
        wrong = self.samples - self.accepted[grader]
        return 1 - comb(wrong, k) / comb(self.samples, k)


def outcomes(stage: Path) -> dict[str, Outcome]:
    """The id of each problem that a stage was tested on, and what became of it; none if its samples are not there."""
    config = yaml.safe_load((stage / "config.yaml").read_text(encoding="utf-8")) if (stage / "config.yaml").is_file() else {}
    bands = config.get("data", {}).get("init_args", {}).get("held_out", {}).get("bands", {})
    found = {}
    for path in sorted((stage / "test/samples").glob("test*.jsonl")):
        with path.open(encoding="utf-8") as file:
            for _, rows in groupby(map(json.loads, file), key=itemgetter("index")):
                first, *others = rows
                op, graders = first["op"], first["accepted"]
                named = {
                    ("all", "all"),
                    ("op", str(op)),
                    *(("band", band) for band, ops in bands.items() if op in parse_ops(ops)),
                }
                accepted = {grader: sum(bool(row["accepted"][grader]) for row in (first, *others)) for grader in graders}
                found[first["id"]] = Outcome(frozenset(named), 1 + len(others), accepted)
    return found


def paired_interval(one: Mapping[str, Outcome], other: Mapping[str, Outcome], key: str) -> tuple[float, float] | None:
    """95% interval of pass@k of `one` less that of `other`; None for other keys, or unless both were tested on the same problems.

    Args:
        one: as `outcomes` returns it.
        other: the same of the other model.
        key: JSON pointer to a pass@k of an `evaluation.json`.
    """
    if (match := GRADE.fullmatch(key)) is None or not one or one.keys() != other.keys():
        return None
    dimension, name, grader, k = match[1], match[2], match[3], int(match[4])
    found = [
        one[problem].passes(grader, k) - other[problem].passes(grader, k)
        for problem in one
        if (dimension, name) in one[problem].bands
    ]
    if not found:
        return None
    chance = Random(0)
    means = sorted(sum(chance.choices(found, k=len(found))) / len(found) for _ in range(RESAMPLES))
    tail = round((1 - LEVEL) / 2 * RESAMPLES)
    return means[tail], means[-tail - 1]
