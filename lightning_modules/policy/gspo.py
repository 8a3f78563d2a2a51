"""GSPO (arXiv:2507.18071): completions, not tokens, are weighed and clipped."""

from torch import Tensor

from lightning_modules.formulas import sequence_mean, sequence_token_log_ratio
from lightning_modules.policy.experience import ExperienceBatch
from lightning_modules.policy.grpo import GRPOModule


class GSPOModule(GRPOModule):
    """GRPO with one ratio a completion, the geometric mean of its tokens', and a mean over completions.

    With `credit`, tokens of a completion have advantages of their own (GSPO-token). Such ratios stay much closer to 1 than those
    of tokens; the source clips at `clip: {low: 3.0e-4, high: 4.0e-4}`.
    """

    def log_ratio(self, logp_NT: Tensor, batch: ExperienceBatch) -> Tensor:
        """[N, T] the completion's log ratio on each of its tokens, with that token's gradient."""
        return sequence_token_log_ratio(logp_NT, batch.old(logp_NT), batch.mask_NT)

    def mean(self, terms_NT: Tensor, batch: ExperienceBatch) -> Tensor:
        """Mean over completions of the mean over their tokens."""
        return sequence_mean(terms_NT, batch.mask_NT, sequences=batch.sequences)
