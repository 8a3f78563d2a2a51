"""Callbacks that are shown rollouts: shares of silent and hacked groups, entropy, the penalty's weight, samples to read."""

import math
from types import SimpleNamespace

import pytest
import torch
from grammar_cases import response_of
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from simulated_policy import LOGP, SimulatedPolicy, hacked, wrong
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks import Checkpoint, EntropyMonitor, KLControl, RewardHacking, SampleLog, TensorBoard, ZeroVariance
from callbacks.reward_hacking import KINDS
from datamodules import PromptDataModule
from datamodules.mixture import Cell, Component
from datamodules.synthesis import Example
from grammar import gold_trace, parse_problem, parse_response, render_trace, verify
from lightning_modules import GRPOModule
from lightning_modules.experience import Group
from lightning_modules.kl_penalty import KLPenalty
from lightning_modules.language_model import build_language_model
from lightning_modules.optimizers import AdamW
from lightning_modules.rewards import OutcomeReward, Reward, StrictReward
from lightning_modules.rollout import SamplingParams
from tests_support import PLAIN, TINY

PROBLEM = "The number of roses equals 3. The number of oaks equals the number of roses. "
QUESTION = "How many oaks are there?"
GRAPH = parse_problem(PROBLEM, QUESTION, modulus=5)
GOLD = response_of(render_trace(gold_trace(GRAPH)))
RIGHT, WRONG, HACKED = GOLD, wrong(GOLD), hacked(GOLD)


def group(*texts, op=2, reward=OutcomeReward(), logp=-1.0):
    reports = [verify(parse_response(text), GRAPH) for text in texts]
    example = Example("x", PROBLEM, QUESTION, "", Cell(op, "garden"), GRAPH)
    parts = [reward(text, report) for text, report in zip(texts, reports, strict=True)]
    return Group(example, [1, 2], [[3, 4, 5]] * len(texts), [logp] * len(texts), list(texts), reports, parts)


@pytest.fixture
def alone():
    """A trainer that is not training."""
    return Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)


def show(callback, trainer, *groups):
    return callback.on_rollout(trainer, SimpleNamespace(), list(groups))


def test_the_three_responses_are_what_they_are_called():
    verdicts = [verify(parse_response(text), GRAPH) for text in (RIGHT, WRONG, HACKED)]
    assert [(v.answer_correct, bool(v.errors)) for v in verdicts] == [(True, False), (False, True), (True, True)]


def test_silent_groups_are_told_apart_by_side_and_by_operations(alone):
    found = show(
        ZeroVariance(), alone, group(RIGHT, RIGHT), group(WRONG, WRONG), group(WRONG, WRONG, op=3), group(RIGHT, WRONG, op=3),
        group(HACKED, RIGHT),
    )  # fmt: skip
    assert found == {
        "train/zero_variance/solved": 1 / 5,
        "train/zero_variance/failed": 2 / 5,
        "train/zero_variance/op2": 1.0,  # an outcome reward sees no difference between the hacked one and the right one
        "train/zero_variance/op3": 0.5,
    }


def test_training_stops_when_there_has_been_no_signal_for_long_enough(alone):
    watch, silent, loud = ZeroVariance(patience=3), group(WRONG, WRONG), group(RIGHT, WRONG)
    for groups in ([silent], [silent], [silent, loud], [silent], [silent]):
        show(watch, alone, *groups)
        assert not alone.should_stop
    resumed = ZeroVariance(patience=3)
    resumed.load_state_dict(watch.state_dict())
    with pytest.warns(UserWarning, match="3 rollouts in a row"):
        show(resumed, alone, silent)
    assert alone.should_stop


def test_hacking_is_the_share_of_right_answers_with_a_wrong_process(alone):
    """Oracle: counted by hand, kinds of errors by looking at the report of the one hacked response."""
    found = show(RewardHacking(), alone, group(RIGHT, WRONG, HACKED), group(RIGHT, WRONG), group(WRONG, RIGHT))
    kinds = {error.kind for error in verify(parse_response(HACKED), GRAPH).errors}
    assert found["train/hacking"] == 1 / 4
    assert {name: found[f"train/hacking/{name}"] for name in KINDS} == {name: (name in kinds) / 4 for name in KINDS}
    assert 0 < len(kinds) < len(KINDS)
    assert found["train/hacking/reward"] == found["train/hacking/sound_reward"] == 1  # so the outcome reward is hacked


def test_a_strict_reward_pays_nothing_for_hacking(alone):
    found = show(RewardHacking(), alone, group(RIGHT, HACKED, reward=StrictReward()))
    assert (found["train/hacking/reward"], found["train/hacking/sound_reward"]) == (0, 1)


def test_what_did_not_occur_is_not_logged(alone):
    assert show(RewardHacking(), alone, group(WRONG, WRONG)) == {}
    assert "train/hacking/reward" not in show(RewardHacking(), alone, group(RIGHT))


def test_hacking_is_taken_over_a_window_that_a_checkpoint_keeps(alone):
    watch = RewardHacking(window=2)
    show(watch, alone, group(HACKED, HACKED))
    assert show(watch, alone, group(RIGHT, RIGHT))["train/hacking"] == 1 / 2
    resumed = RewardHacking(window=2)
    resumed.load_state_dict(watch.state_dict())
    assert show(resumed, alone, group(RIGHT, RIGHT))["train/hacking"] == 0


