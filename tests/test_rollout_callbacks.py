"""Callbacks that are shown rollouts: shares of silent and hacked groups, entropy, samples to read."""

import json
import math
from types import SimpleNamespace

import pytest
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from processes import run
from rollout_runs import GRAPH, HACKED, RIGHT, WRONG, group, policy, train
from simulated_policy import LOGP, Simulated, SimulatedPolicy, hacked, wrong
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks import EdgeOfCompetence, EntropyMonitor, RewardHacking, SampleLog, TensorBoard, ZeroVariance
from callbacks.monitors.reward_hacking import KINDS
from grammar import parse_response, verify
from lightning_modules import PPOModule
from lightning_modules.models.language_model import build_language_model
from lightning_modules.policy.trust_region import KLPenalty
from lightning_modules.rewards import Reward, StrictReward
from tests_support import TINY


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
            found.append(-pl_module.token_logp(batch.rows)[batch.mask_NT].mean().item())

    module = policy(start, temperature=0.5, beta=1e-9)  # with a reference no row is left out
    logs = train(tmp_path, module, EntropyMonitor(), Oracle(), steps=1)
    assert logs["train/entropy_nats"] == pytest.approx(found[0], rel=1e-4)


class SimulatedPPO(Simulated, PPOModule):
    def skill(self, op):
        return 0.5


@pytest.mark.parametrize("kind", [SimulatedPolicy, SimulatedPPO])
def test_every_monitor_logs_with_the_training_step(start, tmp_path, kind):
    watch = [ZeroVariance(), RewardHacking(), EntropyMonitor(), EdgeOfCompetence(k=2, problems=2)]
    logs = train(tmp_path, policy(start, kind, reward=StrictReward()), *watch, steps=1)
    assert logs["train/edge/op_lowest"] >= 2
    assert logs["train/entropy_nats"] == pytest.approx(-LOGP)
    assert logs["train/hacking"] == 0
    assert logs["train/zero_variance"] >= logs["train/zero_variance/solved"] + logs["train/zero_variance/failed"] - 1e-6


class GoldLength(Reward):
    """The length of the gold text, which only `beside` knows."""

    def __init__(self, length=-1):
        self.length = length

    def beside(self, solution):
        return GoldLength(len(solution))

    def __call__(self, response, report):
        return {"gold": float(self.length)}


def test_a_reward_is_asked_beside_the_gold_solution_of_its_own_problem(start, tmp_path):
    seen = []

    class Watch(Callback):
        def on_rollout(self, trainer, pl_module, groups):
            seen.extend(groups)

    train(tmp_path, policy(start, SimulatedPolicy, reward=GoldLength()), Watch(), steps=1)
    assert len({len(group.example.solution) for group in seen}) > 1
    assert all(part == {"gold": len(group.example.solution)} for group in seen for part in group.parts)


class Sloppy(SimulatedPolicy):
    """What is not solved is hacked or answered wrongly, by the length of the solution."""

    def skill(self, op):
        return 0.5

    def write(self, gold, *, right):
        return gold if right else hacked(gold) if len(gold) % 2 else wrong(gold)


class Record(Callback):
    """What this process sampled, and what was logged of it, rollout by rollout."""

    def __init__(self, folder):
        self.folder, self.found = folder, []

    def on_rollout(self, trainer, pl_module, groups):
        completions = [
            {"right": report.answer_correct, "sound": not report.errors, "tokens": len(tokens), "logp": logp}
            for group in groups
            for report, tokens, logp in zip(group.reports, group.completions, group.logp, strict=True)
        ]
        self.found.append({"completions": completions, "flat": [len({*group.rewards}) == 1 for group in groups]})

    def on_train_batch_end(self, trainer, pl_module, *args):
        self.found[-1]["logged"] = {name: value.item() for name, value in trainer.callback_metrics.items()}
        self.found[-1]["weight"] = pl_module.kl_weight

    def on_train_end(self, trainer, pl_module):
        (self.folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(self.found))


def _share(folder, start):
    watch = [ZeroVariance(), RewardHacking(), EntropyMonitor(), Record(folder)]
    module = policy(start, Sloppy, reward=StrictReward(), beta=0.1, kl=KLPenalty(target=1e-3, gain=1.0))
    train(folder, module, *watch, devices=2, strategy=DDPStrategy())


def test_processes_log_and_decide_by_what_all_of_them_sampled(start, tmp_path):
    """Oracle: what each process sampled, put together here."""
    assert run(_share, tmp_path, start, world=2) == [0, 0]
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert len(ranks[0]) == 3
    for one, other in zip(*ranks, strict=True):
        every = one["completions"] + other["completions"]
        right = [sample for sample in every if sample["right"]]
        wanted = {
            "train/zero_variance": sum(one["flat"] + other["flat"]) / 6,
            "train/hacking": sum(not sample["sound"] for sample in right) / len(right),
            "train/entropy_nats": -sum(s["logp"] for s in every) / sum(s["tokens"] for s in every),
        }
        assert 0 < wanted["train/hacking"] < 1
        for rank in (one, other):
            assert {name: rank["logged"][name] for name in wanted} == pytest.approx(wanted)
        assert one["weight"] == other["weight"]
        assert one["completions"] != other["completions"]
    assert ranks[0][0]["weight"] != ranks[0][-1]["weight"]


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
