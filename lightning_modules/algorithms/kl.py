"""Estimators of KL(pi || ref) from tokens sampled by pi."""

from torch import Tensor


def kl_k3(logp_NT: Tensor, logp_ref_NT: Tensor) -> Tensor:
    """Compute r - 1 - log r with r = ref / pi: unbiased, never negative (joschu.net/blog/kl-approx.html).

    Args:
        logp_NT: [N, T] log pi of the sampled tokens, nats.
        logp_ref_NT: [N, T] log ref of the same tokens.

    Returns:
        [N, T], nats.
    """
    log_ratio_NT = logp_ref_NT - logp_NT
    return log_ratio_NT.exp() - 1 - log_ratio_NT
