"""Fully sharded data parallelism (FSDP2): each process keeps a part of each weight, gradient and optimiser state.

Lightning's ModelParallelStrategy sets up the mesh; the model is sharded when it is built (`StageModule.configure_model`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel


def shard(model: PreTrainedModel, mesh: DeviceMesh, *, half: bool = False, compile_layers: bool = False) -> None:
    """Shard each decoder layer, and the rest of the model as another part, in place.

    Args:
        model: with the same weights in every process.
        mesh: Lightning's, with the dimensions data_parallel and tensor_parallel.
        half: gather weights as bfloat16; gradients are summed in float32 all the same.
        compile_layers: compile each layer: torch.compile cannot compile a whole sharded model.

    Raises:
        ValueError: the mesh has a tensor-parallel dimension above 1.
    """
    if mesh["tensor_parallel"].size() != 1:
        raise ValueError(
            "models are sharded over data only: set `tensor_parallel_size: 1` and `data_parallel_size` to all devices."
        )
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32) if half else MixedPrecisionPolicy()
    layers = [module for module in model.modules() if type(module).__name__ in model._no_split_modules]
    for layer in layers:
        if compile_layers:
            layer.compile()
        fully_shard(layer, mesh=mesh["data_parallel"], mp_policy=policy)
    fully_shard(model, mesh=mesh["data_parallel"], mp_policy=policy)


def reshard(model: torch.nn.Module) -> None:
    """Let go of gathered weights: after a forward pass the outermost part keeps its own, for the backward pass."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself or, if it is sharded, all of its parts; then every process must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def weights_digest(model: torch.nn.Module) -> str:
    """A digest of all parameters; if they are sharded, every process must call this."""
    digest = blake2b(digest_size=8)
    for parameter in model.parameters():
        digest.update(whole(parameter).detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def gathered(model: torch.nn.Module) -> Iterator[None]:
    """Keep all weights of a sharded model in each process, so that processes may call it different numbers of times.

    Sampling stops at different lengths in different processes; sharded weights, gathered at each call, would wait forever.
    Every process must enter. A model that is not sharded is left alone.
    """
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for number, part in enumerate(parts):
            part.reshard()
            part.set_reshard_after_forward(number > 0, recurse=False)  # the outermost keeps its weights for the backward pass
