"""What a stage computes, phase by phase: tokens that pass through a model, and those they attend to; from its config and a sample
of its problems, or of the rows of its files.

Not here: what that costs (estimate.py: FLOPs; stage_cost.py: memory and time).
"""

from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import accumulate
from math import ceil
from pydoc import locate
from statistics import fmean
from typing import Any, NamedTuple

import torch
from transformers import AutoConfig, PretrainedConfig

from callbacks import ComputeBudget
from datamodules.files.jsonl import to_example
from datamodules.files.row_source import BadRows, RowSource
from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.mixture import Component, Mixture, components_of, parse_ops
from datamodules.problems.synthesis import Synthesis, TrainingText
from datamodules.rows.documents import encode
from datamodules.rows.tokenizer import TokenizerSettings, load_tokenizer
from lightning_modules.models.compute import PASSES, countable, nominal_rl_tokens
from lightning_modules.models.flops import forward_flops
from lightning_modules.models.language_model import build_language_model, longest_text
from recipes.planning.budget import tokens_per_update, updates_per_rollout
from recipes.planning.plan import Planned
from recipes.planning.resolve import Config, processes
from recipes.rejection.rejection_sampling import RejectionSampling

SAMPLED = 64  # problems whose lengths stand for all
PREFILL, DECODE = "prompts", "sampling"  # phases of a rollout


class Phase(NamedTuple):
    """Tokens that pass through a model, and the mean number of tokens that each attends to."""

    tokens: float
    context: float

    def times(self, factor: float) -> "Phase":
        """So many of them."""
        return Phase(self.tokens * factor, self.context)


@dataclass(frozen=True)
class Lengths:
    """Mean tokens of prompts and responses; `attended`: tokens that a token of a document attends to, itself included."""

    prompt: float
    response: float
    attended: float


@dataclass(frozen=True)
class Workload:
    """A stage's work on all devices together.

    steps:       optimiser updates.      updates: of these on one rollout, 1 without.      rollouts: 0 without.
    update:      phases of one update: name -> tokens and context; PASSES has the backward passes.
    rollout:     phases of one rollout, before its updates.
    evaluation:  phases of the test on held-out problems.
    sampled:     phases of the solutions that a stage samples once, to learn from them.
    trained:     tokens learned from: padding included; of RL, those sampled.
    completions: of a rollout, and the mean length of problems and responses.
    """

    steps: int
    updates: int
    rollouts: int
    update: Mapping[str, Phase]
    rollout: Mapping[str, Phase]
    evaluation: Mapping[str, Phase]
    trained: float
    completions: float
    lengths: Lengths
    sampled: Mapping[str, Phase] = field(default_factory=dict)

    def phases(self) -> dict[str, Phase]:
        """Of the whole training."""
        once = {name: phase.times(self.steps) for name, phase in self.update.items()}
        return {name: phase.times(self.rollouts) for name, phase in self.rollout.items()} | dict(self.sampled) | once


def phase_flops(model: PretrainedConfig, name: str, phase: Phase) -> float:
    """FLOPs of a phase, backward passes included."""
    return PASSES.get(name, 1) * forward_flops(model, tokens=phase.tokens, context=phase.context)


def flops_of(model: PretrainedConfig, phases: Mapping[str, Phase]) -> float:
    """FLOPs of phases together."""
    return sum(phase_flops(model, name, phase) for name, phase in phases.items())


def workload(stage: Planned) -> Workload:
    """The work of a stage.

    Raises:
        ValueError: the stage sets neither a number of updates nor one of tokens, or its files cannot be read.
    """
    config, model = stage.config, architecture_of(stage)
    found = (_policy if "group" in config["model"]["init_args"] else _supervised)(config, model)
    if stage.rejection is not None:
        found = replace(found, sampled=_sampled(config, found.lengths, stage.rejection))
    return _within_budget(found, config, model)


def _supervised(config: Config, model: PretrainedConfig | None) -> Workload:
    per_update, lengths = tokens_per_update(config), _lengths(config)
    steps = _steps(config, per_update)
    update = {"update": Phase(per_update, lengths.attended)}
    return Workload(steps, 1, 0, update, {}, _evaluation(config), float(steps * per_update), 0, lengths)


