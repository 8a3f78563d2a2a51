"""The curriculum: what a probe measures, what is trained on then, and that a resumed or a shared run chooses alike."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from processes import run
from simulated_policy import SimulatedPolicy
from test_resume import assert_same, command, fit

from callbacks import Checkpoint, ComputeLedger, EdgeOfCompetence
from callbacks.steering.edge_of_competence import Rate, most_to_gain
from datamodules import PretrainDataModule, PromptDataModule
from datamodules.problems.mixture import Cell, Component, Mixture
from grammar import grade
from lightning_modules import GRPOModule, PretrainModule
from lightning_modules.models.language_model import build_language_model
from lightning_modules.optimizers import AdamW
from lightning_modules.policy.collector import GroupSettings
from lightning_modules.rewards import StrictReward
from lightning_modules.rollout import SamplingParams
from tests_support import PLAIN, TINY, grouped

K, PROBLEMS = 4, 6


class Watch(Callback):
    """Operations of the groups of each rollout."""

    def __init__(self):
        self.ops = []

    def on_rollout(self, trainer, pl_module, groups):
        self.ops.append([group.example.cell.op for group in groups])


class Probed(SimulatedPolicy):
    """Remembers what was asked in each probe and what came of it."""

    def probe(self, prompts, samples):
        reports = super().probe(prompts, samples)
        self.seen = [*getattr(self, "seen", []), (prompts.examples, reports)]
        return reports


@pytest.fixture
def start(tmp_path):
    torch.manual_seed(0)
    build_language_model(TINY).save_pretrained(tmp_path / "start")
    return str(tmp_path / "start")


def train(folder, start, *watch, kind=Probed, resume=None, **settings):
    torch.manual_seed(0)
    module = kind(
        start,
        StrictReward(),
        group=GroupSettings(4),
        sampling=SamplingParams(max_new_tokens=8),
        optimizer=AdamW(lr=1e-3, weight_decay=0.0),
    )
    data = PromptDataModule(
        [Component("2-5", ["garden"]), Component("6", ["garden"], weight=0.0)], "garden", prompts_per_rollout=4, graph=PLAIN,
        random_letters=False,
    )  # fmt: skip
    trainer = Trainer(
        **{
            "max_steps": 6, "accelerator": "cpu", "devices": 1, "logger": False, "enable_checkpointing": False,
            "enable_progress_bar": False, "enable_model_summary": False, "default_root_dir": folder, "limit_val_batches": 0,
            "log_every_n_steps": 1, "callbacks": list(watch), **settings,
        }
    )  # fmt: skip
    trainer.fit(module, data, ckpt_path=resume)
    return trainer, module


def edge(**settings):
    return EdgeOfCompetence(**{"k": K, "problems": PROBLEMS, "every_n_steps": 2, "pass_1_at_most": 0.6, **settings})


def frontier(folder):
    return [json.loads(line) for line in (Path(folder) / "frontier.jsonl").read_text().splitlines()]


def chosen(row):
    return [cell["op"] for cell in row["cells"] if cell["chosen"]]


def test_training_follows_the_model_over_the_edge(start, tmp_path):
    watch = Watch()
    trainer, _ = train(tmp_path, start, edge(), watch)
    assert [(row["step"], chosen(row)) for row in frontier(tmp_path)] == [(0, [3]), (2, [4]), (4, [5])]
    assert watch.ops == [[op] * 4 for op in (3, 3, 4, 4, 5, 5)]
    logged = {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("train/edge/")}
    assert logged["train/edge/op_lowest"] == logged["train/edge/op_mean"] == logged["train/edge/op_highest"] == 5
    assert logged["train/edge/cells"] == 1 and logged["train/edge/pass@1/op2"] == 1


def test_rates_are_those_of_the_samples(start, tmp_path):
    """Oracle: a plain count over everything that the probes saw."""
    _, module = train(tmp_path, start, edge())
    for row, (examples, reports) in zip(frontier(tmp_path), module.seen, strict=True):
        for cell in row["cells"]:
            groups = [r for e, r in zip(examples, reports, strict=True) if e.cell.op == cell["op"]]
            verdicts = [[grade(report, "executable") for report in group] for group in groups]
            assert len(verdicts) == PROBLEMS and {len(group) for group in verdicts} == {K}
            assert cell["pass@1"] == pytest.approx(sum(map(sum, verdicts)) / (PROBLEMS * K))
            assert cell["pass@4"] == pytest.approx(sum(map(any, verdicts)) / PROBLEMS)


def test_probes_use_fresh_training_problems_and_are_paid_for(start, tmp_path):
    ledger = ComputeLedger()
    _, module = train(tmp_path, start, edge(), ledger)
    asked = [example.id for examples, _ in module.seen for example in examples]
    assert len(asked) == 3 * 4 * PROBLEMS  # op 2-5
    assert {name.split("-")[0] for name in asked} == {"train"}
    assert len({example.problem for examples, _ in module.seen for example in examples}) > 0.9 * len(asked)
    tokens = json.loads((tmp_path / "compute.json").read_text())["phases"]
    assert tokens["probe"]["tokens"] > tokens["rollout"]["tokens"] > 0


def test_a_cell_without_weight_is_neither_probed_nor_trained_on(start, tmp_path):
    train(tmp_path, start, edge(), kind=OnlySix)
    assert {cell["op"] for row in frontier(tmp_path) for cell in row["cells"]} == {2, 3, 4, 5}


class OnlySix(SimulatedPolicy):
    def skill(self, op):
        return 0.3 if op == 6 else 0.0


def test_where_no_cell_is_at_the_edge_the_gap_decides():
    assert most_to_gain([Rate(0.9, 1.0), Rate(0.0, 0.2), Rate(0.0, 0.0)]) == [1]
    assert most_to_gain([Rate(0.0, 0.0)] * 3) == [0, 1, 2]


def test_probes_leave_the_rollouts_alone(start, tmp_path):
    """With everything at the edge, training with probes is training without."""
    everything = edge(pass_1_at_most=1.0, pass_k_at_least=0.0)
    ends = []
    for watch in ([], [everything]):
        torch.manual_seed(0)
        data = PromptDataModule([Component("2-3", ["garden"])], "garden", prompts_per_rollout=2, graph=PLAIN)
        module = GRPOModule(
            start,
            StrictReward(),
            **grouped(group_size=2, beta=0.1),
            sampling=SamplingParams(max_new_tokens=6),
            optimizer=AdamW(lr=1e-3),
        )
        tokens = []

        class Tokens(Callback):
            def on_train_batch_start(self, trainer, pl_module, batch, batch_idx, tokens=tokens):
                tokens.append(batch.tokens_NT)

        Trainer(
            max_steps=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=tmp_path, limit_val_batches=0, callbacks=[*watch, Tokens()],
        ).fit(module, data)  # fmt: skip
        ends.append(tokens)
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_a_resumed_run_chooses_as_it_would_have(start, tmp_path):
    whole, resumed = Watch(), Watch()
    keep = Checkpoint(dirpath=tmp_path / "checkpoints", every_n_train_steps=1, save_top_k=-1, filename="{step}")
    train(tmp_path / "a", start, edge(), whole, keep, enable_checkpointing=True)
    lines = (tmp_path / "a/frontier.jsonl").read_text()
    (tmp_path / "b").mkdir()
    (tmp_path / "b/frontier.jsonl").write_text(lines)  # as a run leaves it that was killed after its checkpoint
    train(tmp_path / "b", start, edge(), resumed, resume=tmp_path / "checkpoints/step=3.ckpt")
    assert resumed.ops == whole.ops[3:]
    assert (tmp_path / "b/frontier.jsonl").read_text() == lines


@pytest.mark.long
def test_a_killed_curriculum_goes_on_bit_for_bit(tmp_path):
    def start_again(name, killer=None):
        arguments = command(tmp_path / name, stage="grpo", killer=killer)
        config = yaml.safe_load(Path(arguments[2]).read_text())
        config["model"]["class_path"] = "simulated_policy.SimulatedPolicy"
        probe = {"k": 4, "problems": 4, "every_n_steps": 2, "pass_1_at_most": 0.6}
        curriculum = {"class_path": "callbacks.EdgeOfCompetence", "init_args": probe}
        config["trainer"]["callbacks"] = [curriculum, *config["trainer"].get("callbacks", [])]
        config["data"]["init_args"]["mixture"] = [{"ops": "2-8", "contexts": ["garden"]}]
        Path(arguments[2]).write_text(yaml.safe_dump(config))
        return run(fit, arguments)

    assert start_again("whole") == [0]
    assert start_again("killed", killer=("batch", 3)) == [-9]
    assert start_again("killed", killer=("write", 6)) == [-9]
    assert start_again("killed") == [0]
    assert_same(tmp_path / "whole", tmp_path / "killed")
    assert (tmp_path / "whole/frontier.jsonl").read_text() == (tmp_path / "killed/frontier.jsonl").read_text()
    assert [chosen(row) for row in frontier(tmp_path / "whole")] == [[3], [4], [5], [6]]


class Rank(Callback):
    def __init__(self, folder):
        self.folder, self.ops = folder, []

    def on_rollout(self, trainer, pl_module, groups):
        self.ops.append([group.example.cell.op for group in groups])

    def on_train_end(self, trainer, pl_module):
        (self.folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(self.ops))


def _share(folder: Path, start: str, kind: str) -> None:
    strategy = DDPStrategy() if kind == "ddp" else ModelParallelStrategy(2, 1)
    train(folder, start, edge(), Rank(folder), devices=2, strategy=strategy)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["ddp", "sharded"])
def test_two_processes_measure_and_choose_as_one(start, tmp_path, kind):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    train(tmp_path / "one", start, edge(), Rank(tmp_path / "one"))
    assert run(_share, tmp_path / "two", start, kind, world=2) == [0, 0]
    assert frontier(tmp_path / "one") == frontier(tmp_path / "two")
    assert json.loads((tmp_path / "two/rank0.json").read_text()) == json.loads((tmp_path / "two/rank1.json").read_text())


def test_the_focus_keeps_proportions_and_ends_where_it_is_lifted():
    data = PromptDataModule([Component("2-3", ["garden"], weight=0.2), Component("4", ["garden"], weight=0.8)], "garden")
    two, three, four = (Cell(op, "garden") for op in (2, 3, 4))
    data.focus([two, four])
    assert data.source.mixture.weights == pytest.approx({two: 1 / 9, four: 8 / 9})
    assert data.cells == [two, three, four]
    data.focus([])
    assert data.source.mixture.weights == pytest.approx({two: 0.1, three: 0.1, four: 0.8})
    with pytest.raises(ValueError, match="op=5"):
        data.focus([Cell(5, "garden")])


def test_a_reweighted_mixture_draws_by_its_weights():
    mixture = Mixture([Component("2-4", ["garden"])]).reweighted({Cell(2, "garden"): 3.0, Cell(4, "garden"): 1.0})
    assert mixture.weights == pytest.approx({Cell(2, "garden"): 0.75, Cell(4, "garden"): 0.25})


@pytest.mark.parametrize("settings", [{"k": 1}, {"problems": 0}, {"every_n_steps": 0}, {"pass_k_at_least": 1.2}])
def test_settings_that_make_no_probe_are_refused(settings):
    with pytest.raises(ValueError, match="EdgeOfCompetence"):
        EdgeOfCompetence(**settings)


def test_data_without_cells_to_choose_from_is_refused(tmp_path):
    data = PretrainDataModule([Component("2-3", ["garden"])], "garden", row_length=128, graph=PLAIN, batch_rows=2)
    trainer = Trainer(max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[edge()])
    with pytest.raises(ValueError, match="PretrainDataModule has none"):
        trainer.fit(PretrainModule(TINY), data)
