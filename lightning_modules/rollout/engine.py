"""The sampling engine: prompts in, completions with log-probabilities out.

Each prompt is prefilled once and fanned out to its group. Completions sit in places; when one ends, its place is given to the
next that waits, or, when none does, the places that still run move together. On a GPU every step has one of few shapes and is
replayed as a CUDA graph, and whether completions have ended is asked every few steps only.
Shapes: B prompts, G samples a prompt, N = B*G completions, R places, T new tokens, V vocabulary.
"""

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache

from lightning_modules.rollout.generate import generate
from lightning_modules.rollout.replica import half_precision_replica
from lightning_modules.rollout.sampling import Completions, Randomness, Request, SamplingParams, draw, uniform_points
from lightning_modules.rollout.slots import IN_PLACES, SlotCache, attending

SHRINK_AT = 0.85  # places move together once fewer than this share of them is alive
REFILL_AT = 0.125  # share of places that are free when the next completions begin: prefilling one by one would be slow
PREFILL_TOKENS = 1 << 17  # of one forward pass, padding counted


@torch.inference_mode()
def sample(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], group_size: int, params: SamplingParams, *,
    stop_ids: Sequence[int], pad_id: int, generator: Randomness = None, limits: Sequence[int] | None = None,
) -> Completions:  # fmt: skip
    """Sample `group_size` completions for each prompt.

    Args:
        model: a causal LM; used in the mode (train or eval) it is in.
        prompts: B token lists, none empty.
        group_size: G.
        params: temperature, lengths.
        stop_ids: tokens that end a completion.
        pad_id: what fills the rows.
        generator: source of randomness, or one for each prompt, which then alone decides what is drawn for it, whatever else is
            sampled beside it; None: torch's own.
        limits: tokens of each of the N completions at most, not above `max_new_tokens`; None: `max_new_tokens`.

    Returns:
        Completions in the order of the prompts, G side by side.

    Raises:
        ValueError: the native engine does not know the model's attention.
    """
    device, most = model.device, params.max_new_tokens
    limit_N = torch.full((len(prompts) * group_size,), most) if limits is None else torch.tensor(limits)
    request = Request(
        list(prompts), group_size, params, torch.tensor(stop_ids, dtype=torch.int64, device=device), pad_id,
        uniform_points(len(prompts), group_size, params, generator).to(device), limit_N.to(device),
    )  # fmt: skip
    if params.engine == "transformers":
        return generate(model, request)
    if "sliding_attention" in (getattr(model.config, "layer_types", None) or ()):
        raise ValueError(
            f"the native engine samples from full attention only, and {model.config.model_type} has sliding windows; "
            "set `sampling.engine: transformers`."
        )
    with half_precision_replica(model) as replica:
        places = Places(replica, request, static=device.type == "cuda")
        with attending(replica, IN_PLACES):
            return places.run()


