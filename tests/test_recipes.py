"""Recipes as graphs of stages: what is shared, what is resumed, what fails, what it will cost."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from statistics import fmean
from threading import Barrier, Event, Lock, Thread
from time import sleep

import pytest
import yaml
from minute_recipe import minute_config, write_recipe

import main
from callbacks.files import read_json
from datamodules.files.row_source import to_solved
from datamodules.rows.tokenizer import load_tokenizer
from recipes.planning.estimate import describe, estimate
from recipes.planning.plan import make_plan, only
from recipes.planning.recipe import load_recipe
from recipes.planning.resolve import digest, resolve
from recipes.planning.seen import check_seen
from recipes.planning.workload import workload
from recipes.report.studies import find_studies
from recipes.running.arm_index import write_index
from recipes.running.stage_folders import StageFolders

ROOT = Path(__file__).parent.parent
RECIPES = {path: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "configs/recipe").glob("*.yaml"))}
SCALES = sorted(
    p.stem for p in (ROOT / "configs/scale").glob("*.yaml") if {"kinds", "like"} & yaml.safe_load(p.read_text()).keys()
)
CASES = [(path, scale) for path, recipe in RECIPES.items() for scale in (SCALES if "scale" in recipe else [None])]


def last_of(recipe: str, arm: str, scale: str | None = "tiny") -> str:
    """Label of the last stage of an arm."""
    (plan,) = only([make_plan(load_recipe(ROOT / f"configs/recipe/{recipe}.yaml", scale), (0,))], [arm])
    return plan.arms[0].stages[-1].label


@pytest.fixture
def plan(tmp_path):
    return make_plan(load_recipe(write_recipe(tmp_path)))


class FakeStages:
    """Stages that write their last files and nothing else, or fail where `fails` stands in their config.

    `together`: where stages start from another, they wait until so many have been begun; `most` is how many ran side by side.
    """

    def __init__(self):
        self.done, self.fails, self.most, self.threads, self.commands = [], None, 0, set(), []
        self.lock, self.running, self.together = Lock(), 0, Barrier(1)

    def run(self, place, stage, lock, command):
        self.commands.append((stage.kind, command))
        command = command[0]
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        if stage.parent is not None:
            assert place.complete(stage.parent)
            self.together.wait(timeout=20)
        with self.lock:
            self.running -= 1
            self.done.append((stage.label, command))
            self.threads.add(place.threads)
        folder = place.folder(stage)
        if self.fails and self.fails in yaml.safe_dump(stage.config):
            (folder / f"{command}.log").write_text("the reason\n")
            return False
        path = folder / ("training.json" if command == "fit" else "test/pass_at_k.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"ID": {"executable": {"pass@1": {"mean": 0.5}, "pass@4": {"mean": 0.75}}}}))
        return True


@pytest.fixture
def fake(monkeypatch):
    stages = FakeStages()
    monkeypatch.setattr(StageFolders, "_run", lambda place, *given: stages.run(place, *given))
    return stages


def test_every_recipe_of_the_paper_exists_at_every_scale():
    assert SCALES == ["night", "paper", "paper_clean", "paper_forward", "small", "tiny"]
    assert {path.stem for path, scale in CASES if scale} == {
        "extrapolation", "context_seeding", "context_share_trace", "context_share_seeded", "difficulty_mixes", "compute_split",
        "process_rewards", "atomic_skills", "process_rewards_released", "compute_split_shared", "extrapolation_as_released",
        "pretraining_ladder", "length_exposure", "pass_at_k_edge", "beyond_reach", "pilot", "edge_again",
        "mode_seeding", "scaling_ladder", "gain_prediction", "composition",
    }  # fmt: skip
    for path, scale in CASES:
        recipe = load_recipe(path, scale)
        assert recipe.about
        assert recipe.axes or path.stem == "quickstart"
        assert scale is None or recipe.scale.about


@pytest.mark.long
@pytest.mark.parametrize(("path", "scale"), CASES, ids=[f"{path.stem}-{scale}" for path, scale in CASES])
def test_every_recipe_is_planned_and_estimated_at_every_scale(path, scale, tmp_path):
    plan = make_plan(load_recipe(path, scale), (0,))
    check_seen(plan)
    text = describe([plan], StageFolders(tmp_path).complete)
    assert all(stage.label in text for stage in plan.stages().values())
    assert all(estimate(stage).flops > 0 for stage in plan.stages().values())


@pytest.mark.long
def test_recipes_share_their_base_and_equal_arms():
    edge = last_of("extrapolation", "edge-seed0")
    assert edge == last_of("compute_split", "1.7M-1-seed0") == last_of("process_rewards", "strict-seed0")
    assert last_of("extrapolation", "base-seed0") not in (edge, last_of("atomic_skills", "control-seed0"))
    outcome = last_of("quickstart_rewards", "outcome-seed0", None)
    assert outcome == last_of("quickstart_credit", "GRPO outcome-seed0", None)


def test_one_base_is_trained_on_twice_with_two_seeds():
    plan = make_plan(load_recipe(ROOT / "configs/recipe/edge_again.yaml"), (3,))
    arms = {arm.name: arm.stages for arm in plan.arms}
    edge, again = arms["edge-seed3"], arms["edge again-seed3"]
    assert edge[0].digest == again[0].digest
    assert last_of("edge_again", "edge-seed0") == last_of("extrapolation", "edge-seed0")
    assert [stage.config["seed_everything"] for stage in (edge[1], again[1])] == [3, 1003]
    assert [stage.config["data"]["init_args"]["seed"] for stage in (edge[1], again[1])] == [3, 1003]


def test_a_stage_of_several_arms_is_run_once_and_started_again_nothing_is(tmp_path, fake):
    command = ["run", str(write_recipe(tmp_path)), "--out", str(tmp_path / "out")]
    assert main.main(command) == 0
    assert len(fake.done) == len(set(fake.done)) == 2 * 3  # one pre-training and two of RL, each trained and tested
    assert main.main(command) == 0
    assert len(fake.done) == 6
    assert main.main([*command, "--seed", "1", "--only", "base-*"]) == 0
    assert len(fake.done) == 8
    index = json.loads((tmp_path / "out/minute.json").read_text())
    assert [arm["name"] for arm in index["arms"]] == ["base-seed0", "3-seed0", "4-seed0", "base-seed1"]


def test_settings_of_a_machine_reach_the_stages_that_have_them_and_change_none(tmp_path, fake, capsys):
    command = ["run", str(write_recipe(tmp_path)), "--out", str(tmp_path / "out")]
    hardware = {"trainer.accelerator": "gpu", "model.init_args.attention": "sdpa"}
    assert main.main([*command, *(word for pair in hardware.items() for word in ("--hardware", "=".join(pair)))]) == 0
    flags = {f"--{key}={value}" for key, value in hardware.items()}
    given = {(kind, words[0]): flags.intersection(words) for kind, words in fake.commands}
    assert given["pretrain", "fit"] == given["pretrain", "test"] == flags
    assert given["grpo", "fit"] == given["grpo", "test"] == {"--trainer.accelerator=gpu"}  # a policy has no attention to choose
    assert main.main(command) == 0
    assert len(fake.done) == 6  # the same stages
    with pytest.raises(SystemExit):
        main.main([*command, "--hardware", "trainer.max_steps=1"])
    assert "trainer.accelerator, model.init_args.attention, model.init_args.compile" in capsys.readouterr().err


def test_a_base_that_was_trained_again_has_none_of_the_stages_that_started_from_the_earlier_one(tmp_path, fake, capsys):
    command = ["run", str(write_recipe(tmp_path)), "--out", str(tmp_path / "out")]
    assert main.main([*command, "--only", "base-*"]) == 0
    (base,) = (tmp_path / "out/stages").glob("pretrain-*")

    def train_base(weights):
        (base / "training.json").write_text(json.dumps({"weights": weights}))

    train_base("of here")
    assert main.main(command) == 0
    for stage in (tmp_path / "out/stages").iterdir():
        (stage / "test/evaluation.json").write_text("{}")
    groups = find_studies(tmp_path / "out")[0].groups
    assert {group.label: len(group.runs) for group in groups} == {"base": 1, "3": 1, "4": 1}
    train_base("of elsewhere")
    study = find_studies(tmp_path / "out")[0]
    assert [group.label for group in study.groups] == ["base"]
    assert study.missing["3-seed0"] == "grpo: started from other weights than pretrain has now"
    assert main.main(command) == 1
    said = capsys.readouterr().out
    assert "started from other weights than pretrain has now, which was trained again; remove the folder" in said
    (base / "training.json").unlink()  # it is being trained again: what started from it is not complete meanwhile
    (plan,) = only([make_plan(load_recipe(tmp_path / "minute.yaml"))], ["3-seed0"])
    assert not StageFolders(tmp_path / "out").complete(plan.arms[0].stages[-1])
    train_base("of elsewhere")
    for stage in (tmp_path / "out/stages").glob("grpo-*"):
        assert json.loads((stage / "stage.json").read_text())["start"] == "of here"
        rmtree(stage)
    assert main.main(command) == 0
    assert len(fake.done) == 2 * (1 + 2 + 2)


def test_two_runs_of_one_recipe_keep_each_others_arms(tmp_path, fake, monkeypatch):
    """While one has read the index and not yet written it, the other waits."""
    recipe, out, busy = load_recipe(write_recipe(tmp_path)), tmp_path / "out", Event()
    plans = [make_plan(recipe, (seed,)) for seed in range(3)]
    write_index(plans[0], out, set())

    def slow(path):
        found = read_json(path)
        if not busy.is_set():
            busy.set()
            sleep(0.3)
        return found

    monkeypatch.setattr("recipes.running.arm_index.read_json", slow)
    other = Thread(target=write_index, args=(plans[1], out, set()))
    other.start()
    assert busy.wait(timeout=20)
    write_index(plans[2], out, set())
    other.join()
    assert [arm["seed"] for arm in read_json(out / "minute.json")["arms"]] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_an_arm_that_means_something_else_today_is_not_averaged_with_what_it_meant(tmp_path, fake, capsys):
    """Seed 0 of `3` ran with four updates; then the recipe says three."""
    recipe, out = write_recipe(tmp_path), str(tmp_path / "out")
    assert main.main(["run", str(recipe), "--out", out, "--seed", "0,0"]) == 0
    changed = yaml.safe_load(recipe.read_text())
    changed["arms"]["data"]["3"]["grpo"]["set"]["trainer.max_steps"] = 3
    recipe.write_text(yaml.safe_dump(changed, sort_keys=False))
    assert main.main(["run", str(recipe), "--out", out, "--seed", "1"]) == 0
    assert "left out, as the recipe has changed since they ran: 3-seed0\n" in capsys.readouterr().out
    arms = [arm["name"] for arm in read_json(tmp_path / "out/minute.json")["arms"]]
    assert arms == ["base-seed0", "4-seed0", "base-seed1", "3-seed1", "4-seed1"]


def test_several_recipes_make_what_they_share_once_and_stages_side_by_side(tmp_path, fake, capsys, monkeypatch):
    """The second recipe has the first one's arm on slice 4, and one of its own."""
    monkeypatch.setattr("torch.get_num_threads", lambda: 6)
    one, other = (write_recipe(tmp_path / name) for name in ("one", "other"))
    recipe = yaml.safe_load(other.read_text())
    recipe["arms"]["data"] = {"4": recipe["arms"]["data"]["4"], "own": {"grpo": {"set": {"trainer.max_steps": 3}}}}
    second = other.with_name("second.yaml")
    second.write_text(yaml.safe_dump(recipe, sort_keys=False))
    command = ["run", str(one), str(second), "--out", str(tmp_path / "out"), "--at-once", "3"]
    assert main.main([*command, "--dry-run"]) == 0
    assert sum(" to do " in line for line in capsys.readouterr().out.splitlines()) == 4 + 1  # stages, and what is left in all
    fake.together = Barrier(3)
    assert main.main(command) == 0
    assert len(fake.done) == len(set(fake.done)) == 2 * 4  # one pre-training, three of RL
    assert fake.most == 3
    assert fake.threads == {2}
    printed = capsys.readouterr().out
    assert "(pretrain of minute: base-seed0, minute: 3-seed0, minute: 4-seed0 and 2 more)" in printed
    for name, arms in {"minute": ["base-seed0", "3-seed0", "4-seed0"], "second": ["4-seed0", "own-seed0"]}.items():
        index = json.loads((tmp_path / f"out/{name}.json").read_text())["arms"]
        assert [arm["name"] for arm in index] == arms
        assert {stage["state"] for arm in index for stage in arm["stages"]} == {"complete"}


