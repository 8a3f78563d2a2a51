"""Low-rank adapters (LoRA, arXiv:2106.09685) by the `peft` library: few weights learn, the model's own stay as they are.

Not here: their export, which is that of the merged weights (folder.py).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

NAME = "default"  # of the adapter


@dataclass(frozen=True)
class LoRA:
    """W + alpha / rank * B A for each adapted matrix W, of which A and B learn.

    Args:
        rank: columns of B and rows of A.
        alpha: scale of the product; its size relative to the rank is what counts.
        targets: names of the adapted layers, e.g. [q_proj, v_proj]; all-linear: every linear layer but the output. Experts whose
            weights are one tensor, and routers, are no linear layers.
        weights: precision of the model's own weights, which do not learn.
    """

    rank: int = 16
    alpha: float = 32.0
    targets: str | list[str] = "all-linear"
    weights: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0:
            raise ValueError(f"lora: rank={self.rank} must be at least 1, alpha={self.alpha} above 0.")
        if not find_spec("peft"):
            raise ValueError("lora needs the package `peft`: pip install 'interplay[lora]'.")


def add_adapters(model: PreTrainedModel, lora: LoRA) -> None:
    """Give a model adapters that change nothing yet (B = 0), and freeze the rest.

    But for the embedding and the head of a model that got entries for new tokens: these rows have to be learned.

    Raises:
        ValueError: such a model in bfloat16, in which embeddings do not learn; or `targets` that cannot be merged (`merged`).
    """
    from peft import LoraConfig

    grown = getattr(model, "grown", False)
    if grown and lora.weights != "float32":
        raise ValueError("lora: the embedding learns new tokens, for which bfloat16 is too coarse; set `lora.weights: float32`.")

    model.to(getattr(torch, lora.weights))
    alpha: Any = lora.alpha  # peft's hint says int; it divides by the rank
    targets = _linear_layers(model) if lora.targets == "all-linear" else lora.targets
    try:
        model.add_adapter(LoraConfig(r=lora.rank, lora_alpha=alpha, target_modules=targets, bias="none"), NAME)
        reason = ", ".join(_unmergeable(model))
    except ValueError as err:
        reason = str(err)
    if reason:
        raise ValueError(
            "lora: `lora.targets` may name linear layers of their own (no embedding, no head tied to it, no fused experts)"
            f", e.g. [q_proj, v_proj]; {lora.targets} do not: {' '.join(reason.split())[:200]}"
        )
    if grown:
        for table in filter(None, (model.get_input_embeddings(), model.get_output_embeddings())):
            table.requires_grad_(True)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def _linear_layers(model: PreTrainedModel) -> list[str]:
    """Names of all linear layers but the output."""
    head = model.get_output_embeddings()
    return [name for name, layer in model.named_modules() if isinstance(layer, (nn.Linear, Conv1D)) and layer is not head]


def _unmergeable(model: PreTrainedModel) -> list[str]:
    """Names of adapted modules whose product A B cannot be added to a weight that nothing else uses."""
    embedding = model.get_input_embeddings()

    def strange(name: str) -> bool:
        base = model.get_submodule(name).get_base_layer()
        return not isinstance(base, (nn.Linear, Conv1D)) or base.weight is embedding.weight

    return sorted(filter(strange, {name.partition(".lora_")[0] for name, _ in model.named_parameters() if ".lora_" in name}))


def adapted(model: nn.Module) -> bool:
    """Whether a model has adapters."""
    return getattr(model, "_hf_peft_config_loaded", False)


@contextmanager
def without_adapters(model: PreTrainedModel) -> Iterator[None]:
    """The model as it was before its adapters learned."""
    model.disable_adapters()
    yield
    model.enable_adapters()


def merged(model: PreTrainedModel, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a plain model that computes what `model` does with its adapters.

    Args:
        model: tells which layers have adapters.
        weights: its weights by name, whole.
    """
    plain = {name.replace(".base_layer.", "."): held for name, held in weights.items() if ".lora_" not in name}
    for name, layer in model.named_modules():
        if f"{name}.lora_B.{NAME}.weight" in weights:
            down, up = (weights[f"{name}.lora_{side}.{NAME}.weight"] for side in "AB")
            change = layer.scaling[NAME] * up @ down
            plain[f"{name}.weight"] = weights[f"{name}.base_layer.weight"] + (change.T if layer.fan_in_fan_out else change)
    return plain
