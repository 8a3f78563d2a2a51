"""The front door: configs, bad input, files that commands leave."""

import json
from pathlib import Path

import pytest
import torch
import yaml

import main
from datamodules.rows.tokenizer import load_tokenizer
from lightning_modules.models.language_model import build_language_model
from tests_support import TINY

ROOT = Path(__file__).parent.parent
EXPERIMENTS = sorted((ROOT / "configs/experiment").glob("*.yaml"))
PRETRAIN = ROOT / "configs/experiment/quickstart_pretrain.yaml"
SMALL = [path for path in EXPERIMENTS if path.stem.startswith("quickstart")]
LARGE = [path for path in EXPERIMENTS if path not in SMALL]
PAPER = [path for path in LARGE if path.stem.startswith("paper")]


@pytest.fixture
def start(tmp_path):
    """A Hugging Face folder of a tiny model, to start from; its vocabulary fits both tokenizers."""
    torch.manual_seed(0)
    build_language_model(TINY | {"vocab_size": 2200, "max_position_embeddings": 2048}).save_pretrained(tmp_path / "start")
    return tmp_path / "start"


def model_of(experiment: Path) -> dict:
    config = yaml.safe_load(experiment.read_text())
    return yaml.safe_load((experiment.parent / config["model"]).read_text())


def begin(experiment: Path, start: Path) -> list[str]:
    """Arguments that give a stage weights to start from, where it wants some."""
    return ["--model.init_args.init_from", str(start)] if "init_from" in model_of(experiment)["init_args"] else []


def test_experiments_are_there():
    assert len(SMALL) == 4
    assert {path.stem for path in PAPER} == {
        "paper_pretrain", "paper_pretrain_1e-4", "paper_context", "paper_midtrain", "paper_midtrain_shared", "paper_grpo",
    }  # fmt: skip


@pytest.mark.parametrize("experiment", SMALL, ids=lambda p: p.stem)
def test_small_experiment_runs_fast_dev_run(experiment, start, tmp_path):
    short = ["--model.init_args.evaluation.sampling.max_new_tokens", "8", "--data.init_args.held_out.validation_problems", "2"]
    if experiment.stem in ("quickstart_grpo", "quickstart_ppo"):
        short += ["--model.init_args.sampling.max_new_tokens", "8", "--data.init_args.prompts_per_rollout", "2"]
    arguments = ["fit", "--config", str(experiment), "--trainer.fast_dev_run", "true", *begin(experiment, start), *short]
    assert main.main([*arguments, "--trainer.default_root_dir", str(tmp_path), "--trainer.enable_progress_bar", "false"]) == 0


@pytest.mark.parametrize(
    "experiment",
    [pytest.param(p, id=p.stem, marks=[] if p.stem in ("paper_pretrain", "paper_grpo") else pytest.mark.long) for p in PAPER],
)
def test_the_papers_model_is_built_on_the_meta_device(experiment):
    base = experiment.with_name("paper_pretrain.yaml")
    architecture = model_of(experiment)["init_args"].get("architecture") or model_of(base)["init_args"]["architecture"]
    with torch.device("meta"):
        model = build_language_model(architecture)
    assert next(model.parameters()).is_meta
    assert 90e6 < sum(p.numel() for p in model.parameters()) < 110e6
    assert len(load_tokenizer("published")) <= architecture["vocab_size"]


@pytest.mark.parametrize("experiment", LARGE, ids=lambda p: p.stem)
def test_large_experiment_takes_a_step_with_a_tiny_model(experiment, start, tmp_path):
    tiny = [
        "--trainer.max_steps", "1", "--trainer.limit_val_batches", "0", "--trainer.accelerator", "cpu",
        "--trainer.precision", "32-true",
        "--trainer.enable_progress_bar", "false", "--trainer.default_root_dir", str(tmp_path / "run"),
    ]  # fmt: skip
    if "grpo" in experiment.stem:
        tiny += ["--model.init_args.sampling.max_new_tokens", "8", "--data.init_args.prompts_per_rollout", "4"]
    else:
        tiny += ["--budget.batch_tokens", "2048", "--data.init_args.batch_rows", "1"]
    if "architecture" in model_of(experiment)["init_args"]:
        keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
        tiny += [word for key in keys for word in (f"--model.init_args.architecture.{key}", str(TINY[key]))]
    assert main.main(["fit", "--config", str(experiment), *begin(experiment, start), *tiny]) == 0
    assert json.loads((tmp_path / "run/training.json").read_text())["steps"] == 1


