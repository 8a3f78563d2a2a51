"""RL under Lightning: Trainer flags do what they say, processes take the updates of one, a run goes on within a rollout."""

from pathlib import Path
from typing import ClassVar

import pytest
import torch
from lightning import seed_everything
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import SimpleProfiler
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from policy_runs import Descent, HalfwayCredit, LengthReward, Ragged, Watch, all_weights, build, fit, start_weights, weights
from processes import run
from torch.distributed.tensor import DTensor

from lightning_modules import GRPOModule, PPOModule
from lightning_modules.models.critic import SeparateCritic, SharedCritic
from lightning_modules.policy.collector import GroupSettings
from lightning_modules.policy.policy_module import PolicyModule
from lightning_modules.policy.ppo import ValueLearning
from lightning_modules.policy.trust_region import KLPenalty
from lightning_modules.rollout import SamplingParams
from lightning_modules.rollout.sampling import uniform_points
from lightning_modules.stage import SLOW, bf16_slowdown
from tests_support import grouped


def test_gradient_clip_val_bounds_an_update(start, tmp_path):
    module = build(start, lr=1.0)
    fit(module, tmp_path, max_steps=1, gradient_clip_val=1e-2)
    assert (weights(module) - start_weights(start)).norm().item() == pytest.approx(1e-2, rel=1e-3)


def test_max_steps_counts_updates(start, tmp_path):
    trainer = fit(build(start, minibatches=4, epochs=2), tmp_path, max_steps=3, accumulate_grad_batches=2)
    assert trainer.global_step == 3


@pytest.mark.parametrize(("accumulate", "expected"), [(1, [2, 4]), (2, [1, 2, 3, 4, 5])])
def test_val_check_interval_counts_training_steps(start, tmp_path, accumulate, expected):
    seen = []

    class Validations(Callback):
        def on_validation_start(self, trainer, pl_module):
            seen.append(trainer.global_step)

    interval = {"val_check_interval": 2, "check_val_every_n_epoch": None, "limit_val_batches": 1}
    more = {"accumulate_grad_batches": accumulate, "callbacks": [Validations()], **interval}
    fit(build(start, minibatches=accumulate), tmp_path, max_steps=5, **more)
    assert seen == expected


@pytest.mark.skipif(bf16_slowdown() > SLOW, reason="this CPU has no units for bfloat16")
def test_mixed_precision_samples_and_learns_in_bfloat16(start, tmp_path):
    watch, module, kinds = Watch(), build(start), set()
    module.configure_model()
    module.language_model.lm_head.register_forward_hook(lambda head, args, output: kinds.add(output.dtype))
    fit(module, tmp_path, precision="bf16-mixed", callbacks=[watch])
    assert kinds == {torch.bfloat16}
    assert {p.dtype for p in module.language_model.parameters()} == {torch.float32}
    assert watch.column("train/ratio") == [1.0] * 3


def test_the_profiler_times_the_steps(start, tmp_path):
    profiler = SimpleProfiler()
    fit(build(start), tmp_path, profiler=profiler)
    durations = profiler.recorded_durations["run_training_batch"]
    assert len(durations) == 3


def recipe(name: str, minibatches: int) -> tuple[type[PolicyModule], dict]:
    moving = {"beta": 0.2, "kl": KLPenalty(reference_decay=0.9), "minibatches": minibatches}
    critic = {"shared": SharedCritic, "separate": SeparateCritic}.get(name)
    if critic is None:
        return GRPOModule, moving
    values = ValueLearning(clip=None, weight=0.1)
    return PPOModule, moving | {"critic": critic(), "values": values, "reward": LengthReward(0.1), "credit": HalfwayCredit()}


