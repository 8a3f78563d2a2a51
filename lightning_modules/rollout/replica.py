"""A copy of a model for sampling under half precision on a GPU.

Autocast casts each matrix at every step; at one token a step that costs more than the product itself. The copy has its matrices
cast once and the rest (embeddings, norms) as they are, so it computes what the model computes under autocast, bit for bit.
Its weights are plain tensors, also where the model's are sharded and gathered for a while (`sharding.gathered`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel


@contextmanager
def half_precision_replica(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """Give a copy with half-precision matrices where autocast is on, on a GPU; elsewhere the model itself."""
    device = model.device.type
    if device != "cuda" or not torch.is_autocast_enabled(device):
        yield model
        return
    dtype = torch.get_autocast_dtype(device)
    # no cache of casts: their addresses must not outlive a captured graph
    with torch.autocast(device, dtype, cache_enabled=False):
        yield replica_of(model, dtype)


def replica_of(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """Copy `model`, its linear layers in `dtype`; without gradients, in the same mode (train or eval)."""
    with torch.device("meta"):
        copy = AutoModelForCausalLM.from_config(model.config)
    weights = dict(model.named_parameters(remove_duplicate=False))
    buffers = dict(model.named_buffers(remove_duplicate=False))
    for name, module in copy.named_modules():
        for key, _ in list(module.named_parameters(recurse=False)):
            weight = weights[f"{name}.{key}" if name else key].detach()
            weight = weight.to(dtype) if isinstance(module, nn.Linear) else weight
            setattr(module, key, nn.Parameter(weight, requires_grad=False))
        for key, _ in list(module.named_buffers(recurse=False)):
            setattr(module, key, buffers[f"{name}.{key}" if name else key])
    return copy.train(model.training)
