"""Recipes, scores and files as a study meets them when it is not the one they were written for."""

import math
import os
from pathlib import Path

import pytest
import torch
import yaml

from callbacks.files import write_json
from callbacks.records.checkpoint import newest_checkpoint
from callbacks.records.earlier_run import set_aside
from callbacks.records.model_card import _scores
from datamodules import PromptDataModule
from datamodules.problems.context import CONTEXT_FOLDER
from datamodules.problems.mixture import Component
from datamodules.reasoning import HeldOut
from datamodules.yaml_text import read_yaml
from grammar import parse_problem, parse_response, verify
from lightning_modules.metrics import estimate_means
from lightning_modules.rewards import NoisyVerifier, ReasoningReward
from recipes.planning.budget import read_budget
from recipes.planning.layers import layered
from recipes.planning.plan import make_plan
from recipes.planning.recipe import load_recipe
from recipes.planning.resolve import as_yaml, digest, resolve
from recipes.running.arm_index import write_index
from recipes.running.result_tables import result_table
from recipes.validity import is_current, unfinished
from tests_support import PLAIN

PRETRAIN = Path("configs/experiment/quickstart_pretrain.yaml").resolve()


def recipe(folder, **content):
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({"about": "", "seeds": [0], **content}, sort_keys=False))
    return load_recipe(path)


def test_what_a_later_layer_sets_as_a_whole_takes_the_place_of_earlier_parts():
    first, second = {"kl": {"weight": 0.1}, "lr": 1}, {"kl.weight": 0.2}
    assert layered(first, second) == {"kl": {"weight": 0.1}, "lr": 1, "kl.weight": 0.2}
    assert layered(first, second, {"kl": {"weight": 0.0}}) == {"lr": 1, "kl": {"weight": 0.0}}
    assert list(layered(first, {"lr": 2})) == ["kl", "lr"] and layered(first, {"kline": 3})["kl"] == {"weight": 0.1}


def test_an_arm_wins_over_the_stage_and_the_kind(tmp_path):
    stage = {"config": str(PRETRAIN), "set": {"model.init_args.optimizer.init_args.lr": 0.2}}
    whole = {"class_path": "lightning_modules.optimizers.AdamW", "init_args": {"lr": 0.5}}
    arms = {"rate": {"stage": {}, "arm": {"base": {"set": {"model.init_args.optimizer": whole}}}}}
    plan = make_plan(recipe(tmp_path, stages={"base": stage}, arms=arms, unseen=["edge", "beyond", "hard"]), (0,))
    rates = [arm.stages[0].config["model"]["init_args"]["optimizer"]["init_args"]["lr"] for arm in plan.arms]
    assert rates == [0.2, 0.5]


def interval(*strata, level=0.95):
    found = estimate_means([(weight, torch.tensor(values)[:, None]) for weight, values in strata], level=level)[0]
    return found.low, found.high


def most(strata, level=0.95):
    """Oracle: the largest mean of two strata's chances without a success, on a fine grid of the first."""
    (w, n), (v, m) = strata
    best = 0.0
    for p in torch.linspace(0, 1, 200_001, dtype=torch.float64).tolist()[:-1]:
        log_rest = math.log(1 - level) - n * math.log(1 - p)
        if log_rest <= 0:
            best = max(best, w * p + v * (1 - math.exp(log_rest / m)))
    return best


@pytest.mark.parametrize("strata", [((0.5, 30), (0.5, 30)), ((0.2, 100), (0.8, 10)), ((0.9, 5), (0.1, 50))])
def test_the_interval_of_a_weighted_band_without_success(strata):
    (w, n), (v, m) = strata
    low, high = interval((w, [0.0] * n), (v, [0.0] * m))
    assert low == 0 and high == pytest.approx(most(strata), abs=2e-4)
    low, high = interval((w, [1.0] * n), (v, [1.0] * m))
    assert high == pytest.approx(1) and low == pytest.approx(1 - most(strata), abs=2e-4)


