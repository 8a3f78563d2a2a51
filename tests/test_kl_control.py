"""The weight of the KL penalty, steered by a callback."""

from types import SimpleNamespace

import pytest
import torch
from lightning import Trainer
from rollout_runs import policy, train

from callbacks import Checkpoint, KLControl
from lightning_modules.policy.trust_region import KLPenalty


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.language_model.parameters()])


def test_the_weight_follows_what_was_measured():
    """Oracle: the rule, written out; measured at twice the target it grows by a clipped 2%, at half it falls by 2%."""
    control, module = KLControl(target=0.1, highest=1.05), SimpleNamespace(beta=1.0, kl=KLPenalty())
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    control.on_train_start(trainer, module)

    def after(*measured):
        control.measured = list(measured)
        control.on_rollout(trainer, module, [])
        return module.kl_weight

    assert after() == 1.0
    assert after(0.1, 0.3) == pytest.approx(1.02)
    assert after(0.05) == pytest.approx(1.02 * 0.98)
    assert after(0.11) == pytest.approx(1.02 * 0.98 * 1.01)
    for _ in range(5):
        after(1.0)
    assert module.kl_weight == 1.05
    resumed, other = KLControl(target=0.1), SimpleNamespace(beta=1.0, kl=KLPenalty())
    resumed.load_state_dict(control.state_dict())
    resumed.on_train_start(trainer, other)
    assert other.kl_weight == 1.05


def test_the_steered_weight_is_the_one_that_the_loss_takes(start, tmp_path):
    fixed, steered, free = policy(start, beta=0.5), policy(start, beta=0.1), policy(start, beta=0.1)
    train(tmp_path, fixed)
    logs = train(tmp_path, steered, KLControl(target=1.0, lowest=0.5, highest=0.5))
    train(tmp_path, free)
    assert torch.equal(weights(fixed), weights(steered)) and not torch.equal(weights(fixed), weights(free))
    assert logs["train/kl_weight"] == 0.5


def test_a_tight_target_raises_the_weight_and_a_resumed_run_ends_alike(start, tmp_path):
    keep = Checkpoint(dirpath=tmp_path / "checkpoints", every_n_train_steps=1, save_top_k=-1, filename="{step}")
    whole, resumed = KLControl(target=1e-4, gain=1.0), KLControl(target=1e-4, gain=1.0)
    logs = train(tmp_path, policy(start, beta=0.1), whole, keep, enable_checkpointing=True, steps=5)
    train(tmp_path, policy(start, beta=0.1), resumed, resume=tmp_path / "checkpoints/step=2.ckpt", steps=4)
    assert logs["train/kl_weight"] == pytest.approx(0.1 * 1.2**3 * 0.8)  # no divergence yet in the first step, ever more then
    assert resumed.weight > 0.1
    kept = torch.load(tmp_path / "checkpoints/step=2.ckpt", weights_only=True)["callbacks"]
    state = next(state for name, state in kept.items() if name.startswith("KLControl"))
    assert state["weight"] == pytest.approx(0.08) and len(state["measured"]) == 1


@pytest.mark.parametrize("settings", [{"target": 0.0}, {"target": 1.0, "lowest": 2.0, "highest": 1.0}])
def test_control_towards_nothing_is_refused(settings):
    with pytest.raises(ValueError, match="KLControl"):
        KLControl(**settings)


def test_control_without_a_penalty_is_refused(start, tmp_path):
    with pytest.raises(ValueError, match="beta"):
        train(tmp_path, policy(start), KLControl(target=1.0))


def test_two_controls_of_one_weight_are_refused(start, tmp_path):
    with pytest.raises(ValueError, match="steers the weight already"):
        train(tmp_path, policy(start, beta=0.1, kl=KLPenalty(target=0.1)), KLControl(target=1.0))
