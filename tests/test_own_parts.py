"""A study of one's own: own classes, files and folders, and the mistakes that one makes with them."""

import json
import shutil
import sys

import pytest
import torch
import yaml
from policy_runs import LengthReward, fit, module
from test_other_runs import SMALL, step_of

from callbacks.evaluation.sample_files import read_samples
from callbacks.files import write_json
from callbacks.records.resume import content, source_of
from datamodules import PretrainDataModule
from datamodules.problems.context import CONTEXT_FOLDER
from grammar import parse_problem, parse_response, verify
from lightning_modules import GRPOModule
from lightning_modules.models.language_model import build_language_model
from lightning_modules.policy.surrogate import PolicyLoss
from lightning_modules.policy.trust_region import KLPenalty
from lightning_modules.rewards import Credit, Earned
from lightning_modules.rewards.scoring import RewardError, earn
from main import main
from recipes.planning.resolve import digest, resolve
from recipes.planning.scale import load_scale
from recipes.report.studies import find_studies
from tests_support import PLAIN, TINY


@pytest.fixture
def start(tmp_path):
    torch.manual_seed(0)
    build_language_model(TINY).save_pretrained(tmp_path / "start")
    return str(tmp_path / "start")


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Writes a module of one's own; the last text written is what is imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"mine_{tmp_path.name}".replace("-", "_")

    def write(text):
        (tmp_path / f"{name}.py").write_text(text)
        sys.modules.pop(name, None)
        return name

    return write


FIT = ["fit", "--config", "quickstart_pretrain", "--trainer.log_every_n_steps", "1", "--trainer.limit_val_batches", "0", *SMALL]


def trained(folder, *more, steps=2):
    return main([*FIT, "--trainer.default_root_dir", str(folder), "--trainer.max_steps", str(steps), *more])


def test_an_evaluation_of_the_last_checkpoint_is_of_the_run_s_own(tmp_path, capsys):
    evaluate = [
        "--config",
        "quickstart_pretrain",
        "--trainer.default_root_dir",
        str(tmp_path / "run"),
        "--ckpt_path",
        "last",
        *SMALL,
    ]
    assert main(["test", *evaluate]) == 2
    assert "holds no whole checkpoint" in capsys.readouterr().err
    assert trained(tmp_path / "run") == 0
    assert main(["test", *evaluate]) == 0
    weights = json.loads((tmp_path / "run/training.json").read_text())["weights"]
    assert json.loads((tmp_path / "run/test/evaluation.json").read_text())["settings"]["weights"] == weights


def test_a_checkpoint_is_evaluated_without_the_weights_that_its_training_started_from(tmp_path, start):
    config = ["--config", "quickstart_midtrain", "--model.init_args.init_from", start, *SMALL]
    where = ["--trainer.default_root_dir", str(tmp_path / "run")]
    assert main(["fit", *config, *where, "--trainer.max_steps", "2", "--trainer.limit_val_batches", "0"]) == 0
    shutil.rmtree(start)
    assert main(["test", *config, *where, "--ckpt_path", "last"]) == 0
    weights = json.loads((tmp_path / "run/training.json").read_text())["weights"]
    assert json.loads((tmp_path / "run/test/evaluation.json").read_text())["settings"]["weights"] == weights


def test_a_run_that_starts_afresh_joins_no_results_with_the_one_before(tmp_path, capsys):
    run = tmp_path / "run"
    assert trained(run) == 0 and trained(run, "--ckpt_path", "last", steps=3) == 0
    assert not (run / "earlier").exists()
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    for number in (1, 2):
        assert trained(run, "--seed_everything", "7", steps=1) == 0
        assert f"is now in {run}/earlier/{number}" in capsys.readouterr().out
        assert step_of(run / "checkpoints/last.ckpt") == 1
    kept = run / "earlier/1"
    assert step_of(kept / "checkpoints/last.ckpt") == 3
    assert {name: (kept / name).read_bytes() for name in before if name != ".writer.lock"}.items() <= before.items()


