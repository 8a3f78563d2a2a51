"""What may change when a run is resumed, what a longer run does, which weights and scores count, and who may write."""

import csv
import fcntl
import json
import os
import re
import shutil
import signal
from types import SimpleNamespace

import pytest
import torch
import yaml
from minute_recipe import minute_config, write_configs
from processes import run

import main
from callbacks.files import claimed, damage
from callbacks.records.resume import ResumeContract, content, differences, flat
from recipes.validity import is_current, is_tested, is_trained


def config_of(stage="pretrain", steps=4, **settings):
    config = minute_config(stage)
    config["trainer"]["max_steps"] = steps
    config["model"]["init_args"]["schedule"] = {"class_path": "lightning_modules.schedules.Constant"}
    config["model"]["init_args"]["optimizer"] = {"class_path": "lightning_modules.optimizers.AdamW", "init_args": {"lr": 0.001}}
    for key, value in settings.items():
        *parents, last = key.split("__")
        part = config
        for name in parents:
            part = part[name]
        part[last] = value
    return config


def fit(folder, config, *more):
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(config))
    words = ["fit", "--config", str(path), "--trainer.default_root_dir", str(folder), "--ckpt_path", "last", *more]
    return main.main(words)


def losses(folder):
    with (folder / "metrics.csv").open() as file:
        return {int(row["step"]): row["train/loss"] for row in csv.DictReader(file) if row.get("train/loss")}


def last(folder):
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)


def of_machine(processes, batches, **data):
    """The contract of a run on so many processes, and as much of its Trainer as it asks for."""
    trainer = SimpleNamespace(
        world_size=processes, accumulate_grad_batches=batches, limit_train_batches=0.5, max_steps=9, global_step=3
    )
    config = {"data": {"init_args": data}, "trainer": {"accumulate_grad_batches": batches, "devices": "auto"}}
    return trainer, ResumeContract(config)


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ((1, 2, {"batch_rows": 2}), (2, 1, {"batch_rows": 2}), None),
        ((1, 1, {"batch_rows": 4}), (2, 1, {"batch_rows": 2}), None),
        ((1, 1, {"prompts_per_rollout": 8}), (4, 1, {"prompts_per_rollout": 2}), None),
        ((1, 1, {"batch_rows": 2}), (2, 1, {"batch_rows": 2}), "batch_rows, of all processes (was 2, is 4)"),
        ((1, 1, {"prompts_per_rollout": 8}), (4, 1, {"prompts_per_rollout": 8}), "of all processes (was 8, is 32)"),
        ((1, 1, {"prompts_per_rollout": 8}), (4, 1, {"prompts_per_rollout": 4}), "prompts_per_rollout (was 8, is 4)"),
        ((1, 2, {"prompts_per_rollout": 8}), (2, 1, {"prompts_per_rollout": 4}), "accumulate_grad_batches (was 2, is 1)"),
        ((1, 1, {"own": 8}), (2, 1, {"own": 8}), None),
    ],
)
def test_other_processes_may_go_on_with_steps_of_the_same_size(before, now, said):
    counts = {"ready": 6, "started": 6, "processed": 6, "completed": 6}
    progress = {"total": dict(counts), "current": dict(counts)}
    checkpoint = {"global_step": 3, "loops": {"fit_loop": {"epoch_loop.batch_progress": progress}}}
    trainer, contract = of_machine(before[0], before[1], **before[2])
    contract.on_save_checkpoint(trainer, None, checkpoint)
    trainer, contract = of_machine(now[0], now[1], **now[2])
    if said is not None:
        with pytest.raises(ValueError, match=re.escape(said)):
            contract.on_load_checkpoint(trainer, None, checkpoint)
        return
    contract.on_load_checkpoint(trainer, None, checkpoint)
    assert contract.changes["processes"] == [before[0], now[0]]
    assert set(progress["total"].values()) == set(progress["current"].values()) == {6 * now[1] // before[1]}


def test_a_longer_run_goes_on_from_the_end_of_a_finished_one(tmp_path, capsys):
    assert fit(tmp_path / "whole", config_of(steps=6)) == 0
    for steps in (3, 6):
        assert fit(tmp_path / "longer", config_of(steps=steps)) == 0
    assert "from step 3 on: trainer.max_steps 6 (was 3)" in capsys.readouterr().out
    assert losses(tmp_path / "longer") == losses(tmp_path / "whole") and len(losses(tmp_path / "whole")) == 6
    one, other = last(tmp_path / "whole")["state_dict"], last(tmp_path / "longer")["state_dict"]
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert json.loads((tmp_path / "longer/training.json").read_text())["steps"] == 6


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data__init_args__row_length", 320), ("data__init_args__seed", 5), ("data__init_args__batch_rows", 3),
        ("data__init_args__loss_on", "all"), ("data__init_args__graph__reuse", 0.5), ("trainer__accumulate_grad_batches", 2),
        ("seed_everything", 9),
    ],
)  # fmt: skip
def test_what_a_run_is_cannot_change(key, value, tmp_path, capsys):
    assert fit(tmp_path / "run", config_of(steps=2)) == 0
    before = (tmp_path / "run/config.yaml").read_text()
    assert fit(tmp_path / "run", config_of(steps=4, **{key: value})) == 2
    told = capsys.readouterr().err
    assert f"a resumed run keeps {key.replace('__', '.')}" in told and "model.init_args.init_from" in told
    assert (tmp_path / "run/config.yaml").read_text() == before