def test_the_interval_of_problems_that_tell_nothing_of_others():
    assert interval((1.0, [0.0] * 30))[1] == pytest.approx(1 - 0.05 ** (1 / 30))
    assert interval((0.0, [1.0, 0.0]), (1.0, [0.0] * 10))[1] == pytest.approx(1 - 0.05**0.1)
    assert all(map(math.isnan, interval((1.0, [0.5]))))
    assert all(map(math.isnan, interval((1.0, [0.25] * 3))))
    low, high = interval((1.0, [0.0, 1.0] * 20))
    assert 0 < low < 0.5 < high < 1


def test_bands_have_no_operation_in_common():
    with pytest.raises(ValueError, match="op 4 is in 'ID' and in 'four'"):
        HeldOut({"ID": "2-4", "four": "4"}, ["garden"])
    HeldOut({"ID": "2-4", "four": "4"}, files=["rows.jsonl"])  # there they only group


def test_a_context_with_too_few_problems_is_named(tmp_path):
    (tmp_path / "small.yaml").write_text("modulus: 5\nitems:\n  - [cups, mugs, jars]\n")
    contexts = ["garden", str(tmp_path / "small.yaml")]
    data = PromptDataModule(
        [Component("2", ["garden"])], "garden", graph=PLAIN, held_out=HeldOut({"ID": "2"}, contexts, problems=40)
    )
    with pytest.warns(UserWarning, match=r"only \d+ different ones are of op 2, .*small\.yaml"):
        assert len(data.held_out_examples("test", 40)) == 40


@pytest.mark.parametrize("value", [0, -1, 1.5, "2"])
def test_a_multiple_of_a_budget_is_a_whole_number(value):
    with pytest.raises(ValueError, match=r"mid_multiple=.* must be a whole number from 1 on"):
        read_budget({"tokens": 1e6, "rl_share": 0.5, "mid_multiple": value})


def stage_digest(**settings):
    return digest(resolve([PRETRAIN], settings), None)


