"""Values of callbacks and data modules that no other test fixes: clocks, files and weights of runs that go on, limits that are
met exactly, what a resumed run keeps, and held-out problems of any seed."""

import json
import re
from types import SimpleNamespace

import pytest
import torch
from lightning import LightningModule
from lightning.pytorch.callbacks import Callback
from rollout_runs import GRAPH, RIGHT, WRONG, group
from test_pretrain import trainer
from torch.utils.data import DataLoader

import callbacks.monitors.throughput as rates
import callbacks.records.run_record as run_record
from callbacks import ComputeBudget, ComputeLedger, EdgeOfCompetence, StopAtPeak, Throughput, ZeroVariance
from callbacks.records.resume import ResumeContract
from callbacks.records.run_record import RunRecord
from datamodules import PretrainDataModule, PromptDataModule
from datamodules.problems.mixture import Cell, Component
from datamodules.reasoning import HeldOut
from grammar import parse_response, verify
from lightning_modules.models.compute import ComputeMeter
from tests_support import PLAIN

SCORES = {1: 0.2, 2: 0.5, 3: 0.4, 4: 0.3}  # by update
TOKENS = 10  # of an update
VALIDATED = {"limit_val_batches": 1, "check_val_every_n_epoch": None}


class Small(LightningModule):
    """One weight, from which every update takes 1, and what callbacks read of a module."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.register_buffer("tokens_seen", torch.zeros((), dtype=torch.int64))
        self.compute = ComputeMeter()

    def training_step(self, batch, batch_idx):
        self.tokens_seen += TOKENS
        self.compute.add("update", (torch.tensor(TOKENS), torch.tensor(5 * TOKENS)))
        return {"loss": self.weight.sum(), "tokens": torch.tensor(TOKENS)}

    def validation_step(self, batch, batch_idx):
        self.log("val/score", SCORES[self.trainer.global_step])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)

    def train_dataloader(self):
        return DataLoader(range(100))

    def val_dataloader(self):
        return DataLoader(range(1))

    def identity(self):
        return {"weights": str(self.weight.item())}

    def ledger(self, total):
        phases = {name: {"tokens": counts[0]} for name, counts in total["phases"].items()}
        return {"phases": phases, "flops": None, "nominal_tokens": 0.0}


class Fails(Callback):
    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == 4:
            raise RuntimeError("the machine is lost")


class Clock:
    """A clock that only `wait` moves."""

    def __init__(self, now=0.0):
        self.now = now

    def __call__(self):
        return self.now

    def wait(self, seconds):
        self.now += seconds


def fit(folder, *watch, steps, module=None, resume=None, **settings):
    own = trainer(folder, max_steps=steps, callbacks=list(watch), log_every_n_steps=1, **settings)
    module = module or Small()
    own.fit(module, ckpt_path=resume)
    return own, module


def stub_trainer(folder=None, **more):
    """As much of a Trainer of one process as callbacks of rollouts ask for."""
    alone = SimpleNamespace(root_device=torch.device("cpu"), reduce=lambda numbers, reduce_op: numbers)
    facts = {"log_dir": None, "default_root_dir": folder, "fast_dev_run": False, "is_global_zero": True, "max_steps": 9}
    return SimpleNamespace(strategy=alone, global_rank=0, world_size=1, global_step=0, should_stop=False, **facts | more)


def test_seconds_of_a_resumed_run_are_those_of_all_its_parts(monkeypatch):
    clock = Clock(1000.0)
    monkeypatch.setattr(run_record, "perf_counter", clock)
    record = RunRecord()
    record.load_state_dict({"seconds": 100.0})
    record.on_fit_start(None, None)
    clock.wait(7)
    assert record.state_dict() == {"seconds": 107.0}


def test_a_finished_run_that_goes_on_and_fails_is_not_over(tmp_path):
    own, _ = fit(tmp_path, RunRecord(), steps=2)
    assert json.loads((tmp_path / "training.json").read_text())["steps"] == 2
    own.save_checkpoint(tmp_path / "two.ckpt")
    with pytest.raises(RuntimeError, match="lost"):
        fit(tmp_path, RunRecord(), Fails(), steps=6, resume=tmp_path / "two.ckpt")
    assert not (tmp_path / "training.json").exists()
    fit(tmp_path, RunRecord(), steps=6, resume=tmp_path / "two.ckpt")
    assert json.loads((tmp_path / "training.json").read_text())["steps"] == 6


def test_a_run_that_goes_back_to_its_peak_has_spent_the_tokens_of_all_updates(tmp_path):
    """The score is highest after update 2 and training ends after update 4: two updates' weights, four updates' tokens."""
    own, module = fit(tmp_path, StopAtPeak("val/score", patience=2), RunRecord(), steps=4, val_check_interval=1, **VALIDATED)
    assert (own.global_step, module.weight.item(), int(module.tokens_seen)) == (4, -2.0, 4 * TOKENS)
    found = json.loads((tmp_path / "training.json").read_text())
    assert (found["steps"], found["tokens"], found["weights"]) == (4, 4 * TOKENS, "-2.0")


def test_a_rollout_of_mostly_silent_groups_has_a_signal():
    watch, here = ZeroVariance(patience=1), stub_trainer()
    silent, loud = group(WRONG, WRONG), group(RIGHT, WRONG)
    watch.on_rollout(here, None, [silent, silent, silent, loud])
    assert (watch.silent, here.should_stop) == (0, False)
    with pytest.warns(UserWarning, match="1 rollouts in a row"):
        watch.on_rollout(here, None, [silent] * 4)
    assert (watch.silent, here.should_stop) == (1, True)


# op -> right ones of the two completions to each of two problems
PROBED = {2: (1, 1), 3: (1, 0), 4: (2, 2), 5: (0, 0)}


def test_cells_whose_rates_are_the_two_limits_are_at_the_edge(tmp_path):
    """By hand: op 2 has pass@1 = 0.5, the most, and pass@2 = 1; op 3 has 0.25, and 0.5, the least; 4 and 5 are outside."""
    cells, focused = [Cell(op, "garden") for op in PROBED], []
    verdicts = [verify(parse_response(text), GRAPH) for text in (WRONG, RIGHT)]

    def probe(batch, samples):
        return [[verdicts[n < PROBED[cell.op][index]] for n in range(samples)] for cell, index in batch]

    data = SimpleNamespace(cells=cells, cell_problems=list, focus=focused.extend)
    edge = EdgeOfCompetence(k=2, problems=2, pass_1_at_most=0.5, pass_k_at_least=0.5)
    edge.on_train_start(stub_trainer(tmp_path, datamodule=data), SimpleNamespace(probe=probe))
    assert [cell.op for cell in focused] == [2, 3]
    assert [(edge.latest[f"train/edge/pass@1/op{op}"], edge.latest[f"train/edge/pass@2/op{op}"]) for op in PROBED] == [
        (0.5, 1.0), (0.25, 0.5), (1.0, 1.0), (0.0, 0.0)
    ]  # fmt: skip
    (row,) = map(json.loads, (tmp_path / "frontier.jsonl").read_text().splitlines())
    assert [cell["chosen"] for cell in row["cells"]] == [True, True, False, False]


def run_config(**changes):
    """A config, some values of it changed, by keys with __ between the parts."""
    config = {
        "seed_everything": 0, "budget": {"batch_tokens": 1024, "max_tokens": 1e6}, "trainer": {"max_steps": 9},
        "model": {
            "class_path": "lightning_modules.MidtrainModule",
            "init_args": {"architecture": {"hidden_size": 32}, "lora": {"rank": 4}, "optimizer": {"lr": 0.1}},
        },
        "data": {"init_args": {"batch_rows": 2, "held_out": {"problems": 10}}},
    }  # fmt: skip
    for key, value in changes.items():
        *parents, last = key.split("__")
        part = config
        for name in parents:
            part = part[name]
        part[last] = value
    return config


def resumed(**changes):
    """The contract of a run that goes on from a checkpoint, with these changes."""
    here = stub_trainer(accumulate_grad_batches=1, limit_train_batches=0.5)
    checkpoint = {"global_step": 3}
    ResumeContract(run_config()).on_save_checkpoint(here, None, checkpoint)
    contract = ResumeContract(run_config(**changes))
    contract.on_load_checkpoint(here, None, checkpoint)
    return contract


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("model__init_args__lora__rank", 8, "model.init_args.lora.rank (was 4, is 8)"),
        ("model__init_args__lora", None, "model.init_args.lora (was {'rank': 4}, is None)"),
        ("budget__batch_tokens", 2048, "budget.batch_tokens (was 1024, is 2048)"),
        ("model__init_args__architecture__hidden_size", 64, "model.init_args.architecture.hidden_size (was 32, is 64)"),
        ("model__class_path", "lightning_modules.PretrainModule", "model.class_path (was 'lightning_modules.MidtrainModule'"),
    ],
)
def test_what_a_run_is_may_not_change_when_it_goes_on(key, value, said):
    with pytest.raises(ValueError, match=re.escape(f"a resumed run keeps {said}")):
        resumed(**{key: value})


def test_what_a_run_does_may_change_and_is_noted_unless_it_is_free():
    assert resumed(model__init_args__optimizer__lr=0.2).changes == {"model.init_args.optimizer.lr": [0.1, 0.2]}
    assert resumed(budget__max_tokens=2e6).changes == {"budget.max_tokens": [1e6, 2e6]}
    assert resumed(data__init_args__held_out__problems=20).changes == {}


@pytest.mark.parametrize(("every", "ends"), [(1, 2), (3, 3), (4, 4)])
def test_a_budget_is_looked_at_as_often_as_it_says(tmp_path, every, ends):
    """Two updates spend it; training ends at the next multiple of `every_n_steps`."""
    budget = ComputeBudget(max_tokens=2 * TOKENS, every_n_steps=every)
    own, module = fit(tmp_path, ComputeLedger(), budget, steps=8)
    assert (own.global_step, int(module.tokens_seen)) == (ends, ends * TOKENS)


@pytest.mark.parametrize("steps", [4, 8])
def test_rates_leave_out_the_time_of_validation(tmp_path, monkeypatch, steps):
    """An update takes half a second, a validation a minute; they come after every second update, rates after every fourth."""
    clock = Clock()
    monkeypatch.setattr(rates, "perf_counter", clock)

    class Slow(Small):
        def training_step(self, batch, batch_idx):
            clock.wait(0.5)
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch, batch_idx):
            clock.wait(60)

    own = trainer(tmp_path, max_steps=steps, callbacks=[Throughput()], log_every_n_steps=4, val_check_interval=2, **VALIDATED)
    own.fit(Slow())
    assert clock.now == steps * 0.5 + steps / 2 * 60
    assert own.callback_metrics["train/step_s"].item() == pytest.approx(0.5)
    assert own.callback_metrics["train/tokens_per_s"].item() == pytest.approx(TOKENS / 0.5)


@pytest.mark.parametrize(("kind", "settings"), [(PromptDataModule, {}), (PretrainDataModule, {"row_length": 128})])
def test_held_out_problems_are_those_of_every_seed(kind, settings):
    held_out = HeldOut({"ID": "2-3", "edge": "5"}, ["garden"])
    one, other = (
        kind([Component("2-3", ["garden"])], "garden", graph=PLAIN, seed=seed, held_out=held_out, **settings) for seed in (0, 1)
    )
    for split in ("test", "validation"):
        asked = [[(e.problem, e.question) for e in data.held_out_examples(split, 5)] for data in (one, other)]
        assert asked[0] == asked[1] and len(asked[0]) == 10
    trained_on = [[data.source.example("train", i).problem for i in range(5)] for data in (one, other)]
    assert trained_on[0] != trained_on[1]