PLANS = {
    "paper_pretrain": (19_073, 2e-4), "paper_context": (19_073, 2e-4), "paper_pretrain_1e-4": (19_073, 1e-4),
    "paper_midtrain": (2_000, 1e-4),
    "paper_midtrain_shared": (38_693, 1e-4),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANS)
def test_the_papers_budgets_and_rates_are_those_of_its_configs(name):
    config = yaml.safe_load((ROOT / f"configs/experiment/{name}.yaml").read_text())
    budget, model = config["budget"], model_of(ROOT / f"configs/experiment/{name}.yaml")["init_args"]
    updates = config["trainer"].get("max_steps") or int(budget["max_tokens"] // budget["batch_tokens"])
    rate = model["optimizer"]["init_args"]["lr"]
    assert (updates, rate, budget["batch_tokens"]) == (*PLANS[name], 524_288)
    assert rate * model["schedule"]["init_args"]["floor"] == pytest.approx(3e-5)


@pytest.mark.long
def test_the_tiny_scale_of_an_experiment_trains_and_is_gone_on_from(tmp_path):
    scale, folder = ROOT / "configs/scale", tmp_path / "pretrain"
    short = ["--trainer.enable_progress_bar", "false", "--trainer.max_steps", "3", "--trainer.limit_val_batches", "0"]
    arguments = [
        "fit", "--config", str(ROOT / "configs/experiment/paper_context.yaml"),
        "--config", str(scale / "tiny_pretrain.yaml"), *short,
    ]  # fmt: skip
    assert main.main([*arguments, "--trainer.default_root_dir", str(folder)]) == 0
    arguments = [
        "fit", "--config", str(ROOT / "configs/experiment/paper_midtrain.yaml"), "--config", str(scale / "tiny_midtrain.yaml"),
        "--model.init_args.init_from", str(folder / "huggingface"), *short,
    ]  # fmt: skip
    assert main.main([*arguments, "--trainer.default_root_dir", str(tmp_path / "midtrain")]) == 0
    for stage in (folder, tmp_path / "midtrain"):
        assert 3 * 8192 * 0.7 < json.loads((stage / "training.json").read_text())["tokens"] <= 3 * 8192


@pytest.mark.parametrize("trainer", sorted((ROOT / "configs/trainer").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_trainer_config_fits_an_experiment(trainer, capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(
            ["fit", "--config", str(ROOT / "configs/experiment/paper_pretrain.yaml"), "--config", str(trainer), "--print_config"]
        )
    assert ended.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)["trainer"]
    wanted = yaml.safe_load(trainer.read_text())["trainer"]
    assert all(printed[key] == wanted[key] for key in ("accelerator", "devices", "precision"))


def fails(capsys, *arguments: str) -> str:
    """Run a command that must end with status 2 and one line on stderr; return the line."""
    capsys.readouterr()
    assert main.main(list(arguments)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    return lines[0]


def test_an_unknown_command_is_named(capsys):
    assert "fti" in fails(capsys, "fti")


BAD = {
    "unknown context": (
        ["--data.init_args.mixture", '[{"ops": "2-4", "contexts": ["nowhere"]}]'], ("context 'nowhere'", "garden")
    ),
    "op range": (["--data.init_args.mixture", '[{"ops": "900", "contexts": ["garden"]}]'], ("op=900", "garden", "lower `ops`")),
    "ops text": (["--data.init_args.mixture", '[{"ops": "9-2", "contexts": ["garden"]}]'], ("9-2", "range")),
    "weights": (
        ["--data.init_args.mixture", '[{"ops": "2", "contexts": ["garden"], "weight": 1.8}]'], ("sum to 1.8", "mixture")
    ),
    "misspelt trainer key": (["--trainer.max_stepz", "3"], ("max_stepz",)),
    "misspelt model key": (["--model.init_args.compil", "true"], ("compil",)),
    "misspelt architecture key": (["--model.init_args.architecture.hidden_sise", "64"], ("hidden_sise", "architecture")),
    "missing tokenizer": (["--data.init_args.tokenizer", "nowhere"], ("nowhere", "garden")),
    "folder to go on from": (["--ckpt_path", str(ROOT / "docs")], ("docs", "init_from")),
    "missing checkpoint": (["--ckpt_path", "nowhere.ckpt"], ("nowhere.ckpt", "does not exist")),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_status_2(capsys, tmp_path, name):
    arguments, words = BAD[name]
    where = ["--trainer.default_root_dir", str(tmp_path / "run")]
    line = fails(capsys, "fit", "--config", str(PRETRAIN), *where, *arguments)
    assert all(word in line for word in words), line
    assert not (tmp_path / "run/training.json").exists()


def test_missing_weights_are_named(capsys):
    experiment = ROOT / "configs/experiment/quickstart_midtrain.yaml"
    assert "nowhere" in fails(capsys, "fit", "--config", str(experiment), "--model.init_args.init_from", "nowhere")


def test_a_missing_config_is_named(capsys):
    assert "nowhere.yaml" in fails(capsys, "fit", "--config", "nowhere.yaml")


def test_traceback_shows_where():
    with pytest.raises(ValueError, match="nowhere"):
        main.main(["run", "nowhere.yaml", "--out", "x", "--traceback"])


@pytest.mark.parametrize("command", ["test", "predict", "validate"])
def test_commands_on_a_checkpoint_leave_judged_samples(command, start, tmp_path, capsys):
    arguments = [
        command, "--config", str(PRETRAIN), "--model.init_args.architecture", "null", "--model.init_args.init_from", str(start),
        "--model.init_args.evaluation", '{"samples": 2, "sampling": {"max_new_tokens": 8}}', "--data.init_args.held_out.problems",
        "3",
        "--data.init_args.held_out.validation_problems", "2", "--trainer.default_root_dir", str(tmp_path / "run"),
        "--trainer.enable_progress_bar", "false",
    ]  # fmt: skip
    assert main.main(arguments) == 0
    folder = tmp_path / "run" / command
    assert json.loads((folder / "environment.json").read_text())["computing"] == {
        "accelerator": "cpu", "processes": 1, "precision": "32-true", "attention": "auto", "compile": False,
    }  # fmt: skip
    if command == "validate":
        assert "val/executable/pass@1/ID" in (folder / "metrics.csv").read_text()
        return
    rows = [json.loads(line) for line in (folder / f"samples/{command}.jsonl").read_text().splitlines()]
    assert len(rows) == 4 * 3 * 2
    assert len({row["id"] for row in rows}) == 12
    assert all(set(row["accepted"]) == {"answer", "paper", "executable"} for row in rows)
    assert all(row["report"]["errors"] for row in rows)  # eight tokens of a random model solve nothing
    if command == "test":
        table = json.loads((folder / "pass_at_k.json").read_text())
        found = table["ID"]["executable"]["pass@1"]
        assert (found["mean"], found["standard_error"], found["low"], found["problems"]) == (0, 0, 0, 3)


def test_a_callback_of_the_users_own_is_plugged_in_by_class_path(start, tmp_path, monkeypatch, capsys):
    (tmp_path / "my_callbacks.py").write_text(
        "from lightning.pytorch.callbacks import Callback\n"
        "class Greet(Callback):\n"
        "    def __init__(self, word: str = 'hello'):\n"
        "        self.word = word\n"
        "    def on_train_start(self, trainer, pl_module):\n"
        "        print('greeting:', self.word)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    arguments = ["fit", "--config", str(PRETRAIN), "--trainer.fast_dev_run", "true", "--data.init_args.held_out.bands", "{}"]
    config = tmp_path / "mine.yaml"
    config.write_text("trainer: {callbacks: [{class_path: my_callbacks.Greet, init_args: {word: aloha}}]}\n")
    assert main.main([*arguments, "--config", str(config), "--trainer.default_root_dir", str(tmp_path)]) == 0
    assert "greeting: aloha" in capsys.readouterr().out
