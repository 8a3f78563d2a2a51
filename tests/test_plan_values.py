"""Values of plans that no other test fixes: what a digest covers, what stages cost and are said to cost, how a budget is divided,
how many seeds a claim needs, what is seen, and the seed with which own solutions are sampled."""

import re
from copy import deepcopy
from dataclasses import fields, replace
from pathlib import Path

import pytest
from minute_recipe import write_recipe
from test_plan import config_of

import datamodules.problems.mixture as mixture_file
import recipes.rejection.rejection_sampling as rejection_sampling
from recipes.expert_iteration.rounds import ExpertIteration, run_rounds
from recipes.planning.budget import Budget, split_budget
from recipes.planning.devices import Device
from recipes.planning.estimate import Estimate, describe, estimate
from recipes.planning.plan import Planned, make_plan
from recipes.planning.recipe import load_recipe
from recipes.planning.resolve import digest, resolve
from recipes.planning.seen import check_seen
from recipes.planning.stage_cost import PASS_TOKENS, Setting, forward_kernels, parameters, peak, seconds
from recipes.planning.workload import DECODE, PREFILL, Lengths, Phase, Workload, workload
from recipes.rejection.rejection_sampling import RejectionSampling
from recipes.report.exact_tests import p_above, seeds_needed
from recipes.running.stage_folders import StageFolders
from tests_support import TINY

CONFIGS = Path(__file__).parent.parent / "configs/experiment"
SHORT, LONG = ({"ops": ops, "contexts": ["garden"], "modes": ["normalforward"]} for ops in ("2", "10"))


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """Minute stages: pre-training, and RL on two slices; four updates each."""
    return make_plan(load_recipe(write_recipe(tmp_path_factory.mktemp("recipe"))))


def test_seeds_are_those_that_the_level_asks_for():
    """Differences that are all above zero have p = 2^-n: 2^-7 < 0.01 < 2^-6, while 0.05 would need but five."""
    assert seeds_needed(p_above, 0.3, 0.01, alpha=0.01) == 7


@pytest.mark.parametrize(("alpha", "seeds"), [(0.5, 4), (0.0005, 11), (0.0003, 12), (0.0002, None)])
def test_seeds_are_counted_from_four_to_twelve(alpha, seeds):
    """2^-11 = 0.00049 and 2^-12 = 0.00024."""
    assert seeds_needed(lambda values: 2.0 ** -len(values), 0.3, 0.01, alpha=alpha) == seeds


def stage_config(name, **data):
    return resolve([CONFIGS / f"quickstart_{name}.yaml"], {f"data.init_args.{key}": value for key, value in data.items()})


def with_named(kind, path):
    """A config that names a file in one of the ways in which one can."""
    model = {"init": "init_from", "teacher": "kl.reference", "critic": "critic.init_args.init_from"}
    if kind in model:
        name = "ppo" if kind == "critic" else "grpo"
        return resolve([CONFIGS / f"quickstart_{name}.yaml"], {f"model.init_args.{model[kind]}": path})
    if kind in ("mixture", "replay"):
        return stage_config("midtrain", **{kind: [SHORT | {"contexts": [path]}]})
    return stage_config("pretrain", **{kind: [path]})


@pytest.mark.parametrize(
    "kind", ["init", "teacher", "critic", "mixture", "replay", "held_out.files", "files.train", "files.validation"]
)
def test_a_digest_covers_what_a_path_holds(tmp_path, kind):
    """The config is the same throughout, and only the weights, context or rows that it names are written again."""
    path = tmp_path / "named.yaml"
    config, found = with_named(kind, str(path)), []
    for text in ("one", "two", "one"):
        path.write_text(text)
        found.append(digest(config, None))
    assert found[0] == found[2] != found[1]


@pytest.mark.parametrize("key", ["mixture", "replay"])
def test_a_digest_covers_the_components_of_a_preset(tmp_path, monkeypatch, key):
    """Two versions of the presets, in which one of the same name has other operations."""
    config, found = stage_config("midtrain", **{key: "own"}), []
    for ops in ("2", "3"):
        presets = tmp_path / f"{ops}.yaml"
        presets.write_text(f'own:\n  - {{ops: "{ops}", contexts: [garden]}}\n')
        monkeypatch.setattr(mixture_file, "PRESETS", presets)
        found.append(digest(config, None))
    assert config["data"]["init_args"][key] == "own" and found[0] != found[1]


