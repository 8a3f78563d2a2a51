"""The study runner, end to end with a minute model; its numbers against counting by hand."""

import json
from pathlib import Path

import pytest
import torch
import yaml

import main
from datamodules.rows.tokenizer import load_tokenizer
from docs.reinforcement import study
from lightning_modules.models.language_model import build_language_model
from tests_support import TINY

ROOT = Path(__file__).parent.parent


def small(arm: dict) -> dict:
    short = {
        "trainer.max_steps": 2, "trainer.limit_val_batches": 0, "trainer.enable_progress_bar": "false",
        "data.init_args.prompts_per_rollout": 2, "data.init_args.held_out.problems": 3,
        "model.init_args.sampling.max_new_tokens": 6, "model.init_args.evaluation.sampling.max_new_tokens": 6,
    }  # fmt: skip
    settings = [str(word) for key, value in short.items() for word in (f"--{key}", value)]
    return {"config": str(ROOT / arm["config"]), "settings": [*arm["settings"], *settings]}


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "docs/reinforcement").glob("*.yaml")))
def test_a_study_runs_its_arms_and_writes_its_table(name, tmp_path, capsys):
    about = yaml.safe_load((ROOT / f"docs/reinforcement/{name}.yaml").read_text())
    about["arms"] = {arm: small(settings) for arm, settings in about["arms"].items()}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(about, sort_keys=False))
    source = tmp_path / "quickstart/seed4/midtrain"
    torch.manual_seed(0)
    build_language_model(TINY).save_pretrained(source / "huggingface")
    load_tokenizer("garden").save_pretrained(source / "huggingface")
    first = next(iter(about["arms"].values()))
    arguments = ["--config", first["config"], *first["settings"], "--model.init_args.init_from", str(source / "huggingface")]
    assert main.main(["test", *arguments, "--trainer.default_root_dir", str(source)]) == 0
    (source / "config.yaml").write_bytes((source / "test/config.yaml").read_bytes())

    study.main([str(tmp_path / "mine.yaml"), str(source.parent), "--out", str(tmp_path / "out")])
    kept = json.loads((tmp_path / "mine/seed4.json").read_text())
    assert list(kept) == ["start", *about["arms"]]
    assert all([n for _, _, n in of["problems"]] == [8, 8, 8] for of in kept.values())
    assert all(set(of["metrics"]) <= set(about["metrics"]) for of in kept.values())
    assert any("train/zero_variance" in of["metrics"] for of in kept.values())
    page = (tmp_path / "mine.md").read_text()
    assert page in capsys.readouterr().out
    assert all(f"\n{arm} " in page for arm in kept)
    weights = [tmp_path / f"out/seed4/{arm}/huggingface/model.safetensors" for arm in about["arms"]]
    stamps = [path.stat().st_mtime_ns for path in weights]
    study.main([str(tmp_path / "mine.yaml"), str(source.parent), "--out", str(tmp_path / "out")])
    assert stamps == [path.stat().st_mtime_ns for path in weights]  # nothing was run again


def test_measures_are_means_over_problems_with_their_standard_errors():
    found = study.measure([[8, 8, 8], [4, 2, 8], [0, 0, 8]])
    assert found["pass@1"] == pytest.approx((1.25 / 3, ((0.5833**2 + 0.1667**2 + 0.4167**2) / 2 / 3) ** 0.5), abs=1e-3)
    assert found["pass@8"][0] == pytest.approx(2 / 3)
    assert found["right, wrong process"][0] == pytest.approx(0.25 / 3)


def test_several_seeds_get_a_row_of_their_mean():
    one, other = ({"arm": {"problems": [[n, n, 8], [n, n, 8]], "metrics": {}}} for n in (8, 4))
    rows = study.table({"seed0": one, "seed1": other}).splitlines()
    assert rows[-1].split()[:4] == ["arm", "all", "0.750", "±0.250"]
