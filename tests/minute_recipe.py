"""A recipe with arms whose stages take seconds, for tests."""

from pathlib import Path

import yaml

from tests_support import TINY

ROOT = Path(__file__).parent.parent


def minute_config(stage: str) -> dict:
    """The quickstart's config of a stage with a minute model: four updates, a checkpoint at each, four problems a band."""
    source = ROOT / f"configs/experiment/quickstart_{stage}.yaml"
    config = yaml.safe_load(source.read_text())
    for part in ("model", "data"):
        config[part] = yaml.safe_load((source.parent / config[part]).read_text())
    config["trainer"] |= {
        "max_steps": 4, "limit_val_batches": 0, "enable_progress_bar": False, "log_every_n_steps": 1, "precision": "32-true",
    }  # fmt: skip
    config["checkpoint"] = {"every_n_train_steps": 1}
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    model["evaluation"] = {"samples": 4, "sampling": {"max_new_tokens": 6}}
    data["held_out"] |= {"problems": 4, "bands": {"ID": "2-3", "edge": "5"}}
    if stage == "pretrain":
        model["architecture"], data["batch_rows"] = TINY, 2
    if stage == "grpo":
        model["reward"] = {"class_path": "killer.LengthReward"}
        model["sampling"]["max_new_tokens"] = 6
        data["prompts_per_rollout"] = 2
    return config


def write_configs(folder: Path, contexts: tuple[str, ...] = ("garden",)) -> None:
    """`pretrain.yaml` and `grpo.yaml`, tested on these contexts."""
    folder.mkdir(parents=True, exist_ok=True)
    for stage in ("pretrain", "grpo"):
        config = minute_config(stage)
        config["data"]["init_args"]["held_out"]["contexts"] = list(contexts)
        (folder / f"{stage}.yaml").write_text(yaml.safe_dump(config))


def write_recipe(folder: Path, **changes: object) -> Path:
    """Pre-training, then three arms: none, and RL on two slices; returns the recipe's path."""
    write_configs(folder)
    slices = {ops: {"grpo": {"set": {"data.init_args.mixture": [{"ops": ops, "contexts": ["garden"]}]}}} for ops in ("3", "4")}
    recipe = {
        "about": "A test.\n", "seeds": [0], "unseen": ["edge"],
        "stages": {"pretrain": {"config": "pretrain.yaml"}, "grpo": {"config": ["grpo.yaml"], "init_from": "pretrain"}},
        "arms": {"data": {"base": {"skip": ["grpo"]}, **slices}},
    } | changes  # fmt: skip
    (folder / "minute.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return folder / "minute.yaml"
