"""The configs of objectives, and the benchmark that fills the table of docs/reinforcement.md."""

import json
from argparse import ArgumentError
from functools import cache
from pathlib import Path
from statistics import correlation, fmean

import pytest
import torch
from test_steering import GRPO

import main
from benchmarks.objectives import CONFIGS, PAGE, RESULTS, ROW, cells, filled, in_quarters, parsed, read_results, study
from lightning_modules.models.language_model import build_language_model
from recipes.planning.check_command import Checker
from recipes.planning.resolve import resolve
from tests_support import TINY

OBJECTIVES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
VARIED = {"pass_at_annealed", "dapo", "distillation", "edge_weights", "gspo"}  # one of each kind of setting
PLAIN = cache(lambda: resolve([Path(GRPO)], {}))


def test_every_objective_has_a_config_and_a_row_and_every_row_a_config():
    rows = [match[1] for line in PAGE.read_text().split("\n") if (match := ROW.match(line))]
    assert sorted(rows) == sorted([*OBJECTIVES, "base"])
    assert all(f"--config configs/objective/{name}.yaml" in (CONFIGS / f"{name}.yaml").read_text() for name in OBJECTIVES)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in VARIED else pytest.mark.long) for n in OBJECTIVES])
def test_the_config_of_an_objective_changes_something_and_takes_as_many_rollouts(name):
    config = resolve([Path(GRPO), CONFIGS / f"{name}.yaml"], {})
    plain = PLAIN()
    differs = {key for key, value in config["model"]["init_args"].items() if value != plain["model"]["init_args"].get(key)}
    assert differs or config["model"]["class_path"] != plain["model"]["class_path"] or name == "grpo"
    rollouts = config["trainer"]["max_steps"] / config["model"]["init_args"]["update"]["minibatches"]
    assert rollouts == plain["trainer"]["max_steps"]


def result(name, seed, once, ever, flat=None):
    found = {
        "objective": name,
        "seed": seed,
        "base": "x",
        "bands": {"ID": {"pass@1": 0.0}, "edge": {"pass@1": once, "pass@16": ever}},
    }
    return found | ({"zero_variance": [0.0, flat]} if flat is not None else {})


def test_cells_are_means_and_differences_seed_by_seed():
    """By hand: differences .1, .3; t with one degree of freedom is 12.706, their standard error .1."""
    results = {
        "grpo": {0: result("grpo", 0, 0.2, 0.5, 0.5), 1: result("grpo", 1, 0.4, 0.5, 0.5), 2: result("grpo", 2, 0.9, 0.9)},
        "maxrl": {0: result("maxrl", 0, 0.3, 0.5, 0.25), 1: result("maxrl", 1, 0.7, 0.6, 0.25)},
    }
    assert cells("maxrl", results) == ["0.500 (+0.200 ±1.271)", "0.550 (+0.050 ±0.635)", "0.250 (-0.250 ±0.000)", "-"]
    assert cells("grpo", results)[:2] == ["0.500", "0.633"]
    assert cells("cispo", results) is None


def test_the_last_cells_of_a_row_are_replaced_and_nothing_else():
    page = "text\n| [`maxrl`](x) | a | b | - | - | - | - |\n| [`sapo`](x) | a | b | - | - | - | - |\n"
    results = {"maxrl": {0: result("maxrl", 0, 0.25, 0.5)}}
    once = filled(page, results)
    assert once == page.replace("(x) | a | b | - | - | - | - |", "(x) | a | b | 0.250 | 0.500 | - | - |", 1)
    assert filled(once, results) == once


def test_the_table_of_the_page_is_that_of_the_runs():
    page = PAGE.read_text(encoding="utf-8")
    assert filled(page, read_results(RESULTS)) == page


def test_what_the_page_says_of_the_runs_is_what_they_measured():
    """Its sentences, with figures recomputed from the files: edge pass@1 and pass@16, pass@16 of op 8-10, entropy left."""
    runs = read_results(RESULTS)

    def mean(name, of):
        return fmean(of(found) for found in runs[name].values())

    def after(band, k):
        return lambda found: found["bands"][band][f"pass@{k}"]

    def short(value, sign=""):
        return f"{value:{sign}.3f}".replace("0.", ".", 1)

    one, most, hard = after("edge", 1), after("edge", 16), after("hard", 16)
    base, grpo = ({of: mean(name, of) for of in (one, most, hard)} for name in ("base", "grpo"))
    beyond = ("pass_at_4", "pkpo_4", "pkpo_8", "maxrl")
    spans = [[short(f([mean(name, of) for name in beyond])) for f in (min, max)] for of in (most, hard)]
    names = [name for name in runs if name != "base"]
    ends = [[mean(name, of) for name in names] for of in (one, most, lambda found: found["entropy_nats"][-1])]
    opposed, alike = correlation(ends[0], ends[1]), correlation(ends[2], ends[1])
    said = " ".join(PAGE.read_text(encoding="utf-8").partition("### What they do")[2].partition("- **pass@k.**")[0].split())
    for sentence in (
        f"(edge pass@1 {short(base[one])}, pass@16 {short(base[most])}; op 8-10, which RL never sees, {short(base[hard])} in 16",
        f"GRPO {short(grpo[one] - base[one], '+')} and {short(grpo[most] - base[most], '+')}.",
        f"(correlation {opposed:.2f}".replace("0.", "."), f"entropy that is left ({alike:.2f})".replace("0.", "."),
        f"keep the base's pass@16 ({spans[0][0]} to {spans[0][1]})",
        f"raise it on op 8-10 ({spans[1][0]} to {spans[1][1]}; GRPO {short(grpo[hard])})",
    ):  # fmt: skip
        assert sentence in said, sentence
    shares = [(mean(name, one) - base[one]) / (grpo[one] - base[one]) for name in beyond]
    assert "with two fifths to three quarters of GRPO's gain" in said
    assert (min(shares), max(shares)) == pytest.approx((0.4, 0.75), abs=0.01)
    assert "three quarters of GRPO's loss would be .09" in said
    assert (base[most] - grpo[most]) * 0.75 == pytest.approx(0.09, abs=0.005)
    fewer = {name: len(runs[name]) for name in names if len(runs[name]) < 6}
    assert "six RL seeds (five of `gspo`, four of `cispo`, `dapo`, `distillation`, `dppo`, `kl_cov` and `sapo`)" in said
    assert fewer == {"gspo": 5} | dict.fromkeys(("cispo", "dapo", "distillation", "dppo", "kl_cov", "sapo"), 4)
    assert len(names) == 22


