"""Evaluation without a model: settings, judged samples, and their summary.

Not here: sampling and judging (stage.py), formulas (metrics/), files (callbacks/).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from datamodules.problems.synthesis import ANSWER, Example
from datamodules.rows.token_kinds import TOKEN_KINDS
from grammar import GRADERS, Report, grade, write_solution
from grammar.checking.published_scorer import published_verdict
from lightning_modules.metrics import (
    GoldLoss,
    Intervals,
    ProblemTable,
    SkillAccuracy,
    TopologyRows,
    group_rows,
    problem_row,
    summarise,
    summarise_likelihood,
    summarise_skills,
    summarise_topology,
)  # fmt: skip
from lightning_modules.rollout import SamplingParams


@dataclass(frozen=True)
class Evaluation:
    """How validation, test and prediction sample.

    Args:
        samples: number of completions per problem.
        sampling: temperature and lengths.
        seed: of the samples; equal weights, seeds and batches give equal samples.
        likelihood: also measure the likelihood of gold solutions.
        released: also judge by the scorer published with arXiv:2512.07783, beside the gold solution's text (grader `released`).
    """

    samples: int = 8
    sampling: SamplingParams = SamplingParams()
    seed: int = 0
    likelihood: bool = True
    released: bool = False

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"evaluation: samples={self.samples} must be at least 1.")


class Response(NamedTuple):
    """Text of a model after `<solution>`, its length in tokens, and whether it ended by itself."""

    text: str
    tokens: int
    finished: bool


def responses(texts: Sequence[str], lengths: Iterable[int], tokenizer: PreTrainedTokenizerBase) -> list[Response]:
    """Sampled texts, each with its number of tokens."""
    ends = (ANSWER[1], tokenizer.eos_token)
    return [Response(text, length, text.endswith(ends)) for text, length in zip(texts, lengths, strict=True)]


Labels = Mapping[str, Sequence[str]]  # "context" and "mode" -> names, by their numbers in tables
Recall = Callable[[int], Sequence[Response] | None]  # index of a problem -> its responses, if they are kept


@dataclass(slots=True)
class Answered:
    """B problems with G judged responses each.

    examples, indices: the problems and their numbers within their split (length B).
    answers: [B][G] responses.
    reports: [B][G] their verdicts.
    recalled: [B] whether the responses come from an interrupted evaluation.
    released: [B][G] whether the published scorer accepts; [B] None if it is not asked.
    """

    examples: list[Example]
    indices: list[int]
    answers: list[Sequence[Response]]
    reports: list[list[Report]]
    recalled: list[bool]
    released: Sequence[list[bool] | None]

    @property
    def responses(self) -> list[list[str]]:
        """[B][G] texts."""
        return [[answer.text for answer in group] for group in self.answers]


def gold_text(example: Example) -> str:
    """The problem's gold solution, or else one that we write; empty if there is none."""
    return example.solution or (write_solution(example.graph) if example.graph.solvable else "")


def released_verdicts(example: Example, responses: Sequence[str]) -> list[bool]:
    """Whether the published scorer accepts each response, beside the problem's gold solution or else one that we write."""
    solution = gold_text(example)
    return [published_verdict(response, solution).perfect for response in responses]


class Judgements(nn.Module):
    """Results of an evaluation so far; exact for any number of processes, since each problem is counted once."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.skills, self.topology = ProblemTable(), SkillAccuracy(), TopologyRows()
        self.likelihood = GoldLoss(1, len(TOKEN_KINDS))
        self.seconds: dict[str, float] = defaultdict(float)

    def reset(self) -> None:
        """Reset every metric."""
        for metric in self.children():
            metric.reset()
        self.seconds.clear()

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add the seconds of a `with` block to `seconds[what]`."""
        started = perf_counter()
        yield
        self.seconds[what] += perf_counter() - started

    def update(self, done: Answered, labels: Labels) -> None:
        """Add judged problems."""
        rows = []
        every = zip(done.examples, done.indices, done.answers, done.reports, done.released, strict=True)
        for example, index, answers, reports, released in every:
            op, context = example.cell.op, labels["context"].index(example.cell.context)
            numbers = (index, op, context, labels["mode"].index(example.cell.mode))
            rows.append(problem_row(numbers, reports, [a.tokens for a in answers], [a.finished for a in answers], released))
            self.skills.update(example.graph, op, reports)
            accepted = {grader: [report for report in reports if grade(report, grader)] for grader in GRADERS}
            self.topology.update(example.graph, op, context, accepted)
        self.table.update(rows)

    def add_likelihood(self, examples: Sequence[Example], nll: Sequence[Tensor], kinds: Sequence[Sequence[str]]) -> None:
        """Add the likelihood of gold responses, token by token, with the kind of each token."""
        for example, nll_T, names in zip(examples, nll, kinds, strict=True):
            kind_T = torch.tensor([TOKEN_KINDS.index(name) for name in names])
            self.likelihood.update(nll_T, torch.full_like(kind_T, example.cell.op), torch.zeros_like(kind_T), kind_T)

    def summary(
        self, bands: Mapping[str, Sequence[int]], labels: Labels, weighted: Mapping[str, Sequence[tuple[float, Sequence[int]]]],
        intervals: Intervals,
    ) -> dict[str, Any]:  # fmt: skip
        """All results as plain numbers; every process must call it.

        Args:
            bands: name -> operations.
            labels: names of contexts and modes.
            weighted: name of a further band -> [(weight, operations)].
            intervals: settings of confidence intervals.

        Returns:
            `grades` (dimension -> name -> see `summarise`), `skills`, `likelihood` and `topology`; empty without problems.
        """
        table_MC, rows_MF = self.table.compute().cpu(), self.topology.compute().cpu()
        skills, pairs = (counts.cpu() for counts in self.skills.compute())
        sums_OCK2 = self.likelihood.compute().cpu()
        if not len(table_MC):
            return {}
        groups = group_rows(table_MC, bands, weighted, labels)
        every = sorted({int(op) for op in groups["op"]})
        by = {"all": every, **bands}
        found = {
            "grades": {
                dimension: {name: summarise(table_MC, strata, intervals) for name, strata in names.items()}
                for dimension, names in groups.items()
            },
            "skills": {name: summarise_skills(skills, pairs, ops) for name, ops in by.items()},
            "topology": summarise_topology(rows_MF, labels["context"]),
        }
        if sums_OCK2.any():
            ops = by | {f"op{op}": [op] for op in every}
            found["likelihood"] = {name: summarise_likelihood(sums_OCK2, TOKEN_KINDS, group) for name, group in ops.items()}
        return found