def test_a_run_of_an_earlier_version_keeps_what_was_then_the_only_way(tmp_path, capsys):
    """Its checkpoint's config lacks a key whose default has changed since."""
    settings = {"data__init_args__graph__split_by": "problem"}
    assert fit(tmp_path / "run", config_of(steps=2, **settings)) == 0
    for path in (tmp_path / "run/checkpoints").glob("*.ckpt"):
        checkpoint = torch.load(path, weights_only=True)
        assert checkpoint["config"].pop("data.init_args.graph.split_by") == "problem"
        torch.save(checkpoint, path)
    assert fit(tmp_path / "run", config_of(steps=4)) == 2
    assert "a resumed run keeps data.init_args.graph.split_by (was 'problem', is 'needed')" in capsys.readouterr().err
    assert fit(tmp_path / "run", config_of(steps=4, **settings)) == 0


def test_weights_that_were_moved_are_the_same_start_and_others_are_not(tmp_path, capsys):
    for name, seed in (("first", 0), ("second", 1)):
        assert fit(tmp_path / name, config_of(steps=1, seed_everything=seed)) == 0

    def go_on(start, steps):
        start = {"model__init_args__architecture": None, "model__init_args__init_from": str(tmp_path / start)}
        return fit(tmp_path / "run", config_of(steps=steps, **start))

    assert go_on("first/huggingface", 2) == 0
    (tmp_path / "first").rename(tmp_path / "moved")
    assert go_on("second/huggingface", 3) == 2
    assert "a resumed run keeps model.init_args.init_from" in capsys.readouterr().err
    assert go_on("moved/huggingface", 3) == 0
    assert last(tmp_path / "run")["global_step"] == 3


