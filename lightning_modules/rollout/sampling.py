"""Sampling settings, and the draw of a token per row by inverting the CDF (on a CPU it costs as much as the model)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import torch
from torch import Tensor

NAMED = ("native", "transformers", "vllm")  # engines, see engine.py
Randomness: TypeAlias = torch.Generator | Sequence[torch.Generator] | None


@dataclass(frozen=True)
class SamplingParams:
    """How to sample.

    Args:
        max_new_tokens: maximum tokens of a completion.
        temperature: divides logits; 0 picks the most likely token.
        top_p: draw from the smallest set of tokens with at least this probability; 1: from all.
        top_k: draw from this many most likely tokens; 0: from all.
        max_rows: most completions sampled side by side; on a GPU fewer, if half of the free memory does not hold their keys and
            values. As some end, the next start. On a CPU a larger group is sampled whole.
        engine: `native`, `transformers` (its `generate`: slower; also used, with a warning, where the native engine does not
            give a model's own probabilities), `vllm`, or the class path of an Engine.
    """

    max_new_tokens: int = 1024
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_rows: int = 1024
    engine: str = "native"

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.temperature < 0 or self.max_rows < 1:
            raise ValueError(f"{self}: max_new_tokens and max_rows must be at least 1, temperature at least 0.")
        if not 0 < self.top_p <= 1 or self.top_k < 0:
            raise ValueError(f"{self}: top_p must be above 0 and at most 1, top_k at least 0.")
        if self.engine not in NAMED and "." not in self.engine:
            raise ValueError(f"{self}: engine must be one of {', '.join(NAMED)}, or the class path of an Engine.")

    def as_generation_config(self) -> dict[str, Any]:
        """The same as keys of `GenerationConfig` of transformers."""
        if self.temperature == 0:
            return {"do_sample": False, "max_new_tokens": self.max_new_tokens}
        drawn = {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}
        return {"do_sample": True, "max_new_tokens": self.max_new_tokens, **drawn}

    @property
    def truncates(self) -> bool:
        """Whether some tokens with positive probability are never drawn."""
        return self.top_p < 1 or self.top_k > 0


@dataclass(slots=True)
class Completions:
    """N completions, G per prompt, side by side.

    tokens_NT: int64; the stop token is the last one kept, padding follows.
    logp_NT:   float32, log-probability of each token under the model at the sampling temperature, over the whole vocabulary
               (nats), as a policy gradient needs; top_p and top_k do not change it. 0 on padding.
    length_N:  int64, tokens of each completion, including the stop token.
    """

    tokens_NT: Tensor
    logp_NT: Tensor
    length_N: Tensor

    @classmethod
    def empty(cls, n: int, most: int, pad_id: int, device: torch.device) -> Self:
        """Storage for `n` completions of at most `most` tokens."""
        return cls(
            torch.full((n, most), pad_id, device=device), torch.zeros(n, most, dtype=torch.float32, device=device),
            torch.zeros(n, dtype=torch.int64, device=device),
        )  # fmt: skip

    def trimmed(self, n: int | None = None) -> Self:
        """The first `n` completions (None: all), with no more columns than the longest has."""
        length_N = self.length_N[:n]
        longest = int(length_N.max())
        return type(self)(self.tokens_NT[:n, :longest].contiguous(), self.logp_NT[:n, :longest].contiguous(), length_N)

    def rows(self) -> list[list[int]]:
        """The completions as lists of ids, without padding."""
        return [row[:n] for row, n in zip(self.tokens_NT.tolist(), self.length_N.tolist(), strict=True)]


@dataclass(slots=True)
class Request:
    """Prompts and settings.

    prompts:    B token lists.
    group_size: G.
    params:     temperature, lengths.
    stop_S:     tokens that end a completion.
    pad_id:     padding.
    point_NT:   numbers in [0, 1) that decide every draw: completion n depends only on the weights, its prompt and point_NT[n].
    limit_N:    maximum tokens of each completion.
    """

    prompts: Sequence[Sequence[int]]
    group_size: int
    params: SamplingParams
    stop_S: Tensor
    pad_id: int
    point_NT: Tensor
    limit_N: Tensor

    def __post_init__(self) -> None:
        n, most = self.point_NT.shape
        if not self.prompts or not all(map(len, self.prompts)) or self.group_size < 1:
            raise ValueError("sampling needs at least one prompt, a token in each, and group_size >= 1.")
        if n != len(self.prompts) * self.group_size or len(self.limit_N) != n:
            raise ValueError(
                f"{len(self.prompts)} prompts x {self.group_size} completions, but random numbers for {n} and limits for "
                f"{len(self.limit_N)}; give one generator for each prompt and one limit for each completion."
            )
        if int(self.limit_N.min()) < 1 or int(self.limit_N.max()) > most:
            raise ValueError(f"limits must be in 1..max_new_tokens = {most}.")


def uniform_points(prompts: int, group_size: int, params: SamplingParams, randomness: Randomness) -> Tensor:
    """[N, T] numbers in [0, 1), from one generator or from one per prompt; nothing is drawn at temperature 0."""
    if params.temperature == 0:
        return torch.zeros(1, 1).expand(prompts * group_size, params.max_new_tokens)
    if randomness is None or isinstance(randomness, torch.Generator):
        device = None if randomness is None else randomness.device
        return torch.rand(prompts * group_size, params.max_new_tokens, generator=randomness, device=device)
    shape = (group_size, params.max_new_tokens)
    return torch.cat([torch.rand(shape, generator=one, device=one.device) for one in randomness])


def draw(logits_RV: Tensor, point_RK: Tensor, params: SamplingParams) -> tuple[Tensor, Tensor]:
    """Draw K tokens per row, each the first whose cumulative probability exceeds its point.

    Args:
        logits_RV: [R, V].
        point_RK: [R, K] in [0, 1).
        params: temperature (0 takes the most likely token), top_p, top_k.

    Returns:
        [R, K] int64 tokens and [R, K] float32 log-probabilities at the temperature (1 for temperature 0), before top_p and top_k.
    """
    scaled_RV = logits_RV.float() if params.temperature in (0, 1) else logits_RV.float() / params.temperature
    top_R1 = scaled_RV.amax(-1, keepdim=True)
    weight_RV = (scaled_RV - top_R1).exp_()
    if params.temperature == 0:
        token_RK = scaled_RV.argmax(-1, keepdim=True).expand_as(point_RK)
        mass_R1 = weight_RV.sum(-1, keepdim=True)
    else:
        kept_RV = truncated(weight_RV, params) if params.truncates else weight_RV
        cdf_RV = kept_RV.cumsum(-1)
        total_R1 = cdf_RV[:, -1:]
        # below the total, and right=True: rounding never selects a token without weight
        below_RK = torch.minimum(point_RK * total_R1, torch.nextafter(total_R1, torch.zeros_like(total_R1)))
        token_RK = torch.searchsorted(cdf_RV, below_RK, right=True)
        mass_R1 = weight_RV.sum(-1, keepdim=True) if params.truncates else total_R1
    return token_RK, scaled_RV.gather(1, token_RK) - top_R1 - mass_R1.log()


def truncated(weight_RV: Tensor, params: SamplingParams) -> Tensor:
    """Set the weights outside top_k and then top_p (arXiv:1904.09751) to 0.

    Args:
        weight_RV: [R, V] probabilities, up to a factor per row.
        params: top_p, top_k.

    Returns:
        [R, V]; the most likely token is always kept.
    """
    if 0 < params.top_k < weight_RV.shape[1]:
        weight_RV = weight_RV.where(weight_RV >= weight_RV.topk(params.top_k).values[:, -1:], 0.0)
    if params.top_p < 1:
        sorted_RV, order_RV = weight_RV.sort(descending=True, stable=True)
        above_RV = sorted_RV.cumsum(-1) - sorted_RV  # of the tokens that are more likely
        sorted_RV = sorted_RV.where(above_RV < params.top_p * sorted_RV.sum(-1, keepdim=True), 0.0)
        weight_RV = torch.zeros_like(weight_RV).scatter_(1, order_RV, sorted_RV)
    return weight_RV
