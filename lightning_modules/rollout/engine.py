"""The sampling engine: prompts in, completions with log-probabilities out. See docs/rollout.md.

`generate` of transformers is the slow reference, and the fallback for models with other caches.

Not here: fast steps (prefix_sharing.py on a CPU, graphed.py on a GPU), the draw of a token (sampling.py).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from lightning_modules.models.attending import attending, unknown_attention
from lightning_modules.rollout.graphed import GraphedSampler, replica_of
from lightning_modules.rollout.prefix_sharing import PrefixSampler
from lightning_modules.rollout.sampling import Completions, Randomness, Request, SamplingParams, draw, uniform_points
from lightning_modules.rollout.slots import IN_SLOTS


def generate(model: PreTrainedModel, request: Request) -> Completions:
    """Sample a request, `max_rows` completions at a time, with the draws of the native engine."""
    n, most = request.point_NT.shape
    out = Completions.empty(n, most, request.pad_id, model.device)
    for row_R in torch.arange(n, device=model.device).split(request.params.max_rows):
        prompts = [torch.tensor(request.prompts[i // request.group_size]) for i in row_R.tolist()]
        ids_RP = pad_sequence(prompts, True, request.pad_id, padding_side="left").to(model.device)
        length_R = torch.tensor([len(p) for p in prompts], device=model.device)
        seen_RP = torch.arange(ids_RP.shape[1], device=model.device) >= ids_RP.shape[1] - length_R[:, None]
        writer = Writer(request, out, row_R)
        model.generate(
            ids_RP, attention_mask=seen_RP.long(), do_sample=False, max_new_tokens=most, pad_token_id=request.pad_id,
            eos_token_id=None, logits_processor=LogitsProcessorList([writer]), stopping_criteria=StoppingCriteriaList([writer]),
            synced_gpus=False,  # processes need not wait for each other: sharded weights are gathered while they sample
        )  # fmt: skip
    return out.trimmed()


class Writer(LogitsProcessor, StoppingCriteria):
    """Draws and records each token, makes `generate` choose it, and reports which rows have ended."""

    def __init__(self, request: Request, out: Completions, row_R: Tensor) -> None:
        """Write rows `row_R` of `out`."""
        self.request, self.out, self.row_R = request, out, row_R
        self.step = 0
        self.done_R = torch.zeros(len(row_R), dtype=torch.bool, device=row_R.device)

    def __call__(self, input_ids: Tensor, scores: Tensor | tuple | None) -> Tensor:
        """As a processor: [R, V] scores that allow one token. As a criterion, which gets a tuple of scores or None: [R] bool."""
        return self._draw(scores) if isinstance(scores, Tensor) else self.done_R

    def _draw(self, scores_RV: Tensor) -> Tensor:
        point_R1 = self.request.point_NT[self.row_R, self.step, None]
        token_R, logp_R = (x.squeeze(1) for x in draw(scores_RV, point_R1, self.request.params))
        row_M = self.row_R[~self.done_R]
        self.out.tokens_NT[row_M, self.step] = token_R[~self.done_R]
        self.out.logp_NT[row_M, self.step] = logp_R[~self.done_R]
        self.step += 1
        self.out.length_N[row_M] = self.step
        self.done_R |= torch.isin(token_R, self.request.stop_S) | (self.request.limit_N[self.row_R] <= self.step)
        return torch.full_like(scores_RV, -torch.inf).scatter_(1, token_R[:, None], 0.0)


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
