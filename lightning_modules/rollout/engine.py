"""The sampling engine: prompts in, completions with log-probabilities out.

Each prompt is prefilled once and fanned out to its group; finished rows are dropped; the sampler inverts the CDF (on a CPU the
sampler, not the cache, is what costs).
Shapes: B prompts, G samples a prompt, N = B*G rows, P prompt tokens, T new tokens, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from lightning_modules.rollout.cache import GroupCache, fan_out

SHRINK_AT = 0.85  # drop finished rows once fewer than this share of the rows is alive


@dataclass(frozen=True)
class SamplingParams:
    """How to sample.

    max_new_tokens: tokens a completion has at most.
    temperature:    logits are divided by it; 0 picks the most likely token.
    max_rows:       completions sampled side by side at most; more prompts wait (bounds memory, changes no result).
    """

    max_new_tokens: int = 1024
    temperature: float = 1.0
    max_rows: int = 1024

    def __post_init__(self) -> None:
        """Refuse what cannot be sampled."""
        if self.max_new_tokens < 1 or self.temperature < 0 or self.max_rows < 1:
            raise ValueError(f"{self}: max_new_tokens and max_rows must be at least 1, temperature at least 0.")


@dataclass(slots=True)
class Completions:
    """N completions, G to a prompt, side by side.

    tokens_NT: int64; the stop token is the last one kept, padding follows.
    logp_NT:   float32, log-probability of each token under the sampling distribution (nats); 0 on padding.
    length_N:  int64, tokens of each completion, the stop token counted.
    """

    tokens_NT: Tensor
    logp_NT: Tensor
    length_N: Tensor

    def rows(self) -> list[list[int]]:
        """The completions as lists of ids, without padding."""
        return [row[:n] for row, n in zip(self.tokens_NT.tolist(), self.length_N.tolist(), strict=True)]


@torch.inference_mode()
def sample(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], group_size: int, params: SamplingParams, *,
    stop_ids: Sequence[int], pad_id: int, generator: torch.Generator | None = None,
) -> Completions:  # fmt: skip
    """Sample `group_size` completions for each prompt.

    Args:
        model: a causal LM; used in the mode (train or eval) it is in.
        prompts: B token lists, none empty.
        group_size: G.
        params: temperature, lengths.
        stop_ids: tokens that end a completion.
        pad_id: what fills the rows.
        generator: source of randomness on the model's device; None: torch's own.

    Returns:
        Completions in the order of the prompts, G side by side.
    """
    per_chunk = max(1, params.max_rows // group_size)
    # prompts of like length share a chunk, so that little is padded
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    chunks = [order[i : i + per_chunk] for i in range(0, len(order), per_chunk)]
    parts = [
        _sample_chunk(model, [prompts[i] for i in chunk], group_size, params, torch.tensor(stop_ids), pad_id, generator)
        for chunk in chunks
    ]
    width = max(part.tokens_NT.shape[1] for part in parts)
    place_N = torch.tensor(order).argsort()[:, None] * group_size + torch.arange(group_size)
    place_N = place_N.flatten().to(parts[0].tokens_NT.device)

    def join(name: str, fill: float) -> Tensor:
        rows = [torch.nn.functional.pad(getattr(p, name), (0, width - p.tokens_NT.shape[1]), value=fill) for p in parts]
        return torch.cat(rows)[place_N]

    return Completions(join("tokens_NT", pad_id), join("logp_NT", 0.0), torch.cat([p.length_N for p in parts])[place_N])


def _sample_chunk(
    model: PreTrainedModel, prompts: list[Sequence[int]], group_size: int, params: SamplingParams,
    stop_ids: Tensor, pad_id: int, generator: torch.Generator | None,
) -> Completions:  # fmt: skip
    device, most = model.device, params.max_new_tokens
    tokens_BP = pad_sequence([torch.tensor(p) for p in prompts], True, pad_id, padding_side="left").to(device)
    length_B = torch.tensor([len(p) for p in prompts], device=device)
    width = tokens_BP.shape[1]
    cache = GroupCache(model.config.num_hidden_layers, width + most)
    logits_NV = _prefill(model, tokens_BP, length_B, cache)

    alive = fan_out(len(prompts), group_size, device)  # row of the prompt, then row of the output
    cache.take(alive)
    logits_NV, position_N1 = logits_NV[alive], length_B[alive, None]
    visible_NL = _visible(length_B[alive], width, width + most)
    n = len(alive)
    alive = torch.arange(n, device=device)
    out = Completions(
        torch.full((n, most), pad_id, device=device), torch.zeros(n, most, device=device), torch.full((n,), most, device=device)
    )
    running_N = torch.ones(n, dtype=torch.bool, device=device)
    stop_ids = stop_ids.to(device)
    for t in range(most):
        token_N, logp_N = draw(logits_NV, params.temperature, generator)
        rows = alive[running_N]
        out.tokens_NT[rows, t], out.logp_NT[rows, t] = token_N[running_N], logp_N[running_N]
        stopped_N = running_N & torch.isin(token_N, stop_ids)
        out.length_N[alive[stopped_N]] = t + 1
        running_N &= ~stopped_N
        left = int(running_N.sum())
        if left == 0 or t + 1 == most:
            break
        if left < SHRINK_AT * len(running_N):
            keep = running_N.nonzero().flatten()
            cache.take(keep)
            alive, token_N, position_N1, visible_NL = alive[keep], token_N[keep], position_N1[keep], visible_NL[keep]
            running_N = running_N[keep]
        seen = visible_NL[:, None, None, : width + t + 1]
        logits_NV = model(
            input_ids=token_N[:, None], position_ids=position_N1 + t, attention_mask=seen, past_key_values=cache, use_cache=True
        ).logits[:, -1]
    longest = int(out.length_N.max())
    return Completions(out.tokens_NT[:, :longest], out.logp_NT[:, :longest], out.length_N)


def _prefill(model: PreTrainedModel, tokens_BP: Tensor, length_B: Tensor, cache: GroupCache) -> Tensor:
    """Fill `cache` with left-padded prompts; return the logits [B, V] of the first new token."""
    width = tokens_BP.shape[1]
    real_BP = _visible(length_B, width, width)
    causal_PP = torch.ones(width, width, dtype=torch.bool, device=tokens_BP.device).tril()
    # a padded query sees itself, so that no row of the softmax is empty
    mask = (causal_PP & real_BP[:, None, :]) | torch.eye(width, dtype=torch.bool, device=tokens_BP.device)
    position_BP = (real_BP.cumsum(1) - 1).clamp(min=0)
    return model(
        input_ids=tokens_BP, position_ids=position_BP, attention_mask=mask[:, None], past_key_values=cache, use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]  # fmt: skip


def _visible(length_N: Tensor, width: int, total: int) -> Tensor:
    """[N, total] bool: all but the left padding of prompts of `length_N` tokens in `width` columns."""
    return torch.arange(total, device=length_N.device) >= (width - length_N)[:, None]


def draw(logits_NV: Tensor, temperature: float, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Draw a token per row by inverting the CDF.

    Args:
        logits_NV: [N, V].
        temperature: logits are divided by it; 0 takes the most likely token, whose log-probability is that at temperature 1.
        generator: source of randomness.

    Returns:
        [N] int64 tokens and [N] float32 log-probabilities.
    """
    logp_NV = (logits_NV.float() / (temperature or 1.0)).log_softmax(-1)
    if temperature == 0:
        token_N = logp_NV.argmax(-1)
    else:
        cdf_NV = logp_NV.exp().cumsum(-1)
        point_N1 = torch.rand(len(cdf_NV), 1, generator=generator, device=cdf_NV.device) * cdf_NV[:, -1:]
        # right=True: a token of probability 0 is never drawn
        token_N = torch.searchsorted(cdf_NV, point_N1, right=True).squeeze(1).clamp(max=cdf_NV.shape[1] - 1)
    return token_N, logp_NV.gather(1, token_N[:, None]).squeeze(1)