def _policy(config: Config, model: PretrainedConfig | None) -> Workload:
    policy, data, group = config["model"]["init_args"], config["data"]["init_args"], config["model"]["init_args"]["group"]
    steps, updates, lengths = _steps(config, None), updates_per_rollout(config), _lengths(config)
    rollouts, prompts = -(-steps // updates), data["prompts_per_rollout"] * (processes(config) or 1)
    completions, drawn = prompts * group["size"], 1 + group["resample"]  # at most each group is replaced
    lengths = replace(lengths, response=min(lengths.response, policy["sampling"]["max_new_tokens"]))
    rows = Phase(completions * (lengths.prompt + lengths.response), (lengths.prompt + lengths.response) / 2)
    rollout = {
        PREFILL: Phase(drawn * prompts * lengths.prompt, lengths.prompt / 2),
        DECODE: Phase(drawn * completions * lengths.response, lengths.prompt + lengths.response / 2),
    }  # fmt: skip
    reference, old = bool(policy["kl"]["weight"]), updates > 1 or "values" in policy  # PPO: values
    rollout |= {"old log-probabilities": rows} if old or reference else {}
    rollout |= {"reference log-probabilities": rows} if reference else {}
    parts = rows.times(1 / policy["update"]["minibatches"] * config["trainer"].get("accumulate_grad_batches", 1))
    update = {"update": parts}
    if has_own_critic(policy):
        rollout["values"], update["critic update"] = rows, parts
    sampled = float(rollouts * completions * lengths.response)
    return Workload(steps, updates, rollouts, update, rollout, _evaluation(config), sampled, completions, lengths)


def _sampled(config: Config, lengths: Lengths, sampling: RejectionSampling) -> dict[str, Phase]:
    response = min(lengths.response, config["model"]["init_args"]["evaluation"]["sampling"]["max_new_tokens"])
    return {
        PREFILL: Phase(sampling.problems * lengths.prompt, lengths.prompt / 2),
        DECODE: Phase(sampling.problems * sampling.samples * response, lengths.prompt + response / 2),
    }


def _evaluation(config: Config) -> dict[str, Phase]:
    how, found = config["model"]["init_args"]["evaluation"], {}
    for band, (problems, lengths) in _tested(config["data"]["init_args"]).items():
        response = min(lengths.response, how["sampling"]["max_new_tokens"])
        found[f"{band}: {PREFILL}"] = Phase(problems * lengths.prompt, lengths.prompt / 2)
        found[f"{band}: {DECODE}"] = Phase(problems * how["samples"] * response, lengths.prompt + response / 2)
    return found


def _tested(data: Mapping[str, Any]) -> dict[str, tuple[int, Lengths]]:
    """Number and lengths of the held-out problems: of each band, or of files together."""
    held_out, tokenizer = data["held_out"], TokenizerSettings.of(data["tokenizer"])
    if held_out["files"]:
        return {"files": _measure_rows(tokenizer, tuple(held_out["files"]), held_out["bad_rows"], to_example)}
    found = {}
    for band, ops in (held_out["bands"] or {}).items():
        component = Component(str(ops), tuple(held_out["contexts"]), tuple(held_out["modes"]))
        problems = held_out["problems"] * (len(parse_ops(ops)) if held_out["per_op"] else 1)
        found[band] = problems, _measure(tokenizer, _shape(data), (component,))
    return found


def _within_budget(work: Workload, config: Config, model: PretrainedConfig | None) -> Workload:
    """The work until a ComputeBudget among the stage's callbacks stops it; like it, without what is `sampled` before."""
    steps = work.steps
    for callback in config["trainer"].get("callbacks") or []:
        if locate(callback["class_path"]) is ComputeBudget:
            steps = min(steps, _affordable(work, callback.get("init_args") or {}, config, model))
    if steps == work.steps:
        return work
    rollouts = -(-steps // work.updates) if work.rollouts else 0
    share = rollouts / work.rollouts if work.rollouts else steps / work.steps
    return replace(work, steps=steps, rollouts=rollouts, trained=work.trained * share)


def _affordable(work: Workload, budget: Mapping[str, Any], config: Config, model: PretrainedConfig | None) -> int:
    """Updates up to the first check that finds the budget spent: a rollout is paid for before its first update."""
    found = [work.steps]
    for key, limit in budget.items():
        if key.startswith("max_") and limit is not None:
            rollout, update = (_spent(key, phases, work, config, model) for phases in (work.rollout, work.update))
            if None in (rollout, update):
                continue
            whole = max(0, ceil(limit / (rollout + work.updates * update)) - 1)  # rollouts that do not exhaust it
            left = limit - whole * (rollout + work.updates * update) - rollout
            last = min(work.updates, max(1, ceil(left / update))) if update else 1
            found.append(whole * work.updates + last)
    every = budget.get("every_n_steps") or 1
    return min(work.steps, -(-min(found) // every) * every)


def _spent(key: str, phases: Mapping[str, Phase], work: Workload, config: Config, model: PretrainedConfig | None) -> float | None:
    """What ComputeBudget counts, under its argument `key`, of one rollout or one update; None: unknown."""
    if key == "max_flops":
        return None if model is None else flops_of(model, phases)
    if key == "max_tokens":
        return sum(phase.tokens for phase in phases.values())
    if not work.rollouts:
        return sum(phase.tokens for phase in phases.values())
    policy = config["model"]["init_args"]
    longest = (model and longest_text(model)) or work.lengths.prompt + policy["sampling"]["max_new_tokens"]
    size, reference = policy["group"]["size"], bool(policy["kl"]["weight"])
    return nominal_rl_tokens(work.completions / size, size, longest, reference=reference) if phases is work.rollout else 0.0


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


def architecture_of(stage: Planned) -> PretrainedConfig | None:
    """The transformers config of the model; None if its FLOPs are not known."""
    settings = stage.config["model"]["init_args"]
    if stage.parent is not None:
        return architecture_of(stage.parent)
    if settings.get("architecture") is not None:
        with torch.device("meta"):
            found = build_language_model(settings["architecture"]).config
    else:
        found = AutoConfig.from_pretrained(settings["init_from"])
    return found if countable(found) else None


def _lengths(config: Config) -> Lengths:
    """Of the problems of training."""
    data = config["data"]["init_args"]
    if rows := (data.get("files") or {}).get("train"):
        kind: Any = locate(config["data"]["class_path"])
        return _measure_rows(TokenizerSettings.of(data["tokenizer"]), tuple(rows), data["files"]["bad_rows"], kind.read_row)[1]
    if data["mixture"] is None:
        raise ValueError("nothing to train on: set `data.init_args.mixture`, or `data.init_args.files.train`.")
    replayed = data.get("replay_share", 0.0)
    parts = [(data["mixture"], 1 - replayed), (data.get("replay") or (), replayed)]
    components = [_scaled(component, share) for mixture, share in parts for component in components_of(mixture)]
    return _measure(TokenizerSettings.of(data["tokenizer"]), _shape(data), tuple(components))


def _scaled(component: Component, share: float) -> Component:
    """A hashable copy with a share of the weight."""
    return Component(component.ops, tuple(component.contexts), tuple(component.modes), component.weight * share)


def has_own_critic(settings: Mapping[str, Any]) -> bool:
    """Whether PPO's critic is a model of its own, as large as the policy; from `model.init_args`."""
    critic: Any = locate(settings["critic"]["class_path"]) if settings.get("critic") else None
    return critic is not None and not critic.shares


def _shape(data: Mapping[str, Any]) -> tuple[GraphSpec, bool]:
    """Settings besides the mixture that decide how long problems are; hashable."""
    return GraphSpec(**data["graph"]), data["random_letters"]


@cache
def _measure(tokenizer: TokenizerSettings, shape: tuple[GraphSpec, bool], components: tuple[Component, ...]) -> Lengths:
    """Lengths of examples of a mixture."""
    total = sum(component.weight for component in components)
    mixture = Mixture([replace(component, weight=component.weight / total) for component in components])
    synthesis, cells, ends = Synthesis(mixture, *shape, seed=0), [*mixture.weights], [*accumulate(mixture.weights.values())]
    places = (bisect(ends, (i + 0.5) / SAMPLED, hi=len(cells) - 1) for i in range(SAMPLED))  # each cell as often as it weighs
    return _mean([synthesis.example("train", i, cells[place]) for i, place in enumerate(places)], tokenizer)


@cache
def _measure_rows(
    tokenizer: TokenizerSettings, files: tuple[str, ...], bad_rows: BadRows, read: Callable[[object, str, int], TrainingText]
) -> tuple[int, Lengths]:
    """Number of the rows of files, and the lengths of some of them."""
    rows = RowSource(files, bad_rows=bad_rows, read=read)
    return len(rows), _mean([rows.example("train", i) for i in range(min(SAMPLED, len(rows)))], tokenizer)


def _mean(texts: Sequence[TrainingText], tokenizer: TokenizerSettings) -> Lengths:
    documents = encode(texts, load_tokenizer(tokenizer))
    whole = [len(document.ids) for document in documents]
    prompts = [document.prompt_tokens for document in documents]
    attended = sum(n * (n + 1) / 2 for n in whole) / sum(whole)
    return Lengths(fmean(prompts), fmean(whole) - fmean(prompts), attended)