def test_the_source_of_an_own_class_is_part_of_what_a_stage_is(tmp_path, mine):
    one = "from lightning_modules.rewards import Reward\n\n\nclass Mine(Reward):\n    def __call__(self, response, report):\n"
    name = mine(one + "        return {'mine': 1.0}\n")
    words = {"model.init_args.reward": {"class_path": f"{name}.Mine"}, "model.init_args.init_from": "start"}
    first = digest(resolve(["configs/experiment/quickstart_grpo.yaml"], words), None)
    assert first == digest(resolve(["configs/experiment/quickstart_grpo.yaml"], words), None)
    mine(one + "        return {'mine': -1.0}\n")
    assert first != digest(resolve(["configs/experiment/quickstart_grpo.yaml"], words), None)
    assert source_of(f"{name}.Mine") == tmp_path / f"{name}.py"
    for of_others in ("lightning_modules.GRPOModule", "torch.optim.AdamW", "collections.Counter", "nowhere.Nothing"):
        assert source_of(of_others) is None


def test_the_weights_that_a_critic_starts_from_are_part_of_what_a_stage_is(tmp_path, start):
    words = {"model.init_args.init_from": "policy"}
    words["model.init_args.critic"] = {
        "class_path": "lightning_modules.models.critic.SeparateCritic",
        "init_args": {"init_from": start},
    }
    first = digest(resolve(["configs/experiment/quickstart_ppo.yaml"], words), None)
    torch.manual_seed(1)
    build_language_model(TINY).save_pretrained(start)
    assert first != digest(resolve(["configs/experiment/quickstart_ppo.yaml"], words), None)


def test_an_own_class_that_changed_is_said_on_resuming(tmp_path, mine, capsys):
    """Not refused: a callback, like a rate, may change in mid-run."""
    one = "from lightning.pytorch.callbacks import Callback\n\n\nclass Mine(Callback):\n    every = 1\n"
    words = ["--trainer.callbacks", f"[{{class_path: {mine(one)}.Mine}}]", "--ckpt_path", "last"]
    assert trained(tmp_path / "run", *words) == trained(tmp_path / "run", *words, steps=3) == 0
    assert "other content" not in capsys.readouterr().out
    name = mine(one.replace("every = 1", "every = 2"))
    assert trained(tmp_path / "run", *words, steps=4) == 0
    printed = capsys.readouterr().out
    assert "trainer.callbacks" in printed and f"{name}.Mine" in printed and "with other content" in printed


def test_contents_that_changed_under_one_path_are_no_resumption(tmp_path, capsys):
    shipped = yaml.safe_load((CONTEXT_FOLDER / "garden.yaml").read_text())
    own, mixture = tmp_path / "own.yaml", "[{ops: 2, contexts: [PATH]}]"
    own.write_text(yaml.safe_dump(shipped))
    words = ["--data.init_args.mixture", mixture.replace("PATH", str(own)), "--ckpt_path", "last"]
    assert trained(tmp_path / "run", *words) == 0
    assert trained(tmp_path / "run", *words, steps=3) == 0
    shipped["items"][0] = shipped["items"][0][::-1]
    own.write_text(yaml.safe_dump(shipped))
    capsys.readouterr()
    assert trained(tmp_path / "run", *words, steps=4) == 2
    assert "a resumed run keeps data.init_args.mixture" in capsys.readouterr().err


def test_what_a_mapping_names_is_content_too(tmp_path):
    (tmp_path / "a.yaml").write_text("a")
    assert content([{"contexts": ["garden-that-is-no-file"], "ops": 2}]) is None
    assert content([{"contexts": ["garden-that-is-no-file", str(tmp_path / "a.yaml")]}]) is None  # a list: all of it, or nothing
    assert content([{"contexts": [str(tmp_path / "a.yaml")]}, {"contexts": ["shipped"]}]) == content(
        [{"contexts": [str(tmp_path / "a.yaml")]}]
    )


