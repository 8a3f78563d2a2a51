"""CUDA graphs without a GPU: the operators of a step are recorded once and replayed on the same tensors.

`recorded_graphs` puts them in the place of `torch.cuda.CUDAGraph` and `torch.cuda.graph` for one sampler, and demands what a
real capture demands: nothing waits for the device, no shape depends on values, no Python number changes, no state moves.
"""

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "repeat_interleave.Tensor", "equal.default")
INDEXED = ("index.Tensor", "index_put")


class Tape(TorchDispatchMode):
    """The operators of a step, with their arguments and results."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        assert not any(wait in name for wait in WAITS), f"{name} waits for the device"
        by_mask = any(t is not None and t.dtype == torch.bool for t in args[1]) if any(i in name for i in INDEXED) else False
        assert not by_mask, f"{name} by a mask has a shape that depends on values"
        out = func(*args, **(kwargs or {}))
        self.steps.append((func, args, kwargs or {}, out))
        return out

    def replay(self):
        """Run the operators again; results of theirs take the places of the recorded ones, all else is the same memory."""
        now = {}

        def current(x):
            return now.get(id(x), x) if isinstance(x, torch.Tensor) else x

        with torch.autocast("cpu", enabled=False):  # its casts were recorded, too
            for func, args, kwargs, out in self.steps:
                again = func(*tree_map(current, args), **tree_map(current, kwargs))
                for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                    if isinstance(old, torch.Tensor):
                        now[id(old)] = current(old) if new is old else new


def tensors_of(sampler):
    """What a step may write: the state of the sampler, of its cache and its results."""
    parts = [vars(sampler), vars(sampler.cache), {key: getattr(sampler.out, key) for key in type(sampler.out).__slots__}]
    return [t for part in parts for t in part.values() if isinstance(t, torch.Tensor)] + [
        layer.storage for layer in sampler.cache.layers
    ]


def numbers_of(sampler):
    return {k: v for part in (sampler, sampler.cache) for k, v in vars(part).items() if isinstance(v, int | float)}


@contextmanager
def recorded_graphs(monkeypatch, kind):
    """Samplers of class `kind` made within record and replay their steps; yields the list of tapes."""
    made, tapes, begin = [], [], kind.begin

    def with_graphs(self, request):
        self.pool = object()
        made[:] = [self]
        begin(self, request)

    @contextmanager
    def capture(tape, pool=None, capture_error_mode="global"):
        (sampler,) = made
        held, numbers = tensors_of(sampler), numbers_of(sampler)
        before, places = [t.clone() for t in held], [t.data_ptr() for t in held]
        with tape:
            yield
        assert numbers == numbers_of(sampler), "the step changes a Python number"
        assert places == [t.data_ptr() for t in tensors_of(sampler)], "the step moves its state"
        for tensor, old in zip(held, before, strict=True):
            tensor.copy_(old)  # a capture runs nothing
        tapes.append(tape)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "begin", with_graphs)
        patch.setattr(torch.cuda, "CUDAGraph", Tape)
        patch.setattr(torch.cuda, "graph", capture)
        yield tapes
