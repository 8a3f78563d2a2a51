"""Log-probabilities of completions in which each prompt passes through the model once per group.

Tokens of all prompts and completions lie side by side in one row without padding; only attention knows which belong together. So
linear layers, which take most of the time, see each token once. Results and gradients equal those row by row (up to rounding).
Shapes: N rows of prompt and completion, S distinct prompts, P and C tokens of the longest of each, F tokens in all, H heads,
K key-value heads, D head size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from lightning_modules.models.attending import attending, attention_window, changed_attention, state, strange_attention
from lightning_modules.models.label_scores import fits_whole, scored
from lightning_modules.models.probe import differs, once, plain_logits, texts

GROUPED = "grouped_prompts"


@dataclass(slots=True)
class Groups:
    """Places of prompts and completions.

    tokens_F:    prompts, then completions without their last token, which predicts nothing.
    position_F:  their positions in their rows.
    prompt_SP:   places in F of each prompt's tokens (padding: 0); real_SP: which are real.
    own_NC:      the same for each completion's tokens; real_NC.
    prompt_N:    the prompt of each completion.
    seen_N1CL:   positions that completions attend to: L = P + C, their prompt, then their own earlier tokens.
    """

    tokens_F: Tensor
    position_F: Tensor
    prompt_SP: Tensor
    real_SP: Tensor
    own_NC: Tensor
    real_NC: Tensor
    prompt_N: Tensor
    seen_N1CL: Tensor

    @classmethod
    def of(cls, tokens_NT: Tensor, mask_NT: Tensor) -> "Groups":
        """From rows of prompt and completion; `mask_NT` is true where a position predicts a sampled token."""
        device, column_T = tokens_NT.device, torch.arange(tokens_NT.shape[1], device=tokens_NT.device)
        first_N, length_N = mask_NT.int().argmax(1) + 1, mask_NT.sum(1)
        width, own_width = int(first_N.max()), max(1, int(length_N.max()) - 1)
        prompts_NP = tokens_NT[:, :width].masked_fill(column_T[:width] >= first_N[:, None], -1)
        prompts_SP, prompt_N = prompts_NP.unique(dim=0, return_inverse=True)
        real_SP = prompts_SP >= 0
        column_C = column_T[:own_width]
        real_NC = column_C < length_N[:, None] - 1
        at_NC = first_N[:, None] + column_C
        own = tokens_NT.gather(1, at_NC.clamp(max=tokens_NT.shape[1] - 1))[real_NC]
        prompt_SP, own_NC = torch.zeros_like(prompts_SP), torch.zeros_like(at_NC)
        prompt_SP[real_SP] = torch.arange(int(real_SP.sum()), device=device)
        own_NC[real_NC] = torch.arange(len(own), device=device) + int(real_SP.sum())
        causal_CC = column_C[:, None] >= column_C
        seen_NCL = torch.cat(
            [real_SP[prompt_N, None].expand(-1, own_width, -1), causal_CC.expand(len(prompt_N), -1, -1)], dim=-1
        )  # fmt: skip
        position_F = torch.cat([column_T[:width].expand_as(prompts_SP)[real_SP], at_NC[real_NC]])
        return cls(
            torch.cat([prompts_SP[real_SP], own]), position_F, prompt_SP, real_SP, own_NC, real_NC, prompt_N, seen_NCL[:, None]
        )

    def predictions(self) -> tuple[Tensor, Tensor]:
        """Places in F whose outputs are needed, and for each sampled token, [N, C + 1], which of them predicts it."""
        last_S = self.prompt_SP.gather(1, self.real_SP.sum(1, keepdim=True) - 1).squeeze(1)
        prompts, first_own = len(last_S), int(self.real_SP.sum())
        own_F = torch.arange(first_own, len(self.tokens_F), device=last_S.device)
        by_NC = self.own_NC - first_own + prompts
        return torch.cat([last_S, own_F]), torch.cat([self.prompt_N[:, None], by_NC.clamp(min=0)], dim=1)

    def attend(self, query_HFD: Tensor, key_KFD: Tensor, value_KFD: Tensor, scale: float | None) -> Tensor:
        """Attention of prompts to themselves, and of completions to their prompt and themselves: [F, H, D]."""
        shared = query_HFD.shape[0] // key_KFD.shape[0]
        dtype = value_KFD.dtype  # under autocast rotated queries and keys are float32, values 16 bit
        query_FHD, key_FKD = query_HFD.transpose(0, 1).to(dtype), key_KFD.transpose(0, 1).to(dtype)
        value_FKD = value_KFD.transpose(0, 1)

        def rows(x_FHD: Tensor, place: Tensor) -> Tensor:
            return x_FHD[place].transpose(1, 2)

        key_SP, value_SP = rows(key_FKD, self.prompt_SP), rows(value_FKD, self.prompt_SP)
        prompts = scaled_dot_product_attention(
            rows(query_FHD, self.prompt_SP), key_SP, value_SP, is_causal=True, scale=scale, enable_gqa=shared > 1
        )
        key_NL = torch.cat([key_SP[self.prompt_N], rows(key_FKD, self.own_NC)], dim=2)
        value_NL = torch.cat([value_SP[self.prompt_N], rows(value_FKD, self.own_NC)], dim=2)
        own = scaled_dot_product_attention(
            rows(query_FHD, self.own_NC), key_NL, value_NL, attn_mask=self.seen_N1CL, scale=scale, enable_gqa=shared > 1
        )
        return torch.cat([prompts.transpose(1, 2)[self.real_SP], own.transpose(1, 2)[self.real_NC]])


def attend_in_groups(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: None, scaling: float | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:  # fmt: skip
    """`Groups.attend` as an attention function of `transformers`: [1, H, F, D] -> [1, F, H, D], and no weights.

    `state()` holds the groups.

    Raises:
        ValueError: attention with a soft cap or with sinks.
    """
    if strange := changed_attention(kwargs):
        raise ValueError(f"grouped prompts do not support {strange}.")
    groups: Groups = state()
    return groups.attend(query[0], key[0], value[0], scaling)[None], None


AttentionInterface.register(GROUPED, attend_in_groups)


def groupable(model: PreTrainedModel, length: int) -> bool:
    """Whether `grouped_logp` works for a model and rows of `length` tokens, and is faster than going row by row.

    On a GPU it is not, as attention without a mask is fast there.
    """
    window = attention_window(model.config)
    return model.device.type == "cpu" and not (window and window < length) and grouped_fault(model) is None


@once
def grouped_fault(model: PreTrainedModel) -> str | None:
    """Why `grouped_logp` does not give the log-probabilities of each row by itself."""
    if what := strange_attention(model):
        return f"{model.config.model_type} has {what}"
    prompt, *ends = texts(model, (4, 3, 5))
    rows, mask_NT = [prompt + end for end in ends], torch.zeros(2, 8, dtype=torch.bool)
    mask_NT[0, 3:6] = mask_NT[1, 3:8] = True
    tokens_NT = torch.tensor([row + [0] * (9 - len(row)) for row in rows])
    found_M = grouped_logp(model, tokens_NT.to(model.device), mask_NT.to(model.device))[mask_NT]
    logits_MV = torch.cat([plain_logits(model, row)[3:-1] for row in rows])
    sampled_M = torch.tensor([token for end in ends for token in end], device=logits_MV.device)
    expected_M = logits_MV.float().log_softmax(-1).gather(1, sampled_M[:, None]).squeeze(1)
    return "rows of a group see each other" if differs(found_M, expected_M, logits_MV) else None


def group_counts(tokens_NT: Tensor, mask_NT: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens that `grouped_logp` passes through the model, and those they attend to: earlier ones of the row, and themselves."""
    groups = Groups.of(tokens_NT, mask_NT)
    return groups.position_F.new_tensor(len(groups.position_F)), (groups.position_F + 1).sum()