def _train(
    start: str, out: Path, strategy: str, minibatches: int, name: str, ragged: bool, steps: int = 3, resume: str | None = None
) -> None:
    """Three updates (or `steps`) on the same four problems a rollout, in one process or shared by two."""
    torch.manual_seed(0)
    world = 1 if strategy == "auto" else 2
    kind = {
        "auto": lambda: "auto", "ddp": DDPStrategy, "sharded": lambda: ModelParallelStrategy(2, 1),
        "full": lambda: ModelParallelStrategy(2, 1, save_distributed_checkpoint=False),
    }[strategy]()  # fmt: skip
    module_type, settings = recipe(name, minibatches)
    module = build(start, module_type, **settings)
    module.optimizer = Descent(0.1, momentum=0.5)  # Lightning cannot resume sharded optimisers without a state
    if ragged:
        module = Ragged(
            start, LengthReward(), optimizer=Descent(0.1), sampling=SamplingParams(max_new_tokens=9),
            **grouped(resample=2, **settings),
        )  # fmt: skip
    trainer = fit(
        module, out, prompts=4 // world, devices=world, strategy=kind, accumulate_grad_batches=minibatches,
        max_steps=steps, resume=resume,
    )  # fmt: skip
    out.mkdir(exist_ok=True)
    if steps < 3:
        trainer.save_checkpoint(out / "last.ckpt")
    if module.reference.model is not None:
        parts = [isinstance(p, DTensor) for p in module.reference.model.parameters()]
        assert all(parts) if strategy in ("sharded", "full") else not any(parts)
    logged = {name: value for name, value in trainer.callback_metrics.items() if name.startswith("train/")}
    torch.save((all_weights(module), logged), out / f"rank{trainer.global_rank}.pt")


def ends(start, out, strategy, minibatches=1, name="grpo", *, ragged=False, **more):
    world = 1 if strategy == "auto" else 2
    settings = (start, out, strategy, minibatches, name, ragged, *more.values())
    assert run(_train, *settings, world=world, timeout=120) == [0] * world
    return [torch.load(out / f"rank{rank}.pt") for rank in range(world)]


CASES = [(s, m, n) for n in ("grpo", "shared", "separate") for s in ("ddp", "sharded") for m in (1, 2)]


@pytest.mark.long
@pytest.mark.parametrize(("strategy", "minibatches", "name"), CASES)
def test_two_processes_take_the_updates_of_one(start, tmp_path, strategy, minibatches, name):
    ((one, alone),) = ends(start, tmp_path / "one", "auto", name=name)
    two, logged = zip(*ends(start, tmp_path / "two", strategy, minibatches, name), strict=True)
    before = start_weights(start)
    moved = (one[: len(before)] - before).abs().max()
    assert moved > 1e-3
    assert torch.equal(two[0], two[1])
    assert torch.allclose(one, two[0], rtol=1e-4, atol=1e-4 * moved)
    assert logged[0] == logged[1]
    if minibatches == 1:  # with more, the last minibatch of two processes holds other rows than that of one
        assert logged[0]["train/loss"].item() == pytest.approx(alone["train/loss"].item(), rel=1e-3, abs=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("name", ["grpo", "separate"])
@pytest.mark.parametrize(
    ("source", "target"),
    [("auto", "ddp"), ("ddp", "auto"), ("ddp", "sharded"), ("auto", "sharded"), ("sharded", "sharded"), ("full", "auto")],
)
def test_a_run_goes_on_with_another_number_of_processes(start, tmp_path, source, target, name):
    """Oracle: one process from start to end; the reference, which moves, goes on where it was."""
    ((one, _),) = ends(start, tmp_path / "one", "auto", name=name)
    ends(start, tmp_path / "source", source, name=name, steps=2)
    rest = ends(start, tmp_path / "target", target, name=name, steps=3, resume=str(tmp_path / "source/last.ckpt"))
    moved = (one[: len(start_weights(start))] - start_weights(start)).abs().max()
    for weights_there, _ in rest:
        assert torch.allclose(one, weights_there, rtol=1e-4, atol=1e-4 * moved)


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["ddp", "sharded"])
def test_processes_that_sample_differently_often_and_long_do_not_wait_for_ever(start, tmp_path, strategy):
    two, _ = zip(*ends(start, tmp_path / "two", strategy, ragged=True), strict=True)
    assert torch.equal(two[0], two[1])
    assert not torch.equal(two[0], start_weights(start))


