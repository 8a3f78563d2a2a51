"""The sampling engine: prompts in, completions with log-probabilities out. See docs/rollout.md.

`generate` of transformers is the slow reference, and the fallback for models with other caches.

Not here: fast steps (prefix_sharing.py on a CPU, graphed.py on a GPU), the draw of a token (sampling.py).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)

from lightning_modules.models.attending import attending, attention_window, own_attention, strange_attention
from lightning_modules.models.language_model import longest_text
from lightning_modules.models.probe import differs, once, plain_logits, texts
from lightning_modules.rollout.graphed import GraphedSampler, replica_of
from lightning_modules.rollout.prefix_sharing import PrefixSampler
from lightning_modules.rollout.sampling import Completions, Randomness, Request, SamplingParams, draw, uniform_points
from lightning_modules.rollout.slots import IN_SLOTS

APART = "transformers, prompt by prompt"  # without padding, which some models cannot ignore


def generate(model: PreTrainedModel, request: Request, *, apart: bool = False) -> Completions:
    """Sample a request, `max_rows` completions at a time, with the draws of the native engine; `apart`: prompt by prompt."""
    n, most = request.point_NT.shape
    out = Completions.empty(n, most, request.pad_id, model.device)
    parts = torch.arange(n, device=model.device).split(request.group_size if apart else n)
    for row_R in (rows for part in parts for rows in part.split(request.params.max_rows)):
        prompts = [torch.tensor(request.prompts[i // request.group_size]) for i in row_R.tolist()]
        ids_RP = pad_sequence(prompts, True, request.pad_id, padding_side="left").to(model.device)
        length_R = torch.tensor([len(p) for p in prompts], device=model.device)
        seen_RP = torch.arange(ids_RP.shape[1], device=model.device) >= ids_RP.shape[1] - length_R[:, None]
        writer = Writer(request, out, row_R)
        with attending(model, own_attention(model)), plain_generation(model):
            model.generate(
                ids_RP, attention_mask=seen_RP.long(), do_sample=False, max_new_tokens=most, pad_token_id=request.pad_id,
                eos_token_id=None, logits_processor=LogitsProcessorList([writer]),
                stopping_criteria=StoppingCriteriaList([writer]),
                synced_gpus=False,  # processes need not wait for each other: sharded weights are gathered while they sample
            )  # fmt: skip
    return out.trimmed()


@contextmanager
def plain_generation(model: PreTrainedModel) -> Iterator[None]:
    """Set the model's own generation config aside, which may truncate, penalise or stop."""
    own, model.generation_config = model.generation_config, GenerationConfig()
    yield
    model.generation_config = own


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
        ValueError: an empty prompt, one that leaves no position for a completion, limits out of range, or a model from which
            the engine cannot sample.
    """
    device = model.device
    limit_N = torch.tensor([params.max_new_tokens] * len(prompts) * group_size if limits is None else limits)
    request = Request(
        list(prompts), group_size, params, torch.tensor(stop_ids, dtype=torch.int64, device=device), pad_id,
        uniform_points(len(prompts), group_size, params, generator).to(device), within_model(limit_N, prompts, model).to(device),
    )  # fmt: skip
    longest = max(map(len, prompts)) + int(request.limit_N.max())
    if (engine := chosen_engine(model, params.engine, longest)) != "native":
        return generate(model, request, apart=engine == APART)
    if device.type == "cuda" and not share:
        return sample_in_graphs(model, request)
    return PrefixSampler(model, request, copy_prompts=device.type != "cpu").run()


def within_model(limit_N: Tensor, prompts: Sequence[Sequence[int]], model: PreTrainedModel) -> Tensor:
    """[N] limits of completions, cut where the model has no further positions.

    Raises:
        ValueError: a prompt leaves none.
    """
    longest = longest_text(model.config)
    if longest is None or not prompts:
        return limit_N
    room_B = longest - torch.tensor([len(prompt) for prompt in prompts])
    if int(room_B.min()) < 1:
        raise ValueError(
            f"a prompt of {longest - int(room_B.min())} tokens leaves no position for a completion, as the model has {longest}; "
            "sample shorter problems, or set `max_position_embeddings` of a model without learned positions."
        )
    return torch.minimum(limit_N, room_B.repeat_interleave(len(limit_N) // len(prompts)))


def chosen_engine(model: PreTrainedModel, engine: str, longest: int = 0) -> str:
    """`engine` for texts of up to `longest` tokens, or the next one that can sample them: `transformers`, or that, APART.

    Raises:
        ValueError: none can.
    """
    kind, window = model.config.model_type, attention_window(model.config)
    if engine == "native":
        beyond = f"a sliding window of {window} tokens, and texts may have {longest}" if window and window < longest else None
        if not (fault := beyond or engine_fault(model, "native")):
            return "native"
        rank_zero_warn(f"the native engine cannot sample from {kind} ({fault}), so that `generate` of transformers does.")
    faults = {name: fault for name in ("transformers", APART) if (fault := engine_fault(model, name))}
    if len(faults) == 2:
        raise ValueError(f"`generate` of transformers cannot sample from {kind}: {faults[APART]}.")
    return APART if faults else "transformers"


@once
def engine_fault(model: PreTrainedModel, engine: str) -> str | None:
    """Why sampled tokens do not have the probabilities that the plain forward pass gives them."""
    if engine == "native" and (what := strange_attention(model)):
        return f"it has {what}"
    prompts, device = texts(model, (6, 3)), model.device
    points, stop = torch.rand(4, 4, generator=torch.Generator().manual_seed(0)).to(device), torch.tensor([-1], device=device)
    pad = model.get_input_embeddings().num_embeddings // 2  # any but 0, whose embedding may be 0
    request = Request(prompts, 2, SamplingParams(max_new_tokens=4), stop, pad, points, torch.full((4,), 4, device=device))
    if engine == "native":
        done = PrefixSampler(model, request, copy_prompts=device.type != "cpu").run()
    else:
        done = generate(model, request, apart=engine == APART)
    for prompt, own in ((0, 0), (0, 1), (1, 2), (1, 3)):
        tokens_T = done.tokens_NT[own]
        logits_TV = plain_logits(model, [*prompts[prompt], *tokens_T.tolist()])[len(prompts[prompt]) - 1 : -1]
        expected_T = logits_TV.float().log_softmax(-1).gather(1, tokens_T[:, None]).squeeze(1)
        if differs(done.logp_NT[own], expected_T, logits_TV):
            return "its steps give other probabilities than the whole text"
    return None


def sample_in_graphs(model: PreTrainedModel, request: Request) -> Completions:
    """Sample a request on a GPU."""
    device = model.device.type
    half, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    # no cache of casts, as their addresses must not outlive a graph
    with torch.autocast(device, dtype, enabled=half, cache_enabled=False):
        replica = replica_of(model, dtype if half else None)
        with attending(replica, IN_SLOTS):
            return GraphedSampler(replica, request).run()