def test_a_stage_is_known_by_its_content_and_not_by_its_place(tmp_path):
    one, other = minute_config("pretrain"), minute_config("pretrain")
    other["trainer"]["default_root_dir"] = "elsewhere"
    paths = [tmp_path / "one.yaml", tmp_path / "a" / "other.yaml"]
    paths[1].parent.mkdir()
    for path, config in zip(paths, (one, other), strict=True):
        path.write_text(yaml.safe_dump(config))
    named = [digest(resolve([path], {}), None) for path in paths]
    assert named[0] == named[1]
    assert digest(resolve([paths[0]], {"trainer.max_steps": 5}), None) != named[0]
    assert digest(resolve([paths[0]], {}), "a parent") != named[0]


def test_the_presets_of_a_stage_are_part_of_it(tmp_path, monkeypatch):
    """A preset counts by what it holds: its config, which only names it, stays the same."""
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(minute_config("pretrain")))
    named = set()
    for ops in ("2-3", "2-4"):
        (tmp_path / f"{ops}.yaml").write_text(yaml.safe_dump({"mine": [{"ops": ops, "contexts": ["garden"]}]}))
        monkeypatch.setattr("datamodules.problems.mixture.PRESETS", tmp_path / f"{ops}.yaml")
        named.add(digest(resolve([tmp_path / "one.yaml"], {"data.init_args.mixture": "mine"}), None))
    assert len(named) == 2


