"""How to sample, and one draw: a token per row by inverting the CDF (on a CPU the sampler costs as much as the model)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Randomness = torch.Generator | Sequence[torch.Generator] | None


@dataclass(frozen=True)
class SamplingParams:
    """How to sample.

    max_new_tokens: tokens a completion has at most.
    temperature:    logits are divided by it; 0 picks the most likely token.
    top_p:          draw from the smallest set of tokens with at least this probability; 1: from all.
    top_k:          draw from this many most likely tokens; 0: from all.
    max_rows:       completions sampled side by side at most; a place that falls free is taken by the next (bounds memory).
    engine:         `native`, or `transformers` (its `generate`: slower, for models whose cache the native one does not know).
    """

    max_new_tokens: int = 1024
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_rows: int = 1024
    engine: Literal["native", "transformers"] = "native"

    def __post_init__(self) -> None:
        """Refuse what cannot be sampled."""
        if self.max_new_tokens < 1 or self.temperature < 0 or self.max_rows < 1:
            raise ValueError(f"{self}: max_new_tokens and max_rows must be at least 1, temperature at least 0.")
        if not 0 < self.top_p <= 1 or self.top_k < 0:
            raise ValueError(f"{self}: top_p must be above 0 and at most 1, top_k at least 0.")
        if self.engine not in ("native", "transformers"):
            raise ValueError(f"{self}: engine must be native or transformers.")

    @property
    def truncates(self) -> bool:
        """Whether some tokens are never drawn though the model gives them probability."""
        return self.top_p < 1 or self.top_k > 0


@dataclass(slots=True)
class Completions:
    """N completions, G to a prompt, side by side.

    tokens_NT: int64; the stop token is the last one kept, padding follows.
    logp_NT:   float32, log-probability of each token under the model at the sampling temperature, over the whole vocabulary
               (nats): what a policy gradient needs. With top_p or top_k tokens are drawn from a part of it. 0 on padding.
    length_N:  int64, tokens of each completion, the stop token counted.
    """

    tokens_NT: Tensor
    logp_NT: Tensor
    length_N: Tensor

    def rows(self) -> list[list[int]]:
        """The completions as lists of ids, without padding."""
        return [row[:n] for row, n in zip(self.tokens_NT.tolist(), self.length_N.tolist(), strict=True)]


@dataclass(slots=True)
class Request:
    """What is to be sampled.

    prompts:    B token lists.
    group_size: G.
    params:     temperature, lengths.
    stop_S:     tokens that end a completion.
    pad_id:     what fills rows.
    point_NT:   numbers in [0, 1) that decide every draw: completion n is a function of the weights, its prompt and point_NT[n].
    limit_N:    tokens of each completion at most.
    """

    prompts: list[Sequence[int]]
    group_size: int
    params: SamplingParams
    stop_S: Tensor
    pad_id: int
    point_NT: Tensor
    limit_N: Tensor


def uniform_points(prompts: int, group_size: int, params: SamplingParams, randomness: Randomness) -> Tensor:
    """[N, T] numbers in [0, 1), from one generator or from one for each prompt; nothing is drawn for temperature 0."""
    if params.temperature == 0:
        return torch.zeros(1, 1).expand(prompts * group_size, params.max_new_tokens)
    if randomness is None or isinstance(randomness, torch.Generator):
        device = None if randomness is None else randomness.device
        return torch.rand(prompts * group_size, params.max_new_tokens, generator=randomness, device=device)
    shape = (group_size, params.max_new_tokens)
    return torch.cat([torch.rand(shape, generator=one, device=one.device) for one in randomness])


def draw(logits_NV: Tensor, point_N: Tensor, params: SamplingParams) -> tuple[Tensor, Tensor]:
    """Draw a token per row: the first whose cumulative probability exceeds the row's point.

    Args:
        logits_NV: [N, V].
        point_N: [N] in [0, 1).
        params: temperature (0 takes the most likely token), top_p, top_k.

    Returns:
        [N] int64 tokens and [N] float32 log-probabilities at the temperature (1 for temperature 0), before top_p and top_k.
    """
    scaled_NV = logits_NV.float() if params.temperature in (0, 1) else logits_NV.float() / params.temperature
    top_N1 = scaled_NV.amax(-1, keepdim=True)
    weight_NV = (scaled_NV - top_N1).exp_()
    if params.temperature == 0:
        token_N, mass_N = scaled_NV.argmax(-1), weight_NV.sum(-1)
    else:
        kept_NV = truncated(weight_NV, params) if params.truncates else weight_NV
        cdf_NV = kept_NV.cumsum(-1)
        total_N1 = cdf_NV[:, -1:]
        # below the total, and right=True: the token found has weight, whatever rounding does
        point_N1 = torch.minimum(point_N[:, None] * total_N1, torch.nextafter(total_N1, torch.zeros_like(total_N1)))
        token_N = torch.searchsorted(cdf_NV, point_N1, right=True).squeeze(1)
        mass_N = weight_NV.sum(-1) if params.truncates else total_N1.squeeze(1)
    return token_N, (scaled_NV.gather(1, token_N[:, None]) - top_N1).squeeze(1) - mass_N.log()


def truncated(weight_NV: Tensor, params: SamplingParams) -> Tensor:
    """Set the weights to 0 that top_k and then top_p (arXiv:1904.09751) leave out.

    Args:
        weight_NV: [N, V] probabilities, up to a factor per row.
        params: top_p, top_k.

    Returns:
        [N, V]; the most likely token is always kept.
    """
    if 0 < params.top_k < weight_NV.shape[1]:
        weight_NV = weight_NV.where(weight_NV >= weight_NV.topk(params.top_k).values[:, -1:], 0.0)
    if params.top_p < 1:
        sorted_NV, order_NV = weight_NV.sort(descending=True, stable=True)
        above_NV = sorted_NV.cumsum(-1) - sorted_NV  # of the tokens that are more likely
        sorted_NV = sorted_NV.where(above_NV < params.top_p * sorted_NV.sum(-1, keepdim=True), 0.0)
        weight_NV = torch.zeros_like(weight_NV).scatter_(1, order_NV, sorted_NV)
    return weight_NV
