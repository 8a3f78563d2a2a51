"""The model of cost: its formulas against what PyTorch and the slots allocate, budgets against a run update by update."""

import json
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from minute_recipe import write_recipe
from transformers import AutoConfig

import main
from benchmarks.plan_check import kept_bytes
from lightning_modules.models.language_model import build_language_model
from lightning_modules.optimizers import AdamW
from lightning_modules.rollout import SamplingParams
from lightning_modules.rollout.graphed import GraphedSampler
from lightning_modules.rollout.sampling import Request
from recipes.planning.devices import DEVICES
from recipes.planning.plan import make_plan
from recipes.planning.recipe import load_recipe
from recipes.planning.stage_cost import (
    Setting,
    cache_per_token,
    communication_seconds,
    decode_seconds,
    forward_kernels,
    kept_per_token,
    memory,
    parameters,
)  # fmt: skip
from recipes.planning.workload import DECODE, Phase, architecture_of, flops_of, workload
from tests_support import TINY

H100 = DEVICES["h100"]


def config_of(architecture=TINY):
    settings = dict(architecture)
    return AutoConfig.for_model(settings.pop("model_type"), **settings)


def setting(devices=1, **changes):
    return Setting(H100, devices, **{"sharded": False, "half": True, "checkpointing": False, **changes})


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """A minute stage of pre-training, and one of GRPO."""
    plan = make_plan(load_recipe(write_recipe(tmp_path_factory.mktemp("recipe"))))
    return plan.arms[1].stages


@pytest.mark.parametrize("changes", [{}, {"num_hidden_layers": 4, "intermediate_size": 192, "num_key_value_heads": 4}])
def test_what_a_forward_pass_keeps_is_what_autograd_holds(changes):
    model = build_language_model(TINY | changes)
    ids = torch.zeros(4, 64, dtype=torch.int64)
    weights = sum(p.numel() * 4 for p in model.parameters())
    kept = kept_bytes(lambda: model(input_ids=ids, use_cache=False).logits) - weights
    predicted = ids.numel() * kept_per_token(config_of(TINY | changes), half=False, checkpointing=False)
    assert predicted == pytest.approx(kept, rel=0.25)


def test_weights_moments_and_slots_are_those_that_are_allocated():
    model = build_language_model(TINY)
    optimizer = AdamW(lr=1e-3)(model)
    model(input_ids=torch.zeros(1, 4, dtype=torch.int64)).logits.sum().backward()
    optimizer.step()
    size = sum(p.numel() for p in model.parameters())
    moments = sum(t.numel() for state in optimizer.state.values() for t in state.values() if t.dim())
    assert (parameters(config_of()), 2 * size) == (size, moments)
    params = SamplingParams(max_new_tokens=20)
    request = Request([[5, 6, 7]], 3, params, torch.tensor([1]), 0, torch.rand(3, 20), torch.full((3,), 2))
    with torch.inference_mode():
        sampler = GraphedSampler(model, request, stride=32)
        sampler.run()
    held = sum(layer.storage.untyped_storage().nbytes() for layer in sampler.cache.layers)
    assert held == 3 * 32 * cache_per_token(config_of(), half=False)


def test_kernels_grow_with_layers_and_views_are_none():
    one, two, three = (forward_kernels(config_of(TINY | {"num_hidden_layers": n})) for n in (1, 2, 3))
    assert 0 < two - one == three - two < one + two


def test_gradients_cross_the_link_twice_and_sharded_weights_at_each_pass():
    """Oracle: a ring of n devices moves (n - 1) / n of all bytes for each gathering, scattering, and half of a sum."""
    config, size = config_of(), parameters(config_of())
    assert communication_seconds(config, 1, setting(1)) == 0
    assert communication_seconds(config, 5, setting(2)) == pytest.approx(2 * 4 * size / 2 / H100.link)
    once = (2 * 2 + 4) * size * 15 / 16 / H100.network
    assert communication_seconds(config, 3, setting(16, sharded=True)) == pytest.approx(3 * once)


def test_a_step_of_sampling_reads_weights_once_and_keys_of_every_row():
    """Oracle: 6 samples in 2 slots are 3 x 10 steps; a large model is bound by reading."""
    large = config_of(TINY | {"hidden_size": 4096, "num_hidden_layers": 4, "intermediate_size": 8192})
    found = decode_seconds(large, Phase(60, 100.0), 6, 10.0, 2, setting())
    read = 2 * parameters(large) + 2 * 100 * cache_per_token(large, half=True)
    assert found == pytest.approx(30 * read / (H100.bandwidth * H100.read_share))
    tiny = decode_seconds(config_of(), Phase(60, 100.0), 6, 10.0, 2, setting())
    assert tiny == pytest.approx(30 * forward_kernels(config_of()) * H100.launch)


