"""The cost of a stage before it runs: steps, tokens and FLOPs, from its config and a sample of its problems.

It assumes solutions as long as gold ones, samples that share nothing but their prompt, and RL that drops no group for lack of
variance; it leaves out validation in training and the machine's overhead. The compute ledger has what a run did cost.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pydoc import locate
from random import Random
from typing import Any

import torch
from transformers import AutoConfig, PretrainedConfig

from callbacks.text_tables import align
from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.mixture import Component, Mixture, components_of, parse_ops
from datamodules.problems.synthesis import Synthesis
from datamodules.rows.documents import encode
from datamodules.rows.tokenizer import TokenizerSettings, load_tokenizer
from lightning_modules.models.compute import PASSES, countable
from lightning_modules.models.flops import forward_flops
from lightning_modules.models.language_model import build_language_model
from recipes.planning.budget import tokens_per_update, updates_per_rollout
from recipes.planning.plan import Plan, Planned, in_order
from recipes.planning.resolve import Config, processes

SAMPLED = 64  # problems whose lengths stand for all
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


@dataclass(frozen=True)
class Lengths:
    """Mean tokens of prompts and responses; `attended`: tokens that a token of a document attends to, itself included."""

    prompt: float
    response: float
    attended: float


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
    config, model = stage.config, _architecture(stage)
    training = _policy if "group" in config["model"]["init_args"] else _supervised
    return Estimate(*training(config, model), _evaluation(config, model))


def _supervised(config: Config, model: PretrainedConfig | None) -> tuple[int, int, float, float | None]:
    per_update = tokens_per_update(config)
    steps = _steps(config, per_update)
    tokens = float(steps * per_update)
    lengths = _lengths(config)
    return steps, 0, tokens, model and PASSES["update"] * forward_flops(model, tokens=tokens, context=lengths.attended)


def _policy(config: Config, model: PretrainedConfig | None) -> tuple[int, int, float, float | None]:
    policy, data = config["model"]["init_args"], config["data"]["init_args"]
    steps = _steps(config, None)
    rollouts = -(-steps // updates_per_rollout(config))
    lengths, prompts = _lengths(config), rollouts * data["prompts_per_rollout"] * (processes(config) or 1)
    group = policy["group"]
    completions, drawn = prompts * group["size"], 1 + group["resample"]  # at most each group is replaced
    response = min(lengths.response, policy["sampling"]["max_new_tokens"])
    sampled, rows = completions * response, completions * (lengths.prompt + response)
    if model is None:
        return steps, rollouts, sampled, None
    flops = forward_flops(model, tokens=drawn * prompts * lengths.prompt, context=lengths.prompt / 2)
    flops += forward_flops(model, tokens=drawn * sampled, context=lengths.prompt + response / 2)
    reference, old_logp = bool(policy["kl"]["weight"]), updates_per_rollout(config) > 1 or "values" in policy  # PPO: values
    epochs = policy["update"]["epochs"]
    passes = PASSES["update"] * epochs + reference + (old_logp or reference)
    if policy.get("critic") and not locate(policy["critic"]["class_path"]).shares:  # a model as large as the policy
        passes += 1 + PASSES["critic update"] * epochs
    return steps, rollouts, sampled, flops + passes * forward_flops(model, tokens=rows, context=(lengths.prompt + response) / 2)


def _evaluation(config: Config, model: PretrainedConfig | None) -> float | None:
    data, how = config["data"]["init_args"], config["model"]["init_args"]["evaluation"]
    held_out, total = data["held_out"], 0.0
    if model is None or not held_out["bands"]:
        return None if model is None else 0.0
    for ops in held_out["bands"].values():
        component = Component(str(ops), tuple(held_out["contexts"]), tuple(held_out["modes"]))
        lengths = _measure(TokenizerSettings.of(data["tokenizer"]), _shape(data), (component,))
        problems = held_out["problems"] * (len(parse_ops(ops)) if held_out["per_op"] else 1)
        response = min(lengths.response, how["sampling"]["max_new_tokens"])
        total += forward_flops(model, tokens=problems * lengths.prompt, context=lengths.prompt / 2)
        total += forward_flops(model, tokens=problems * how["samples"] * response, context=lengths.prompt + response / 2)
    return total


def _steps(config: Config, per_update: int | None) -> int:
    """Updates of a run, as `TokenBudget` and the Trainer would take them."""
    budget = config.get("budget") or {}
    limit, tokens = config["trainer"].get("max_steps"), budget.get("max_tokens")
    if budget.get("max_problems") is not None:
        lengths = _lengths(config)
        tokens = budget["max_problems"] * (lengths.prompt + lengths.response)
    limits = [] if limit in (None, -1) else [limit]
    if tokens is not None and per_update is not None:
        limits.append(max(1, int(tokens // per_update)))
    if not limits:
        raise ValueError("a stage sets neither `trainer.max_steps` nor `budget.max_tokens`; set one of them.")
    return min(limits)


def _architecture(stage: Planned) -> PretrainedConfig | None:
    """The transformers config of the model; None if its FLOPs are not known."""
    settings = stage.config["model"]["init_args"]
    if stage.parent is not None:
        return _architecture(stage.parent)
    if settings.get("architecture") is not None:
        with torch.device("meta"):
            found = build_language_model(settings["architecture"]).config
    else:
        found = AutoConfig.from_pretrained(settings["init_from"])
    return found if countable(found) else None


def _lengths(config: Config) -> Lengths:
    """Of the problems of training."""
    data = config["data"]["init_args"]
    if data["mixture"] is None:
        raise ValueError("the cost of training on files cannot be estimated; give the stage a `mixture`.")
    replayed = data.get("replay_share", 0.0)
    parts = [(data["mixture"], 1 - replayed), (data.get("replay") or (), replayed)]
    components = [_scaled(component, share) for mixture, share in parts for component in _components(mixture)]
    return _measure(TokenizerSettings.of(data["tokenizer"]), _shape(data), tuple(components))


def _components(mixture: str | Sequence[Mapping[str, Any]]) -> Sequence[Component]:
    return components_of(mixture) if isinstance(mixture, str) else [Component(**component) for component in mixture]


def _scaled(component: Component, share: float) -> Component:
    """A hashable copy with a share of the weight."""
    return Component(component.ops, tuple(component.contexts), tuple(component.modes), component.weight * share)


def _shape(data: Mapping[str, Any]) -> tuple[GraphSpec, bool]:
    """Settings besides the mixture that decide how long problems are; hashable."""
    graph = {key: tuple(value) if isinstance(value, list) else value for key, value in data["graph"].items()}
    return GraphSpec(**graph), data["random_letters"]


@cache
def _measure(tokenizer: TokenizerSettings, shape: tuple[GraphSpec, bool], components: tuple[Component, ...]) -> Lengths:
    """Lengths of the first examples of a mixture."""
    total = sum(component.weight for component in components)
    mixture = Mixture([replace(component, weight=component.weight / total) for component in components])
    synthesis, rng = Synthesis(mixture, *shape, seed=0), Random(0)
    examples = [synthesis.example("train", i, mixture.draw(rng)) for i in range(SAMPLED)]
    documents = encode(examples, load_tokenizer(tokenizer))
    whole = [len(document.ids) for document in documents]
    prompts = [document.prompt_tokens for document in documents]
    attended = sum(n * (n + 1) / 2 for n in whole) / sum(whole)
    return Lengths(sum(prompts) / SAMPLED, (sum(whole) - sum(prompts)) / SAMPLED, attended)
