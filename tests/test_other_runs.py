"""Ways to start, stop and go on with a run that the shipped configs do not take."""

import csv
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from policy_runs import LengthReward, fit, module
from test_other_usages import SHORT, data
from test_pretrain import trainer

from callbacks import Checkpoint, MetricsCSV, NonFiniteLoss, RewindLogs, RunRecord, StageBar, Throughput
from callbacks.records.checkpoint import CAUGHT, StopSignals
from callbacks.records.resume import ResumeContract
from grammar.checking.pool import Verifier
from lightning_modules import PretrainModule
from lightning_modules.models.language_model import build_language_model
from lightning_modules.optimizers import AdamW
from lightning_modules.policy.policy_module import UpdateSettings
from lightning_modules.policy.trust_region import KLPenalty
from lightning_modules.schedules import Constant
from main import main
from recipes.running import scheduler
from tests_support import TINY

EVERY_TWO = {"limit_val_batches": 1, "val_check_interval": 2, "check_val_every_n_epoch": None}


@pytest.fixture
def start(tmp_path):
    torch.manual_seed(0)
    build_language_model(TINY).save_pretrained(tmp_path / "start")
    return str(tmp_path / "start")


class Stop(Callback):
    """Asks for the end of training after a batch, as `max_time` does."""

    def __init__(self, batch):
        self.batch = batch

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == self.batch:
            trainer.should_stop = True


def pretrained(folder, *more, resume=None, kind=PretrainModule, **settings):
    """Train; returns the Trainer and the weights, one after the other."""
    torch.manual_seed(0)
    made = kind(TINY, optimizer=AdamW(lr=1e-3), schedule=Constant(), evaluation=SHORT)
    saved = [] if any(isinstance(one, Checkpoint) for one in more) else [Checkpoint(save_last=True, enable_version_counter=False)]
    own = trainer(folder, callbacks=[*more, ResumeContract({}), *saved], enable_checkpointing=True, **settings)
    own.fit(made, data(), ckpt_path=resume)
    return own, torch.cat([weight.detach().flatten() for weight in made.language_model.parameters()])


