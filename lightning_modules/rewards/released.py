"""The reward of the code published with arXiv:2512.07783, which counts mismatches where the paper counts right nodes."""

from dataclasses import dataclass

from grammar import Report
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
        penalty, total = released_penalty(report), self.answer_weight + self.process_weight
        counts = (report.answer_correct or not self.gated) and not (self.strict and penalty)
        share = max(0.0, 1 - penalty / len(report.nodes)) if report.nodes else 0.0
        return {
            "outcome": counts * report.answer_correct * self.answer_weight / total,
            "process": counts * share * self.process_weight / total,
        }


def released_penalty(report: Report) -> int:
    """Mismatches between a solution and the gold one, as the released code counts them."""
    gold = {node.name for node in report.nodes}
    extra = {step.name for step in report.trace.steps} - gold
    wrong = sum(_MISMATCHES[node.status] for node in report.nodes)
    return wrong + min(len(extra), len(gold)) + (not report.answer_correct)
