"""Sampling many completions of the same prompts, each distinct beginning computed once.

Samples of a confident model agree for long stretches. Here a row of the forward pass is not a sample but a distinct beginning
with the samples that share it: from its distribution every one of them draws its own next token, and the row splits where they
differ. The samples are independent draws, exactly as from `engine.sample`; only work that would be repeated is left out.
With n samples of one prompt the prompt counts as such a beginning too, so it is prefilled once.
Shapes: B prompts, G samples a prompt, N = B*G samples, M of them still running, R rows, T new tokens, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from lightning_modules.rollout.engine import SHRINK_AT
from lightning_modules.rollout.forking_cache import ForkingCache
from lightning_modules.rollout.left_padded import prefill, visible
from lightning_modules.rollout.sampling import Completions, SamplingParams


@torch.inference_mode()
def sample_shared(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], group_size: int, params: SamplingParams, *,
    stop_ids: Sequence[int], pad_id: int, generator: torch.Generator | None = None,
) -> Completions:  # fmt: skip
    """Sample `group_size` completions for each prompt; arguments and result as those of `engine.sample`."""
    per_chunk = max(1, params.max_rows // group_size)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # prompts of like length share a chunk
    width = params.max_new_tokens
    tokens_NT = torch.full((len(prompts), group_size, width), pad_id, device=model.device)
    logp_NT = torch.zeros(len(prompts), group_size, width, device=model.device)
    length_N = torch.full((len(prompts), group_size), width, device=model.device)
    stop = torch.tensor(stop_ids, device=model.device, dtype=torch.int64)
    for first in range(0, len(order), per_chunk):
        chunk = order[first : first + per_chunk]
        part = _Chunk(model, [prompts[i] for i in chunk], group_size, params, pad_id)
        part.run(stop, generator)
        shape = (len(chunk), group_size, -1)
        tokens_NT[chunk], logp_NT[chunk] = part.out.tokens_NT.view(shape), part.out.logp_NT.view(shape)
        length_N[chunk] = part.out.length_N.view(len(chunk), group_size)
    longest = int(length_N.max())
    return Completions(
        tokens_NT.flatten(0, 1)[:, :longest].contiguous(), logp_NT.flatten(0, 1)[:, :longest].contiguous(), length_N.flatten()
    )


class _Chunk:
    """Prompts sampled side by side.

    row_M:    the row that each running sample draws from, ascending; sample_M: its place in the output.
    prompt_R: the prompt that a row continues. A row without samples stays, idle, until another takes its place or many are idle.
    """

    def __init__(
        self, model: PreTrainedModel, prompts: list[Sequence[int]], group_size: int, params: SamplingParams, pad_id: int
    ) -> None:
        """Prefill the prompts: one row each, shared by its whole group."""
        device, self.model, self.params = model.device, model, params
        tokens_BP = pad_sequence([torch.tensor(p) for p in prompts], True, pad_id, padding_side="left").to(device)
        self.length_B = torch.tensor([len(p) for p in prompts], device=device)
        self.width, most = tokens_BP.shape[1], params.max_new_tokens
        self.cache = ForkingCache(model.config.num_hidden_layers, self.width + most)
        self.logits_RV = prefill(model, tokens_BP, self.length_B, self.cache)
        self.place_rows(torch.arange(len(prompts), device=device))
        n = len(prompts) * group_size
        self.sample_M = torch.arange(n, device=device)
        self.row_M = self.sample_M // group_size
        self.out = Completions(
            torch.full((n, most), pad_id, device=device), torch.zeros(n, most, device=device),
            torch.full((n,), most, device=device),
        )  # fmt: skip

    def run(self, stop_ids: Tensor, generator: torch.Generator | None) -> None:
        """Draw tokens until every sample has ended."""
        for t in range(self.params.max_new_tokens):
            token_M, logp_M = self.draw(generator)
            self.out.tokens_NT[self.sample_M, t], self.out.logp_NT[self.sample_M, t] = token_M, logp_M
            stopped_M = torch.isin(token_M, stop_ids)
            self.out.length_N[self.sample_M[stopped_M]] = t + 1
            going_M = ~stopped_M
            self.sample_M, self.row_M, token_M = self.sample_M[going_M], self.row_M[going_M], token_M[going_M]
            if len(self.sample_M) == 0 or t + 1 == self.params.max_new_tokens:
                return
            self.advance(t, self.split(token_M))

    def draw(self, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """The next token of each running sample and its log-probability, by inverting its row's CDF."""
        temperature = self.params.temperature
        logp_RV = (self.logits_RV.float() / (temperature or 1.0)).log_softmax(-1)
        if temperature == 0:
            token_M = logp_RV.argmax(-1)[self.row_M]
        else:
            cdf_RV = logp_RV.exp().cumsum(-1)
            # samples of a row stand side by side: place within the row
            first_R = torch.searchsorted(self.row_M, torch.arange(len(cdf_RV), device=cdf_RV.device))
            place_M = torch.arange(len(self.row_M), device=cdf_RV.device) - first_R[self.row_M]
            point_RK = torch.zeros(len(cdf_RV), int(place_M.max()) + 1, device=cdf_RV.device)
            point_RK[self.row_M, place_M] = torch.rand(len(self.row_M), generator=generator, device=cdf_RV.device)
            # right=True: a token of probability 0 is never drawn
            drawn_RK = torch.searchsorted(cdf_RV, point_RK * cdf_RV[:, -1:], right=True)
            token_M = drawn_RK.clamp(max=cdf_RV.shape[1] - 1)[self.row_M, place_M]
        return token_M, logp_RV[self.row_M, token_M]

    def place_rows(self, prompt_R: Tensor) -> None:
        """Note which prompt each row continues."""
        self.prompt_R, self.position_R1 = prompt_R, self.length_B[prompt_R, None]
        self.visible_RL = visible(self.length_B[prompt_R], self.width, self.width + self.params.max_new_tokens)

    def split(self, token_M: Tensor) -> Tensor:
        """Make a row of each of U distinct continuations; return the token of each row, 0 for an idle one."""
        vocabulary, rows = self.logits_RV.shape[1], len(self.prompt_R)
        key_U, child_M = (self.row_M * vocabulary + token_M).unique(return_inverse=True)
        slot_U, extra_U = self.slots(key_U // vocabulary, rows)
        if extra_U.any():
            parent_E, slot_E = (key_U // vocabulary)[extra_U], slot_U[extra_U]
            rows = max(rows, int(slot_E.max()) + 1)
            self.cache.fork(parent_E, slot_E, rows)
            prompt_R = torch.cat([self.prompt_R, self.prompt_R.new_zeros(rows - len(self.prompt_R))])
            prompt_R[slot_E] = self.prompt_R[parent_E]
            self.place_rows(prompt_R)
        if len(slot_U) < SHRINK_AT * rows:
            self.cache.take(slot_U)
            self.place_rows(self.prompt_R[slot_U])
            slot_U, rows = torch.arange(len(slot_U), device=slot_U.device), len(slot_U)
        self.row_M, order_M = slot_U[child_M].sort(stable=True)
        self.sample_M = self.sample_M[order_M]
        return key_U.new_zeros(rows).index_copy_(0, slot_U, key_U % vocabulary)

    @staticmethod
    def slots(parent_U: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        """Where each continuation goes: the first of each row stays in it, the others take idle rows, then new ones.

        Args:
            parent_U: ascending; the row that each continues.
            rows: how many there are.

        Returns:
            [U] rows, and [U] bool: true for those that do not stay.
        """
        extra_U = torch.zeros_like(parent_U, dtype=torch.bool)
        extra_U[1:] = parent_U[1:] == parent_U[:-1]
        busy_R = torch.zeros(rows, dtype=torch.bool, device=parent_U.device)
        busy_R[parent_U] = True
        count = int(extra_U.sum())
        free_E = torch.cat([(~busy_R).nonzero().flatten(), torch.arange(rows, rows + count, device=parent_U.device)])[:count]
        return parent_U.masked_scatter(extra_U, free_E), extra_U

    def advance(self, t: int, token_R: Tensor) -> None:
        """Feed token number t of every row."""
        seen = self.visible_RL[:, None, None, : self.width + t + 1]
        self.logits_RV = self.model(
            input_ids=token_R[:, None], position_ids=self.position_R1 + t, attention_mask=seen, past_key_values=self.cache,
            use_cache=True,
        ).logits[:, -1]  # fmt: skip
