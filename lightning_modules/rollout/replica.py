"""A copy of a model that CUDA graphs can record: no hooks, no casts at every step, few products, addresses that stay.

It needs neither the gathering of sharded weights (`sharding.gathered` has done it) nor the casts of every matrix by autocast at
every step: linear layers are kept already cast. Those with one input (queries, keys and values; gate and up) are one product.
After an update the copy takes the new weights in place, so graphs recorded with it stay valid.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.functional import linear
from transformers import AutoModelForCausalLM, PreTrainedModel

from lightning_modules.models.lora import adapted, merged

SAME_INPUT = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))  # names of layers that models call with one input


class JointLayer(nn.Module):
    """Several linear layers as one: stands in the place of the first, and keeps the outputs of the others for them."""

    def __init__(self, layers: Sequence[nn.Linear], names: Sequence[str]) -> None:
        super().__init__()
        self.sizes, first = [layer.out_features for layer in layers], layers[0]
        self.joint = nn.Linear(first.in_features, sum(self.sizes), first.bias is not None, device="meta")
        self.joint.parts = names
        self.input: Tensor | None = None
        self.outputs: Sequence[Tensor] = ()

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., in] -> [..., out of the first layer]."""
        self.input, self.outputs = hidden, self.joint(hidden).split(self.sizes, dim=-1)
        return self.outputs[0]


class PartOfJoint(nn.Module):
    """Stands in the place of a later layer; computes its part itself if the input is another."""

    def __init__(self, joint: JointLayer, number: int) -> None:
        super().__init__()
        self.number, self.of = number, (joint,)  # in a tuple, as it is no child

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        (joint,) = self.of
        if joint.input is hidden:
            return joint.outputs[self.number]
        first, size = sum(joint.sizes[: self.number]), joint.sizes[self.number]
        weight, bias = joint.joint.weight[first : first + size], joint.joint.bias
        return linear(hidden, weight, None if bias is None else bias[first : first + size])


def join_layers(model: nn.Module) -> None:
    """Replace linear layers with one input by a joint one, in place (on the meta device)."""
    for name, module in list(model.named_modules()):
        for keys in SAME_INPUT:
            layers = [getattr(module, key, None) for key in keys]
            kinds = {(type(one), getattr(one, "in_features", 0), getattr(one, "bias", None) is None) for one in layers}
            if len(kinds) == 1 and type(layers[0]) is nn.Linear:
                joint = JointLayer(layers, [f"{name}.{key}" for key in keys])
                setattr(module, keys[0], joint)
                for number, key in enumerate(keys[1:], start=1):
                    setattr(module, key, PartOfJoint(joint, number))


class Held(NamedTuple):
    """A tensor of the copy, and the names of those of the model that it is made of; `own`: not the model's own memory."""

    tensor: Tensor
    parts: tuple[str, ...]
    own: bool


class Replica:
    """The copy (`model`), and where its weights come from."""

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype | None) -> None:
        """Copy `model`.

        Args:
            model: shares with the copy all weights that are neither cast, joined, sharded nor adapted.
            dtype: of the linear layers' weights, as under autocast; None: unchanged.
        """
        with torch.device("meta"):
            self.model = AutoModelForCausalLM.from_config(model.config)
            join_layers(self.model)
        self.dtype, self.held = dtype, []
        self.model.train(model.training)
        weights, kept = _tensors(model), _lasting(model)
        for module, key, parts in _places(self.model):
            sources = [weights[part].detach() for part in parts]
            cast = dtype if isinstance(module, nn.Linear) else None
            own = len(sources) > 1 or sources[0].data_ptr() not in kept or cast not in (None, sources[0].dtype)
            tensor = torch.cat([source.to(cast or source.dtype) for source in sources]) if len(sources) > 1 else sources[0]
            tensor = tensor.to(cast or tensor.dtype, copy=len(sources) == 1) if own else tensor
            is_parameter = key in module._parameters
            setattr(module, key, nn.Parameter(tensor, requires_grad=False) if is_parameter else tensor)
            self.held.append(Held(getattr(module, key), tuple(parts), own))

    @torch.no_grad()
    def take(self, model: PreTrainedModel) -> bool:
        """Take the weights that `model` has now, in place; false: it has moved, or its mode has changed, so copy it anew."""
        weights = _tensors(model)
        moved = any(not one.own and one.tensor.data_ptr() != weights[one.parts[0]].data_ptr() for one in self.held)
        if moved or model.training != self.model.training:
            return False
        for tensor, parts, own in self.held:
            if own:
                sources = [weights[part] for part in parts]
                for place, source in zip(
                    tensor.split([len(s) for s in sources]) if parts[1:] else [tensor], sources, strict=True
                ):
                    place.copy_(source)
        return True


def _places(copy: nn.Module) -> Iterator[tuple[nn.Module, str, list[str]]]:
    """Each parameter and buffer of the copy: its module, its key, and the names of its parts in the model."""
    for name, module in copy.named_modules():
        for tensors in (module._parameters, module._buffers):
            for key in [key for key, tensor in tensors.items() if tensor is not None]:
                yield module, key, [f"{part}.{key}" if part else key for part in getattr(module, "parts", [name])]


def _tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    """Weights, adapters merged, and buffers by name."""
    weights = dict(model.named_parameters(remove_duplicate=False))
    weights = merged(model, weights) if adapted(model) else weights
    return weights | dict(model.named_buffers(remove_duplicate=False))


def _lasting(model: PreTrainedModel) -> set[int]:
    """Addresses of tensors that stay where they are from one rollout to the next; sharded weights are gathered each time."""
    if any(isinstance(module, FSDPModule) for module in model.modules()):
        return {buffer.data_ptr() for buffer in model.buffers()}
    return {tensor.data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