def grouped_logp(
    model: PreTrainedModel, tokens_NT: Tensor, mask_NT: Tensor, *, temperature: float = 1.0, whole: bool = False
) -> Tensor:  # fmt: skip
    """Log-probability of each sampled token.

    Args:
        model: a causal LM with full attention.
        tokens_NT: [N, T] prompt, completion, padding; rows with equal prompts share them.
        mask_NT: [N, T-1] bool, true where position t predicts a sampled token; some in every row.
        temperature: logits are divided by it.
        whole: all logits must exist at once, even if they are many (`head_fault`).

    Returns:
        [N, T-1] nats; 0 where the mask is false.
    """
    groups = Groups.of(tokens_NT, mask_NT)
    kept, by_NC = groups.predictions()
    sampled_NC = torch.arange(by_NC.shape[1], device=mask_NT.device) < mask_NT.sum(1, keepdim=True)
    by_M, token_M = by_NC[sampled_NC], tokens_NT[:, 1:][mask_NT]

    def run() -> Tensor:
        ids, position = groups.tokens_F[None], groups.position_F[None]
        with attending(model, GROUPED, groups):
            return model(input_ids=ids, position_ids=position, use_cache=False, logits_to_keep=kept).logits[0]

    if whole or fits_whole(model, len(kept)):
        logits = run().float() / temperature
        logp_M = logits[by_M, token_M] - logits.logsumexp(-1)[by_M]
    else:  # tokens with one prediction in common, the first of each completion, have a copy of its state each
        logp_M, _ = scored(model, lambda: run()[by_M], token_M, temperature=temperature)
    return logp_M.new_zeros(mask_NT.shape).masked_scatter(mask_NT, logp_M)
