"""The native engine: fast steps of its own, on a CPU in shared prefixes (prefix_sharing.py), on a GPU in graphs
(graphed.py, graphed_sharing.py).
"""

import torch
from transformers import PreTrainedModel

from lightning_modules.models.attending import attending, attention_window, strange_attention
from lightning_modules.rollout.engine import Engine
from lightning_modules.rollout.graphed import GraphedSampler
from lightning_modules.rollout.graphed_sharing import GraphedSharing
from lightning_modules.rollout.prefix_sharing import PrefixSampler
from lightning_modules.rollout.replica import Replica
from lightning_modules.rollout.sampling import Completions, Request
from lightning_modules.rollout.slots import IN_SLOTS


class Native(Engine):
    """Keeps the replica, the slots and the graphs of its last rollout on a GPU, for the next one of the same settings."""

    def __init__(self) -> None:
        self.replica: Replica | None = None
        self.sampler: GraphedSampler | None = None

    def refuses(self, model: PreTrainedModel, longest: int) -> str | None:
        """See Engine."""
        window = attention_window(model.config)
        if window and window < longest:
            return f"a sliding window of {window} tokens, and texts may have {longest}"
        return f"it has {what}" if (what := strange_attention(model)) else None

    def sample(self, model: PreTrainedModel, request: Request, *, share: bool = False) -> Completions:
        """See Engine."""
        if model.device.type == "cpu":
            return PrefixSampler(model, request).run()
        return self.in_graphs(model, request, share=share)

    def release(self) -> None:
        """See Engine."""
        self.replica = self.sampler = None

    def in_graphs(self, model: PreTrainedModel, request: Request, *, share: bool = False, **steps: int) -> Completions:
        """Sample with the graphs that are there, and new weights in them; `steps`: as GraphedSampler takes them."""
        device, kind = model.device.type, GraphedSharing if share else GraphedSampler
        half, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        # no cache of casts, as their addresses must not outlive a graph
        with torch.autocast(device, dtype, enabled=half, cache_enabled=False):
            wanted = dtype if half else None
            if self.replica is None or self.replica.dtype != wanted or not self.replica.take(model):
                self.sampler, self.replica = None, Replica(model, wanted)
            with attending(self.replica.model, IN_SLOTS):
                if type(self.sampler) is not kind or not self.sampler.fits(request):
                    self.sampler = None  # its memory first
                    self.sampler = kind(self.replica.model, request, **steps)
                else:
                    self.sampler.begin(request)
                return self.sampler.run()
