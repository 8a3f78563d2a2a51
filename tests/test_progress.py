"""A run shows that it lives: lines where nobody can draw a bar, bars that bear the stage's name where one can."""

import re
import threading
import time
from types import SimpleNamespace

import pytest
import yaml
from lightning.pytorch.callbacks import Callback
from minute_recipe import minute_config

import main
from callbacks import ProgressLines, StageBar, progress

TRAINING = re.compile(r"sleepy: step [1-4] of 4, loss \d+\.\d{4}, [\d,]+ tokens/s(, 0:00:\d\d left)?")


class Sleep(Callback):
    """Each update takes a moment longer."""

    def on_train_batch_start(self, *args):
        time.sleep(0.15)


def command(tmp_path, *, sleep=True, **trainer):
    config = minute_config("pretrain")
    del config["trainer"]["enable_progress_bar"]
    lines = {"class_path": "callbacks.ProgressLines", "init_args": {"every_s": 0.05}}
    config["trainer"] |= {
        "default_root_dir": str(tmp_path / "sleepy"),
        "callbacks": [lines, {"class_path": "test_progress.Sleep"}] if sleep else [],
    } | trainer  # fmt: skip
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return ["--config", str(path)]


def test_lines_come_while_an_update_is_under_way_and_say_how_far_it_is(tmp_path, capfd):
    assert main.main(["fit", *command(tmp_path)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert sum(bool(TRAINING.fullmatch(line)) for line in lines) >= 3
    assert any(line.endswith("left") for line in lines)
    assert not [thread for thread in threading.enumerate() if "_speak" in thread.name and thread.is_alive()]


def test_an_evaluation_counts_its_batches(tmp_path, capfd):
    assert main.main(["fit", *command(tmp_path)]) == 0
    capfd.readouterr()
    weights = ["--ckpt_path", str(tmp_path / "sleepy/checkpoints/last.ckpt")]
    assert main.main(["test", *command(tmp_path), *weights, "--data.init_args.held_out.batch_size", "1"]) == 0
    assert re.search(r"^sleepy: test, batch \d of 8", capfd.readouterr().out, re.MULTILINE)


def test_who_wants_no_progress_is_told_none(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(ProgressLines.__init__, "__defaults__", (0.01,))
    assert main.main(["fit", *command(tmp_path, sleep=False, enable_progress_bar=False)]) == 0
    assert "step" not in capfd.readouterr().out
    assert main.main(["fit", *command(tmp_path, sleep=False, max_steps=6)]) == 0
    assert "sleepy: step" in capfd.readouterr().out


@pytest.mark.parametrize(("terminal", "kind"), [(True, StageBar), (False, ProgressLines)])
def test_bars_are_for_terminals(monkeypatch, terminal, kind):
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    assert type(progress()) is kind


def test_a_bar_bears_the_stages_name_and_counts_no_epochs():
    bar = StageBar()
    bar._trainer = SimpleNamespace(default_root_dir="runs/quickstart/seed0/pretrain", max_epochs=-1)
    assert bar._get_train_description(0).strip() == "pretrain"
