"""A copy of a model's modules for sampling on a GPU: plain tensors, no hooks, matrices cast once.

A CUDA graph records what a forward pass does, so that must be kernels alone: not the hooks that gather sharded weights
(`sharding.gathered` has done it), nor casts of every matrix at every step, which autocast would record. Computes what the model
computes under autocast, bit for bit.
"""

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel


def replica_of(model: PreTrainedModel, dtype: torch.dtype | None) -> PreTrainedModel:
    """Copy `model` without its hooks and gradients, in the same mode (train or eval).

    Args:
        model: its weights are shared with the copy where nothing is cast.
        dtype: of the linear layers' weights, as autocast would have them; None: as they are.
    """
    with torch.device("meta"):
        copy = AutoModelForCausalLM.from_config(model.config)
    weights = dict(model.named_parameters(remove_duplicate=False))
    buffers = dict(model.named_buffers(remove_duplicate=False))
    for name, module in copy.named_modules():
        for key, _ in list(module.named_parameters(recurse=False)):
            weight = weights[f"{name}.{key}" if name else key].detach()
            weight = weight.to(dtype) if dtype and isinstance(module, nn.Linear) else weight
            setattr(module, key, nn.Parameter(weight, requires_grad=False))
        for key, _ in list(module.named_buffers(recurse=False)):
            setattr(module, key, buffers[f"{name}.{key}" if name else key])
    return copy.train(model.training)
