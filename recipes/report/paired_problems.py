"""Two models on the same held-out problems: an interval of the difference of their pass@k, for these two models alone.

With one seed nothing says what other models would do. What can be said is whether other problems of the same kind would show
the same difference: by the percentile bootstrap over problems, each with its difference of pass@k, so that what makes a problem
hard for both models cancels (Efron, 1979; Miller 2024, arXiv 2411.00640, section 4.2).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
import yaml
from torch import Tensor

from callbacks.evaluation.sample_files import problems_of
from callbacks.files import read_json
from datamodules.problems.mixture import parse_ops
from lightning_modules.metrics.pass_at_k import pass_at_k

RESAMPLES, LEVEL = 2000, 0.95
GRADE = re.compile(r"/grades/(all|band|op)/([^/]+)/([^/]+)/pass@(\d+)/mean")


@dataclass(frozen=True)
class Outcomes:
    """What a stage was tested on.

    digest:   of its problems; None: unknown.
    problems: what became of each, by its place.
    """

    digest: str | None
    problems: Mapping[int, "Outcome"]


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


def outcomes(stage: Path) -> Outcomes:
    """What became of the problems that a stage was tested on; none if its samples are not there."""
    config = yaml.safe_load((stage / "config.yaml").read_text(encoding="utf-8")) if (stage / "config.yaml").is_file() else {}
    bands = config.get("data", {}).get("init_args", {}).get("held_out", {}).get("bands", {})
    found, samples = {}, stage / "test/samples"
    for path in sorted(samples.glob("test*.jsonl")):
        found |= {rows[0]["index"]: _outcome(rows, bands) for rows in problems_of(path)}
    settings = samples / "test.settings.json"
    return Outcomes(read_json(settings)["problems"] if settings.is_file() else None, found)


def _outcome(rows: Sequence[Mapping[str, Any]], bands: Mapping[str, str]) -> Outcome:
    op = rows[0]["op"]
    named = {("all", "all"), ("op", str(op)), *(("band", band) for band, ops in bands.items() if op in parse_ops(ops))}
    accepted = {grader: sum(bool(row["accepted"][grader]) for row in rows) for grader in rows[0]["accepted"]}
    return Outcome(frozenset(named), len(rows), accepted)


def _passes(of: Sequence[Outcome], grader: str, k: int) -> Tensor:
    accepted_N = torch.tensor([outcome.accepted[grader] for outcome in of])
    return pass_at_k(accepted_N, n=torch.tensor([outcome.samples for outcome in of]), k=k)


def paired_interval(one: Outcomes, other: Outcomes, key: str) -> tuple[float, float] | None:
    """95% interval of pass@k of `one` less that of `other`.

    None for other keys, unless both were tested on the same problems, and if no problem tells the two apart: that no difference
    was seen where nothing or everything is solved says nothing of other problems.

    Args:
        one: as `outcomes` returns it.
        other: the same of the other model.
        key: JSON pointer to a pass@k of an `evaluation.json`.
    """
    match = GRADE.fullmatch(key)
    if match is None or one.digest is None or one.digest != other.digest or one.problems.keys() != other.problems.keys():
        return None
    dimension, name, grader, k = match[1], match[2], match[3], int(match[4])
    pairs = [(mine, other.problems[at]) for at, mine in one.problems.items() if (dimension, name) in mine.bands]
    if any(grader not in outcome.accepted for pair in pairs for outcome in pair):
        return None
    if not pairs:
        return None
    mine, theirs = (_passes(side, grader, k) for side in zip(*pairs, strict=True))
    found = (mine - theirs).tolist()
    if len(set(found)) < 2:
        return None
    chance = Random(0)
    means = sorted(sum(chance.choices(found, k=len(found))) / len(found) for _ in range(RESAMPLES))
    tail = round((1 - LEVEL) / 2 * RESAMPLES)
    return means[tail], means[-tail - 1]
