"""Negative log-likelihood of gold solutions by number of operations and kind of token (arXiv:2512.07783, Figures 9 and 10)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_modules.metrics.problem_table import MOST_OPS


class LikelihoodByKind(Metric):
    """Sums of nats and of tokens, by number of operations and kind of token."""

    full_state_update = False

    def __init__(self, kinds: Sequence[str]) -> None:
        """Start empty; `kinds` name the kinds by number."""
        super().__init__()
        self.kinds = tuple(kinds)
        self.add_state("sums_OK2", torch.zeros(MOST_OPS, len(self.kinds), 2, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, nll_T: Tensor, kind_T: Tensor, op_T: Tensor) -> None:
        """Add [T] tokens: nats, number of the kind, operations of the problem they belong to."""
        pairs_T2 = torch.stack([nll_T.double(), torch.ones_like(nll_T, dtype=torch.float64)], dim=1).to(self.device)
        self.sums_OK2.index_put_((op_T.to(self.device), kind_T.to(self.device)), pairs_T2, accumulate=True)

    def compute(self) -> Tensor:
        """[O, K, 2] nats and tokens."""
        return self.sums_OK2


def summarise_likelihood(sums_OK2: Tensor, kinds: Sequence[str], ops: Sequence[int]) -> dict[str, dict[str, float]]:
    """Mean nats per token of each kind and of all, over problems of `ops` operations; kinds without tokens are left out."""
    sums_K2 = sums_OK2[list(ops)].sum(dim=0)
    rows = dict(zip(kinds, sums_K2.tolist(), strict=True)) | {"all": sums_K2.sum(dim=0).tolist()}
    return {kind: {"nll_nats": nats / tokens, "tokens": int(tokens)} for kind, (nats, tokens) in rows.items() if tokens}