class Places:
    """Completions being sampled side by side.

    job_R:   the completion that sits in each place; N: none.
    token_R: the token it is fed next.      made_R: tokens it has so far.      done_R: it has ended, or there is none.
    """

    def __init__(self, model: PreTrainedModel, request: Request, *, static: bool = False, every: int = 16) -> None:
        """Make room.

        Args:
            model: on the device of the request.
            request: what is to be sampled.
            static: few shapes, as CUDA graphs need them; replayed as such on a GPU.
            every: with `static`, steps between two looks at what has ended.
        """
        device, n = model.device, len(request.limit_N)
        self.model, self.request, self.static = model, request, static
        self.every, self.stride = (every, 128) if static else (1, 1)
        most, places = request.params.max_new_tokens, min(request.params.max_rows, n)
        sharing = request.group_size > 1 and not static
        capacity = most if sharing else max(map(len, request.prompts)) + most
        self.cache = SlotCache(model.config.num_hidden_layers, places, capacity, device, sharing=sharing)
        self.job_R = torch.full((places,), n, device=device)
        self.token_R, self.made_R = (torch.zeros(places, dtype=torch.int64, device=device) for _ in range(2))
        self.done_R = torch.ones(places, dtype=torch.bool, device=device)
        # one row more than completions: what places without one write goes there
        self.tokens_NT = torch.full((n + 1, most), request.pad_id, device=device)
        self.logp_NT = torch.zeros(n + 1, most, device=device)
        self.length_N = torch.zeros(n + 1, dtype=torch.int64, device=device)
        self.point_NT = torch.cat([request.point_NT, request.point_NT[:1]])
        self.limit_N = torch.cat([request.limit_N, request.limit_N[:1]])
        # the longest first: those that take longest do not begin last, and prompts of like length are prefilled together
        self.queue = deque(sorted(range(len(request.prompts)), key=lambda i: -len(request.prompts[i])))
        self.waiting: deque[tuple[int, int]] = deque()  # completions of prefilled prompts, each with the prompt's slot
        self.longest = 0  # tokens in the fullest place
        self.graphs: dict[tuple[int, int], torch.cuda.CUDAGraph | None] = {}

    def run(self) -> Completions:
        """Sample everything."""
        self.refill(list(range(len(self.job_R))))
        while self.cache.rows:
            for _ in range(self.every):
                self.advance()
            self.settle()
        n = len(self.request.limit_N)
        longest = int(self.length_N[:n].max())
        return Completions(
            self.tokens_NT[:n, :longest].contiguous(), self.logp_NT[:n, :longest].contiguous(), self.length_N[:n].contiguous()
        )

    def settle(self) -> None:
        """Give free places away, or move the ones in use together."""
        rows = self.cache.rows
        done = self.done_R[:rows].tolist()
        free = [place for place, ended in enumerate(done) if ended]
        alive = rows - len(free)
        if self.waiting or self.queue:
            if len(free) >= max(1, REFILL_AT * rows):
                self.refill(free)
        elif alive <= (0.5 if self.static else SHRINK_AT) * rows:
            # static: halves, so that there are few shapes
            self.cache.rows = target = min(rows // 2, 1 << max(0, alive - 1).bit_length()) if self.static and alive else alive
            used = [place for place in range(target, rows) if not done[place]]
            if used:
                self.move(free[: len(used)], used)
            if self.cache.sharing and target:
                self.cache.forget_prompts(self.cache.row_R[:target])
        self._measure()

    def _measure(self) -> None:
        self.longest = int(self.cache.held_R[: self.cache.rows].max()) if self.cache.rows else 0

    def move(self, to: list[int], used: list[int]) -> None:
        """Move completions from the places `used` to others."""
        to_M, from_M = (torch.tensor(places, device=self.job_R.device) for places in (to, used))
        self.cache.move(to_M, from_M)
        for state_R in (self.job_R, self.token_R, self.made_R, self.done_R):
            state_R[to_M] = state_R[from_M]

    def refill(self, free: list[int]) -> None:
        """Begin the next completions in free places."""
        device, group = self.job_R.device, self.request.group_size
        while free and (self.waiting or self.queue):
            if not self.waiting:
                self.prefill(-(-len(free) // group))
            count = min(len(free), len(self.waiting))
            begun, place_M, free = [self.waiting.popleft() for _ in range(count)], free[:count], free[count:]
            place_M = torch.tensor(place_M, device=device)
            job_M, slot_M = torch.tensor(begun, device=device).T
            self.cache.begin(place_M, slot_M, job_M % group)
            self.job_R[place_M], self.made_R[place_M], self.done_R[place_M] = job_M, 0, False
            self.token_R[place_M] = torch.tensor([self.request.prompts[job // group][-1] for job, _ in begun], device=device)
        self._measure()

    def prefill(self, count: int) -> None:
        """Compute the keys and values of the next prompts, all but their last token, which the first step is fed."""
        width, device = len(self.request.prompts[self.queue[0]]), self.model.device
        chosen = [self.queue.popleft() for _ in range(max(1, min(count, len(self.queue), PREFILL_TOKENS // width)))]
        rows = [torch.tensor(self.request.prompts[i][:-1], dtype=torch.int64) for i in chosen]
        # padded on the right under a causal mask: padding is never seen
        tokens_BP = pad_sequence(rows, batch_first=True, padding_value=self.request.pad_id).to(device)
        fresh = DynamicCache()
        if tokens_BP.shape[1]:
            with attending(self.model, "sdpa"):
                self.model(input_ids=tokens_BP, past_key_values=fresh, use_cache=True, logits_to_keep=1)
        cache, group = self.cache, self.request.group_size
        if cache.sharing and len(cache.prefixes.length_S):
            cache.forget_prompts(cache.row_R[: cache.rows])
        elif not cache.sharing:
            cache.prefixes.replace(cache.row_R[:0])
        first = len(cache.prefixes.length_S)
        cache.prefixes.replace(torch.arange(first, device=device), fresh, torch.tensor([len(row) for row in rows], device=device))
        self.waiting.extend((i * group + g, first + slot) for slot, i in enumerate(chosen) for g in range(group))

    def advance(self) -> None:
        """One token for every place in use."""
        cache = self.cache
        self.longest += 1
        cache.width = min(cache.capacity, -(-self.longest // self.stride) * self.stride)
        if not self.static or cache.length_R.device.type != "cuda":
            return self.step()
        key = (cache.rows, cache.width)
        if key not in self.graphs:
            self.graphs[key] = None
            return self.step()  # the first step of a shape warms up
        if self.graphs[key] is None:
            self.graphs[key] = graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):  # records, runs nothing
                self.step()
        return self.graphs[key].replay()

    def step(self) -> None:
        """Feed a token to each place and draw the next; tensors change in place and none has a shape that depends on values."""
        rows, cache, most = self.cache.rows, self.cache, self.tokens_NT.shape[1]
        job_R, token_R, made_R, done_R = (x[:rows] for x in (self.job_R, self.token_R, self.made_R, self.done_R))
        logits_RV = self.model(
            input_ids=token_R[:, None], position_ids=cache.length_R[:rows, None], attention_mask=cache.seen(),
            past_key_values=cache, use_cache=True, **({"places": cache} if cache.sharing else {}),
        ).logits[:, -1]  # fmt: skip
        going_R = ~done_R
        row_R, at_R = torch.where(going_R, job_R, len(self.limit_N) - 1), made_R.clamp(max=most - 1)
        drawn_R, logp_R = draw(logits_RV, self.point_NT[row_R, at_R], self.request.params)
        self.tokens_NT[row_R, at_R], self.logp_NT[row_R, at_R] = drawn_R, logp_R
        made_R += going_R
        cache.length_R[:rows] += going_R
        cache.held_R[:rows] += going_R
        self.length_N[row_R] = made_R
        done_R |= (drawn_R[:, None] == self.request.stop_S).any(1) | (made_R >= self.limit_N[row_R])
        token_R.copy_(drawn_R)
