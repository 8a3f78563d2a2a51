"""Stages as jobs, through submitit: its debug and local executors, and a SLURM whose `sbatch` only keeps what it is given."""

import json
import os
import re
from pathlib import Path

import pytest
from minute_recipe import ROOT, write_recipe

import main
from recipes.running.stage_folders import StageFolders

pytest.importorskip("submitit", reason="submitit is not installed; pip install -e '.[slurm]'")


@pytest.fixture
def command(tmp_path):
    return ["run", str(write_recipe(tmp_path)), "--out", str(tmp_path / "out"), "--launcher"]


@pytest.fixture
def finished(monkeypatch):
    """Stages that leave their last files; returns what was run."""
    done = []

    def run(self, stage, lock, command):
        done.append((stage.label, command[0]))
        path = self.folder(stage) / ("training.json" if command[0] == "fit" else "test/pass_at_k.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"ID": {"executable": {"pass@1": {"mean": 0.5}}}}))
        return "ops: '3'" not in str(stage.config)

    monkeypatch.setattr(StageFolders, "_run", run)
    return done


def test_jobs_have_the_settings_of_their_machine(command, monkeypatch, finished):
    run, given = StageFolders._run, []
    monkeypatch.setattr(
        StageFolders, "_run", lambda self, stage, lock, words: given.append(words) or run(self, stage, lock, words)
    )
    assert main.main([*command, "debug", "--hardware", "trainer.accelerator=gpu"]) == 0
    assert len(given) == 6 and all("--trainer.accelerator=gpu" in words for words in given)


def test_debug_jobs_run_every_stage_once(command, finished, tmp_path, capsys):
    assert main.main([*command, "debug"]) == 0
    assert len(finished) == len(set(finished)) == 6
    states = [s["state"] for arm in json.loads((tmp_path / "out/minute.json").read_text())["arms"] for s in arm["stages"]]
    assert set(states) == {"complete"}
    printed = re.findall(r"^(submitted job|job) \S+( complete)?: (\w+)-", capsys.readouterr().out, re.MULTILINE)
    assert printed.count(("submitted job", "", "grpo")) == printed.count(("job", " complete", "grpo")) == 2
    assert printed.index(("submitted job", "", "pretrain")) < printed.index(("job", " complete", "pretrain"))


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """An `sbatch` that keeps the job's script and gives it the next number; returns the folder of scripts."""
    kept, commands = tmp_path / "kept", tmp_path / "bin"
    kept.mkdir()
    commands.mkdir()
    sbatch = f'#!/bin/sh\nn=$(ls {kept} | wc -l)\ncp "$1" {kept}/$((n + 101))\necho "Submitted batch job $((n + 101))"\n'
    for name, text in (("sbatch", sbatch), ("srun", "#!/bin/sh\n")):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    return kept


def options(script: Path) -> dict[str, str]:
    return dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", script.read_text(), re.MULTILINE))


def test_slurm_jobs_wait_for_what_they_start_from(command, slurm, capsys):
    assert main.main([*command, "slurm", "--job", "timeout_min=60", "--job", "slurm_partition=gpu"]) == 0
    found = {path.name: options(path) for path in slurm.iterdir()}
    assert len(found) == 3
    first, *others = (found[name] for name in sorted(found))
    assert first["job-name"].startswith("pretrain-")
    assert "dependency" not in first
    assert all(o["dependency"] == "afterok:101" and o["kill-on-invalid-dep"] == "yes" for o in others)
    assert all(o["time"] == "60" and o["partition"] == "gpu" for o in found.values())
    assert "submitted job 101" in capsys.readouterr().out


def test_more_tasks_than_a_stage_has_devices_are_refused(command, slurm, capsys):
    """Each would train for itself, in the same folder."""
    assert main.main([*command, "slurm", "--job", "tasks_per_node=8", "--job", "gpus_per_node=8"]) == 2
    assert "--job asks for 8 tasks, but stage 'pretrain'" in capsys.readouterr().err
    assert not list(slurm.iterdir())


def test_a_setting_of_a_job_without_a_value_is_refused(command, slurm, capsys):
    with pytest.raises(SystemExit):
        main.main([*command, "slurm", "--job", "timeout_min"])
    assert "argument --job 'timeout_min': give KEY=VALUE." in capsys.readouterr().err


@pytest.mark.long
def test_local_jobs_run_the_stages_and_a_failed_one_stops_what_starts_from_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    bad = {"grpo": {"set": {"data.init_args.mixture": [{"ops": "900", "contexts": ["garden"]}]}}}  # none: fails as it runs
    path = write_recipe(tmp_path, arms={"data": {"base": {"skip": ["grpo"]}, "good": {}, "bad": bad}})
    assert main.main(["run", str(path), "--out", str(tmp_path / "out"), "--launcher", "local", "--job", "timeout_min=10"]) == 1
    states = {arm["name"]: arm["stages"][-1]["state"] for arm in json.loads((tmp_path / "out/minute.json").read_text())["arms"]}
    assert states == {"base-seed0": "complete", "good-seed0": "complete", "bad-seed0": "failed"}
    ended = re.findall(r"^job \d+ (complete|failed): (\w+)-", capsys.readouterr().out, re.MULTILINE)
    assert sorted(ended) == [("complete", "grpo"), ("complete", "pretrain"), ("failed", "grpo")]
