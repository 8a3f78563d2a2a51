"""Sampling on a CPU, in which each distinct prefix is computed once.

A slot holds a prefix and the samples that share it: each draws its next token from the slot's distribution, and the slot forks
if they differ. So a prompt is prefilled once for its group, and samples of a confident model, which agree for long stretches,
cost as much as one. They are still independent draws.
Shapes: N samples, M of them running, R slots, U distinct continuations, T new tokens, V vocabulary.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from lightning_modules.models.attending import attending
from lightning_modules.rollout.sampling import Completions, Request, draw
from lightning_modules.rollout.slots import IN_SLOTS, Prefilled, PromptQueue, SlotCache


class PromptCache:
    """Keys and values of prompts, stored once for all slots that continue a prompt.

    Queries of those slots lie side by side, so that one matrix product serves all; copies would be read from memory once per
    slot, which is the cost of attention over prompts on a CPU.
    Shapes: S prompts, R slots, H heads, K key-value heads, g = H / K, P prompt tokens, W new tokens, D head size.

    layers:   per layer [2, S, K, P, D] keys and values, padded on the right.
    length_S: tokens of each prompt.
    prompt_R, rank_R: the prompt of each slot in use, and the slot's rank among the slots of that prompt.
    """

    def __init__(self, device: torch.device) -> None:
        self.layers: list[Tensor] = []
        self.length_S = torch.zeros(0, dtype=torch.int64, device=device)

    def add(self, fresh: Prefilled) -> Tensor:
        """Add prompts; return their [F] numbers."""
        first, layers = len(self.length_S), [layer.float() for layer in fresh.layers]
        if self.layers:
            width = max(self.layers[0].shape[3], layers[0].shape[3])
            both = zip(self.layers, layers, strict=True)
            layers = [torch.cat([pad(x, (0, 0, 0, width - x.shape[3])) for x in pair], dim=1) for pair in both]
        self.layers = layers
        self.length_S = torch.cat([self.length_S, fresh.length_S])
        return torch.arange(first, len(self.length_S), device=self.length_S.device)

    def retain(self, prompt_R: Tensor) -> Tensor:
        """Drop prompts that are not in `prompt_R`; return the new numbers of the others."""
        kept_S, prompt_R = prompt_R.unique(return_inverse=True)
        if len(kept_S) < len(self.length_S):
            self.length_S = self.length_S[kept_S]
            width = max(1, int(self.length_S.max())) if len(kept_S) else 0
            self.layers = [layer[:, kept_S, :, :width] for layer in self.layers]
        return prompt_R

    def group_slots(self, prompt_R: Tensor) -> None:
        """Put slots that continue the same prompt side by side."""
        order_R = prompt_R.argsort(stable=True)
        sorted_R = prompt_R[order_R]
        from_start_R = torch.arange(len(prompt_R), device=prompt_R.device)
        rank_R = torch.empty_like(prompt_R)
        rank_R[order_R] = from_start_R - torch.searchsorted(sorted_R, sorted_R)
        self.prompt_R, self.rank_R, self.members = prompt_R, rank_R, int(rank_R.max()) + 1
        padding_SP = torch.arange(self.layers[0].shape[3], device=prompt_R.device) >= self.length_S[:, None]
        self.bias_SP = torch.zeros(padding_SP.shape, device=prompt_R.device).masked_fill_(padding_SP, -torch.inf)

    def attend(self, layer: int, query_RKgD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Attention of slots to their prompts: see `partial_attention`, with [R, K, g, ...]."""
        key_SKPD, value_SKPD = self.layers[layer]
        (prompts, heads, _, size), (_, _, shared, _) = key_SKPD.shape, query_RKgD.shape
        query_SKMgD = query_RKgD.new_zeros(prompts, heads, self.members, shared, size)
        query_SKMgD[self.prompt_R, :, self.rank_R] = query_RKgD
        parts = partial_attention(query_SKMgD.flatten(2, 3), key_SKPD, value_SKPD, self.bias_SP[:, None, None])
        both = torch.cat(parts, dim=-1).unflatten(2, (self.members, shared))[self.prompt_R, :, self.rank_R]
        return both[..., :size], both[..., size : size + 1], both[..., size + 1 :]


