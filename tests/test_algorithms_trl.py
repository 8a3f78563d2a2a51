"""Formulas against those of TRL's GRPOTrainer on fixed tensors; skips where TRL is not installed (`pip install -e .[peers]`)."""

from collections import defaultdict
from unittest.mock import MagicMock

import pytest
import torch

from lightning_modules.formulas import (
    cispo_surrogate,
    clipped_surrogate,
    constant_length_mean,
    kl_k3,
    sapo_surrogate,
    sequence_log_ratio,
    sequence_mean,
    token_log_ratio,
    token_mean,
)
from lightning_modules.rewards import OverlongPenalty

trl = pytest.importorskip("trl", reason="compares with TRL, which is not installed")
MEANS = {
    "grpo": sequence_mean,
    "dapo": token_mean,
    "bnpo": token_mean,
    "dr_grpo": lambda terms, mask: constant_length_mean(terms, mask, length=11),
}


@pytest.fixture
def tensors():
    draw = torch.Generator().manual_seed(0)
    logp, old, ref = (torch.randn(6, 7, dtype=torch.float64, generator=draw) - 2 for _ in range(3))
    mask = torch.arange(7) < torch.tensor([[1], [7], [3], [5], [2], [6]])
    return logp.requires_grad_(), old, ref, torch.randn(6, dtype=torch.float64, generator=draw), mask


def trl_loss(tensors, loss_type, level, beta, high, delta, weights=None):
    """GRPOTrainer._compute_loss with everything around the formula replaced."""
    logp, old, ref, advantages, mask = tensors
    trainer = MagicMock(
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, importance_sampling_level=level, beta=beta, loss_type=loss_type,
        epsilon_low=0.2, epsilon_high=high, use_vllm=weights is not None, max_completion_length=11,
        current_gradient_accumulation_steps=1, _entropy_bonus_enabled=False, aux_loss_enabled=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
    )  # fmt: skip
    trainer.args.configure_mock(
        use_bias_correction_kl=False, delta=delta, steps_per_generation=1, sapo_temperature_pos=1.0, sapo_temperature_neg=1.05
    )
    trainer.accelerator.configure_mock(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x)
    trainer._get_per_token_logps_and_entropies.return_value = (logp, torch.zeros_like(old), None)
    ids = torch.zeros_like(mask, dtype=torch.int64)
    inputs = {
        "prompt_ids": ids, "prompt_mask": ids, "completion_ids": ids, "completion_mask": mask.double(), "advantages": advantages,
        "old_per_token_logps": old, "ref_per_token_logps": ref, "num_items_in_batch": mask.sum(),
        "importance_sampling_ratio": weights,
    }  # fmt: skip
    return trl.GRPOTrainer._compute_loss(trainer, None, inputs)


@pytest.mark.parametrize("loss_type", MEANS)
@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize(("beta", "high", "delta"), [(0.0, 0.2, None), (0.1, 0.28, None), (0.04, 0.2, 1.5)])
def test_loss_and_gradient_equal_those_of_trl(tensors, loss_type, level, beta, high, delta):
    logp, old, ref, advantages, mask = tensors
    log_ratio = token_log_ratio(logp, old) if level == "token" else sequence_log_ratio(logp, old, mask)
    gain = clipped_surrogate(log_ratio, advantages[:, None], low=0.2, high=high, dual=delta) - beta * kl_k3(logp, ref)
    ours, theirs = -MEANS[loss_type](gain, mask), trl_loss(tensors, loss_type, level, beta, high, delta)
    assert torch.allclose(ours, theirs)
    assert torch.allclose(*(torch.autograd.grad(loss, logp, retain_graph=True)[0] for loss in (ours, theirs)))


def agree(logp, ours, theirs):
    assert torch.allclose(ours, theirs)
    assert torch.allclose(*(torch.autograd.grad(loss, logp, retain_graph=True)[0] for loss in (ours, theirs)))


@pytest.mark.parametrize("most", [1.2, 5.0])
def test_cispo_equals_that_of_trl(tensors, most):
    logp, old, ref, advantages, mask = tensors
    gain = cispo_surrogate(token_log_ratio(logp, old), logp, advantages[:, None], most=most)
    agree(logp, -token_mean(gain - 0.1 * kl_k3(logp, ref), mask), trl_loss(tensors, "cispo", "token", 0.1, most, None))


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_sapo_equals_that_of_trl(tensors, level):
    logp, old, _, advantages, mask = tensors
    log_ratio = token_log_ratio(logp, old) if level == "token" else sequence_log_ratio(logp, old, mask)
    gain = sapo_surrogate(log_ratio, advantages[:, None], gain=1.0, loss=1.05)
    agree(logp, -sequence_mean(gain, mask), trl_loss(tensors, "sapo", level, 0.0, 0.2, None))


def test_weights_of_the_sampler_are_where_trl_has_them(tensors):
    """On the surrogate, not on the penalty."""
    logp, old, ref, advantages, mask = tensors
    weights = torch.rand(6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gain = weights * clipped_surrogate(token_log_ratio(logp, old), advantages[:, None], low=0.2, high=0.2)
    agree(logp, -token_mean(gain - 0.1 * kl_k3(logp, ref), mask), trl_loss(tensors, "dapo", "token", 0.1, 0.2, None, weights))


def test_the_overlong_penalty_equals_that_of_trl():
    lengths = [3, 12, 13, 17, 20, 25]
    theirs = pytest.importorskip("trl.rewards").get_soft_overlong_punishment(max_completion_len=20, soft_punish_cache=8)
    assert [OverlongPenalty(8)(n, 20) for n in lengths] == pytest.approx(theirs([[0] * n for n in lengths]))
