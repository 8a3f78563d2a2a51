"""Memory and time of a stage on given devices, from its work (workload.py) and what a device can do (devices.py).

A model of cost, not a measurement: matrix products run at a fixed share of the peak, a step of sampling takes the longest of
reading (weights once, keys and values of every completion), computing and starting kernels, and communication is added, as if
nothing hid it. docs/scaling.md says what it left out and how far it was from what was measured.
Symbols: P parameters, h hidden size, f width of the MLP, d and k widths of queries and of keys, L layers, V vocabulary.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from lightning_modules.models.flops import forward_flops, head_size
from lightning_modules.models.label_scores import LOGITS_AT_ONCE
from lightning_modules.models.memory import LOGITS_BYTES, SHARE
from recipes.planning.devices import Device
from recipes.planning.resolve import Config
from recipes.planning.workload import DECODE, Phase, Workload, has_own_critic, phase_flops

FLOAT, HALF = 4, 2  # bytes
MOMENTS = 2  # of Adam, each as large as the weights, in float32
PASS_TOKENS = 65_536  # of a forward and backward pass, at most: 32 rows of 2,048
BACKWARD = 2.0  # kernels of a backward pass per kernel of the forward pass
PASSING = ("activations", "logits", "gathered layers", "gradients")  # there is none of them while sampling
VIEWS = ("view", "transpose", "slice", "expand", "unsqueeze", "t.default", "reshape", "split", "detach", "select", "alias")


@dataclass(frozen=True)
class Setting:
    """Where a stage runs.

    device, devices: kind and number.      sharded: FSDP2.      half: 16-bit products.      checkpointing: of activations.
    """

    device: Device
    devices: int
    sharded: bool
    half: bool
    checkpointing: bool

    @classmethod
    def of(cls, config: Config, device: Device, devices: int, *, sharded: bool | None = None) -> "Setting":
        """As a stage's config says, on other devices."""
        strategy = config["trainer"].get("strategy", "auto")
        name = strategy["class_path"] if isinstance(strategy, dict) else strategy
        own = name.endswith("ModelParallelStrategy") if sharded is None else sharded
        half = "16" in str(config["trainer"].get("precision")) and device.name != "cpu"
        return cls(device, devices, own and devices > 1, half, config["model"]["init_args"]["gradient_checkpointing"])

    @property
    def shards(self) -> int:
        """Parts into which weights are cut."""
        return self.devices if self.sharded else 1


class _Kernels(TorchDispatchMode):
    """Counts operators that compute something."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not any(view in str(func) for view in VIEWS)
        return func(*args, **(kwargs or {}))


@lru_cache
def _asked(text: str) -> tuple[int, int]:
    """P, and the kernels of a forward pass, of a model without memory; its config as JSON."""
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(AutoConfig.for_model(**json.loads(text)))
        with torch.no_grad(), _Kernels() as kernels:
            ids, mask = torch.zeros(1, 8, dtype=torch.int64), torch.zeros(1, 1, 8, 8)  # no masks are made for a mask
            built(input_ids=ids, attention_mask=mask, use_cache=False)
    return sum(p.numel() for p in built.parameters()), kernels.count


def _facts(model: PretrainedConfig) -> tuple[int, int]:
    return _asked(json.dumps(model.to_dict(), default=str))


def forward_kernels(model: PretrainedConfig) -> int:
    """Operators of a forward pass that compute something, counted on a model without memory; in 32 bit, so without casts."""
    return _facts(model)[1]


def parameters(model: PretrainedConfig) -> int:
    """P: all weights, tied ones once."""
    return _facts(model)[0]


def kept_per_token(model: PretrainedConfig, *, half: bool, checkpointing: bool) -> float:
    """Bytes of activations that a forward pass keeps for the backward pass of each token, logits left out.

    Of a layer: inputs of the two norms in float32 and what they make of them; queries, keys and values rotated, and the
    output of attention; four tensors of the MLP's width. With checkpointing: inputs of layers, and one layer's all.
    """
    hidden, wide, product = model.hidden_size, model.intermediate_size, HALF if half else FLOAT
    query, key = model.num_attention_heads * head_size(model), model.num_key_value_heads * head_size(model)
    norms = 2 * (2 * FLOAT * hidden + product * hidden)
    attention = product * (2 * query + 2 * key)
    layer = norms + attention + product * 4 * wide
    if checkpointing:
        return model.num_hidden_layers * FLOAT * hidden + layer
    return model.num_hidden_layers * layer


def cache_per_token(model: PretrainedConfig, *, half: bool) -> float:
    """Bytes of keys and values of a token in all layers."""
    key = model.num_key_value_heads * head_size(model)
    return 2 * model.num_hidden_layers * key * (HALF if half else FLOAT)


def memory(config: Config, model: PretrainedConfig, work: Workload, where: Setting) -> dict[str, float]:
    """Bytes on one device by part, at the worst moment of each; parts of sampling and of updates do not all coincide."""
    settings, size, count = config["model"]["init_args"], parameters(model), 1
    rl = work.rollouts > 0
    if rl and has_own_critic(settings):
        count = 2
    found = {
        "weights": FLOAT * size * count / where.shards, "gradients": FLOAT * size * count / where.shards,
        "optimiser": MOMENTS * FLOAT * size * count / where.shards,
    }  # fmt: skip
    if where.sharded:
        found["gathered layers"] = 2 * (HALF if where.half else FLOAT) * size / model.num_hidden_layers
    if rl:
        rows = min(settings["sampling"]["max_rows"], work.completions / where.devices)
        longest = 2 * work.lengths.prompt + settings["sampling"]["max_new_tokens"]  # prompts vary
        found["reference"] = FLOAT * size / where.shards if settings["kl"]["weight"] else 0.0
        found["16-bit copy"] = HALF * size * where.half
        found["whole weights"] = FLOAT * size * where.sharded
        found["keys and values"] = rows * longest * cache_per_token(model, half=where.half)
    each = count * kept_per_token(model, half=where.half, checkpointing=where.checkpointing)
    tokens = pass_tokens(config, work, where, each, sum(found.values()))
    logits = LOGITS_BYTES * min(1.0, tokens * model.vocab_size / LOGITS_AT_ONCE)
    return found | {"activations": tokens * each, "logits": logits}


def pass_tokens(config: Config, work: Workload, where: Setting, each: float, held: float) -> float:
    """Tokens of a pass: those of a batch, or as many as `tokens_per_pass` or the memory allows, but a whole row.

    Args:
        config: of the stage.
        work: of the stage.
        where: devices.
        each: bytes that a token keeps.
        held: bytes that lie on a device beside passes.
    """
    settings, data = config["model"]["init_args"], config["data"]["init_args"]
    if work.rollouts:
        batch, row = work.update["update"].tokens / where.devices, work.lengths.prompt + settings["sampling"]["max_new_tokens"]
    else:
        batch, row = data["batch_rows"] * data["row_length"], data["row_length"]
    room = SHARE * (where.device.memory - held - LOGITS_BYTES) / each
    return min(batch, settings.get("tokens_per_pass") or max(row, room))


def peak(parts: Mapping[str, float]) -> float:
    """Bytes at the worst moment: what always lies there, and the larger of an update's passes and of a rollout."""
    total = sum(parts.values())
    return max(total - sum(parts.get(name, 0.0) for name in PASSING), total - parts.get("whole weights", 0.0))


