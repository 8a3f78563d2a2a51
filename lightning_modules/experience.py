"""What a rollout consists of: problems with their judged and priced completions."""

from dataclasses import dataclass

from datamodules.synthesis import Example
from grammar import Report


@dataclass(slots=True)
class Group:
    """One problem and its G completions.

    example:     the problem.
    prompt:      token ids.
    completions: [G] token ids.
    logp:        [G] log-probabilities under the policy that sampled them, at the sampling temperature, nats.
    responses:   [G] what was written, as text.
    reports:     [G] what is true of it.
    parts:       [G] what it is worth, by name.
    """

    example: Example
    prompt: list[int]
    completions: list[list[int]]
    logp: list[float]
    responses: list[str]
    reports: list[Report]
    parts: list[dict[str, float]]

    @property
    def rewards(self) -> list[float]:
        """[G] what each completion is worth in all."""
        return [sum(part.values()) for part in self.parts]

    @property
    def varies(self) -> bool:
        """Whether completions differ in reward: a group that does not vary has nothing to learn from."""
        return len(set(self.rewards)) > 1
