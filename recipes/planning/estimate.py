"""The cost of a stage before it runs: steps, tokens and FLOPs, from its config and a sample of its problems.

It assumes solutions as long as gold ones, samples that share nothing but their prompt, and RL that drops no group for lack of
variance; it leaves out validation in training and the machine's overhead. The compute ledger has what a run did cost.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from callbacks.text_tables import align
from recipes.planning.plan import Plan, Planned, in_order
from recipes.planning.workload import architecture_of, flops_of, workload

UNIT = 1e6
NOTE = (
    "Tokens: trained on, padding included; of RL, sampled. Estimates take solutions to be as long as gold ones and samples to "
    "share nothing but the prompt; validation in training is left out."
)


@dataclass(frozen=True)
class Estimate:
    """Cost of a stage.

    steps:      optimiser updates.
    rollouts:   of RL; otherwise 0.
    tokens:     trained on; of RL, sampled.
    flops:      of training; None if the model's are not known.
    evaluation: FLOPs of the test on held-out problems; None likewise.
    """

    steps: int
    rollouts: int
    tokens: float
    flops: float | None
    evaluation: float | None

    def __add__(self, other: "Estimate") -> "Estimate":
        pairs = [(getattr(self, field.name), getattr(other, field.name)) for field in fields(self)]
        return Estimate(*(None if None in pair else sum(pair) for pair in pairs))

    def cells(self) -> list[str]:
        """As cells of a table."""
        flops = ["-" if value is None else f"{value:.2e}" for value in (self.flops, self.evaluation)]
        return [f"{self.steps:,}", f"{self.rollouts:,}" if self.rollouts else "", f"{self.tokens / UNIT:,.2f}", *flops]


def describe(plans: Sequence[Plan], complete: Callable[[Planned], bool]) -> str:
    """The arms as chains of stages, then each stage once with steps, tokens and FLOPs; only those to do count as left."""
    arms = [f"{plan.recipe.name}: {plan.recipe.about}\n{_chains(plan)}" for plan in plans]
    scales = dict.fromkeys(f"Scale {scale.name}: {scale.about}" for plan in plans if (scale := plan.recipe.scale))
    rows = [["stage", "name", "arms", "state", "steps", "rollouts", "Mtokens", "FLOPs", "of testing"]]
    left = Estimate(0, 0, 0.0, 0.0, 0.0)
    for stage, names in in_order(plans):
        cost, done = estimate(stage), complete(stage)
        rows.append([stage.label, stage.name, str(len(names)), "complete" if done else "to do", *cost.cells()])
        left = left if done else left + cost
    rows.append(["left to do", "", "", "", *left.cells()])
    return "\n\n".join([*arms, *(scale.rstrip() for scale in scales), align(rows), NOTE])


def _chains(plan: Plan) -> str:
    return align([["arm", "stages"], *([arm.name, " > ".join(stage.label for stage in arm.stages)] for arm in plan.arms)])


def estimate(stage: Planned) -> Estimate:
    """Estimate the cost of a stage.

    Raises:
        ValueError: the stage sets neither a number of updates nor one of tokens.
    """
    work, model = workload(stage), architecture_of(stage)
    flops, evaluation = (None if model is None else flops_of(model, phases) for phases in (work.phases(), work.evaluation))
    return Estimate(work.steps, work.rollouts, work.trained, flops, evaluation)