@pytest.mark.parametrize("kl", [KLPenalty(), KLPenalty(weight=0.01)])
def test_own_advantages_are_asked_once_a_rollout(tmp_path, start, kl):
    class Running(GRPOModule):
        calls = 0

        def advantages(self, rewards_BG):
            Running.calls += 1
            return super().advantages(rewards_BG)

    fit(module(start, Running, kl=kl), tmp_path, max_steps=3)
    assert Running.calls == 3


def test_shapes_that_would_pass_by_broadcasting_are_refused(tmp_path, start):
    class Scalar(PolicyLoss):
        def surrogate(self, tokens):
            return (tokens.log_ratio_NT.exp() * tokens.advantage_NT).mean()

    class Other(GRPOModule):
        def advantages(self, rewards_BG):
            return rewards_BG.mean(dim=1)

    with pytest.raises(ValueError, match=r"Scalar: surrogate must return a tensor of shape \[\d+, \d+\], not \[\]"):
        fit(module(start, policy_loss=Scalar()), tmp_path, max_steps=1)
    with pytest.raises(ValueError, match=r"Scripted: advantages must return a tensor of shape \[4, 4\], not \[4\]"):
        fit(module(start, Other), tmp_path, max_steps=1)


class Given(Credit):
    def __init__(self, found, aligned=False):
        self.found, self.aligned = found, aligned

    def __call__(self, responses, reports):
        return self.found


@pytest.mark.parametrize(
    ("credit", "message"),
    [
        (Given([[(3, 0.5)], []]), r"returned \[\(3, 0\.5\)\]; return a list of Earned"),
        (Given([None, []]), "returned None; return a list of Earned"),
        (Given([[Earned(1, 0.5)], []], aligned=True), r"is aligned and returned \[0, 1\] places"),
    ],
)
def test_a_credit_that_returns_something_else_is_told_so(credit, message):
    with pytest.raises(RewardError, match=message):
        earn(credit, ["a b", "c d"], [None, None])


def test_what_a_callback_returns_of_a_rollout_is_checked(tmp_path, start):
    from lightning.pytorch.callbacks import Callback

    class Half(Callback):
        def on_rollout(self, trainer, pl_module, groups):
            return 0.5

    with pytest.raises(ValueError, match=r"Half\.on_rollout returned 0\.5; return numbers by log name"):
        fit(module(start, reward=LengthReward()), tmp_path, callbacks=[Half()], max_steps=1)


def test_an_error_in_own_code_is_not_called_a_bug_of_the_project(tmp_path, mine, capsys):
    name = mine(
        "from lightning.pytorch.callbacks import Callback\n\n\nclass Breaks(Callback):\n"
        "    def on_train_start(self, trainer, pl_module):\n        self.nothing.at_all()\n"
    )
    assert trained(tmp_path / "run", "--trainer.callbacks", f"[{{class_path: {name}.Breaks}}]") == 1
    told = capsys.readouterr().err
    assert f"{name}.py, line 6, raised it, which is no part of interplay." in told and "This is a bug" not in told


@pytest.mark.parametrize(("key", "value"), [("hidden_size", "64"), ("num_hidden_layers", "1")])
def test_a_checkpoint_of_another_architecture_is_refused_in_one_line(tmp_path, capsys, key, value):
    assert trained(tmp_path / "run") == 0
    changed = [f"--model.init_args.architecture.{key}", value]
    assert trained(tmp_path / "run", "--ckpt_path", "last", *changed, steps=3) == 2
    assert "the checkpoint is of another architecture" in capsys.readouterr().err
    place = ["--trainer.default_root_dir", str(tmp_path / "run"), "--ckpt_path", str(tmp_path / "run/checkpoints/last.ckpt")]
    assert main(["test", "--config", "quickstart_pretrain", *place, *changed, *SMALL]) == 2


