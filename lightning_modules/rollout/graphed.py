"""Sampling in steps that a GPU replays as CUDA graphs: one slot per completion, and few shapes.

No shape in a step depends on values, and the host never waits for them: every few steps it checks which completions have ended
and gives their slots to the next ones or, if none wait, compacts the running ones. A graph records only kernels and addresses, so
the model is a replica (replica.py), and slots, results and graphs outlive a request: the next one of the same settings uses them.
Shapes: N completions, R slots, T new tokens, V vocabulary.
"""

from collections import deque

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lightning_modules.rollout.room import slots_that_fit
from lightning_modules.rollout.sampling import Completions, Request, draw
from lightning_modules.rollout.slots import Prefilled, PromptQueue, SlotCache

REFILL_AT = 0.125  # share of slots that are free when the next completions start


def halved(rows: int, used: int) -> int:
    """`rows` halved as often as the rest holds `used`: few shapes, so few graphs."""
    while rows and rows // 2 >= used:
        rows //= 2
    return rows


class GraphedSampler:
    """Samples completions side by side.

    job_R:   the completion in each slot; `most_jobs`: none.
    token_R: its next input token.      made_R: number of its tokens.      done_R: it has ended, or the slot has none.
    """

    def __init__(self, model: PreTrainedModel, request: Request, *, every: int = 16, stride: int = 128) -> None:
        """Allocate slots.

        Args:
            model: on the device of the request; without a GPU the same steps run without graphs.
            request: prompts and settings; later ones may differ in what `fits` says.
            every: steps between checks for ended completions.
            stride: attention covers a multiple of this many positions.
        """
        device, n, most = model.device, len(request.limit_N), request.params.max_new_tokens
        self.model, self.every, self.stride = model, every, stride
        self.params, self.pad_id, self.stop_S = request.params, request.pad_id, request.stop_S
        capacity = self._capacity(request)
        self.slots, self.most_jobs = slots_that_fit(model, capacity, min(request.params.max_rows, n)), n
        self.cache = SlotCache(model.config.get_text_config().num_hidden_layers, self.slots, capacity, device, fixed=True)
        self.job_R = torch.full((self.slots,), n, device=device)
        self.token_R, self.made_R = torch.zeros(2, self.slots, dtype=torch.int64, device=device)
        self.done_R = torch.ones(self.slots, dtype=torch.bool, device=device)
        # an extra row: slots without a completion write there
        self.out = Completions.empty(n + 1, most, request.pad_id, device)
        self.point_NT = torch.zeros(n + 1, most, device=device)
        self.limit_N = torch.ones(n + 1, dtype=torch.int64, device=device)
        self.graphs: dict[tuple[int, int], torch.cuda.CUDAGraph | None] = {}
        self.pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None
        self.begin(request)

    def _capacity(self, request: Request) -> int:
        """Tokens of a slot: those of the longest prompt and completion, rounded up."""
        return -(-(max(map(len, request.prompts)) + request.params.max_new_tokens) // self.stride) * self.stride

    def fits(self, request: Request) -> bool:
        """Whether `request` can use the slots: the same settings, no more and no longer completions than there is room for."""
        settings = [(one.params, one.pad_id, one.stop_S.tolist()) for one in (self, request)]
        room = len(request.limit_N) <= self.most_jobs and self._capacity(request) <= self.cache.capacity
        return settings[0] == settings[1] and room

    def begin(self, request: Request) -> None:
        """Take up a request, in place."""
        n = len(request.limit_N)
        self.request, self.queue = request, PromptQueue(self.model, request)
        self.prefilled: deque[tuple[Prefilled, int, int]] = deque()  # (prompts, prompt, member) of completions that wait
        self.rows, self.longest = halved(self.slots, n), 0  # longest: bound on the tokens in any slot
        self.job_R.fill_(self.most_jobs)
        self.done_R.fill_(True)
        self.out.tokens_NT.fill_(request.pad_id)
        for state in (self.token_R, self.made_R, self.cache.length_R, self.cache.held_R, self.out.logp_NT, self.out.length_N):
            state.zero_()
        self.point_NT[:n], self.limit_N[:n] = request.point_NT, request.limit_N

    def run(self) -> Completions:
        """Sample everything."""
        self.refresh()
        while self.rows:
            for _ in range(self.every):
                self.advance()
            self.refresh()
        done = self.out.trimmed(len(self.request.limit_N))
        return Completions(done.tokens_NT.clone(), done.logp_NT.clone(), done.length_N.clone())  # these are written again

    def refresh(self) -> None:
        """Refill free slots or, if nothing waits, compact those in use."""
        done = self.done_R[: self.rows].tolist()
        free = [slot for slot, ended in enumerate(done) if ended]
        if self.waiting() and len(free) >= max(1, REFILL_AT * self.rows):
            self.refill(free)
        elif not self.waiting():
            self.shrink(done)
        self.longest = int(self.cache.held_R[: self.rows].max()) if self.rows else 0

    def shrink(self, done: list[bool]) -> None:
        """Compact the running completions into fewer slots."""
        rows = halved(self.rows, done.count(False))
        tail = [slot for slot in range(rows, self.rows) if not done[slot]]
        if tail:
            holes = [slot for slot in range(rows) if done[slot]][: len(tail)]
            from_M, to_M = torch.tensor([tail, holes], device=self.job_R.device)
            self.cache.copy(from_M, to_M)
            for state_R in (self.job_R, self.token_R, self.made_R, self.done_R):
                state_R[to_M] = state_R[from_M]
        self.rows = rows

    def waiting(self) -> bool:
        """Whether completions wait for a slot."""
        return bool(self.prefilled or len(self.queue))

    def take(self, most: int) -> tuple[Prefilled, tuple[int, ...], tuple[int, ...]]:
        """The next completions, at most `most`: their prompts, and for each the number among these and in its group."""
        if not self.prefilled:
            group = self.request.group_size
            prompts = self.queue.prefill(-(-most // group))
            self.prefilled.extend((prompts, prompt, member) for prompt in range(len(prompts.number_S)) for member in range(group))
        prompts, count = self.prefilled[0][0], min(most, len(self.prefilled))
        chosen, members = zip(*(self.prefilled.popleft()[1:] for _ in range(count)), strict=True)
        return prompts, chosen, members

    def refill(self, free: list[int]) -> None:
        """Start the next completions in free slots."""
        device, group = self.job_R.device, self.request.group_size
        while free and self.waiting():
            prompts, chosen, members = self.take(len(free))
            slot_M, prompt_M, member_M = torch.tensor([free[: len(chosen)], chosen, members], device=device)
            free = free[len(chosen) :]
            for layer, states in zip(self.cache.layers, prompts.layers, strict=True):
                layer.insert(slot_M, states[:, prompt_M])
            self.cache.length_R[slot_M] = self.cache.held_R[slot_M] = prompts.length_S[prompt_M]
            self.job_R[slot_M] = prompts.number_S[prompt_M] * group + member_M
            self.token_R[slot_M], self.made_R[slot_M], self.done_R[slot_M] = prompts.last_S[prompt_M], 0, False

    def advance(self) -> None:
        """Sample a token in every slot in use."""
        self.longest += 1
        self.cache.rows = self.rows
        self.cache.width = min(self.cache.capacity, -(-self.longest // self.stride) * self.stride)
        shape = (self.rows, self.cache.width)
        if self.pool is None:
            self.step()
        elif shape not in self.graphs:
            self.graphs[shape] = None
            self.step()  # warm-up: libraries allocate workspaces
        else:
            if self.graphs[shape] is None:
                self.graphs[shape] = graph = torch.cuda.CUDAGraph()
                # records without running; other threads may meanwhile use the device, as one that prints progress does
                with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
                    self.step()
            self.graphs[shape].replay()

    def logits(self) -> Tensor:
        """Feed a token to each slot; [R, V]."""
        rows, cache = self.rows, self.cache
        return self.model(
            input_ids=self.token_R[:rows, None], position_ids=cache.length_R[:rows, None], attention_mask=cache.seen(),
            past_key_values=cache, use_cache=True,
        ).logits[:, -1]  # fmt: skip

    def step(self) -> None:
        """Feed a token to each slot and draw the next, in place; no shape depends on values."""
        rows, cache, most = self.rows, self.cache, self.out.tokens_NT.shape[1]
        job_R, token_R, made_R, done_R = (x[:rows] for x in (self.job_R, self.token_R, self.made_R, self.done_R))
        logits_RV, going_R = self.logits(), ~done_R
        row_R, at_R = torch.where(going_R, job_R, self.most_jobs), made_R.clamp(max=most - 1)
        drawn_R1, logp_R1 = draw(logits_RV, self.point_NT[row_R, at_R, None], self.params)
        drawn_R = drawn_R1.squeeze(1)
        self.out.tokens_NT[row_R, at_R], self.out.logp_NT[row_R, at_R] = drawn_R, logp_R1.squeeze(1)
        made_R += going_R
        cache.length_R[:rows] += going_R
        cache.held_R[:rows] += going_R
        self.out.length_N[row_R] = made_R
        done_R |= (drawn_R1 == self.stop_S).any(1) | (made_R >= self.limit_N[row_R])
        token_R.copy_(drawn_R)