def seconds(config: Config, model: PretrainedConfig, work: Workload, where: Setting) -> dict[str, float]:
    """Seconds of training by phase, on all devices side by side."""
    found = {name: _pass_seconds(model, name, phase, where) for name, phase in work.phases().items() if name != DECODE}
    if work.rollouts:
        rows = config["model"]["init_args"]["sampling"]["max_rows"]
        phase, length = work.rollout[DECODE], work.lengths.response
        one = decode_seconds(model, phase, phase.tokens / length, length, rows, where)
        found[DECODE] = work.rollouts * one
    if work.sampled:
        rows = config["model"]["init_args"]["evaluation"]["sampling"]["max_rows"]
        phase, length = work.sampled[DECODE], work.lengths.response
        found[DECODE] = decode_seconds(model, phase, phase.tokens / length, length, rows, where)
    micro = max(1.0, work.update["update"].tokens / where.devices / PASS_TOKENS)
    found["communication"] = work.steps * communication_seconds(model, micro, where)
    return found


def _pass_seconds(model: PretrainedConfig, name: str, phase: Phase, where: Setting) -> float:
    """Of passes over whole texts: computing, or starting kernels if that takes longer."""
    device, share = where.device, phase.tokens / where.devices
    computing = phase_flops(model, name, phase) / where.devices / (device.flops * device.share)
    kernels = forward_kernels(model) * (1 + BACKWARD * ("update" in name))
    return max(computing, share / PASS_TOKENS * kernels * device.issue)


def decode_seconds(
    model: PretrainedConfig, phase: Phase, completions: float, length: float, most_rows: int, where: Setting
) -> float:  # fmt: skip
    """Of sampling: steps of all rows at once; each the longest of reading, computing and starting kernels."""
    device, samples = where.device, completions / where.devices
    rows = min(most_rows, samples)
    steps = samples / rows * length
    number = HALF if where.half else FLOAT
    read = number * parameters(model) + rows * phase.context * cache_per_token(model, half=where.half)
    flops = forward_flops(model, tokens=rows, context=phase.context)
    reading, computing = read / (device.bandwidth * device.read_share), flops / (device.flops * device.share)
    return steps * max(reading, computing, forward_kernels(model) * device.launch)


def communication_seconds(model: PretrainedConfig, micro_batches: float, where: Setting) -> float:
    """Of one update, as if nothing hid it, at the slowest link of a ring.

    DDP sums gradients in float32; FSDP2 gathers weights twice for each pass and scatters gradients.
    """
    if where.devices == 1:
        return 0.0
    link = where.device.link if where.devices <= where.device.per_node else where.device.network
    ring, size = (where.devices - 1) / where.devices, parameters(model)
    if not where.sharded:
        return 2 * ring * FLOAT * size / link
    return micro_batches * ring * (2 * (HALF if where.half else FLOAT) + FLOAT) * size / link