def test_results_of_two_bases_are_not_mixed(tmp_path):
    for seed, base in ((0, "x"), (1, "y")):
        (tmp_path / f"grpo.seed{seed}.json").write_text(json.dumps(result("grpo", seed, 0.1, 0.2) | {"base": base}))
    with pytest.raises(ValueError, match="different bases"):
        read_results(tmp_path)


def test_quarters_are_means_of_equal_parts(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,train/x\n" + "".join(f"{i},{i}\n" for i in range(8)))
    assert in_quarters(tmp_path, "train/x") == [0.5, 2.5, 4.5, 6.5]
    assert in_quarters(tmp_path, "train/y") is None


@pytest.mark.long
def test_objectives_are_layers_over_the_papers_recipe_too(tmp_path, capsys):
    """It sets a std, a dual clip and G = 6; `k: 8` needs a larger group, `distillation` a teacher."""
    wider = tmp_path / "wider.yaml"
    wider.write_text("model: {init_args: {init_from: base.ckpt, group: {size: 8}, kl: {reference: null}}}")
    failed = {}
    for path in sorted(CONFIGS.glob("*.yaml")):
        files = [PAGE.parent.parent / "configs/experiment/paper_grpo.yaml", path, wider]
        try:
            Checker(["fit", *(word for file in files for word in ("--config", str(file)))])
        except (ValueError, ArgumentError, SystemExit) as err:
            failed[path.stem] = str(err)
    assert not failed


@pytest.mark.long
def test_the_benchmark_trains_a_minute_model_and_goes_on_where_it_stopped(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    torch.manual_seed(0)
    build_language_model(TINY | {"vocab_size": 704}).save_pretrained(tmp_path / "base")
    (tmp_path / "page.md").write_text(PAGE.read_text())
    settings = {
        "trainer.max_steps": 4, "data.init_args.prompts_per_rollout": 2, "data.init_args.held_out.problems": 3,
        "model.init_args.sampling.max_new_tokens": 6, "model.init_args.reward": "killer.LengthReward",
        "model.init_args.evaluation": {"samples": 4, "sampling": {"max_new_tokens": 6}, "likelihood": False},
    }  # fmt: skip
    words = [
        str(tmp_path / "base"), "--objectives", "grpo,cispo", "--seeds", "0", "--runs", str(tmp_path / "runs"), "--results",
        str(tmp_path / "results"), "--page", str(tmp_path / "page.md"), "--settings", json.dumps(settings),
    ]  # fmt: skip
    assert study(parsed(words)) == 0
    assert capsys.readouterr().out.splitlines() == ["base, seed 0", "grpo, seed 0", "cispo, seed 0"]
    found = read_results(tmp_path / "results")
    assert found.keys() == {"base", "grpo", "cispo"}
    ended = {name: next(tmp_path.glob(f"runs/{name}-seed0-*/training.json")) for name in ("grpo", "cispo")}
    steps = {name: json.loads(path.read_text())["steps"] for name, path in ended.items()}
    assert steps == {"grpo": 4, "cispo": 8}
    assert len(found["cispo"][0]["entropy_nats"]) == 4 and "pass@4" in found["grpo"][0]["bands"]["edge"]
    assert "| 0.000 |" in (tmp_path / "page.md").read_text()
    assert study(parsed(words)) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.long
def test_a_reward_that_fails_ends_the_command_in_one_line(start, tmp_path, monkeypatch, capsys):
    (tmp_path / "broken.py").write_text(
        "from lightning_modules.rewards import Reward\n\n\nclass Broken(Reward):\n    def __call__(self, response, report):\n"
        "        raise ValueError('no such thing')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = [
        "fit", "--config", GRPO, "--model.init_args.init_from", start, "--model.init_args.reward", "broken.Broken",
        "--trainer.default_root_dir", str(tmp_path / "run"), "--trainer.max_steps", "1", "--trainer.limit_val_batches", "0",
        "--model.init_args.sampling.max_new_tokens", "6", "--data.init_args.prompts_per_rollout", "2",
    ]  # fmt: skip
    assert main.main(words) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: broken.Broken raised ValueError: no such thing (broken.py, line 6). The response: ")
