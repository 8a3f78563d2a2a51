"""A run that ends when the model is able enough."""

import json
from types import SimpleNamespace

import pytest
from lightning.pytorch.callbacks import Callback
from test_steering import GRPO, tiny

import main
from callbacks import EntropyMonitor, StopAtPeak, UntilCompetent, ZeroVariance

SCORES = {1: (0.2, 0.9), 2: (0.96, 0.94), 3: (0.97, 0.95), 4: (1.0, 1.0)}  # update -> pass@1 of op 2 and 3


class Scores(Callback):
    """Log the scores in place of those that were measured."""

    def on_validation_epoch_end(self, trainer, pl_module):
        for op, score in zip((2, 3), SCORES[trainer.global_step], strict=True):
            pl_module.log(f"val/told/pass@1/op{op}", score)


def fit(start, folder, *more, band="ID", grader="told"):
    until = {"class_path": "callbacks.UntilCompetent", "init_args": {"band": band, "grader": grader}}
    callbacks = json.dumps([{"class_path": "test_competence.Scores"}, until])
    return main.main([
        "fit", "--config", GRPO, "--model.init_args.init_from", start, *tiny(), "--trainer.max_steps", "4",
        "--model.init_args.reward", "killer.LengthReward", "--trainer.val_check_interval", "1",
        "--data.init_args.held_out.bands", '{"ID": "2-3"}', "--trainer.default_root_dir", str(folder),
        "--trainer.callbacks", callbacks, *more,
    ])  # fmt: skip


def kept(folder):
    return json.loads((folder / "competence.json").read_text())


def test_training_ends_once_every_operation_is_solved(start, tmp_path, capsys):
    """Oracle: the lowest of (0.2, 0.9), (0.96, 0.94) and (0.97, 0.95); op 2 alone is good enough one update earlier."""
    assert fit(start, tmp_path) == 0
    found = kept(tmp_path)
    assert json.loads((tmp_path / "training.json").read_text())["steps"] == 3
    assert found["reached"]
    seen = [(v["step"], round(v["pass@1"], 4), v["op"]) for v in found["validations"]]
    assert seen == [(1, 0.2, 2), (2, 0.94, 3), (3, 0.95, 3)]
    assert "competent after 3 updates: lowest pass@1 of ID is 0.950, at op 3" in capsys.readouterr().out


def test_a_run_that_was_competent_does_not_train_on_when_it_is_resumed(start, tmp_path):
    assert fit(start, tmp_path) == 0
    found, weights = kept(tmp_path), json.loads((tmp_path / "training.json").read_text())["weights"]
    assert fit(start, tmp_path, "--ckpt_path", "last") == 0
    assert kept(tmp_path) == found
    assert json.loads((tmp_path / "training.json").read_text())["weights"] == weights


@pytest.mark.parametrize(
    ("callback", "before", "done"),
    [
        (StopAtPeak("val/score", patience=2), {"waited": 1}, {"waited": 2}),
        (ZeroVariance(patience=3), {"silent": 2}, {"silent": 3}), (ZeroVariance(), {"silent": 9}, None),
        (EntropyMonitor(floor=0.1, patience=2), {"below": 1}, {"below": 2}), (EntropyMonitor(), {"below": 9}, None),
    ],
)  # fmt: skip
def test_what_ended_a_run_ends_it_again(callback, before, done):
    for state in filter(None, (before, done)):
        callback.load_state_dict(callback.state_dict() | state)
        trainer = SimpleNamespace(should_stop=False)
        callback.on_train_start(trainer, None)
        assert trainer.should_stop == (state is done)


def test_a_run_that_reaches_its_cap_says_so(start, tmp_path, capsys):
    assert fit(start, tmp_path, "--trainer.max_steps", "2") == 0
    assert kept(tmp_path)["reached"] is False
    assert "NOT competent (wanted 0.95) after 2 updates: lowest pass@1 of ID is 0.940, at op 3" in capsys.readouterr().out


def test_what_it_cannot_read_is_named(start, tmp_path, capsys):
    assert fit(start, tmp_path / "a", grader="untold") == 2
    assert "validation has no val/untold/pass@1/op2; choose a grader" in capsys.readouterr().err
    assert fit(start, tmp_path / "b", band="edge") == 2
    assert "there is no band 'edge'; choose one of ['ID']" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"level=1.5 must be above 0 and at most 1"):
        UntilCompetent(level=1.5)