def step_of(path):
    return torch.load(path, weights_only=False)["global_step"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The weights after eight updates."""
    own, weights = pretrained(tmp_path_factory.mktemp("whole"), max_steps=8)
    assert own.global_step == 8
    return weights


@pytest.mark.parametrize(
    ("epochs", "first"),
    [(1, {"max_steps": 5}), (None, {"max_steps": 5}), (1, {"max_steps": 4}), (1, {"max_steps": 5, **EVERY_TWO})],
)
def test_a_run_that_ended_goes_on_to_a_larger_number_of_updates(tmp_path, undisturbed, epochs, first):
    pretrained(tmp_path, max_epochs=epochs, **first)
    longer, found = pretrained(tmp_path, resume="last", max_epochs=epochs, **first | {"max_steps": 8})
    assert longer.global_step == 8 and torch.equal(found, undisturbed)


def test_a_run_that_was_stopped_goes_on(tmp_path, undisturbed):
    stopped, _ = pretrained(tmp_path, Stop(2), max_steps=8, max_epochs=1)
    assert stopped.global_step == 3
    resumed, found = pretrained(tmp_path, resume="last", max_steps=8, max_epochs=1)
    assert resumed.global_step == 8 and torch.equal(found, undisturbed)


def test_epochs_of_a_limited_length_are_those_that_were_asked_for(tmp_path):
    settings = {"max_steps": 100, "max_epochs": 3, "limit_train_batches": 4}
    saves = lambda: Checkpoint(every_n_train_steps=4, save_last=True, enable_version_counter=False)  # noqa: E731
    with pytest.raises(RuntimeError, match="killed"):
        pretrained(tmp_path, saves(), Killed(5), **settings)
    resumed, _ = pretrained(tmp_path, saves(), resume="last", **settings)
    assert (resumed.global_step, resumed.current_epoch) == (12, 3)


class Killed(Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.step:
            raise RuntimeError("killed")


def test_training_stops_between_updates_whatever_stops_it(tmp_path):
    settings = {"accumulate_grad_batches": 4, "max_steps": 3}
    _, expected = pretrained(tmp_path / "whole", **settings)
    stopped, _ = pretrained(tmp_path / "run", Stop(4), **settings)
    assert stopped.global_step == 2
    resumed, found = pretrained(tmp_path / "run", resume="last", **settings)
    assert resumed.global_step == 3 and torch.equal(found, expected)


@pytest.mark.parametrize("kept", [{"monitor": "val/loss", "mode": "max"}, {"save_top_k": 0}])
def test_the_last_checkpoint_is_the_newest_whatever_the_best_are(tmp_path, kept):
    seen = []

    class See(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            path = tmp_path / "checkpoints/last.ckpt"
            seen.append(step_of(path) if path.is_file() else None)

    saves = Checkpoint(save_last=True, enable_version_counter=False, **kept)
    pretrained(tmp_path, See(), saves, max_steps=7, **EVERY_TWO)
    assert seen == [None, None, 2, 2, 4, 4, 6] and step_of(tmp_path / "checkpoints/last.ckpt") == 7


def test_a_link_as_the_last_checkpoint_is_refused():
    with pytest.raises(ValueError, match="set it to true"):
        Checkpoint(save_last="link")


def test_a_trial_leaves_the_files_of_the_run_as_they_are(tmp_path):
    def files():
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    pretrained(tmp_path, RunRecord(), max_steps=3)
    before = files()
    assert tmp_path / "training.json" in before
    pretrained(tmp_path, RunRecord(), max_steps=3, fast_dev_run=True)
    after = files()
    assert {path: after[path] for path in before} == before
    assert all("fast_dev_run" in path.parts for path in after.keys() - before.keys())


def test_weights_that_are_not_finite_are_not_saved_for_the_exception_that_says_so(tmp_path):
    class Breaks(PretrainModule):
        def training_step(self, batch, batch_idx):
            outputs = super().training_step(batch, batch_idx)
            return outputs | {"loss": outputs["loss"] * float("inf")} if batch_idx == 2 else outputs

    saves = Checkpoint(save_last=True, enable_version_counter=False, save_on_exception=True)
    with pytest.raises(FloatingPointError):
        pretrained(tmp_path, NonFiniteLoss(), saves, kind=Breaks, max_steps=5, log_every_n_steps=1)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_the_log_of_a_training_outlives_an_evaluation(tmp_path):
    torch.manual_seed(0)
    made, settings = (
        PretrainModule(TINY, evaluation=SHORT),
        {"limit_val_batches": 1, "val_check_interval": 1, "log_every_n_steps": 1},
    )
    own = trainer(tmp_path, max_steps=3, callbacks=[RewindLogs()], logger=MetricsCSV(tmp_path), **settings)
    own.fit(made, data())
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    own.validate(made, data(), verbose=False)
    assert (tmp_path / "metrics.csv").read_text().splitlines()[: len(lines)] == lines


def test_numbers_of_a_bar_are_read_when_it_is_drawn(tmp_path):
    """What is logged for Lightning's bar is read at every batch, which waits for the device."""
    own = trainer(tmp_path, max_steps=3, callbacks=[Throughput()], log_every_n_steps=1, val_check_interval=1)
    module = PretrainModule(TINY, evaluation=SHORT)
    own.fit(module, data())
    assert own.progress_bar_metrics == {}
    drawn = StageBar().get_metrics(own, module)
    assert drawn["train/loss"] == own.callback_metrics["train/loss"].item() and drawn["train/tokens_per_s"] > 0


def test_signals_are_as_before_after_a_run_with_two_checkpoints(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    monitored = Checkpoint(monitor="val/loss", save_top_k=3, filename="best-{step}")
    pretrained(tmp_path, monitored, Checkpoint(save_last=True, enable_version_counter=False), max_steps=4, **EVERY_TWO)
    assert signal.getsignal(signal.SIGINT) == before
    for signum in CAUGHT:
        assert not isinstance(getattr(signal.getsignal(signum), "__self__", None), StopSignals)


SMALL = [
    "--data.init_args.held_out.problems", "2", "--data.init_args.held_out.bands", "{ID: '2'}",
    "--model.init_args.evaluation.samples", "1", "--model.init_args.evaluation.sampling.max_new_tokens", "3",
    "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false",
]  # fmt: skip


@pytest.mark.parametrize("logged", ["false", "{class_path: callbacks.MetricsCSV, init_args: {save_dir: RUN}}"])
def test_an_evaluation_writes_to_its_own_folder_wherever_it_logs(tmp_path, start, logged):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.yaml", "environment.json"):
        (run / name).write_text("of training")
    (run / "metrics.csv").write_text("step,train/loss\n1,2.0\n")
    words = ["--trainer.default_root_dir", str(run), "--trainer.logger", logged.replace("RUN", str(run))]
    assert main(["test", "--config", "quickstart_pretrain", "--ckpt_path", start, *words, *SMALL]) == 0
    assert [(run / name).read_text() for name in ("config.yaml", "environment.json")] == ["of training"] * 2
    assert {"config.yaml", "environment.json", "evaluation.json", "samples"} <= {path.name for path in (run / "test").iterdir()}
    assert next(csv.DictReader((run / "metrics.csv").open()))["train/loss"] == "2.0"


def test_checkpoints_of_the_user_and_of_the_project_are_both_kept(tmp_path):
    mine = "[{class_path: callbacks.Checkpoint, init_args: {monitor: train/loss, save_top_k: -1, every_n_train_steps: 2}}]"
    words = ["--trainer.default_root_dir", str(tmp_path / "run"), "--trainer.callbacks", mine, "--trainer.log_every_n_steps", "1"]
    for steps in ("6", "8"):
        more = [*words, "--trainer.max_steps", steps, "--ckpt_path", "last", "--trainer.limit_val_batches", "0"]
        assert main(["fit", "--config", "quickstart_pretrain", *more, *SMALL]) == 0
    found = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert [f"epoch=0-step={step}.ckpt" for step in (2, 4, 6, 8)] == [name for name in found if name.startswith("epoch=0")]
    assert "last.ckpt" in found


def test_a_time_between_validations_and_a_single_callback_are_taken(tmp_path):
    words = ["--trainer.fast_dev_run", "true", "--trainer.val_check_interval", "00:00:10:00"]
    one = ["--trainer.callbacks", "lightning.pytorch.callbacks.RichModelSummary"]
    assert (
        main(["fit", "--config", "quickstart_pretrain", "--trainer.default_root_dir", str(tmp_path), *words, *one, *SMALL]) == 0
    )


def test_early_stopping_sees_when_the_budget_validates(tmp_path):
    stops = "[{class_path: lightning.pytorch.callbacks.EarlyStopping, init_args: {monitor: val/loss, mode: max, patience: 1}}]"
    words = ["--trainer.callbacks", stops, "--budget.validate_every", "1", "--trainer.max_steps", "8"]
    place = ["--trainer.default_root_dir", str(tmp_path), "--trainer.limit_val_batches", "1"]
    assert main(["fit", "--config", "quickstart_pretrain", *place, *words, *SMALL]) == 0
    assert step_of(tmp_path / "checkpoints/last.ckpt") == 2


class Problems(Callback):
    def __init__(self):
        self.drawn = []

    def on_train_batch_end(self, trainer, *args):
        self.drawn.append(trainer.train_dataloader.problems)


@pytest.mark.parametrize(
    ("settings", "drawn"),
    [
        ({"update": UpdateSettings(minibatches=2, epochs=1)}, [8, 8, 12, 12]),
        ({"update": UpdateSettings(minibatches=2, epochs=2), "kl": KLPenalty(weight=0.1)}, [8, 8, 8, 8]),
        ({"update": UpdateSettings(minibatches=2, epochs=2)}, [4, 8, 8, 8]),
    ],
)
def test_a_rollout_that_a_resumed_run_cannot_use_is_replaced(tmp_path, start, settings, drawn):
    saves = Checkpoint(dirpath=tmp_path / "kept", every_n_train_steps=3, save_top_k=-1, filename="{step}")
    earlier = module(start, update=UpdateSettings(minibatches=2, epochs=2))
    fit(earlier, tmp_path, callbacks=[saves], enable_checkpointing=True, max_steps=4)
    problems = Problems()
    fit(module(start, **settings), tmp_path, callbacks=[problems], max_steps=7, resume=tmp_path / "kept/step=3.ckpt")
    assert problems.drawn == drawn


def test_what_one_rollout_alone_has_is_logged_once(tmp_path, start):
    class Abstains(LengthReward):
        calls = 0

        def __call__(self, response, report):
            self.calls += 1
            return {} if self.calls == 3 else super().__call__(response, report)

    fit(module(start, reward=Abstains()), tmp_path, logger=MetricsCSV(tmp_path), log_every_n_steps=1, max_steps=3)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [bool(row["train/abstained"]) for row in rows] == [True, False, False]
    assert all(row["train/reward"] for row in rows)


def test_a_module_that_is_fitted_again_logs_the_losses_of_this_run(tmp_path, start):
    class See(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            assert trainer.callback_metrics["train/loss"].item() == pytest.approx(outputs["loss"].item(), abs=1e-6)

    made = module(start)
    fit(made, tmp_path, fast_dev_run=True)
    fit(made, tmp_path, callbacks=[See()], max_steps=1, prompts=3)


@contextmanager
def caught(*signums) -> Iterator[list[int]]:
    """Signals that reach this process, instead of what they would do."""
    found: list[int] = []
    before = {signum: signal.signal(signum, lambda number, frame: found.append(number)) for signum in signums}
    try:
        yield found
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def test_processes_that_judge_outlive_signals_to_all_of_a_run(prompts_of_two):
    verifier = Verifier(1)
    jobs = [(prompts_of_two[0].graph, ["x"])]
    try:
        first = verifier(jobs)
        (worker,) = verifier.pool._processes
        with caught(signal.SIGINT, signal.SIGTERM, signal.SIGUSR1) as found:
            for signum in (signal.SIGINT, signal.SIGUSR1):
                os.kill(worker, signum)
            # SIGTERM of another process than the parent
            os.waitpid(os.posix_spawn("/bin/sh", ["sh", "-c", f"kill -TERM {worker}"], os.environ), 0)
            time.sleep(0.5)
            assert verifier(jobs) == first and not found
            assert list(verifier.pool._processes) == [worker]
        os.kill(worker, signal.SIGTERM)  # of its parent
        time.sleep(1)
        with pytest.raises(BrokenProcessPool):
            verifier(jobs)
        assert verifier(jobs) == first  # others are started
    finally:
        verifier.close()


@pytest.fixture
def prompts_of_two():
    made = data()
    return [made.synthesis.example("train", i) for i in range(2)]


def test_a_recipe_ends_if_a_complete_stage_is_changed_by_somebody_else(tmp_path, monkeypatch, capsys):
    class Folders:
        """`parent` is complete when it has run, and is not afterwards."""

        def __init__(self, *args, **settings):
            self.done = set()

        def complete(self, stage):
            return stage.digest in self.done and stage.digest != "parent"

        def finish(self, stage):
            self.done.add(stage.digest)
            return True

    monkeypatch.setattr(scheduler, "StageFolders", Folders)
    monkeypatch.setattr(scheduler, "write_index", lambda *args: None)
    made = {}
    for name, parent in (("parent", None), ("child", "parent")):
        made[name] = SimpleNamespace(digest=name, parent=made.get(parent), label=name, name=name, chain=list)
    monkeypatch.setattr(scheduler, "_headed", lambda plans: dict(made))
    assert scheduler.run_stages([], tmp_path) == {"child"}
    assert "child: left out, since the stages that they start from were changed meanwhile" in capsys.readouterr().out
