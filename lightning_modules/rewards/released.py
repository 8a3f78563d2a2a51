"""The reward of the code published with arXiv:2512.07783, which counts mismatches where the paper counts right nodes."""

from dataclasses import dataclass

from grammar import Report
from grammar.checking.published_scorer import published_verdict
from lightning_modules.rewards.reward import Reward

_MISMATCHES = {"correct": 0, "missing": 1, "wrong_value": 1, "wrong_parents": 1, "wrong_both": 2}


@dataclass(frozen=True)
class ReleasedReward(Reward):
    """w_a R_out + w_s max(0, 1 - penalty / n), the weights divided by their sum, n the number of gold nodes.

    penalty = wrong values + wrong sets of parents + missing nodes + min(extra nodes, n) + 1 for a wrong answer.

    Args:
        answer_weight: w_a.
        process_weight: w_s.
        gated: a wrong answer earns 0.
        strict: any mismatch earns 0; with weights 1 and 0 this is the code's "strict" reward.
    """

    answer_weight: float = 0.2
    process_weight: float = 0.8
    gated: bool = True
    strict: bool = False

    def __post_init__(self) -> None:
        if min(self.answer_weight, self.process_weight) < 0 or self.answer_weight + self.process_weight <= 0:
            raise ValueError(f"{self}: weights must be at least 0, and not both 0.")

    def __call__(self, response: str, report: Report) -> dict[str, float]:
        """{"outcome": ..., "process": ...}, 0 to 1 in all."""
        return self.parts(released_penalty(report), len(report.nodes), right=report.answer_correct)

    def parts(self, penalty: int, nodes: int, *, right: bool) -> dict[str, float]:
        """The parts for a penalty, a number of gold nodes, and whether the answer is right."""
        total = self.answer_weight + self.process_weight
        counts = (right or not self.gated) and not (self.strict and penalty)
        share = max(0.0, 1 - penalty / nodes) if nodes else 0.0
        return {
            "outcome": counts * right * self.answer_weight / total,
            "process": counts * share * self.process_weight / total,
        }


@dataclass(frozen=True)
class ReleasedTextReward(ReleasedReward):
    """`ReleasedReward` with the mismatches that the published scorer finds between two texts, faults and all.

    Sound solutions of reverse problems in other letters than the gold solution's are often penalised (docs/paper.md).
    """

    def beside(self, solution: str) -> Reward:
        """The reward of responses to the problem with this gold solution."""
        return _Beside(self, solution)

    def __call__(self, response: str, report: Report) -> dict[str, float]:
        """Refused: a response alone has no mismatches."""
        raise ValueError("ReleasedTextReward compares two texts; score with `beside(solution)`.")


@dataclass(frozen=True)
class _Beside(Reward):
    """A `ReleasedTextReward` for the problem with this gold `solution`."""

    reward: ReleasedTextReward
    solution: str

    def __call__(self, response: str, report: Report) -> dict[str, float]:
        """See `ReleasedReward`."""
        said = published_verdict(response, self.solution)
        penalty = said.missing + said.wrong_values + said.wrong_parents + min(said.extra, said.nodes) + said.wrong_answer
        return self.reward.parts(penalty, said.nodes, right=report.answer_correct)


def released_penalty(report: Report) -> int:
    """Mismatches between a solution and the gold one, as the released code counts them."""
    gold = {node.name for node in report.nodes}
    extra = {step.name for step in report.trace.steps} - gold
    wrong = sum(_MISMATCHES[node.status] for node in report.nodes)
    return wrong + min(len(extra), len(gold)) + (not report.answer_correct)
