"""Runs made before settings were grouped and modules moved (tests/kept) load, go on and are named as they were."""

import csv
import json
from pathlib import Path

import pytest

import main
from recipes.planning.resolve import digest, resolve

KEPT = Path(__file__).parent / "kept"
SPLIT = "data.init_args.graph.split_by"  # of other problems since; an earlier run goes on with "problem"
STAGES = ("pretrain", "midtrain", "grpo", "ppo")
DIGESTS = {"pretrain": "e960cc94e16d", "midtrain": "da9121378c52", "grpo": "fb3405e960cd", "ppo": "365ddb10bb40"}
GAP = "train/sampler_gap_nats"  # is by token now, which a rollout of an earlier checkpoint does not know
CLOCKS = ("train/data_wait", "train/memory_gib", "train/step_s", "train/tokens_per_s")


def rows(path):
    with path.open() as file:
        return {
            int(row["step"]): {key: float(text) for key, text in row.items() if text and key not in CLOCKS}
            for row in csv.DictReader(file)
        }


@pytest.mark.parametrize("config", ["written", pytest.param("config", marks=pytest.mark.long)])
@pytest.mark.parametrize("stage", STAGES)
def test_a_run_goes_on_from_its_checkpoint_to_the_same_numbers(stage, config, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(KEPT)  # GRPO and PPO start from `start`
    words = ["--config", f"{stage}/{config}.yaml", f"--{SPLIT}=problem", "--trainer.default_root_dir", str(tmp_path)]
    assert main.main(["fit", *words, "--ckpt_path", f"{stage}/step2.ckpt"]) == 0
    found, kept = rows(tmp_path / "metrics.csv"), rows(KEPT / f"{stage}/metrics.csv")
    assert max(found) == max(kept) == 3
    for step in found:
        logged = {key: value for key, value in kept[step].items() if key != GAP or key in found[step]}
        earlier = {key: found[step].get(key) for key in logged}  # later versions log more
        assert earlier == pytest.approx(logged, rel=1e-4, abs=1e-5), step
    errors = capfd.readouterr().err
    assert ("`group_size` is deprecated; write `group: {size: ...}` instead." in errors) == (stage in ("grpo", "ppo"))
    assert main.main(["test", *words, "--ckpt_path", str(tmp_path / "checkpoints/last.ckpt")]) == 0
    samples = (tmp_path / "test/samples/test.jsonl").read_text().splitlines()
    assert [json.loads(row)["response"] for row in samples] == json.loads((KEPT / f"{stage}/responses.json").read_text())


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_keeps_its_digest(stage):
    assert digest(resolve([KEPT / f"{stage}/written.yaml"], {SPLIT: "problem"}), "parent") == DIGESTS[stage]


def test_earlier_keys_on_the_command_line_are_the_grouped_settings(capsys):
    earlier = {"model.init_args.group_size": 3, "model.init_args.beta": 0.2, "model.init_args.epochs": 4}
    grouped = {"model.init_args.group.size": 3, "model.init_args.kl.weight": 0.2, "model.init_args.update.epochs": 4}
    configs = [KEPT / "grpo/written.yaml"]
    assert resolve(configs, earlier) == resolve(configs, grouped)
    assert "`epochs` is deprecated; write `update: {epochs: ...}` instead." in capsys.readouterr().err


def test_earlier_data_settings_are_those_of_packing(capsys):
    earlier = {"data.init_args.packing": "first", "data.init_args.long_documents": "drop"}
    grouped = {"data.init_args.packing.fit": "first", "data.init_args.packing.long_documents": "drop"}
    configs = [KEPT / "pretrain/written.yaml"]
    assert resolve(configs, earlier) == resolve(configs, grouped)
    assert (
        digest(resolve(configs, earlier), None) == digest(resolve(configs, grouped), None) != digest(resolve(configs, {}), None)
    )


def test_earlier_arguments_in_python_are_the_grouped_settings():
    from datamodules import PretrainDataModule
    from datamodules.problems.mixture import Component
    from datamodules.rows.windows import Packing
    from lightning_modules import GRPOModule, PPOModule
    from lightning_modules.policy.collector import GroupSettings
    from lightning_modules.policy.policy_module import UpdateSettings
    from lightning_modules.policy.trust_region import KLPenalty
    from lightning_modules.rewards import OutcomeReward

    for kind in (GRPOModule, PPOModule):
        with pytest.warns(DeprecationWarning, match="group: {size"):
            module = kind("start", OutcomeReward(), group_size=4, resample=2, minibatches=3, beta=0.1, kl=KLPenalty(target=0.2))
        assert module.group == GroupSettings(4, resample=2)
        assert module.update == UpdateSettings(3, 1)
        assert module.kl == KLPenalty(target=0.2, weight=0.1)
    mixture = [Component("2", ["garden"])]
    assert PretrainDataModule(mixture, "garden", packing="first", long_documents="drop").packing == Packing("first", "drop")
    assert PretrainDataModule(mixture, "garden", packing=Packing("first")).packing == Packing("first")