@pytest.mark.parametrize(("weight", "rollouts"), [(0.0, 5), (0.1, 4)])
def test_a_reference_is_paid_for_where_there_is_one(weight, rollouts):
    """By hand: 12 problems x 5 completions x 100 tokens cost 4/3 of 6,000 without a reference and 5/3 with one; RL has 40,000."""
    mid = {
        "model": {"init_args": {}}, "data": {"init_args": {"row_length": 50, "batch_rows": 4}}, "trainer": {"devices": 2},
    }  # fmt: skip
    policy = {"group": {"size": 5}, "kl": {"weight": weight}, "update": {"minibatches": 1, "epochs": 1}}
    rl = {"model": {"init_args": policy}, "data": {"init_args": {"prompts_per_rollout": 6}}, "trainer": {"devices": 2}}
    budget = Budget(80_000, 0.5, length=100)
    sizes = budget.sizes(mid, rl)
    assert sizes.tokens_per_rl_step == pytest.approx(40_000 / rollouts)
    steps = split_budget(budget.tokens, budget.rl_share, sizes)
    assert (steps.mid, steps.rl, steps.prompts) == (100, rollouts, pytest.approx(12 * rollouts))


def test_problems_of_each_operation_are_all_tested(plan):
    """Four problems for a band, or for each of its operations: ID has two of them, edge one."""
    stage = deepcopy(plan.arms[0].stages[0])
    held_out = stage.config["data"]["init_args"]["held_out"]
    assert (held_out["problems"], held_out["bands"]) == (4, {"ID": "2-3", "edge": "5"})
    of_bands = workload(stage).evaluation
    held_out["per_op"] = True
    of_each = workload(stage).evaluation
    for name, phase in of_bands.items():
        assert of_each[name].tokens == pytest.approx(phase.tokens * (2 if name.startswith("ID") else 1))
        assert of_each[name].context == phase.context


def lengths(**data):
    """Of mid-training, of a model that is taken to be new, so that none is read."""
    config = stage_config("midtrain", **data, **{"held_out.bands": {"ID": "2"}})
    config["model"]["init_args"] |= {"init_from": None, "architecture": TINY}
    return workload(Planned("midtrain", config, None, "x")).lengths


def test_replayed_problems_take_their_share_of_lengths():
    """As the same problems in one mixture, half and half."""
    found = lengths(mixture=[SHORT], replay=[LONG], replay_share=0.5)
    assert found == lengths(mixture=[SHORT | {"weight": 0.5}, LONG | {"weight": 0.5}])
    assert lengths(mixture=[SHORT]).response < found.response < lengths(mixture=[LONG]).response


# reaches 500 FLOPs a second, reads 400 bytes and sends 100; kernels start at once
SLOW = Device("slow", 1000.0, 800.0, 1e9, 100.0, 1.0, launch=0.0, issue=0.0, share=0.5, read_share=0.5)
STEPS, ROLLOUTS, DEVICES = 4, 4, 8


def work_of_rl():
    """Of a rollout, 48 completions of 10 tokens; of an update, five passes on each device."""
    rollout = {PREFILL: Phase(800, 5.0), DECODE: Phase(480, 100.0)}
    update = {"update": Phase(5 * DEVICES * PASS_TOKENS, 10.0)}
    return Workload(STEPS, 1, ROLLOUTS, update, rollout, {}, 1.0, 48, Lengths(5.0, 10.0, 5.0))


def spent(device, *, sharded=False, max_rows=2):
    where = Setting(device, DEVICES, sharded=sharded, half=False, checkpointing=False)
    return seconds({"model": {"init_args": {"sampling": {"max_rows": max_rows}}}}, config_of(), work_of_rl(), where)


def forward(context):
    """FLOPs of a token, by hand: two of each weight that multiplies it, and of 2 layers x 32 products with keys and values."""
    layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64
    return 2 * (2 * layer + 32 * 576) + 2 * 4 * 32 * context


def test_seconds_are_those_of_all_updates_and_rollouts_shared_by_all_devices():
    """By hand: a device has 6 of the 48 completions, so with 2 rows at a time 3 x 10 steps, each bound by reading."""
    found = spent(replace(SLOW, flops=1e9))
    assert found["update"] == pytest.approx(STEPS * 3 * 5 * PASS_TOKENS * forward(10) / 5e8)
    assert found[PREFILL] == pytest.approx(ROLLOUTS * 100 * forward(5) / 5e8)
    cache = 2 * 2 * 16 * 4  # keys and values of a token: 2 layers, 16 numbers, 4 bytes
    read = 4 * parameters(config_of()) + 2 * 100 * cache
    assert found[DECODE] == pytest.approx(ROLLOUTS * 30 * read / 400)
    assert spent(replace(SLOW, bandwidth=1e12))[DECODE] == pytest.approx(ROLLOUTS * 30 * 2 * forward(100) / 500)