def test_files_are_told_apart_by_name_size_and_ends(tmp_path):
    for folder, text in (("a", "rows"), ("b", "rows"), ("c", "Rows"), ("d", "rowsrows")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.jsonl").write_text(text)
    held = {folder: content([str(tmp_path / folder / "train.jsonl")]) for folder in "abcd"}
    assert held["a"] == held["b"] and held["a"] not in (None, held["c"], held["d"])
    assert content(str(tmp_path / "a")) == content(str(tmp_path / "b")) != content(str(tmp_path / "c"))
    assert [content(value) for value in ("", "no file", 3, None, [], [3], [str(tmp_path / "a"), "no file"])] == [None] * 7


def test_new_rates_and_decay_hold_from_the_next_update_on(tmp_path, capsys):
    """Oracle: the rate that is logged, and the settings in the next checkpoint."""
    assert fit(tmp_path / "run", config_of(steps=2)) == 0
    changed = {"class_path": "lightning_modules.optimizers.AdamW", "init_args": {"lr": 0.0005, "weight_decay": 0.02}}
    halved = {"class_path": "lightning_modules.schedules.Constant", "init_args": {"warmup": 0.0}}
    assert fit(tmp_path / "run", config_of(steps=4, model__init_args__optimizer=changed, model__init_args__schedule=halved)) == 0
    told = capsys.readouterr().out
    assert "from step 2 on: model.init_args.optimizer.init_args.lr 0.0005 (was 0.001)" in told
    with (tmp_path / "run/metrics.csv").open() as file:
        rates = [float(row["train/learning_rate"]) for row in csv.DictReader(file) if row.get("train/learning_rate")]
    assert rates == pytest.approx([0.001, 0.001, 0.0005, 0.0005])
    (state,) = last(tmp_path / "run")["optimizer_states"]
    assert [group["weight_decay"] for group in state["param_groups"]] == [0.02, 0.0]
    history = json.loads((tmp_path / "run/history.json").read_text())
    assert history[0]["step"] == 2 and history[0]["changed"]["model.init_args.optimizer.init_args.lr"] == [0.001, 0.0005]
    assert (
        yaml.safe_load((tmp_path / "run/config.yaml").read_text())["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 0.0005
    )


def test_a_damaged_checkpoint_is_named_and_the_newest_whole_one_taken(tmp_path, capsys):
    assert fit(tmp_path / "run", config_of(steps=4, checkpoint={"every_n_train_steps": 1, "save_top_k": -1})) == 0
    folder = tmp_path / "run/checkpoints"
    content = bytearray((folder / "last.ckpt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "last.ckpt").write_bytes(content)
    (folder / "epoch=0-step=4.ckpt").write_bytes(content[: len(content) // 3])
    for name in ("epoch=0-step=1.ckpt", "epoch=0-step=2.ckpt", "epoch=0-step=3.ckpt"):
        assert damage(folder / name) is None
    assert fit(tmp_path / "run", config_of(steps=5, checkpoint={"every_n_train_steps": 1, "save_top_k": -1})) == 0
    told = capsys.readouterr().out
    assert "last.ckpt is left out: its part" in told and "step=4.ckpt is left out: it is not a whole checkpoint" in told
    assert "from step 3 on: trainer.max_steps 5 (was 4)" in told
    assert last(tmp_path / "run")["global_step"] == 5


@pytest.mark.parametrize("at", range(0, 100, 9))
def test_a_flipped_bit_anywhere_in_the_weights_is_noticed(at, tmp_path):
    torch.save({"state_dict": {"w": torch.arange(2000.0)}}, tmp_path / "a.ckpt")
    content = bytearray((tmp_path / "a.ckpt").read_bytes())
    start = content.index(torch.arange(2000.0).numpy().tobytes()[:64])
    content[start + at * 80] ^= 1 << (at % 8)
    (tmp_path / "a.ckpt").write_bytes(content)
    assert "is damaged" in damage(tmp_path / "a.ckpt")


@pytest.fixture
def stage(tmp_path):
    """A recipe of one stage that is done."""
    write_configs(tmp_path)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"stages": {"pretrain": {"config": "pretrain.yaml"}}}))
    assert main.main(["run", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out")]) == 0
    return tmp_path / "out/pretrain"


def test_scores_of_other_weights_do_not_make_a_stage_complete(stage, tmp_path):
    assert is_trained(stage) and is_tested(stage)
    scores = (stage / "test/pass_at_k.json").read_text()
    evaluation = json.loads((stage / "test/evaluation.json").read_text())
    evaluation["settings"]["weights"] = "of unfinished weights"
    (stage / "test/evaluation.json").write_text(json.dumps(evaluation))
    (stage / "test/pass_at_k.json").write_text("{}")
    assert is_trained(stage) and not is_tested(stage) and not is_current(stage / "test/evaluation.json")
    assert main.main(["run", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out")]) == 0
    assert is_tested(stage) and (stage / "test/pass_at_k.json").read_text() == scores


def test_training_that_goes_on_is_not_over(stage):
    training = json.loads((stage / "training.json").read_text())
    assert training["weights"] == json.loads((stage / "huggingface/interplay.json").read_text())["weights"]
    (stage / "training.json").write_text(json.dumps(training | {"weights": "others"}))
    assert not is_trained(stage) and not is_tested(stage)


def test_a_second_run_into_a_folder_is_refused_while_the_first_writes(tmp_path, capsys):
    with claimed(tmp_path / "run"):
        assert fit(tmp_path / "run", config_of(steps=1)) == 2
    assert f"another process writes to {tmp_path / 'run'}" in capsys.readouterr().err
    assert not (tmp_path / "run/config.yaml").exists()
    assert fit(tmp_path / "run", config_of(steps=1)) == 0


def test_a_file_system_without_locks_is_told_and_used(tmp_path, capsys, monkeypatch):
    def no_locks(file, operation):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert fit(tmp_path / "run", config_of(steps=1)) == 0
    assert "the file system has no locks (No locks available)" in capsys.readouterr().out


def test_what_a_kill_between_saving_and_removing_left_is_removed(tmp_path):
    assert fit(tmp_path / "run", config_of(steps=2)) == 0
    folder = tmp_path / "run/checkpoints"
    shutil.copy(folder / "epoch=0-step=2.ckpt", folder / "epoch=0-step=1.ckpt")
    shutil.copy(folder / "epoch=0-step=2.ckpt", folder / "mine.ckpt")
    os.utime(folder / "epoch=0-step=1.ckpt", (1, 1))
    os.utime(folder / "mine.ckpt", (1, 1))
    assert fit(tmp_path / "run", config_of(steps=3)) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["epoch=0-step=3.ckpt", "last.ckpt", "mine.ckpt"]


def test_checkpoints_of_another_run_from_which_one_goes_on_stay(tmp_path):
    """A run that keeps its whole trajectory, and another that goes on from its middle in a folder of its own."""
    keeps = {"checkpoint": {"every_n_train_steps": 1, "save_top_k": -1}}
    assert fit(tmp_path / "one", config_of(steps=4) | keeps) == 0
    before = sorted(path.name for path in (tmp_path / "one/checkpoints").iterdir())
    assert len(before) == 5
    config = config_of(steps=4)
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump(config))
    words = ["fit", "--config", str(path), "--trainer.default_root_dir", str(tmp_path / "two")]
    assert main.main([*words, "--ckpt_path", str(tmp_path / "one/checkpoints/epoch=0-step=2.ckpt")]) == 0
    assert sorted(path.name for path in (tmp_path / "one/checkpoints").iterdir()) == before
    assert is_trained(tmp_path / "two")


def test_a_trajectory_stays_if_the_run_goes_on_with_one_checkpoint(tmp_path):
    keeps = {"checkpoint": {"every_n_train_steps": 1, "save_top_k": -1}}
    assert fit(tmp_path / "run", config_of(steps=3) | keeps) == 0
    assert fit(tmp_path / "run", config_of(steps=4)) == 0
    kept = {path.name for path in (tmp_path / "run/checkpoints").iterdir()}  # the last one is replaced, as the run now asks
    assert kept == {f"epoch=0-step={step}.ckpt" for step in (1, 2, 4)} | {"last.ckpt"}


@pytest.mark.parametrize(
    ("before", "now"), [(None, {"low": 0.2, "high": None}), ({"low": 0.2, "high": None}, None)], ids=["set", "taken away"]
)
def test_a_setting_that_was_nothing_differs_from_one_that_is_a_mapping(before, now):
    found = differences(dict(flat({"model": {"clip": before, "a": 1}})), dict(flat({"model": {"clip": now, "a": 1, "new": 2}})))
    assert found == {"model.clip": [before, now]}


def test_an_optimizer_that_is_named_on_resumption_has_its_rate(tmp_path, capsys):
    config = config_of(steps=2)
    named = config["model"]["init_args"].pop("optimizer")
    assert fit(tmp_path / "run", config | {"trainer": config["trainer"] | {"max_steps": 2}}) == 0
    config["model"]["init_args"]["optimizer"] = {**named, "init_args": {"lr": 1e-5}}
    assert fit(tmp_path / "run", config | {"trainer": config["trainer"] | {"max_steps": 4}}) == 0
    assert "model.init_args.optimizer" in capsys.readouterr().out
    with (tmp_path / "run/metrics.csv").open() as file:
        rates = {row["step"]: row["train/learning_rate"] for row in csv.DictReader(file) if row.get("train/learning_rate")}
    assert float(rates["3"]) == pytest.approx(1e-5)


def assert_equal_runs(one, other):
    one, other = (last(folder)["state_dict"] for folder in (one, other))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("interval", [1, 2])
def test_a_warning_is_heeded_where_every_update_is_validated(interval, tmp_path):
    """The signal comes during update 2, which validation follows; no third update is made."""
    validated = {"trainer__val_check_interval": interval, "trainer__limit_val_batches": 1}
    killer = [{"class_path": "killer.Killer", "init_args": {"moment": "SIGTERM", "updates": 2}}]
    assert run(fit_here, tmp_path / "run", config_of(trainer__callbacks=killer, **validated)) == [128 + signal.SIGTERM]
    assert last(tmp_path / "run")["global_step"] == 2
    for folder in ("run", "whole"):
        assert run(fit_here, tmp_path / folder, config_of(**validated)) == [0]
    assert_equal_runs(tmp_path / "run", tmp_path / "whole")


def test_no_checkpoint_lies_between_the_batches_of_an_update(tmp_path):
    """Updates of two batches, validation after every third: its checkpoint waits for the update; the run goes on from there."""
    settings = {"accumulate_grad_batches": 2, "val_check_interval": 3, "limit_val_batches": 1}
    config = config_of(checkpoint={}, **{f"trainer__{key}": value for key, value in settings.items()})
    killer = [{"class_path": "killer.Killer", "init_args": {"moment": "batch", "updates": 3}}]
    killed = config | {"trainer": config["trainer"] | {"callbacks": killer}}
    assert run(fit_here, tmp_path / "run", killed) == [-signal.SIGKILL]
    progress = last(tmp_path / "run")["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]
    assert (last(tmp_path / "run")["global_step"], progress["ready"]) == (2, 4)
    for folder in ("run", "whole"):
        assert run(fit_here, tmp_path / folder, config) == [0]
    assert_equal_runs(tmp_path / "run", tmp_path / "whole")


def fit_here(folder, config):
    assert fit(folder, config) == 0


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_warning_of_a_scheduler_saves_and_tells_that_the_run_is_not_over(name, tmp_path):
    killer = [{"class_path": "killer.Killer", "init_args": {"moment": name, "updates": 2}}]
    assert run(fit_here, tmp_path / "run", config_of(trainer__callbacks=killer)) == [128 + signal.Signals[name]]
    assert last(tmp_path / "run")["global_step"] == 2 and not (tmp_path / "run/training.json").exists()
    assert run(fit_here, tmp_path / "run", config_of()) == [0]
    assert is_trained(tmp_path / "run")
