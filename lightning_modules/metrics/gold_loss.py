"""Loss on gold documents by operations, context and kind of token: sums that give every mean and perplexity."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from grammar.problem.graph import MOST_OPS


class GoldLoss(Metric):
    """Sums of nats and of tokens, also over processes.

    Args:
        contexts: number of contexts.
        kinds: number of kinds of tokens.
    """

    full_state_update = False

    def __init__(self, contexts: int, kinds: int) -> None:
        super().__init__()
        self.add_state("sums_OCK2", torch.zeros(MOST_OPS + 1, contexts, kinds, 2, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, nll_N: Tensor, op_N: Tensor, context_N: Tensor, kind_N: Tensor) -> None:
        """Add [N] tokens: nats, operations of their problem, numbers of context and kind."""
        pairs_N2 = torch.stack([nll_N.double(), torch.ones_like(nll_N, dtype=torch.float64)], dim=1).to(self.device)
        place = tuple(number_N.to(self.device) for number_N in (op_N, context_N, kind_N))
        self.sums_OCK2.index_put_(place, pairs_N2, accumulate=True)

    def compute(self) -> Tensor:
        """[O, C, K, 2] nats and tokens."""
        return self.sums_OCK2


def mean_loss(sums_OCK2: Tensor, ops: Sequence[int], *, context: int | None = None, kind: int | None = None) -> float | None:
    """Nats per token over problems of `ops` operations, in one context and of one kind of token if given; None if no tokens."""
    sums = sums_OCK2[list(ops)]
    sums = sums if context is None else sums[:, context : context + 1]
    sums = sums if kind is None else sums[:, :, kind : kind + 1]
    nats, tokens = sums.sum(dim=(0, 1, 2)).tolist()
    return nats / tokens if tokens else None


def gold_loss_table(
    sums_OCK2: Tensor, bands: dict[str, list[int]], contexts: Sequence[str], kinds: Sequence[str]
) -> dict[str, float]:
    """Validation log: `loss/BAND`, `loss/BAND/CONTEXT` in nats per token, `perplexity/KIND/BAND` of solution tokens.

    Args:
        sums_OCK2: see GoldLoss.
        bands: name -> operations.
        contexts: names, by number.
        kinds: names, by number; "other" (fixed wording) and "prompt" get no perplexity.
    """
    table: dict[str, float | None] = {}
    for band, ops in bands.items():
        table[f"loss/{band}"] = mean_loss(sums_OCK2, ops)
        table |= {f"loss/{band}/{name}": mean_loss(sums_OCK2, ops, context=c) for c, name in enumerate(contexts)}
        for k, kind in enumerate(kinds):
            if kind not in ("other", "prompt"):
                loss = mean_loss(sums_OCK2, ops, kind=k)
                table[f"perplexity/{kind}/{band}"] = None if loss is None else torch.tensor(loss).double().exp().item()
    return {name: value for name, value in table.items() if value is not None}


def summarise_likelihood(sums_OCK2: Tensor, kinds: Sequence[str], ops: Sequence[int]) -> dict[str, dict[str, float]]:
    """Mean nats per token of each kind and of all, over problems of `ops` operations (arXiv:2512.07783, Figures 9 and 10).

    Returns:
        kind, or "all" -> nll_nats, tokens; kinds without tokens are left out.
    """
    sums_K2 = sums_OCK2[list(ops)].sum(dim=(0, 1))
    rows = dict(zip(kinds, sums_K2.tolist(), strict=True)) | {"all": sums_K2.sum(dim=0).tolist()}
    return {kind: {"nll_nats": nats / tokens, "tokens": int(tokens)} for kind, (nats, tokens) in rows.items() if tokens}
