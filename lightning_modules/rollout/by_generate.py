"""Sampling by `generate` of transformers: the slow reference, and the fallback for models with other caches."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
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

from lightning_modules.models.attending import attending, own_attention
from lightning_modules.models.language_model import longest_text
from lightning_modules.rollout.engine import Engine
from lightning_modules.rollout.sampling import Completions, Request, draw


class Generate(Engine):
    """All prompts side by side, padded on the left."""

    apart = False

    def sample(self, model: PreTrainedModel, request: Request, *, share: bool = False) -> Completions:
        """See Engine."""
        return generate(model, request, apart=self.apart)


class GenerateApart(Generate):
    """Prompt by prompt, so without padding, which some models cannot ignore."""

    apart = True


def generate(model: PreTrainedModel, request: Request, *, apart: bool = False) -> Completions:
    """Sample a request, `max_rows` completions at a time, with the draws of the native engine; `apart`: prompt by prompt.

    So are prompts that side by side would go beyond the model's positions: a row that has ended is fed until the last one has.
    """
    n, most = request.point_NT.shape
    longest = longest_text(model.config)
    apart = apart or (longest is not None and max(map(len, request.prompts)) + int(request.limit_N.max()) > longest)
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
