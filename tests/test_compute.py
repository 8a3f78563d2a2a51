"""The compute ledger: counts against brute force, the nominal formula against the paper's tables."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from transformers import GPT2Config

import main
from lightning_modules.models.compute import ComputeMeter, generation_counts, ledger, nominal_rl_tokens, packed_counts, row_counts
from lightning_modules.models.flops import forward_flops
from lightning_modules.models.language_model import build_language_model
from recipes.planning.budget import StepSizes, split_budget
from tests_support import TINY

ROOT = Path(__file__).parent.parent
STEP = 524_288
TABLE_3 = {  # budget in mid-training steps: RL only (steps, thousand prompts), then (mid, RL) at RL shares 0.2, 0.5, 0.8
    2_000: ((50, 51.2), (1_600, 10), (1_000, 25), (400, 40)),
    4_000: ((100, 102.4), (3_200, 20), (2_000, 50), (800, 80)),
    8_000: ((200, 204.8), (6_400, 40), (4_000, 100), (1_600, 160)),
    16_000: ((400, 409.6), (12_800, 80), (8_000, 200), (3_200, 320)),
    24_000: ((600, 614.4), (19_200, 120), (12_000, 300), (4_800, 480)),
    32_000: ((800, 819.2), (25_600, 160), (16_000, 400), (6_400, 640)),
    38_147: ((954, 976.6), (30_517, 191), (19_073, 477), (7_629, 763)),
}


@pytest.mark.parametrize("mid_only", TABLE_3)
def test_the_papers_table_3_is_reproduced(mid_only):
    (rl_only, thousands), *shared = TABLE_3[mid_only]
    tokens = mid_only * STEP
    assert split_budget(tokens, 0.0)[:2] == (mid_only, 0)
    full = split_budget(tokens, 1.0)
    assert full[:2] == (0, rl_only)
    assert full.prompts / 1000 == pytest.approx(thousands, abs=0.06)
    assert [split_budget(tokens, share)[:2] for share in (0.2, 0.5, 0.8)] == shared


def test_nominal_cost_is_five_thirds_with_a_reference_and_four_thirds_without():
    assert nominal_rl_tokens(1, 6, 2048) == 20_480
    assert nominal_rl_tokens(1024, 6, 2048) == pytest.approx(20.97e6, rel=1e-3)
    assert nominal_rl_tokens(3, 2, 10, reference=False) == 80


def test_a_share_that_is_none_and_a_budget_below_a_step_are_refused():
    with pytest.raises(ValueError, match=r"1\.2"):
        split_budget(STEP, 1.2)
    with pytest.raises(ValueError, match="less than one step"):
        split_budget(1000, 0.5)
    assert split_budget(1000, 0.0, StepSizes(tokens_per_step=100)).mid == 10


def test_counts_of_packed_documents_equal_a_loop():
    documents, width = [3, 4], 9
    position = torch.tensor([[*range(3), *range(4), 0, 0]])
    number = torch.tensor([[1] * 3 + [2] * 4 + [0] * (width - 7)])
    tokens, attended = packed_counts(position, number)
    assert (tokens, attended) == (sum(documents), sum(t + 1 for n in documents for t in range(n)))


def test_counts_of_rows_and_of_sampling_equal_loops():
    prompts, completions = [5, 3], [[2, 4], [1, 6]]
    mask = torch.zeros(4, 12, dtype=torch.bool)
    rows = [(p, c) for p, group in zip(prompts, completions, strict=True) for c in group]
    for n, (p, c) in enumerate(rows):
        mask[n, p - 1 : p - 1 + c] = True  # predictions of sampled tokens, as in a minibatch
    fed = [p + c - 1 for p, c in rows]
    assert tuple(map(int, row_counts(mask))) == (sum(fed), sum(t + 1 for n in fed for t in range(n)))
    expected = [t + 1 for p in prompts for t in range(p)] + [p + t + 1 for p, c in rows for t in range(c - 1)]
    counts = generation_counts(prompts, torch.tensor([c for _, c in rows]))
    assert tuple(map(int, counts)) == (len(expected), sum(expected))


def test_the_papers_model_has_its_number_of_parameters():
    architecture = yaml.safe_load((ROOT / "configs/model/pretrain_100m.yaml").read_text())["init_args"]["architecture"]
    with torch.device("meta"):
        config = build_language_model(architecture).config
    assert ledger({"phases": {}, "nominal_tokens": 0.0}, config)["parameters"] == pytest.approx(101.5e6, rel=1e-3)


def test_a_ledger_sums_phases_and_counts_updates_three_times():
    meter = ComputeMeter()
    for _ in range(2):
        meter.add("rollout", (torch.tensor(10), torch.tensor(50)))
        meter.add("update", (torch.tensor(10), torch.tensor(50)))
    meter.nominal_tokens += 100
    config = build_language_model(TINY).config
    found = ledger(meter.state(), config)
    once = forward_flops(config, tokens=20, context=5)
    assert found["phases"]["rollout"] == {"tokens": 20, "flops": once}
    assert found["flops"] == 4 * once
    assert found["nominal_flops"] == 600 * found["parameters"]
    assert found["token_equivalents"] == pytest.approx(found["flops"] / 6 / found["parameters"])


def test_a_teachers_passes_count_at_its_own_size():
    own, teacher = build_language_model(TINY).config, build_language_model({**TINY, "num_hidden_layers": 8}).config
    state = {"phases": {"update": [10.0, 50.0], "reference log-probabilities": [10.0, 50.0]}, "nominal_tokens": 1.0}
    phases = ledger(state, own, {"reference log-probabilities": teacher})["phases"]
    assert phases["update"]["flops"] == 3 * forward_flops(own, tokens=10, context=5)
    assert phases["reference log-probabilities"]["flops"] == forward_flops(teacher, tokens=10, context=5)
    unknown = ledger(state, own, {"reference log-probabilities": GPT2Config()})
    assert unknown["flops"] is None and unknown["phases"]["update"]["tokens"] == 10


def test_a_model_whose_flops_are_not_known_still_has_its_tokens_counted():
    found = ledger({"phases": {"update": [10.0, 30.0]}, "nominal_tokens": 12.0}, GPT2Config())
    assert found["phases"] == {"update": {"tokens": 10, "flops": None}}
    assert found["nominal_tokens"] == 12
    assert found["flops"] is found["nominal_flops"] is None


def test_a_resumed_run_counts_what_it_did_before(tmp_path):
    def fit(run: str, *more: str) -> dict:
        settings = [
            "--config", str(ROOT / "configs/experiment/quickstart_pretrain.yaml"), "--trainer.max_steps", "4",
            "--trainer.default_root_dir", str(tmp_path / run), "--trainer.enable_progress_bar", "false",
            "--trainer.limit_val_batches", "0", "--data.init_args.batch_rows", "2", "--checkpoint.save_top_k", "-1",
            "--checkpoint.every_n_train_steps", "2",
        ]  # fmt: skip
        tiny = [word for key, value in TINY.items() for word in (f"--model.init_args.architecture.{key}", str(value).lower())]
        assert main.main(["fit", *settings, *tiny, *more]) == 0
        return json.loads((tmp_path / run / "compute.json").read_text())

    whole = fit("whole")
    (middle,) = (tmp_path / "whole/checkpoints").glob("*step=2.ckpt")
    assert fit("resumed", "--ckpt_path", str(middle)) == whole
    assert whole["nominal_tokens"] == 4 * 2 * 256
