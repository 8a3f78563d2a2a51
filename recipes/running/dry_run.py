"""What `run --dry-run` prints: the graph of stages, and what each will cost."""

from collections.abc import Sequence
from dataclasses import fields

from recipes.planning.estimate import Estimate, estimate
from recipes.planning.plan import Plan, in_order
from recipes.running.stage_folders import Workplace
from recipes.text_tables import align

UNIT = 1e6


def describe(plans: Sequence[Plan], place: Workplace) -> str:
    """The arms as chains of stages, then each stage once with steps, tokens and FLOPs; complete ones cost nothing more."""
    arms = [f"{plan.recipe.name}: {plan.recipe.about}\n{_chains(plan)}" for plan in plans]
    scales = dict.fromkeys(f"Scale {scale.name}: {scale.about}" for plan in plans if (scale := plan.recipe.scale))
    rows = [["stage", "name", "arms", "state", "steps", "rollouts", "Mtokens", "FLOPs", "of testing"]]
    left = Estimate(0, 0, 0.0, 0.0, 0.0)
    for stage, names in in_order(plans):
        cost, done = estimate(stage), not plans[0].recipe.plain and place.complete(stage)
        state = "complete" if done else "to do"
        rows.append([stage.label, stage.name, str(len(names)), state, *_costs(cost)])
        left = left if done else _add(left, cost)
    rows.append(["left to do", "", "", "", *_costs(left)])
    return "\n\n".join([*arms, *(scale.rstrip() for scale in scales), align(rows), NOTE])


def _chains(plan: Plan) -> str:
    return align([["arm", "stages"], *([arm.name, " > ".join(stage.label for stage in arm.stages)] for arm in plan.arms)])


NOTE = (
    "Tokens: trained on, padding included; of RL, sampled. Estimates take solutions to be as long as gold ones and samples to "
    "share nothing but the prompt; validation in training is left out."
)


def _costs(cost: Estimate) -> list[str]:
    flops = ["-" if value is None else f"{value:.2e}" for value in (cost.flops, cost.evaluation)]
    return [f"{cost.steps:,}", f"{cost.rollouts:,}" if cost.rollouts else "", f"{cost.tokens / UNIT:,.2f}", *flops]


def _add(one: Estimate, other: Estimate) -> Estimate:
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in fields(Estimate)]
    return Estimate(*(None if None in pair else sum(pair) for pair in pairs))
