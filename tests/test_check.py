"""`check`: what training would refuse is refused now, for shipped configs and on a machine without their accelerator."""

from pathlib import Path

import pytest
import yaml

import main

CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def check(*files):
    return main.main(["check", *map(str, files)])


def write(path, content):
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_weights_that_a_shipped_experiment_starts_from_are_looked_for(capsys):
    assert check("quickstart_grpo") == 2
    assert "model.init_args.init_from 'runs/quickstart_midtrain/huggingface' does not exist" in capsys.readouterr().err


def test_the_weights_of_a_critic_are_looked_for(tmp_path, capsys):
    (tmp_path / "start").mkdir()
    critic = {"class_path": "lightning_modules.models.critic.SeparateCritic", "init_args": {"init_from": "nowhere"}}
    config = yaml.safe_load((CONFIGS / "experiment/quickstart_grpo.yaml").read_text())
    config |= {part: str(CONFIGS / "experiment" / config[part]) for part in ("data",)}
    config["model"] = yaml.safe_load((CONFIGS / "model/ppo_tiny.yaml").read_text())
    config["model"]["init_args"] |= {"init_from": str(tmp_path / "start"), "critic": critic}
    assert check(write(tmp_path / "ppo.yaml", config)) == 2
    assert "model.init_args.critic.init_args.init_from 'nowhere' does not exist" in capsys.readouterr().err


def test_an_accelerator_that_is_not_here_is_no_mistake(tmp_path, capsys):
    more = {"accelerator": "gpu", "devices": 8, "num_nodes": 2, "strategy": "ddp", "precision": "bf16-mixed"}
    assert check("quickstart_pretrain", write(tmp_path / "cluster.yaml", {"trainer": more})) == 0
    assert "nothing wrong" in capsys.readouterr().out


def test_an_accelerator_that_there_is_not_is_a_mistake(tmp_path, capsys):
    assert check("quickstart_pretrain", write(tmp_path / "typo.yaml", {"trainer": {"accelerator": "gpus"}})) == 2
    assert "gpus" in capsys.readouterr().err