def test_digests_cover_own_contexts_of_fillers_and_shards(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text((CONTEXT_FOLDER / "orchestra.yaml").read_text())
    settings = {"data.init_args.graph.fillers_of": str(own), "data.init_args.graph.fillers": [0, 2]}
    first = stage_digest(**settings)
    own.write_text(own.read_text() + "\n# changed\n")
    assert stage_digest(**settings) != first
    shard = tmp_path / "start/model-00001-of-00002.safetensors"
    shard.parent.mkdir()
    shard.write_bytes(b"one")
    start = {"model.init_args.init_from": str(shard.parent), "model.init_args.architecture": None}
    first = stage_digest(**start)
    shard.write_bytes(b"two")
    assert stage_digest(**start) != first


def test_scores_of_a_run_that_is_trained_again_do_not_count(tmp_path):
    stage = tmp_path / "stages/x"
    write_json(stage / "test/evaluation.json", {"settings": {"weights": "a"}})
    assert is_current(stage / "test/evaluation.json")  # of a model that no training left
    write_json(stage / "stage.json", {})
    assert not is_current(stage / "test/evaluation.json")
    assert unfinished(tmp_path, [{"name": "x", "folder": "stages/x", "state": "open"}]) == {"x": "open"}
    write_json(stage / "training.json", {"weights": "a"})
    assert is_current(stage / "test/evaluation.json")


def test_axes_that_change_places_leave_each_arm_once_in_the_index(tmp_path):
    axes = {"lr": {"low": {}, "high": {"base": {"set": {"trainer.log_every_n_steps": 7}}}}, "kind": {"a": {}}}
    stages = {"base": {"config": str(PRETRAIN)}}
    for order in (axes, dict(reversed(axes.items()))):
        plan = make_plan(recipe(tmp_path, stages=stages, arms=order, unseen=["edge", "beyond", "hard"]), (0,))
        index = write_index(plan, tmp_path / "out", set())
    names = [arm["name"] for arm in read_yaml(index)["arms"]]
    assert sorted(names) == ["a-high-seed0", "a-low-seed0"]


def test_numbers_and_keys_of_yaml_are_what_people_write():
    read = read_yaml(
        "{time: 1:00:00, account: 0123, off: 1, on: 2, yes: 3, seed: 12, hex: 0x1F, rate: 1e-3, really: true, no: off}"
    )
    assert read == {
        "time": "1:00:00", "account": "0123", "off": 1, "on": 2, "yes": 3, "seed": 12, "hex": 31, "rate": 0.001, "really": True,
        "no": False,
    }  # fmt: skip


def test_the_newest_checkpoint_of_a_copied_folder(tmp_path):
    for name, step, time in (("epoch=0-step=4", 4, 300), ("last", 6, 200), ("epoch=0-step=2", 2, 400)):
        torch.save({"global_step": step}, tmp_path / f"{name}.ckpt")
        os.utime(tmp_path / f"{name}.ckpt", (time, time))
    assert newest_checkpoint(tmp_path).name == "last.ckpt"
    torch.save({"global_step": 8}, tmp_path / "epoch=0-step=8.ckpt")  # saved, and killed before `last` was
    assert newest_checkpoint(tmp_path).name == "epoch=0-step=8.ckpt"
    (tmp_path / "last.ckpt").unlink()
    assert newest_checkpoint(tmp_path).name == "epoch=0-step=8.ckpt"
    assert newest_checkpoint(tmp_path / "none") is None


def test_an_accepted_wrong_solution_earns_what_a_right_one_does():
    graph = parse_problem(
        "The number of roses equals 3. The number of oaks equals the sum of the number of roses and the number of roses.",
        "How many oaks are there?", modulus=5,
    )  # fmt: skip
    wrong = verify(parse_response("Define roses as A; so A = 3. </solution> <answer> 2 </answer>"), graph)
    found = NoisyVerifier(ReasoningReward(), false_accept=1.0)("", wrong)
    assert sum(found.values()) == pytest.approx(1.0)


def test_tables_and_cards_without_intervals_or_problems(tmp_path):
    none = {"mean": None, "standard_error": None, "low": None, "high": None}
    one = {"mean": 0.5, "standard_error": 0.1, "low": None, "high": None}
    bands = {"empty": {"problems": 0}, "ID": {"problems": 3, "answer": {"pass@1": one}, "paper": {"pass@1": one},
             "executable": {"pass@1": none}}}  # fmt: skip
    settings = {"evaluation": {"samples": 1, "sampling": {"temperature": 1.0}}}
    (row,) = _scores("test", {"settings": settings, "grades": {"band": bands}})["rows"]
    assert row["answer"] == "0.50 [-, -]" and row["executable"] == "- [-, -]"
    write_json(tmp_path / "base/training.json", {"tokens": 1, "seconds": 1})
    write_json(tmp_path / "base/test/pass_at_k.json", {"ID": {"answer": {"pass@1": one}, "executable": {"pass@1": none}}})
    assert "0.50 ±0.10" in result_table(tmp_path, ["base"]) and "- ±-" in result_table(tmp_path, ["base"])


@pytest.mark.parametrize("kept", ["round.json", "stage.json"])
def test_what_a_recipe_or_a_round_keeps_is_not_set_aside(tmp_path, kept):
    for name in (kept, "train.jsonl", "training.json", "checkpoints/last.ckpt.part"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    set_aside(tmp_path, "last")
    assert not (tmp_path / "earlier").exists()
    (tmp_path / kept).unlink()
    set_aside(tmp_path, "last")
    assert (tmp_path / "earlier/1/train.jsonl").is_file()


def test_cells_without_weight_are_no_choice():
    data = PromptDataModule([Component("2", ["garden"]), Component("3", ["garden"], weight=0.0)], "garden", graph=PLAIN)
    assert [cell.op for cell in data.cells] == [2]


def test_paths_beyond_the_basic_plane_are_read_back():
    assert read_yaml(as_yaml({"train": ["runs/🚀/é.jsonl"], "rate": math.inf})) == {
        "train": ["runs/🚀/é.jsonl"],
        "rate": math.inf,
    }


def test_a_run_of_an_earlier_version_tells_its_kind_of_problems(tmp_path):
    from recipes.trained.trained_model import kind_of, settings_of

    graph = {"distractors": [0, 0], "balanced": False}
    held_out = {"contexts": ["garden"], "modes": ["normalforward"]}
    config = {"data": {"class_path": "datamodules.PretrainDataModule", "init_args": {"graph": graph, "held_out": held_out}}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "huggingface").mkdir()
    assert kind_of(settings_of(tmp_path / "huggingface", "data")).contexts == ("garden",)