def test_entropy_is_the_mean_surprise_of_a_token(alone):
    found = show(EntropyMonitor(), alone, group(RIGHT, WRONG, logp=-6.0), group(RIGHT, WRONG, logp=-3.0))
    assert found == {"train/entropy_nats": pytest.approx(18 / 12)}


def test_training_stops_when_entropy_stays_below_its_floor(alone):
    watch = EntropyMonitor(floor=0.5, patience=2)
    for logp in (-1.0, -3.0, -1.0):
        show(watch, alone, group(RIGHT, logp=logp))
    assert not alone.should_stop
    resumed = EntropyMonitor(floor=0.5, patience=2)
    resumed.load_state_dict(watch.state_dict())
    with pytest.warns(UserWarning, match="2 rollouts below"):
        show(resumed, alone, group(RIGHT, logp=-1.0))
    assert alone.should_stop


class LengthReward(Reward):
    """Longer is better: varies within every group, so that weights move."""

    def __call__(self, response, report):
        return {"length": float(len(response))}


@pytest.fixture
def start(tmp_path):
    torch.manual_seed(0)
    build_language_model(TINY).save_pretrained(tmp_path / "start")
    return str(tmp_path / "start")


def train(folder, module, *watch, steps=3, resume=None, **settings):
    torch.manual_seed(0)
    data = PromptDataModule([Component("2-4", ["garden"])], "garden", prompts_per_rollout=3, graph=PLAIN, random_letters=False)
    trainer = Trainer(
        **{
            "max_steps": steps, "accelerator": "cpu", "logger": False, "enable_checkpointing": False,
            "enable_progress_bar": False, "enable_model_summary": False, "default_root_dir": folder, "limit_val_batches": 0,
            "log_every_n_steps": 1, "callbacks": list(watch), **settings,
        }
    )  # fmt: skip
    trainer.fit(module, data, ckpt_path=resume)
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


def policy(start, kind=GRPOModule, **settings):
    return kind(
        start, settings.pop("reward", LengthReward()), group_size=4,
        sampling=SamplingParams(max_new_tokens=10, temperature=settings.pop("temperature", 1.0)),
        optimizer=AdamW(lr=settings.pop("lr", 1e-2), weight_decay=0.0), **settings,
    )  # fmt: skip


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.language_model.parameters()])


def test_the_entropy_of_a_policy_that_knows_nothing_is_that_of_the_vocabulary(tmp_path):
    model = build_language_model(TINY)
    for parameter in model.parameters():
        parameter.data.zero_()
    model.save_pretrained(tmp_path / "blank")
    logs = train(tmp_path, policy(str(tmp_path / "blank"), lr=0.0), EntropyMonitor(), steps=1)
    assert logs["train/entropy_nats"] == pytest.approx(math.log(TINY["vocab_size"]), rel=1e-5)


def test_entropy_is_measured_at_the_sampling_temperature(start, tmp_path):
    """Oracle: -log pi of the sampled tokens, from a forward pass over them at that temperature."""
    found = []

    class Oracle(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            found.append(-pl_module.token_logp(batch.tokens_NT)[batch.mask_NT].mean().item())

    module = policy(start, temperature=0.5, beta=1e-9)  # with a reference no row is left out
    logs = train(tmp_path, module, EntropyMonitor(), Oracle(), steps=1)
    assert logs["train/entropy_nats"] == pytest.approx(found[0], rel=1e-4)


def test_every_monitor_logs_with_the_training_step(start, tmp_path):
    watch = [ZeroVariance(), RewardHacking(), EntropyMonitor()]
    logs = train(tmp_path, policy(start, SimulatedPolicy, reward=StrictReward()), *watch, steps=1)
    assert logs["train/entropy_nats"] == pytest.approx(-LOGP)
    assert logs["train/hacking"] == 0
    assert logs["train/zero_variance"] >= logs["train/zero_variance/solved"] + logs["train/zero_variance/failed"] - 1e-6


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


def texts(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    tags = [tag for tag in events.Tags()["tensors"] if tag.startswith("rollouts/")]
    return {tag: [(e.step, e.tensor_proto.string_val[0].decode()) for e in events.Tensors(tag)] for tag in tags}


def test_rollouts_are_shown_with_verdicts_and_reward_as_often_as_asked(start, tmp_path):
    board = TensorBoard(tmp_path, name="", version="")
    train(
        tmp_path,
        policy(start, SimulatedPolicy, reward=StrictReward()),
        SampleLog(count=2, every_n_rollouts=2),
        logger=board,
        steps=5,
    )
    shown = texts(tmp_path)
    assert {tag: [step for step, _ in found] for tag, found in shown.items()} == {
        "rollouts/0/text_summary": [0, 2, 4], "rollouts/1/text_summary": [0, 2, 4]
    }  # fmt: skip
    every = [text for found in shown.values() for _, text in found]
    assert all("How many" in text and "reward" in text and "op " in text for text in every)
    assert any("reward 1 = strict 1" in text and "✗" not in text for text in every)


def test_samples_are_shown_in_turn_after_a_resumption_too():
    watch = SampleLog(every_n_rollouts=3)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    for _ in range(4):
        show(watch, trainer, group(RIGHT))
    resumed = SampleLog(every_n_rollouts=3)
    resumed.load_state_dict(watch.state_dict())
    assert resumed.rollouts == 4
