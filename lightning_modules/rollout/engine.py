"""The sampling engine: prompts in, completions with log-probabilities out. See docs/rollout.md.

Not here: fast steps (prefix_sharing.py on a CPU, graphed.py on a GPU), the draw of a token (sampling.py).
"""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from lightning_modules.models.attending import attending, unknown_attention
from lightning_modules.rollout.generate import generate
from lightning_modules.rollout.graphed import GraphedSampler, replica_of
from lightning_modules.rollout.prefix_sharing import PrefixSampler
from lightning_modules.rollout.sampling import Completions, Randomness, Request, SamplingParams, uniform_points
from lightning_modules.rollout.slots import IN_SLOTS


@torch.inference_mode()
def sample(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], group_size: int, params: SamplingParams, *,
    stop_ids: Sequence[int], pad_id: int, generator: Randomness = None, limits: Sequence[int] | None = None, share: bool = False,
) -> Completions:  # fmt: skip
    """Sample `group_size` completions for each prompt.

    Args:
        model: a causal LM; used in the mode (train or eval) it is in.
        prompts: B token lists, none empty.
        group_size: G.
        params: temperature, lengths.
        stop_ids: tokens that end a completion.
        pad_id: padding.
        generator: source of randomness, or one for each prompt, so that its completions do not depend on other prompts; None:
            torch's.
        limits: maximum tokens of each of the N completions, up to `max_new_tokens`; None: `max_new_tokens`.
        share: compute shared prefixes once on a GPU too, without CUDA graphs: for many samples of a confident model. On a CPU
            prefixes are always shared.

    Returns:
        Completions in the order of the prompts, G side by side.

    Raises:
        ValueError: an empty prompt, limits out of range, or attention that the native engine does not support.
    """
    device = model.device
    limit_N = torch.tensor([params.max_new_tokens] * len(prompts) * group_size if limits is None else limits)
    request = Request(
        list(prompts), group_size, params, torch.tensor(stop_ids, dtype=torch.int64, device=device), pad_id,
        uniform_points(len(prompts), group_size, params, generator).to(device), limit_N.to(device),
    )  # fmt: skip
    if params.engine == "transformers":
        return generate(model, request)
    if what := unknown_attention(model):
        raise ValueError(
            f"the native engine samples from full attention only, and {model.config.model_type} has {what}; "
            "set `sampling.engine: transformers`."
        )
    if device.type == "cuda" and not share:
        return sample_in_graphs(model, request)
    with attending(model, IN_SLOTS):
        return PrefixSampler(model, request, copy_prompts=device.type != "cpu").run()


def sample_in_graphs(model: PreTrainedModel, request: Request) -> Completions:
    """Sample a request on a GPU."""
    device = model.device.type
    half, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    # no cache of casts, as their addresses must not outlive a graph
    with torch.autocast(device, dtype, enabled=half, cache_enabled=False):
        replica = replica_of(model, dtype if half else None)
        with attending(replica, IN_SLOTS):
            return GraphedSampler(replica, request).run()