class Recorded(GRPOModule):
    """Remembers the random numbers that decide its samples."""

    points: ClassVar[list[torch.Tensor]] = []

    def complete(self, prompt_ids, group_size, params, generator=None, *, share=False):
        self.points.append(uniform_points(len(prompt_ids), group_size, params, generator))
        return super().complete(prompt_ids, group_size, params, share=share)


def _draw(start: str, out: Path) -> None:
    seed_everything(0, verbose=False)
    module = Recorded(
        start, LengthReward(), group=GroupSettings(4), optimizer=Descent(0.1), sampling=SamplingParams(max_new_tokens=5)
    )
    trainer = fit(module, out, max_steps=2, prompts=2, devices=2, strategy=DDPStrategy())
    torch.save(torch.cat(module.points).flatten(), out / f"draws{trainer.global_rank}.pt")


def test_processes_draw_numbers_of_their_own(start, tmp_path):
    assert run(_draw, start, tmp_path, world=2, timeout=120) == [0, 0]
    numbers = torch.cat([torch.load(tmp_path / f"draws{rank}.pt") for rank in (0, 1)])
    assert len(numbers) == len(numbers.unique()) == 2 * 2 * 2 * 4 * 5  # processes, rollouts, problems, completions, tokens


MOVING = {"minibatches": 2, "epochs": 2, "beta": 0.1, "kl": KLPenalty(target=1e-6, reference_decay=0.9)}


@pytest.mark.parametrize("module_type", [GRPOModule, PPOModule])
@pytest.mark.parametrize("update", [4, 6])  # the last of a rollout, and one in the middle
def test_a_run_that_goes_on_takes_the_updates_it_would_have_taken(start, tmp_path, update, module_type):
    whole, first, rest = (build(start, module_type, **MOVING) for _ in range(3))
    watches = [Watch() for _ in range(3)]
    fit(whole, tmp_path, max_steps=8, callbacks=[watches[0]])
    fit(first, tmp_path, max_steps=update, callbacks=[watches[1]]).save_checkpoint(tmp_path / "x.ckpt")
    fit(rest, tmp_path, max_steps=8, callbacks=[watches[2]], resume=tmp_path / "x.ckpt")
    assert torch.equal(all_weights(whole), all_weights(rest))
    assert watches[0].logs == watches[1].logs + watches[2].logs
    held = torch.load(tmp_path / "x.ckpt", weights_only=True)["loops"]["fit_loop"]["state_dict"]["combined_loader"][0]["held"]
    assert len(held[0]) == (0 if update == 4 else 2)


def test_a_rollout_of_two_processes_is_not_gone_on_with_by_one(start, tmp_path):
    trainer = fit(build(start, **MOVING), tmp_path, max_steps=2)
    loader = trainer.train_dataloader
    state = loader.state_dict()
    with pytest.raises(ValueError, match="within a rollout of 2 processes"):
        loader.load_state_dict(state | {"held": state["held"] * 2})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("name", ["grpo", "shared", "separate"])
def test_a_gpu_samples_and_takes_its_first_step_from_the_sampling_policy(start, tmp_path, name, precision):
    module_type, settings = recipe(name, 2)
    settings |= {"reward": LengthReward(0.1), "sampling": SamplingParams(max_new_tokens=12)}
    watch, module = Watch(), module_type(start, optimizer=Descent(0.1), **grouped(**settings))
    fit(module, tmp_path, accelerator="gpu", precision=precision, accumulate_grad_batches=2, callbacks=[watch])
    assert watch.column("train/ratio") == pytest.approx([1.0] * 6, abs=1e-5)
    assert not torch.equal(weights(module).cpu(), start_weights(start))
