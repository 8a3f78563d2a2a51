"""Estimators of KL(pi || ref) from tokens sampled by pi (joschu.net/blog/kl-approx.html).

Value and gradient differ. For x ~ pi, k1 and k3 have the KL as their mean and k2 does not; but the mean gradient of k2 is that of
the KL, whereas that of k1 is 0 and that of k3 is that of KL(ref || pi). A reward uses only the value, a loss only the gradient:
`with_kl_gradient` gives any estimator the right one.
Estimators map log pi and log ref of the sampled tokens, [N, T] nats, to [N, T] nats.
"""

from torch import Tensor


def kl_k1(logp_NT: Tensor, logp_ref_NT: Tensor) -> Tensor:
    """log(pi / ref): unbiased, of either sign; its gradient has mean 0, so it has no use in a loss by itself."""
    return logp_NT - logp_ref_NT


def kl_k2(logp_NT: Tensor, logp_ref_NT: Tensor) -> Tensor:
    """log(pi / ref)^2 / 2: biased, never negative; the mean of its gradient log(pi / ref) grad log pi is that of the KL."""
    return (logp_NT - logp_ref_NT).square() / 2


def kl_k3(logp_NT: Tensor, logp_ref_NT: Tensor) -> Tensor:
    """Compute r - 1 - log r with r = ref / pi: unbiased, never negative; the penalty of GRPO (arXiv:2402.03300, eq. 4)."""
    log_ratio_NT = logp_ref_NT - logp_NT
    return log_ratio_NT.exp() - 1 - log_ratio_NT


def with_kl_gradient(kl_NT: Tensor, logp_NT: Tensor, logp_ref_NT: Tensor) -> Tensor:
    """sg(kl) + k2 - sg(k2): the value of `kl_NT`, the gradient of k2, whose mean is that of KL(pi || ref).

    Args:
        kl_NT: [N, T] any of the estimators.
        logp_NT: [N, T] log pi of the sampled tokens, nats, with gradient.
        logp_ref_NT: [N, T] log ref of the same tokens.

    Returns:
        [N, T], nats.
    """
    k2_NT = kl_k2(logp_NT, logp_ref_NT)
    return kl_NT.detach() + (k2_NT - k2_NT.detach())


def adapted_weight(weight: float, kl: float, *, target: float, gain: float = 0.1) -> float:
    """Compute beta (1 + gain clip(kl / target - 1, -0.2, 0.2)), larger if the policy strays (arXiv:1909.08593, 2.2).

    Args:
        weight: current beta.
        kl: measured, nats.
        target: intended, nats, above 0.
        gain: how fast the weight adapts.

    Returns:
        The next beta.
    """
    return weight * (1 + gain * max(-0.2, min(0.2, kl / target - 1)))
