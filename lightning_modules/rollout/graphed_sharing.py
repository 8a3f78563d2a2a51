"""Shared prefixes in steps that a GPU replays as CUDA graphs: a slot holds a prefix and all samples that continue it.

Each sample draws from the distribution of its slot. Of the distinct continuations the first stays, the others take idle slots
with a copy of the prefix. No shape depends on how many there are: at most a sixteenth of the slots are copied in a step, and a
continuation that finds no slot waits in the old one, which is fed the same token again and so gives the same draws. Every few
steps the host counts the slots in use and takes as many as they will need.
Shapes: M running samples, R slots, G members of a group, F slots that may be copied, V vocabulary.
"""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lightning_modules.rollout.graphed import REFILL_AT, GraphedSampler, halved
from lightning_modules.rollout.sampling import Request, draw

FORKS, FEWEST_FORKS = 1 / 16, 8  # share of the slots that a step may copy, and how many at least
GROWTH, HEADROOM = 4, 1.25  # slots for each one in use, if prompts start or none was idle, and else


class GraphedSharing(GraphedSampler):
    """Samples prefix by prefix.

    job_R, made_R, done_R: as in GraphedSampler, by sample and not by slot.
    row_M:   the slot of each running sample.
    token_R: the next input token of each slot; a last entry takes what nobody reads.
    """

    def __init__(self, model: PreTrainedModel, request: Request, *, every: int = 16, stride: int = 128) -> None:
        super().__init__(model, request, every=every, stride=stride)
        self.row_M, self.token_R = torch.zeros_like(self.job_R), self.job_R.new_zeros(self.slots + 1)

    def fits(self, request: Request) -> bool:
        """See GraphedSampler; groups must be of one size."""
        return super().fits(request) and request.group_size == self.request.group_size

    def refresh(self) -> None:
        """Start the next completions where samples have ended; take the slots that will be needed, and compact those in use."""
        done_M, row_M, held_R = torch.stack([self.done_R, self.row_M, self.cache.held_R]).tolist()
        places = [place for place, done in enumerate(done_M) if done]
        used = {row: held_R[row] for row, done in zip(row_M, done_M, strict=True) if not done}
        few = len(used) == self.rows  # perhaps continuations wait
        if self.waiting() and len(places) >= max(1, REFILL_AT * self.slots):
            used |= self.start(places, [slot for slot in range(self.slots) if slot not in used])
            few = True
        running = self.slots - len(places)  # so many slots are always enough
        self.rows = halved(self.slots, min(running, int((GROWTH if few else HEADROOM) * len(used)) + 1))
        tail = [slot for slot in used if slot >= self.rows]
        holes = [slot for slot in range(self.rows) if slot not in used][: len(tail)]
        if tail:
            self.move(*torch.tensor([tail, holes], device=self.row_M.device))
        self.longest = max(used.values(), default=0)

    def move(self, from_S: Tensor, to_S: Tensor) -> None:
        """Move slots into idle ones."""
        self.cache.copy(from_S, to_S)
        self.token_R[to_S] = self.token_R[from_S]
        slot_R = torch.arange(self.slots + 1, device=to_S.device)
        slot_R[from_S] = to_S
        self.row_M.copy_(slot_R[self.row_M])

    def start(self, places: list[int], idle: list[int]) -> dict[int, int]:
        """Start the next completions in free `places`, which are taken off the list, and each prompt in an idle slot.

        Returns:
            The slots, with a bound on the tokens in each.
        """
        device, group = self.job_R.device, self.request.group_size
        used: dict[int, int] = {}
        while places and self.waiting():
            prompts, chosen, members = self.take(len(places))
            slots = {prompt: idle.pop(0) for prompt in dict.fromkeys(chosen)}
            used |= dict.fromkeys(slots.values(), prompts.layers[0].shape[3])
            slot_S, prompt_S = torch.tensor([[*slots.values()], [*slots]], device=device)
            for layer, states in zip(self.cache.layers, prompts.layers, strict=True):
                layer.insert(slot_S, states[:, prompt_S])
            self.cache.length_R[slot_S] = self.cache.held_R[slot_S] = prompts.length_S[prompt_S]
            self.token_R[slot_S] = prompts.last_S[prompt_S]
            now = [places.pop(0) for _ in chosen]
            place_M, row_M, prompt_M, member_M = torch.tensor(
                [now, [slots[prompt] for prompt in chosen], chosen, members], device=device
            )
            self.job_R[place_M], self.row_M[place_M] = prompts.number_S[prompt_M] * group + member_M, row_M
            self.made_R[place_M], self.done_R[place_M] = 0, False
        return used

    def step(self) -> None:
        """Feed a token to each slot, draw the next of each sample, and fork; in place, and no shape depends on values."""
        logits_RV, out, going_M = self.logits(), self.out, ~self.done_R
        job_M = torch.where(going_M, self.job_R, self.most_jobs)
        at_M = self.made_R.clamp(max=out.tokens_NT.shape[1] - 1)
        token_M, logp_M = self.drawn(logits_RV, going_M, self.point_NT[job_M, at_M])
        stops_M = (token_M[:, None] == self.stop_S).any(1) | (self.made_R + 1 >= self.limit_N[job_M])
        kept_M = going_M & (stops_M | self.fork(going_M & ~stops_M, token_M, logits_RV.shape[1]))
        job_M = torch.where(kept_M, job_M, self.most_jobs)
        out.tokens_NT[job_M, at_M], out.logp_NT[job_M, at_M] = token_M, logp_M
        self.made_R += kept_M
        out.length_N[job_M] = self.made_R
        self.done_R |= kept_M & stops_M

    def drawn(self, logits_RV: Tensor, going_M: Tensor, point_M: Tensor) -> tuple[Tensor, Tensor]:
        """[M] tokens and their log-probabilities, each by the sample's own point."""
        rows, member_M = self.rows, self.job_R % self.request.group_size
        point_RG = logits_RV.new_zeros(rows + 1, self.request.group_size, dtype=torch.float32)
        point_RG[torch.where(going_M, self.row_M, rows), member_M] = point_M
        row_M = self.row_M.clamp(max=rows - 1)  # those of samples that have ended are left from before
        token_RG, logp_RG = draw(logits_RV, point_RG[:rows], self.params)
        return token_RG[row_M, member_M], logp_RG[row_M, member_M]

    def fork(self, goes_M: Tensor, token_M: Tensor, vocabulary: int) -> Tensor:
        """Find a slot for each distinct continuation of the samples that go on; [M] bool, those that have one."""
        rows, cache, device = self.rows, self.cache, token_M.device
        most = min(rows, max(FEWEST_FORKS, int(FORKS * rows)))
        key_M, order_M = torch.where(goes_M, self.row_M * vocabulary + token_M, rows * vocabulary).sort()
        from_M = key_M // vocabulary  # `rows`: of samples that have ended
        first_M, number_M = begins(key_M), begins(key_M).cumsum(0)
        later_M = number_M > torch.where(begins(from_M), number_M, 0).cummax(0).values  # not the first continuation of its slot
        rank_M = (first_M & later_M).cumsum(0) - 1
        idle_R = torch.ones(rows + 1, dtype=torch.bool, device=device).index_fill_(0, from_M, False)[:rows]
        to_F = idle_R.int().argsort(descending=True, stable=True)[:most]
        found_M = rank_M < idle_R.sum().clamp(max=most)
        stays_R = torch.zeros(rows + 1, dtype=torch.bool, device=device)
        stays_R.index_fill_(0, torch.where(later_M & ~found_M, from_M, rows), True)  # `rows` too
        moves_M = torch.where(later_M, found_M, ~stays_R[from_M])
        # slots that nobody takes are copied onto themselves
        source_F = torch.cat([to_F, to_F[:1]]).scatter(0, torch.where(first_M & later_M & found_M, rank_M, most), from_M)[:most]
        cache.copy(source_F, to_F, cache.width)
        slot_M = torch.where(later_M & found_M, to_F[rank_M.clamp(0, most - 1)], from_M)
        fed_M = torch.where(moves_M, slot_M, self.slots)
        self.token_R[fed_M] = key_M % vocabulary
        fed_R = torch.zeros_like(self.token_R).index_fill_(0, fed_M, 1)[:rows]
        cache.length_R[:rows] += fed_R
        cache.held_R[:rows] += fed_R
        self.row_M[order_M] = slot_M
        return torch.zeros_like(goes_M).scatter(0, order_M, moves_M)


def begins(sorted_M: Tensor) -> Tensor:
    """[M] bool: where another value begins."""
    return torch.cat([torch.ones_like(sorted_M[:1], dtype=torch.bool), sorted_M[1:] != sorted_M[:-1]])
