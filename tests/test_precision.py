"""No stage computes in bfloat16 on a CPU unless asked to, and who asks is told what it costs."""

from pathlib import Path

import pytest
import torch
import yaml
from minute_recipe import minute_config
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import main
from lightning_modules import stage as stage_module
from lightning_modules.models.language_model import build_language_model
from tests_support import TINY

ROOT = Path(__file__).parent.parent
PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "mv", "dot", "_scaled_dot_product_flash_attention_for_cpu"} | {
    "linear",
    "matmul",
    "scaled_dot_product_attention",  # whole, in inference mode
}


class Bfloat16Products(TorchDispatchMode):
    """Counts products of matrices by whether they read bfloat16."""

    def __init__(self):
        super().__init__()
        self.found = {True: 0, False: 0}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in PRODUCTS:
            tensors = (x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor))
            self.found[any(x.dtype == torch.bfloat16 for x in tensors)] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("stage", ["pretrain", "midtrain", "grpo", "ppo"])
def test_the_quickstarts_stages_train_and_are_tested_without_a_bfloat16_product(stage, start, tmp_path):
    config = minute_config(stage)
    del config["trainer"]["precision"]  # of the test; the experiment's own is what counts
    experiment = str(ROOT / f"configs/experiment/quickstart_{stage}.yaml")
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    if stage != "pretrain":
        model["init_from"] = start
    if stage == "ppo":
        model |= {"reward": {"class_path": "killer.LengthReward"}, "sampling": {"max_new_tokens": 6}}
        data["prompts_per_rollout"] = 2
    path = tmp_path / "minute.yaml"
    path.write_text(yaml.safe_dump(config))
    with open(experiment) as file:
        assert yaml.safe_load(file)["trainer"]["precision"] == "32-true"
    arguments = ["--config", experiment, "--config", str(path), "--trainer.default_root_dir", str(tmp_path / "run")]
    with Bfloat16Products() as products:
        assert main.main(["fit", *arguments]) == 0
        assert main.main(["test", *arguments, "--ckpt_path", str(tmp_path / "run/checkpoints/last.ckpt")]) == 0
    assert products.found[True] == 0
    assert products.found[False] > 200


def test_the_count_sees_what_it_counts():
    """Forward and backward, under autocast as Lightning's bf16-mixed uses it."""
    model = build_language_model(TINY)
    with Bfloat16Products() as products:
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=torch.arange(8)[None]).logits.float().sum()
        forward = products.found[True]
        loss.backward()
    assert forward >= 2 * 7 and products.found[True] > 2 * forward - 4


def validate(start, tmp_path, precision):
    config = minute_config("grpo")
    config["model"]["init_args"]["init_from"] = start
    config["trainer"] |= {"precision": precision, "limit_val_batches": 0, "default_root_dir": str(tmp_path)}
    path = tmp_path / "minute.yaml"
    path.write_text(yaml.safe_dump(config))
    return main.main(["validate", "--config", str(path)])


@pytest.mark.filterwarnings("default:precision bf16-mixed")
def test_bfloat16_on_a_cpu_without_units_is_warned_of_once_with_what_it_costs(start, tmp_path, monkeypatch, recwarn):
    monkeypatch.setattr(stage_module, "bf16_slowdown", lambda: 52.4)
    assert validate(start, tmp_path, "bf16-mixed") == 0
    told = [str(w.message) for w in recwarn if "bfloat16" in str(w.message)]
    assert len(told) == 1
    assert "52 times as long in bfloat16 as in float32" in told[0] and "`trainer.precision` to 32-true" in told[0]


@pytest.mark.parametrize(("precision", "slowdown"), [("bf16-mixed", 0.4), ("32-true", 52.4)])
def test_bfloat16_where_it_is_fast_and_float32_are_not_warned_of(start, tmp_path, monkeypatch, recwarn, precision, slowdown):
    monkeypatch.setattr(stage_module, "bf16_slowdown", lambda: slowdown)
    assert validate(start, tmp_path, precision) == 0
    assert not [w for w in recwarn if "bfloat16" in str(w.message)]