def test_the_contexts_of_a_stage_are_part_of_it(tmp_path):
    """A context file of one's own is part of the input, word for word."""
    config = minute_config("pretrain")
    harbour = tmp_path / "harbour.yaml"
    config["data"]["init_args"]["mixture"] = [{"ops": "2-3", "contexts": [str(harbour)]}]
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(config))
    named = set()
    for boat in ("ferries", "canoes"):
        harbour.write_text(f"modulus: 5\nitems: [[{boat}, tugs, rafts, barges]]\n")
        named.add(digest(resolve([tmp_path / "one.yaml"], {}), None))
    assert len(named) == 2


def test_a_failed_arm_is_reported_and_the_others_go_on(tmp_path, fake, capsys):
    path = write_recipe(tmp_path)
    fake.fails = "ops: '3'"
    assert main.main(["run", str(path), "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr().out
    assert "the reason" in printed
    assert "FAILED 3-seed0: grpo failed" in printed
    states = {arm["name"]: arm["stages"][-1]["state"] for arm in json.loads((tmp_path / "out/minute.json").read_text())["arms"]}
    assert states == {"base-seed0": "complete", "3-seed0": "failed", "4-seed0": "complete"}
    assert len(fake.done) == 5
    fake.fails = None
    assert main.main(["run", str(path), "--out", str(tmp_path / "out")]) == 0


def test_a_stage_that_cannot_be_begun_fails_alone(tmp_path, fake, capsys, monkeypatch):
    run = fake.run

    def full(place, stage, lock, command):
        if "ops: '3'" in yaml.safe_dump(stage.config):
            raise OSError(28, "No space left on device")
        return run(place, stage, lock, command)

    fake.run = full
    assert main.main(["run", str(write_recipe(tmp_path)), "--out", str(tmp_path / "out")]) == 1
    assert "No space left on device" in capsys.readouterr().out
    index = json.loads((tmp_path / "out/minute.json").read_text())["arms"]
    assert [arm["stages"][-1]["state"] for arm in index] == ["complete", "failed", "complete"]


def test_arms_that_a_recipe_no_longer_has_leave_its_index(tmp_path, fake):
    out = str(tmp_path / "out")
    assert main.main(["run", str(write_recipe(tmp_path)), "--out", out]) == 0
    changed = write_recipe(tmp_path, arms={"data": {"base": {"skip": ["grpo"]}, "new": {}}})
    assert main.main(["run", str(changed), "--out", out]) == 0
    assert [arm["name"] for arm in json.loads((tmp_path / "out/minute.json").read_text())["arms"]] == ["base-seed0", "new-seed0"]


def test_the_recipe_of_the_documentation_can_be_planned(tmp_path):
    text = (ROOT / "docs/recipes.md").read_text().partition("## Writing one")[2]
    (tmp_path / "written.yaml").write_text(text.partition("```yaml\n")[2].partition("```")[0])
    plan = make_plan(load_recipe(tmp_path / "written.yaml"), (0,))
    assert {arm.name: [stage.name for stage in arm.stages] for arm in plan.arms} == {
        "base-1.7M-seed0": ["pretrain"], "edge-1.7M-seed0": ["pretrain", "midtrain", "grpo"],
        "hard-1.7M-seed0": ["pretrain", "midtrain", "grpo"],
    }  # fmt: skip


def test_what_starts_from_a_failed_stage_waits_for_it(tmp_path, fake, capsys):
    fake.fails = "PretrainModule"
    assert main.main(["run", str(write_recipe(tmp_path)), "--out", str(tmp_path / "out")]) == 1
    assert fake.done == [(fake.done[0][0], "fit")]
    index = json.loads((tmp_path / "out/minute.json").read_text())
    assert [stage["state"] for stage in index["arms"][1]["stages"]] == ["failed", "waiting"]


def test_dry_run_prints_the_graph_and_runs_nothing(tmp_path, fake, capsys):
    assert main.main(["run", str(write_recipe(tmp_path)), "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert not fake.done
    assert not (tmp_path / "out").exists()
    chains = [line.split() for line in printed.splitlines() if " > " in line]
    assert [chain[0] for chain in chains] == ["3-seed0", "4-seed0"]
    assert "to do" in printed


def test_the_estimate_counts_the_steps_and_tokens_of_a_run(plan):
    """Oracle: four updates of 2 rows of 256; four rollouts of 2 problems x 8."""
    first, rl = plan.arms[1].stages
    assert (estimate(first).steps, estimate(first).tokens) == (4, 4 * 2 * 256)
    assert (estimate(rl).rollouts, estimate(rl).tokens) == (4, 4 * 2 * 8 * 6)  # as long as max_new_tokens lets them be


def test_the_estimate_counts_the_rows_of_files(plan, tmp_path):
    """Oracle: the tokenizer as it comes, on each row's prompt and solution."""
    files = {split: tmp_path / f"{split}.jsonl" for split in ("train", "test")}
    for (split, file), ops, count in zip(files.items(), ("6", "8"), ("5", "7"), strict=True):
        words = ["--ops", ops, "--contexts", "garden", "--count", count, "--split", split, "--out", str(file)]
        assert main.main(["generate", *words]) == 0
    first, rl = plan.arms[1].stages
    for stage in (first, rl):
        config = deepcopy(stage.config)
        data, how = config["data"]["init_args"], config["model"]["init_args"]["evaluation"]
        data["mixture"], data["files"] = None, {"train": [str(files["train"])], "validation": [], "bad_rows": "raise"}
        data["held_out"] |= {"files": [str(files["test"])], "bad_rows": "raise"}
        found = workload(replace(stage, config=config))
        prompts, responses = mean_lengths(files["train"], data["tokenizer"])
        assert found.lengths.prompt == pytest.approx(prompts)
        assert found.lengths.response == pytest.approx(responses if stage is first else 6)  # RL: max_new_tokens
        prompts, responses = mean_lengths(files["test"], data["tokenizer"])
        assert found.evaluation["files: prompts"].tokens == pytest.approx(7 * prompts)
        longest = min(responses, how["sampling"]["max_new_tokens"])
        assert found.evaluation["files: sampling"].tokens == pytest.approx(7 * how["samples"] * longest)


def mean_lengths(file: Path, name: str) -> tuple[float, float]:
    """Of prompts, and of solutions with EOS, in tokens."""
    tokenizer = load_tokenizer(name)
    texts = [to_solved(json.loads(line), "", 0) for line in file.read_text().splitlines()]
    return tuple(
        fmean(len(tokenizer(part)["input_ids"]) for part in parts) + eos
        for parts, eos in (([text.prompt for text in texts], 0), ([text.response for text in texts], 1))
    )


def test_the_estimate_counts_groups_that_may_be_replaced(plan):
    """Sampling costs once more for each time that groups may be replaced, updates do not."""
    rl = plan.arms[1].stages[1]
    costs = []
    for resample in range(3):
        config = deepcopy(rl.config)
        config["model"]["init_args"]["group"]["resample"] = resample
        costs.append(estimate(replace(rl, config=config)).flops)
    assert costs[2] - costs[1] == pytest.approx(costs[1] - costs[0])
    assert 0 < costs[1] - costs[0] < costs[0]


def test_the_estimate_counts_a_critic_of_its_own(plan):
    """A pass for its values and three for its update: as much as the policy's four passes, which are all but sampling."""
    rl, costs = plan.arms[1].stages[1], {}
    for critic in (None, "SharedCritic", "SeparateCritic"):
        config = deepcopy(rl.config)
        config["model"]["init_args"] |= {
            "values": {},
            "critic": critic and {"class_path": f"lightning_modules.critic.{critic}"},
        }
        costs[critic] = estimate(replace(rl, config=config)).flops
    once = costs[None] - estimate(rl).flops  # the look back for values
    assert costs["SharedCritic"] == costs[None]
    assert costs["SeparateCritic"] - costs[None] == pytest.approx(4 * once)
