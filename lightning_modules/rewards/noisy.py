"""A verifier that errs at known rates, for studies of robustness."""

from dataclasses import dataclass
from hashlib import blake2b

from grammar import Report, grade
from grammar.graders import check_grader
from lightning_modules.rewards.reward import Reward


@dataclass(frozen=True)
class NoisyVerifier(Reward):
    """`reward` as given by a verifier that accepts some wrong solutions and rejects some right ones.

    An accepted wrong solution is scored as if all verdicts on it were good and it had no error, of form neither (so
    `FormatPenalty` finds none), a rejected right one as if no verdict were; what a reward reads in the response itself (length,
    steps outside the gold solution) is unchanged. The draw is keyed by seed, problem
    and response, so the verdict on a response to a problem is always the same.

    Args:
        reward: scores the verdicts.
        false_accept: share of the solutions rejected by `grader` that pass.
        false_reject: share of those accepted that fail.
        grader: decides which solutions are right.
        seed: of the draws.
    """

    reward: Reward
    false_accept: float = 0.0
    false_reject: float = 0.0
    grader: str = "executable"
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.false_accept <= 1 and 0 <= self.false_reject <= 1):
            raise ValueError(f"NoisyVerifier: rates {self.false_accept} and {self.false_reject} must be within 0 and 1.")
        if self.reward.beside("") is not self.reward:
            raise ValueError(f"NoisyVerifier: {self.reward} reads texts, not the verdicts that err; take a reward of verdicts.")
        check_grader(self.grader)

    def __call__(self, response: str, report: Report) -> dict[str, float]:
        """The parts of `reward` without errors, and "noise": the effect of the verifier's error; none if the reward abstains."""
        parts = self.reward(response, report)
        if not parts:
            return {}
        right = grade(report, self.grader)
        if self._draw(response, report) >= (self.false_reject if right else self.false_accept):
            return parts | {"noise": 0.0}
        seen = self.reward(response, _rejected(report) if right else _accepted(report))
        return parts | {"noise": sum(seen.values()) - sum(parts.values())}

    def _draw(self, response: str, report: Report) -> float:
        key = repr((self.seed, [node.name for node in report.nodes], response)).encode()
        return int.from_bytes(blake2b(key, digest_size=7).digest()) / 2**56


def _accepted(report: Report) -> Report:
    nodes = tuple(node._replace(status="correct") for node in report.nodes)
    return report._replace(answer_correct=True, nodes=nodes, process_accuracy=1.0, errors=())


def _rejected(report: Report) -> Report:
    nodes = tuple(node._replace(status="wrong_both") for node in report.nodes)
    return report._replace(answer_correct=False, nodes=nodes, process_accuracy=0.0)
