"""Accuracy of operations, single and composed, to tell learned skills from learned compositions.

A step is a trial of its skill only if the quantities that it needs are right, so that a wrong step is a failure at this operation
and not an earlier error carried on. A composition is a step and a step that it reads: a trial if everything else that the two
need is right, a success if both are right. If composing adds no difficulty, its accuracy is the product of the two accuracies.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from grammar import Graph, Report
from grammar.problem.forms import SKILLS
from grammar.problem.graph import MOST_OPS

Trial = tuple[tuple[int, ...], bool]  # indices into SKILLS of a skill, or of two composed; success


def trials(graph: Graph, report: Report) -> list[Trial]:
    """Every skill and composition that a solution tried with right inputs.

    A missing step is not a trial. The equation of a reverse problem is tried if every step is right.
    """
    status = dict(report.nodes)
    right = {name for name, verdict in status.items() if verdict == "correct"}
    tried = {name for name, verdict in status.items() if verdict != "missing"}
    skill = {name: SKILLS.index(s) for name in status if (s := graph.definitions[name].skill) is not None}
    found: list[Trial] = []
    for name in tried & skill.keys():
        parents = graph.definitions[name].parents
        wrong = [parent for parent in parents if parent not in right]
        if not wrong:
            found.append(((skill[name],), name in right))
        for parent in dict.fromkeys(parents):
            alone = wrong in ([], [parent]) and parent in tried and parent in skill
            if alone and right.issuperset(graph.definitions[parent].parents):
                found.append(((skill[parent], skill[name]), name in right and parent in right))
    if graph.unknown is not None and right.issuperset(status):
        found.append(((SKILLS.index("equation"),), _solved(report)))
    return found


def _solved(report: Report) -> bool:
    return report.answer_correct and all(error.kind != "equation" for error in report.errors)


class SkillAccuracy(Metric):
    """Trials and successes of every skill and composition, by number of operations of the problem."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        s = len(SKILLS)
        self.add_state("skills_OS2", torch.zeros(MOST_OPS + 1, s, 2, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("pairs_OSS2", torch.zeros(MOST_OPS + 1, s, s, 2, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, graph: Graph, op: int, reports: Iterable[Report]) -> None:
        """Add the samples of one problem."""
        kinds: Counter[Any] = Counter()
        example: dict[Any, Report] = {}
        for report in reports:  # the samples of a problem have few patterns of verdicts
            key = (report.nodes, _solved(report))
            kinds[key] += 1
            example[key] = report
        skills, pairs = torch.zeros_like(self.skills_OS2[0], device="cpu"), torch.zeros_like(self.pairs_OSS2[0], device="cpu")
        for key, times in kinds.items():
            for place, right in trials(graph, example[key]):
                target = skills if len(place) == 1 else pairs
                target[place] += torch.tensor([times, times * right])
        self.skills_OS2[op] += skills.to(self.device)
        self.pairs_OSS2[op] += pairs.to(self.device)

    def compute(self) -> tuple[Tensor, Tensor]:
        """[O, S, 2] and [O, S, S, 2] trials and successes; the first skill of a pair is the one that is read."""
        return self.skills_OS2, self.pairs_OSS2


def summarise_skills(skills_OS2: Tensor, pairs_OSS2: Tensor, ops: Sequence[int]) -> dict[str, dict[str, dict[str, float]]]:
    """Accuracy of the skills and compositions tried on problems of `ops` operations.

    Returns:
        `atomic`: skill -> trials, accuracy. `composed`: "A > B", B reading what A computes -> trials, accuracy, and `expected`,
        the product of the atomic accuracies.
    """
    skills_S2, pairs_SS2 = skills_OS2[list(ops)].sum(dim=0).tolist(), pairs_OSS2[list(ops)].sum(dim=0).tolist()
    atomic = {
        name: {"trials": tried, "accuracy": right / tried}
        for name, (tried, right) in zip(SKILLS, skills_S2, strict=True)
        if tried
    }
    composed: dict[str, dict[str, float]] = {}
    for first, row in zip(SKILLS, pairs_SS2, strict=True):
        for second, (tried, right) in zip(SKILLS, row, strict=True):
            if tried:
                parts = [atomic[name]["accuracy"] if name in atomic else float("nan") for name in (first, second)]
                composed[f"{first} > {second}"] = {"trials": tried, "accuracy": right / tried, "expected": parts[0] * parts[1]}
    return {"atomic": atomic, "composed": composed}