def spend(work, model, key, limit, every):
    """Oracle: update by update, as ComputeBudget looks at the ledger."""
    cost = {"max_tokens": lambda phases: sum(p.tokens for p in phases.values()), "max_flops": lambda p: flops_of(model, p)}[key]
    spent = 0.0
    for update in range(work.steps):
        spent += cost(work.rollout) * (work.rollouts > 0 and update % work.updates == 0) + cost(work.update)
        if (update + 1) % every == 0 and spent >= limit:
            return update + 1
    return work.steps


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("key", ["max_tokens", "max_flops"])
def test_a_compute_budget_ends_a_stage_where_its_callback_does(stages, number, key):
    stage = stages[number]
    whole, model = workload(stage), architecture_of(stage)
    total = sum(p.tokens for p in whole.phases().values()) if key == "max_tokens" else flops_of(model, whole.phases())
    for share, every in ((0.01, 1), (0.3, 1), (0.51, 1), (0.75, 3), (0.999, 1), (2.0, 1)):
        config = deepcopy(stage.config)
        arguments = {key: share * total, "every_n_steps": every}
        config["trainer"]["callbacks"] = [{"class_path": "callbacks.ComputeBudget", "init_args": arguments}]
        found = workload(replace(stage, config=config))
        assert found.steps == spend(whole, model, key, share * total, every)
        assert found.trained == pytest.approx(whole.trained * found.steps / whole.steps, rel=0.5 if whole.updates > 1 else 1e-9)


def test_sharding_divides_what_lies_there_and_gathers_it_to_sample(stages):
    rl = stages[1]
    config, model, work = rl.config, architecture_of(rl), workload(rl)
    config["model"]["init_args"]["kl"]["weight"] = 0.1
    one, eight = (memory(config, model, work, setting(n, sharded=n > 1)) for n in (1, 8))
    for part in ("weights", "gradients", "optimiser", "reference"):
        assert one[part] == pytest.approx(8 * eight[part])
    assert one["whole weights"] == 0 and eight["whole weights"] == 4 * parameters(model)
    times = 1 + config["model"]["init_args"]["group"]["resample"]
    assert work.rollout[DECODE].tokens == times * work.completions * work.lengths.response


def test_passes_are_cut_where_memory_ends_but_not_below_a_row(stages):
    """Oracle: 60% of what is left beside weights, Adam's states and 1.25 GiB of logits, per byte that a token keeps."""
    first = stages[0]
    config, work = deepcopy(first.config), workload(first)
    config["data"]["init_args"] |= {"batch_rows": 1 << 20, "row_length": 512}
    large = config_of(TINY | {"hidden_size": 2048, "num_hidden_layers": 24, "intermediate_size": 8192})
    each = kept_per_token(large, half=True, checkpointing=False)
    found = memory(config, large, work, setting())
    left = H100.memory - 16 * parameters(large) - 1.25 * 2**30
    assert found["activations"] == pytest.approx(0.6 * left)
    assert memory(config, large, work, setting(checkpointing=True))["activations"] == pytest.approx(0.6 * left)
    config["model"]["init_args"]["tokens_per_pass"] = 4096
    assert memory(config, large, work, setting())["activations"] == pytest.approx(4096 * each)
    config["model"]["init_args"]["tokens_per_pass"] = None
    small = replace(H100, memory=1e9)
    assert memory(config, large, work, replace(setting(), device=small))["activations"] == pytest.approx(512 * each)


def test_the_command_prints_each_stage_and_where_it_breaks(tmp_path, capsys):
    file = tmp_path / "plan.json"
    assert main.main(["plan", str(write_recipe(tmp_path)), "--device", "a100", "--devices", "2", "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "on 2 x a100" in printed and "device-hours" in printed
    assert "8 billion parameters on 512 x a100" in printed and "batch: " in printed
    found = json.loads(file.read_text())
    assert found["devices"] == 2 and all(stage["now"]["peak"] > 0 for stage in found["stages"].values())


def test_what_cannot_be_planned_is_told_in_a_line(capsys):
    assert main.main(["plan", "configs/experiment/paper_grpo.yaml"]) == 2
    assert "--model configs/model/pretrain_100m.yaml" in capsys.readouterr().err
    assert main.main(["plan", "configs/experiment/paper_pretrain.yaml", "--device", "h1000"]) == 2
    assert "choose one of a100, h100" in capsys.readouterr().err


def test_recipes_configs_and_models_are_planned_by_name_from_any_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main.main(["plan", "paper_grpo", "trainer/ddp", "--model", "pretrain_100m"]) == 0
    assert "grpo (103M parameters)" in capsys.readouterr().out
    assert main.main(["plan", "quickstrt"]) == 2
    assert "did you mean 'quickstart'?" in capsys.readouterr().err
