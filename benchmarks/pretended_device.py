"""A CUDA device without a GPU: tensors without values, whose bytes, kernels and waits are counted.

PyTorch's FakeTensorMode runs the shapes of a program. On the device `cuda` it needs a PyTorch that is linked against CUDA (no
driver) and goes forward only; backward passes run on a pretended CPU, where each tensor has the same bytes. What the host waits
for is listed: numbers read from the device, shapes that depend on values, and copies that block.
Bytes are those of live tensors: what kernels use inside and what an allocator leaves free come on top.
"""

import traceback
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROOT = Path(__file__).parent.parent
GIB = 2**30
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique", "unique_dim", "unique_consecutive",
         "repeat_interleave.Tensor", "equal.default")  # fmt: skip


def linked() -> bool:
    """Whether this PyTorch knows CUDA devices."""
    return torch.version.cuda is not None


def where() -> str:
    """The innermost line of this project that is running."""
    for frame in reversed(traceback.extract_stack()):
        file = Path(frame.filename)
        if file.is_relative_to(ROOT) and file.relative_to(ROOT).parts[0] in ("lightning_modules", "datamodules", "callbacks"):
            return f"{file.relative_to(ROOT)}:{frame.lineno}"
    return "?"


class Watch(TorchDispatchMode):
    """Counts, from its creation on.

    live, peak: bytes of tensors on the device; peak_at: the line that reached the peak.
    kernels:    operations on the device that are not views.
    waits:      what the host waited for, by operation and line.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.live, self.peak, self.peak_at, self.kernels = device, 0, 0, "", 0
        self.waits: Counter[str] = Counter()
        self._seen: set[int] = set()

    def track(self, tensor: Tensor) -> None:
        """Count a tensor's storage until it is freed."""
        if tensor.device.type != self.device:
            return
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self.live += size
        if self.live > self.peak:
            self.peak, self.peak_at = self.live, where()
        weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name, given = str(func).removeprefix("aten."), [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if self._asks(name, given, args):  # before it runs: what has no values cannot answer
            self.waits[f"{name} {where()}"] += 1
        out = func(*args, **(kwargs or {}))
        made = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        if self.device in {x.device.type for x in (*given, *made)}:
            self.kernels += not func.is_view
            if name.startswith(("_to_copy", "copy_")) and given[-1].device.type != made[0].device.type:
                blocks = not ((kwargs or {}).get("non_blocking") or (name.startswith("copy_") and len(args) > 2 and args[2]))
                self.waits.update([f"{name} {where()}"] if blocks else [])
        for tensor in made:
            self.track(tensor)
        return out

    def _asks(self, name: str, given: list[Tensor], args: tuple) -> bool:
        """Whether an operation needs values of the device on the host."""
        if name.startswith(("index.Tensor", "index_put")):
            return any(isinstance(x, Tensor) and x.dtype == torch.bool and x.device.type == self.device for x in args[1])
        return name.startswith(WAITS) and any(x.device.type == self.device for x in given)


@contextmanager
def pretended(device: str, *, gib: float = 80.0) -> Iterator[Watch]:
    """A pretended device with so much memory; tensors made within have no values."""
    watch = Watch(device)
    total = int(gib * GIB)
    replaced = {
        "torch.cuda.memory_allocated": lambda *_: watch.live, "torch.cuda.memory_reserved": lambda *_: watch.live,
        "torch.cuda.mem_get_info": lambda *_: (total - watch.live, total), "torch.cuda.is_bf16_supported": lambda *_, **__: True,
        "torch.cuda.amp.common.amp_definitely_not_available": lambda: False,
        "torch.Tensor.pin_memory": lambda tensor, *_: tensor, "torch.nn.functional.scaled_dot_product_attention": flash,
    }  # fmt: skip
    with ExitStack() as stack:
        for name, stand_in in replaced.items():
            stack.enter_context(patch(name, stand_in))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(watch)
        yield watch


def flash(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """The kernels that scaled_dot_product_attention takes on a GPU in 16 bit: it asks the driver before it chooses."""
    query, key, value = (x.to(torch.bfloat16) for x in (query, key, value))
    heads = query.shape[1]
    key, value = (x.repeat_interleave(heads // x.shape[1], 1) if x.shape[1] < heads else x for x in (key, value))
    if attn_mask is None:
        return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, scale=scale)[0]
    bias = torch.where(attn_mask, 0.0, -torch.inf).to(query.dtype).expand(len(query), heads, query.shape[2], key.shape[2])
    return torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, bias, True, dropout_p, is_causal, scale=scale
    )[0]  # fmt: skip