def partial_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Attention to a part of the positions, to be merged with the rest (arXiv:1805.02867).

    Args:
        query: [..., Q, D], scaled.
        key: [..., L, D].
        value: [..., L, D].
        bias: [..., 1, L], 0 or -inf for masked positions, which may be all.

    Returns:
        [..., Q, D] sum of values weighted by exp(score - most), [..., Q, 1] the largest score, [..., Q, 1] sum of the weights.
    """
    score = torch.matmul(query, key.transpose(-1, -2)).add_(bias)
    most = score.amax(-1, keepdim=True).clamp_(min=torch.finfo(score.dtype).min)
    weight = score.sub_(most).exp_()
    return torch.matmul(weight, value), most, weight.sum(-1, keepdim=True)


def merged(first: tuple[Tensor, Tensor, Tensor], second: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Merge `partial_attention` to two parts of the positions."""
    (sum_1, most_1, mass_1), (sum_2, most_2, mass_2) = first, second
    most = torch.maximum(most_1, most_2)
    factor_1, factor_2 = (most_1 - most).exp_(), (most_2 - most).exp_()
    return (sum_1 * factor_1 + sum_2 * factor_2) / (mass_1 * factor_1 + mass_2 * factor_2)


SHRINK_AT = 0.85  # slots are compacted if less than this share is active
REFILL_AT = 0.125  # share of `max_rows` that is free when the next prompts start, as prefilling one by one is slow


class SharedPrompts(SlotCache):
    """Slots that hold only new tokens and read their prompts from `prefixes`, in float32."""

    def __init__(self, layers: int, slots: int, capacity: int, device: torch.device) -> None:
        super().__init__(layers, slots, capacity, device)
        self.prefixes, self.prompt_R = PromptCache(device), torch.zeros(slots, dtype=torch.int64, device=device)
        self.bias: Tensor | None = None  # [R, 1, 1, W], 0 or -inf

    def dtype(self, like: Tensor) -> torch.dtype:
        """float32, as 16 bit is too coarse for scores."""
        return torch.float32

    def start(self, row_S: Tensor, prompts: Prefilled) -> None:
        """Start new slots, the last ones in use."""
        self.prompt_R[row_S] = self.prefixes.add(prompts)
        self.length_R[row_S], self.held_R[row_S] = prompts.length_S, 0

    def copy(self, from_M: Tensor, to_M: Tensor, width: int | None = None) -> None:
        """Copy slots to others."""
        super().copy(from_M, to_M, width)
        self.prompt_R[to_M] = self.prompt_R[from_M]

    def drop_unused(self) -> None:
        """Drop prompts that no slot continues; every slot in use must be active."""
        self.prompt_R[: self.rows] = self.prefixes.retain(self.prompt_R[: self.rows])

    def mask(self) -> Tensor:
        """The attention mask of the model's forward pass, which calls `attend`."""
        self.prefixes.group_slots(self.prompt_R[: self.rows])
        seen = self.seen()
        self.bias = torch.zeros(seen.shape, device=seen.device).masked_fill_(~seen, -torch.inf)
        return seen

    def attend(self, layer: int, query_RKgD: Tensor, own: tuple[Tensor, Tensor]) -> Tensor:
        """Softmax attention of scaled queries over a slot's prompt and own tokens together."""
        with torch.autocast("cpu", enabled=False):
            query_RKgD = query_RKgD.float()
            own_part = partial_attention(query_RKgD, *own, self.bias)
            return merged(self.prefixes.attend(layer, query_RKgD), own_part)


