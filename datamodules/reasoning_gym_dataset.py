"""Problems and graders as the data set `interplay` of the library `reasoning-gym` (docs/elsewhere.md)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from reasoning_gym import register_dataset
from reasoning_gym.dataset import ProceduralDataset

from datamodules.problem_rows import Problems
from datamodules.problems.graph_spec import GraphSpec
from grammar.adapters import score
from grammar.graders import GRADERS

NAME = "interplay"


@dataclass
class ProblemsConfig:
    """The fields of `Problems`, and those of every data set of the library.

    seed:   of the problems; None: a random one.
    size:   number of problems.
    grader: `answer` scores a number or a text that ends with `<answer> N </answer>`, the others a whole solution.
    """

    ops: str = Problems.ops
    contexts: Sequence[str] = Problems.contexts
    modes: Sequence[str] = Problems.modes
    split: str = Problems.split
    graph: GraphSpec = Problems.graph
    seed: int | None = None
    size: int = 500
    grader: str = "answer"

    def validate(self) -> None:
        """Raise ValueError for settings without problems, and for an unknown grader."""
        if self.size < 1:
            raise ValueError(f"size={self.size}: must be at least 1.")
        if self.grader not in GRADERS:
            raise ValueError(f"grader {self.grader!r}: unknown; choose from {', '.join(GRADERS)}.")
        Problems.of(self)


class ProblemDataset(ProceduralDataset):
    """Problem i of a seed is always the same, whatever the size."""

    def __init__(self, config: ProblemsConfig) -> None:
        super().__init__(config, config.seed, config.size)
        self.problems = Problems.of(replace(config, seed=self.seed))

    def __getitem__(self, idx: int) -> dict[str, Any]:
        """Problem `idx`: `question` in plain words, `answer` as the grader wants it, `metadata` with all of `training_row`."""
        row = self.problems.row(idx)
        answer = row["answer" if self.config.grader == "answer" else "response"]
        return {"question": row["plain"], "answer": answer, "metadata": {"source_dataset": NAME, "source_index": idx, **row}}

    def score_answer(self, answer: str | None, entry: dict[str, Any]) -> float:
        """1.0 if the grader accepts, else 0.0."""
        row, text = entry["metadata"], answer or ""
        tagged = text if "<answer>" in text else f"<answer> {text} </answer>"
        return score(tagged, row["problem"], row["question"], self.config.grader, row["modulus"])


register_dataset(NAME, ProblemDataset, ProblemsConfig)
