"""Cost of training, measured and by the paper's nominal formula, so that stages and arms are compared at equal cost.

Measured: real tokens (no padding) that pass through a model in each phase, and the tokens they attend to; FLOPs are linear in
both. Sampling counts all tokens of all completions, and each prompt once: an engine that shares prefixes or repeats a prompt
costs the same.
Nominal (arXiv:2512.07783, section 5): 6 P T for T tokens of supervised training, and (8 + 2g) P N r L for RL, or in supervised
tokens T_RL = (4/3 + g/3) N r L, (5/3) N r L with a reference; every completion counts as L tokens, prompt included. N is the
number of problems that a policy learns from: groups that `resample` replaces, and further epochs, add nothing.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from lightning_modules.models.flops import forward_flops, matmul_parameters

KEYS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size")
PASSES = {"update": 3, "critic update": 3}  # forward, and backward for activations and weights; all other phases 1


def nominal_rl_tokens(prompts: float, rollouts: int, length: int, *, reference: bool = True) -> float:
    """T_RL = (4/3 + g/3) N r L: the supervised tokens that cost as much as RL on `prompts` problems.

    Args:
        prompts: N.
        rollouts: r, completions per prompt.
        length: L, tokens of prompt and completion.
        reference: g, whether a reference model scores each completion.
    """
    return (5 if reference else 4) / 3 * prompts * rollouts * length


def packed_counts(position_BT: Tensor, document_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens of packed documents, and the tokens they attend to (their position within the document plus one)."""
    real_BT = document_BT > 0
    return real_BT.sum(), ((position_BT + 1) * real_BT).sum()


def row_counts(mask_NT: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens of rows [N, T], which end at the last true entry, and the tokens they attend to (earlier ones and themselves)."""
    length_N = (mask_NT * torch.arange(1, mask_NT.shape[1] + 1, device=mask_NT.device)).amax(dim=1)
    return length_N.sum(), (length_N * (length_N + 1) // 2).sum()


def generation_counts(prompt_lengths: Sequence[int], length_N: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens fed while sampling N = B*G completions, each prompt prefilled once, and the tokens they attend to.

    The last token of a completion is not fed.
    """
    prompt_B = torch.tensor(prompt_lengths, device=length_N.device)
    prompt_N = prompt_B.repeat_interleave(len(length_N) // max(1, len(prompt_B)))
    fed_N = length_N - 1
    attended = (prompt_B * (prompt_B + 1) // 2).sum() + (fed_N * prompt_N + fed_N * (fed_N + 1) // 2).sum()
    return prompt_B.sum() + fed_N.sum(), attended


class ComputeMeter:
    """Sums of tokens that a process has run, on the device."""

    def __init__(self) -> None:
        self.counts: dict[str, Tensor] = {}
        self.nominal_tokens = 0.0  # training tokens, or their equivalent by the nominal formula

    def clear(self) -> None:
        """Forget all."""
        self.counts, self.nominal_tokens = {}, 0.0

    def add(self, phase: str, counts: tuple[Tensor, Tensor]) -> None:
        """Add tokens, and tokens attended to, of a phase."""
        self.counts[phase] = self.counts.get(phase, 0) + torch.stack(counts).double()

    def state(self) -> dict[str, Any]:
        """The sums as plain numbers."""
        phases = {phase: counts.tolist() for phase, counts in sorted(self.counts.items())}
        return {"phases": phases, "nominal_tokens": self.nominal_tokens}


def countable(config: PretrainedConfig) -> bool:
    """Whether the FLOPs of a model with this config are known: a decoder with gated MLPs (Qwen2, Qwen3, Llama ...).

    Then the matrices of the model, built without memory, are those of the formula; experts or MLPs without a gate are others.
    """
    return all(getattr(config, key, None) is not None for key in KEYS) and _is_formula(config.to_json_string(use_diff=False))


@lru_cache
def _is_formula(text: str) -> bool:
    held = json.loads(text)
    try:
        config = AutoConfig.for_model(held.pop("model_type"), **held)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception:  # noqa: BLE001 (a model that transformers does not know, or code of a foreign one)
        return False
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return sum(layer.weight.numel() for layer in layers) == matmul_parameters(config)


def ledger(
    state: Mapping[str, Any], config: PretrainedConfig, others: Mapping[str, PretrainedConfig] | None = None
) -> dict[str, Any]:
    """A ledger from the sums of all processes.

    Args:
        state: see `ComputeMeter.state`.
        config: of the language model.
        others: phase -> config of the model that its tokens passed through, if that was another one (a teacher).

    Returns:
        `phases` (name -> tokens, flops); `flops` in all; `token_equivalents`, the supervised tokens that cost as much at 6 P
        each; `nominal_tokens` and `nominal_flops`; `parameters` (P, embeddings left out). None for unknown FLOPs
        (`countable`).
    """
    nominal, tokens = state["nominal_tokens"], {phase: int(counts[0]) for phase, counts in state["phases"].items()}
    configs = dict.fromkeys(tokens, config) | dict(others or {})
    if not all(map(countable, (config, *configs.values()))):
        uncounted = {phase: {"tokens": count, "flops": None} for phase, count in tokens.items()}
        unknown = dict.fromkeys(("flops", "token_equivalents", "nominal_flops", "parameters"))
        return {"phases": uncounted, "nominal_tokens": nominal} | unknown
    parameters, phases = matmul_parameters(config) - config.hidden_size * config.vocab_size, {}
    for phase, (count, attended) in state["phases"].items():
        flops = forward_flops(configs[phase], tokens=count, context=attended / count) if count else 0.0
        phases[phase] = {"tokens": tokens[phase], "flops": flops * PASSES.get(phase, 1)}
    flops = sum(phase["flops"] for phase in phases.values())
    return {
        "phases": phases, "flops": flops, "token_equivalents": flops / (6 * parameters), "nominal_tokens": nominal,
        "nominal_flops": 6 * parameters * nominal, "parameters": parameters,
    }  # fmt: skip
