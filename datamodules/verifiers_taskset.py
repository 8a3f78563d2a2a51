"""Problems and graders as a taskset of the library `verifiers`, 0.4 or newer (docs/elsewhere.md)."""

from collections.abc import Iterator
from itertools import count

import verifiers.v1 as vf
from pydantic import Field

from datamodules.problem_rows import Problems
from datamodules.problems.graph_spec import GraphSpec
from grammar.adapters import score

REQUEST = "Reply with the answer as <answer> N </answer>, where N is a number."


class ProblemData(vf.TaskData):
    """A problem, with its `training_row`."""

    row: dict


class ProblemTask(vf.Task[ProblemData]):
    """One problem and a reward for each grader, of which `answer` alone counts: `--env.taskset.task.rewards.NAME.weight`."""

    @vf.reward(weight=1.0)
    async def answer(self, trace: vf.Trace) -> float:
        """The answer is right."""
        return self._score(trace, "answer")

    @vf.reward(weight=0.0)
    async def paper(self, trace: vf.Trace) -> float:
        """The answer is right, and every gold quantity has its value and parents."""
        return self._score(trace, "paper")

    @vf.reward(weight=0.0)
    async def executable(self, trace: vf.Trace) -> float:
        """All that, and nothing that the reply says is wrong."""
        return self._score(trace, "executable")

    def _score(self, trace: vf.Trace, grader: str) -> float:
        row = self.data.row
        return score(trace.last_reply, row["problem"], row["question"], grader, row["modulus"])


class ProblemsConfig(vf.TasksetConfig):
    """The fields of `Problems`, and how a problem is put to the model: `--env.taskset.ops 2-4` and so on."""

    ops: str = Problems.ops
    contexts: list[str] = Field(list(Problems.contexts))
    modes: list[str] = Field(list(Problems.modes))
    split: str = Problems.split
    seed: int = Problems.seed
    graph: GraphSpec = Problems.graph
    request: str | None = REQUEST
    """What a chat model reads after the problem; None: the prompt of this project's own models."""


class ProblemTaskset(vf.Taskset[ProblemTask, ProblemsConfig]):
    """Endless problems, of which a run takes some: `-n 100`, or `taskset.take(100)`."""

    INFINITE = True

    def load(self) -> Iterator[ProblemTask]:
        """One task for each problem."""
        request = self.config.request
        for row in map(Problems.of(self.config).row, count()):
            prompt = row["prompt"] if request is None else f"{row['plain']}\n\n{request}"
            yield ProblemTask(ProblemData(id=row["id"], prompt=prompt, row=row), self.config.task)