class PrefixSampler:
    """Prefixes in slots, and the samples that share them.

    sample_M: running samples.     row_M: the slot of each, ascending.
    token_R:  the next input token of each slot. A slot without samples is idle until another prefix takes it.
    """

    def __init__(self, model: PreTrainedModel, request: Request) -> None:
        """Queue all prompts."""
        device, n, most = model.device, len(request.limit_N), request.params.max_new_tokens
        self.model, self.request, self.queue = model, request, PromptQueue(model, request)
        self.most_rows = min(n, max(request.params.max_rows, request.group_size))
        self.cache = SharedPrompts(model.config.get_text_config().num_hidden_layers, self.most_rows, most, device)
        self.token_R = torch.zeros(self.most_rows, dtype=torch.int64, device=device)
        self.sample_M, self.row_M = torch.zeros(2, 0, dtype=torch.int64, device=device)
        self.out = Completions.empty(n, most, request.pad_id, device)

    def run(self) -> Completions:
        """Sample everything."""
        while len(self.queue) or len(self.sample_M):
            self.admit()
            self.split(self.draw(self.forward()))
        return self.out.trimmed()

    def admit(self) -> None:
        """Start the next prompts, all samples of each in one slot, once enough samples have ended."""
        group, running = self.request.group_size, len(self.sample_M)
        free = self.most_rows - running
        if not len(self.queue) or free < group or (running and free < REFILL_AT * self.most_rows):
            return
        if running:
            self.compact()
        prompts, first = self.queue.prefill(free // group), self.cache.rows if running else 0
        row_S = torch.arange(first, first + len(prompts.number_S), device=self.row_M.device)
        self.cache.rows = first + len(row_S)
        self.cache.start(row_S, prompts)
        self.cache.drop_unused()
        self.token_R[row_S] = prompts.last_S
        members_G = torch.arange(group, device=row_S.device)
        self.sample_M = torch.cat([self.sample_M, (prompts.number_S[:, None] * group + members_G).flatten()])
        self.row_M = torch.cat([self.row_M, row_S.repeat_interleave(group)])

    def forward(self) -> Tensor:
        """Feed a token to each slot; return [R, V] logits."""
        cache, rows = self.cache, self.cache.rows
        active_R = self.active()
        cache.held_R[:rows] *= active_R  # idle slots must not be longer than active ones
        cache.width = int(cache.held_R[:rows].max()) + 1
        mask = cache.mask()
        with attending(self.model, IN_SLOTS, cache):
            logits_RV = self.model(
                input_ids=self.token_R[:rows, None], position_ids=cache.length_R[:rows, None], attention_mask=mask,
                past_key_values=cache, use_cache=True,
            ).logits[:, -1]  # fmt: skip
        cache.length_R[:rows] += active_R
        cache.held_R[:rows] += active_R
        return logits_RV

    def active(self) -> Tensor:
        """[R] bool: slots that have samples."""
        active_R = torch.zeros(self.cache.rows, dtype=torch.bool, device=self.row_M.device)
        active_R[self.row_M] = True
        return active_R

    def draw(self, logits_RV: Tensor) -> Tensor:
        """Draw and record the next token of each sample; drop samples that end; return the tokens of the others."""
        row_M, sample_M, out = self.row_M, self.sample_M, self.out
        # samples of a slot are adjacent: rank within the slot
        number_M = torch.arange(len(row_M), device=row_M.device) - torch.searchsorted(row_M, row_M)
        made_M = out.length_N[sample_M]
        point_RK = logits_RV.new_zeros(len(logits_RV), int(number_M.max()) + 1, dtype=torch.float32)
        point_RK[row_M, number_M] = self.request.point_NT[sample_M, made_M]
        token_M, logp_M = (x[row_M, number_M] for x in draw(logits_RV, point_RK, self.request.params))
        out.tokens_NT[sample_M, made_M], out.logp_NT[sample_M, made_M] = token_M, logp_M
        out.length_N[sample_M] = made_M + 1
        going_M = ~torch.isin(token_M, self.request.stop_S) & (made_M + 1 < self.request.limit_N[sample_M])
        self.sample_M, self.row_M = sample_M[going_M], row_M[going_M]
        return token_M[going_M]

    def split(self, token_M: Tensor) -> None:
        """Give each distinct continuation a slot: the first stays in its slot, the others take idle or new ones."""
        if not len(token_M):
            return
        vocabulary = int(token_M.max()) + 1
        key_U, child_M = (self.row_M * vocabulary + token_M).unique(return_inverse=True)
        row_U = key_U // vocabulary
        extra_U = torch.zeros_like(row_U, dtype=torch.bool)
        extra_U[1:] = row_U[1:] == row_U[:-1]
        if extra_U.any():
            parent_E = row_U[extra_U]
            row_U[extra_U] = slot_E = self.free_slots(len(parent_E))
            self.cache.copy(parent_E, slot_E)
        self.token_R[row_U] = key_U % vocabulary
        self.assign(row_U[child_M])
        if len(row_U) < SHRINK_AT * self.cache.rows:
            self.compact()
            self.cache.drop_unused()

    def free_slots(self, count: int) -> Tensor:
        """Idle slots, then new ones."""
        idle, rows = (~self.active()).nonzero().flatten(), self.cache.rows
        self.cache.rows = max(rows, rows + count - len(idle))
        return torch.cat([idle, torch.arange(rows, rows + count, device=idle.device)])[:count]

    def assign(self, row_M: Tensor) -> None:
        """Assign the running samples to slots."""
        self.row_M, order_M = row_M.sort(stable=True)
        self.sample_M = self.sample_M[order_M]

    def compact(self) -> None:
        """Move the last slots into idle ones, so that none is idle."""
        active_R = self.active()
        used, slot_R = int(active_R.sum()), torch.arange(len(active_R), device=active_R.device)
        to_M, from_M = (~active_R[:used]).nonzero().flatten(), used + active_R[used:].nonzero().flatten()
        if len(to_M):
            self.cache.copy(from_M, to_M)
            self.token_R[to_M] = self.token_R[from_M]
            slot_R[from_M] = to_M
            self.assign(slot_R[self.row_M])
        self.cache.rows = used
