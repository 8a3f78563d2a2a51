"""The studies that start from the quickstart's models, each with a minute model."""

import base64
import gzip
import json
import re
from pathlib import Path

import pytest
import yaml

import main
from datamodules.problems.mixture import parse_ops
from tests_support import TINY

ROOT = Path(__file__).parent.parent
STUDIES = ("quickstart_rewards", "quickstart_credit", "curriculum")
SHORT = {
    "trainer.max_steps": 2, "trainer.val_check_interval": 1, "trainer.limit_val_batches": 1, "trainer.enable_progress_bar": False,
    "trainer.log_every_n_steps": 1, "trainer.precision": "32-true", "data.init_args.held_out.problems": 3,
    "data.init_args.held_out.validation_problems": 2,
    "model.init_args.evaluation": {"samples": 4, "sampling": {"max_new_tokens": 6}, "likelihood": False},
}  # fmt: skip
SHORT_RL = SHORT | {"data.init_args.prompts_per_rollout": 2, "model.init_args.sampling.max_new_tokens": 6}


def shortened(name: str, folder: Path) -> Path:
    """A recipe of the same name and arms, two updates a stage."""
    source = ROOT / f"configs/recipe/{name}.yaml"
    recipe = yaml.safe_load(source.read_text())
    for stage, entry in recipe["stages"].items():
        entry["config"] = str((source.parent / entry["config"]).resolve())
        entry["set"] = entry.get("set", {}) | (SHORT_RL if stage in ("grpo", "ppo") else SHORT)
    recipe["stages"]["pretrain"]["set"] |= {"model.init_args.architecture": TINY}
    (folder / source.name).write_text(yaml.safe_dump(recipe | {"seeds": [0]}, sort_keys=False))
    return folder / source.name


@pytest.mark.long
@pytest.mark.timeout(1500)  # some thirty processes
def test_the_studies_run_side_by_side_and_are_reported(tmp_path, capsys):
    recipes, out = [str(shortened(name, tmp_path)) for name in STUDIES], tmp_path / "out"
    assert main.main(["run", *recipes, "--out", str(out), "--at-once", "2"]) == 0, capsys.readouterr().out
    assert main.main(["report", str(out)]) == 0
    arms = {name: {arm["values"].popitem()[1]: arm for arm in json.loads((out / f"{name}.json").read_text())["arms"]}
            for name in STUDIES}  # fmt: skip
    assert arms["quickstart_credit"]["GRPO outcome"]["stages"] == arms["quickstart_rewards"]["outcome"]["stages"]
    assert {stage["kind"] for stage in arms["quickstart_credit"]["PPO dense"]["stages"]} == {"pretrain", "midtrain", "ppo"}
    for arm, ops in {"edge": "2-10", "easy": "2-3", "hard": "9-10"}.items():
        folder = out / arms["curriculum"][arm]["stages"][-1]["folder"]
        assert (folder / "frontier.jsonl").is_file() == (arm == "edge")
        seen = (folder / "metrics.csv").read_text().splitlines()[0].split(",")
        trained = {int(name.rpartition("op")[2]) for name in seen if name.startswith("train/zero_variance/op")}
        assert trained and trained <= set(parse_ops(ops))
    assert (out / "figures/curriculum-validation.png").stat().st_size > 10_000
    page = (out / "report.html").read_text()
    block = json.loads(gzip.decompress(base64.b64decode(re.search(r'id="block">(.*?)</script>', page).group(1))))
    assert any("zero_variance" in table["head"] for table in block["tables"])
    assert "nan" not in {
        number["text"] for number in block["numbers"]
    }  # what PPO's critic explains of rewards that are all alike
    assert "against FLOPs; the numbers stand" in page