def test_weights_are_gathered_at_each_pass_of_a_device():
    """By hand: five passes of 65,536 tokens; weights twice and gradients once, of which a ring moves 7/8."""
    moved = 7 / 8 * 4 * parameters(config_of())
    assert spent(SLOW, sharded=True)["communication"] == pytest.approx(STEPS * 5 * 3 * moved / 100)
    assert spent(SLOW)["communication"] == pytest.approx(STEPS * 2 * moved / 100)


def test_passes_take_as_long_as_their_kernels_take_to_start():
    found, kernels = spent(replace(SLOW, flops=1e15, issue=1.0)), forward_kernels(config_of())
    assert found["update"] == pytest.approx(STEPS * 5 * 3 * kernels)
    assert found[PREFILL] == pytest.approx(ROLLOUTS * 100 / PASS_TOKENS * kernels)


@pytest.mark.parametrize(("whole", "most"), [(20, 10 + 50 + 5 + 10 + 3 + 4), (90, 10 + 90 + 4)], ids=["an update", "a rollout"])
def test_the_worst_moment_is_of_an_update_or_of_a_rollout(whole, most):
    parts = {"weights": 10, "activations": 50, "logits": 5, "gradients": 10, "gathered layers": 3, "keys and values": 4}
    assert peak(parts | {"whole weights": whole}) == most


def left(plan, complete):
    """Cells of the last row of a description, those that are empty left out."""
    table = next(part for part in describe([plan], complete).split("\n\n") if part.startswith("stage"))
    return re.split(r"\s{2,}", table.splitlines()[-1])


def test_what_is_complete_is_not_left_to_do(plan):
    """By hand: two stages of RL, of four updates on four rollouts."""
    costs = [estimate(stage) for stage in plan.stages().values() if stage.name != "pretrain"]
    sums = Estimate(*(sum(getattr(cost, field.name) for cost in costs) for field in fields(Estimate)))
    assert len(costs) == 2 and (sums.steps, sums.rollouts) == (8, 8)
    assert left(plan, lambda stage: stage.name == "pretrain") == ["left to do", *sums.cells()]
    assert left(plan, lambda stage: False)[:3] == ["left to do", "12", "8"]
    assert left(plan, lambda stage: True) == ["left to do", "0", "0.00", "0.00e+00", "0.00e+00"]


@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_a_band_is_seen_where_its_problems_have_weight(plan, weight):
    plan = replace(deepcopy(plan), recipe=replace(plan.recipe, unseen=()))
    mixture = [SHORT | {"ops": "2-4", "weight": 1 - weight}, SHORT | {"ops": "5", "weight": weight}]
    plan.arms[0].stages[0].config["data"]["init_args"]["mixture"] = mixture
    plan = replace(plan, arms=plan.arms[:1])
    if weight:
        check_seen(plan)
    else:
        with pytest.raises(ValueError, match="no stage sees 'edge'"):
            check_seen(plan)


class Asked(Exception):
    """What was to be run."""


@pytest.fixture
def asked(monkeypatch):
    """Calls something that samples own solutions; returns the words of `predict`, which is not run."""

    def ask(words):
        raise Asked(words)

    def words_of(call):
        with pytest.raises(Asked) as found:
            call()
        return found.value.args[0]

    monkeypatch.setattr(rejection_sampling, "run_stage", ask)
    return words_of


def seeds_of(words):
    return [word.partition("=")[2] for word in words if word.startswith("--model.init_args.evaluation.seed")]


@pytest.mark.parametrize("seed", [3, 7])
def test_a_stage_samples_its_own_solutions_with_the_seed_of_the_run(plan, tmp_path, asked, seed):
    base = plan.arms[0].stages[0]
    stage = Planned("learn", base.config | {"seed_everything": seed}, base, "x", RejectionSampling(5, 2))
    (tmp_path / base.name / "huggingface").mkdir(parents=True)
    words = asked(lambda: StageFolders(tmp_path, plain=True).finish(stage))
    assert words[0] == "predict" and seeds_of(words) == [str(seed)]
    assert {"--data.init_args.held_out.problems=5", "--model.init_args.evaluation.samples=2"} <= set(words)


@pytest.mark.parametrize("seed", [3, 7])
def test_a_round_samples_with_the_seed_of_the_run(tmp_path, asked, seed):
    spec = ExpertIteration(CONFIGS / "quickstart_midtrain.yaml", str(tmp_path), "5-6", problems=5, samples=2)
    words = asked(lambda: run_rounds(spec, tmp_path / "out", seed))
    assert words[0] == "predict" and seeds_of(words) == [str(seed)]
    assert {f"--seed_everything={seed}", f"--data.init_args.seed={seed}"} <= set(words)