@pytest.mark.parametrize("word", ["--trainer.max_step", "--data.init_args.graph.max_valu", "--model.init_args.evaluation.sample"])
def test_part_of_a_key_is_no_key(tmp_path, capsys, word):
    assert trained(tmp_path / "run", word, "3") == 2
    assert word.rpartition(".")[2] in capsys.readouterr().err


def test_a_class_that_is_misspelt_or_abstract_is_named(tmp_path, mine, capsys):
    name = mine(
        "from lightning_modules.rewards import Reward\n\n\nclass Letters(Reward):\n"
        "    def __call__(self, response, report):\n        return {}\n\n\nclass Forgot(Reward):\n    pass\n"
    )
    words = ["fit", "--config", "quickstart_grpo", "--model.init_args.init_from", "x", "--model.init_args.reward"]
    assert main([*words, f"{name}.Leters"]) == 2
    assert f"there is no 'Leters' in {name}, but 'Letters'" in capsys.readouterr().err
    assert main([*words, f"{name}.Forgot"]) == 2
    assert f"{name}.Forgot lacks __call__" in capsys.readouterr().err


def test_files_beside_a_mixture_are_said_to_take_its_place(tmp_path):
    row = {
        "problem": "The number of roses equals 3.",
        "question": "How many roses are there?",
        "solution": "Define roses as A; so A = 3. Answer: 3.",
    }
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    from datamodules.files.row_source import Files

    with pytest.warns(UserWarning, match="`mixture` is not drawn from"):
        PretrainDataModule("rl_7_10", "garden", files=Files(train=[str(tmp_path / "rows.jsonl")]), graph=PLAIN)


def test_generate_takes_a_mixture_or_its_parts(tmp_path, capsys):
    both = ["--mixture", "rl_7_10", "--ops", "2", "--modes", "normalforward"]
    assert main(["generate", *both, "--out", str(tmp_path / "a.jsonl")]) == 2
    assert "--mixture rl_7_10 says which problems; leave out --ops, --modes" in capsys.readouterr().err


def test_a_scale_beside_an_own_recipe_is_found_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "study").mkdir()
    (tmp_path / "study/mine.yaml").write_text("like: tiny\nabout: mine\n")
    monkeypatch.chdir(tmp_path)
    assert load_scale("mine.yaml", tmp_path / "study").name == "mine"


def test_the_report_of_one_run_made_by_hand(tmp_path, capsys):
    run = tmp_path / "runs/one"
    write_json(run / "test/evaluation.json", {"settings": {"weights": "a"}, "grades": {}})
    write_json(run / "training.json", {"weights": "b"})
    with pytest.raises(ValueError, match="scores of other weights than its training ended with; test it again"):
        find_studies(run)
    write_json(run / "training.json", {"weights": "a"})
    (study,) = find_studies(run)
    assert (study.name, [group.label for group in study.groups]) == ("one", ["one"])
    assert study.groups[0].runs[0].last.evaluation == "./test/evaluation.json"


def test_samples_are_read_from_a_path_or_its_text(tmp_path):
    (tmp_path / "test.jsonl").write_text('{"index": 0}\n')
    assert list(read_samples([str(tmp_path / "test.jsonl")])) == list(read_samples([tmp_path / "test.jsonl"])) == [{"index": 0}]


def test_arguments_of_another_type_are_named():
    with pytest.raises(ValueError, match="modulus='5'; expected None or at least 2"):
        parse_problem("The number of roses equals 3.", "How many roses are there?", modulus="5")
    graph = parse_problem("The number of roses equals 3.", "How many roses are there?", modulus=5)
    text = "Define roses as A; so A = 3. </solution> <answer> 3 </answer>"
    with pytest.raises(TypeError, match=r"verify\(parse_response\(text\), graph\)"):
        verify(text, graph)
    assert verify(parse_response(text), graph).process_accuracy == 1
