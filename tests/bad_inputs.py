"""Inputs that a user may get wrong: name -> words of the command line, in a folder of files made by `make_files`."""

import json
from pathlib import Path

import torch
import yaml
from minute_recipe import minute_config

from lightning_modules.models.language_model import build_language_model
from tests_support import TINY

FIT, RL, MID = (["fit", "--config", f"{name}.yaml"] for name in ("ok", "rl", "mid"))
M, D, T = "model.init_args.", "data.init_args.", "trainer."


def settings(command, pairs):
    return [*command, *(f"--{key}={value}" for key, value in pairs)]


def f(*pairs):
    return settings(FIT, pairs)


def r(*pairs):
    return settings(RL, pairs)


def m(*pairs):
    return settings(MID, pairs)


CASES = {
    "no such command": ["fitt"],
    "no config": ["fit"],
    "missing config": ["fit", "--config", "nowhere.yaml"],
    "config is a folder": ["fit", "--config", "."],
    "empty config": ["fit", "--config", "empty.yaml"],
    "not yaml": ["fit", "--config", "notyaml.yaml"],
    "tab yaml": ["fit", "--config", "tab.yaml"],
    "list yaml": ["fit", "--config", "list.yaml"],
    "binary yaml": ["fit", "--config", "binary.yaml"],
    "latin yaml": ["fit", "--config", "latin.yaml"],
    "alias bomb": ["fit", "--config", "bomb.yaml"],
    "deep yaml": ["fit", "--config", "deep.yaml"],
    "unknown key": f(("modle", "1")),
    "unknown trainer key": f((T + "max_stepz", "1")),
    "unknown model key": f((M + "attentoin", "sdpa")),
    "unknown data key": f((D + "row_lenght", "64")),
    "unknown callback key": f(("checkpoint.every", "1")),
    "text for int": f((T + "max_steps", "many")),
    "float for int": f((T + "max_steps", "1.5")),
    "text for float": f((M + "z_loss", "lots")),
    "text for bool": f((M + "document_mask", "perhaps")),
    "bad attention": f((M + "attention", "spda")),
    "flash on cpu": f((M + "attention", "flash_attention_2")),
    "bad precision": f((T + "precision", "8-bit")),
    "bf16-true": f((T + "precision", "bf16-true")),
    "bad accelerator": f((T + "accelerator", "warp")),
    "no gpu": f((T + "accelerator", "gpu")),
    "zero devices": f((T + "devices", "0")),
    "bad strategy": f((T + "strategy", "warp")),
    "no end": f((T + "max_steps", "-1")),
    "zero steps": f((T + "max_steps", "0")),
    "negative steps": f((T + "max_steps", "-5")),
    "zero accumulate": f((T + "accumulate_grad_batches", "0")),
    "negative clip": f((T + "gradient_clip_val", "-1")),
    "bad val interval": f((T + "val_check_interval", "0")),
    "overfit_batches": f((T + "overfit_batches", "2")),
    "reload": f((T + "reload_dataloaders_every_n_epochs", "1")),
    "bad class": f(("model", "lightning_modules.NoModule")),
    "class elsewhere": f(("model", "os.path")),
    "class of nothing": f(("model", "nowhere.Module")),
    "model as data": f(("data", "lightning_modules.PretrainModule")),
    "no architecture": f((M + "architecture", "null")),
    "both": f((M + "init_from", "start")),
    "unknown model_type": f((M + "architecture.model_type", "gpt9")),
    "unknown architecture key": f((M + "architecture.hidden_sise", "32")),
    "heads": f((M + "architecture.num_attention_heads", "3")),
    "negative hidden": f((M + "architecture.hidden_size", "-32")),
    "zero hidden": f((M + "architecture.hidden_size", "0")),
    "text hidden": f((M + "architecture.hidden_size", "wide")),
    "zero layers": f((M + "architecture.num_hidden_layers", "0")),
    "zero heads": f((M + "architecture.num_attention_heads", "0")),
    "tiny vocab": f((M + "architecture.vocab_size", "5")),
    "few positions": f((M + "architecture.max_position_embeddings", "8")),
    "window zero": f((M + "architecture.max_window_layers", "x")),
    "compile and checkpoint": f((M + "compile", "true"), (M + "gradient_checkpointing", "true")),
    "lora fresh": f((M + "lora.rank", "4")),
    "optimizer text": f((M + "optimizer", "sgd")),
    "optimizer class": f((M + "optimizer.class_path", "torch.optim.SGD")),
    "negative lr": f((M + "optimizer.init_args.lr", "-1")),
    "text lr": f((M + "optimizer.init_args.lr", "fast")),
    "betas": f((M + "optimizer.init_args.betas", "[0.9]")),
    "betas above 1": f((M + "optimizer.init_args.betas", "[0.9,1.5]")),
    "schedule text": f((M + "schedule", "cosine")),
    "schedule warmup": f((M + "schedule.init_args.warmup", "2")),
    "samples 0": f((M + "evaluation.samples", "0")),
    "temperature -1": f((M + "evaluation.sampling.temperature", "-1")),
    "top_p 2": f((M + "evaluation.sampling.top_p", "2")),
    "top_k -1": f((M + "evaluation.sampling.top_k", "-1")),
    "engine": f((M + "evaluation.sampling.engine", "fast")),
    "tokens 0": f((M + "evaluation.sampling.max_new_tokens", "0")),
    "rows 0": f((M + "evaluation.sampling.max_rows", "0")),
    "tokenizer nowhere": f((D + "tokenizer", "nowhere")),
    "tokenizer dict": f((D + "tokenizer", "{nam: garden}")),
    "mixture nowhere": f((D + "mixture", "nowhere")),
    "mixture empty": f((D + "mixture", "[]")),
    "mixture weights": f((D + "mixture", "[{ops: '2', contexts: [garden], weight: 0.5}]")),
    "mixture negative": f((D + "mixture", "[{ops: '2', contexts: [garden], weight: -1}]")),
    "mixture ops": f((D + "mixture", "[{ops: 'x', contexts: [garden]}]")),
    "mixture ops backwards": f((D + "mixture", "[{ops: '5-2', contexts: [garden]}]")),
    "mixture ops 0": f((D + "mixture", "[{ops: '0', contexts: [garden]}]")),
    "mixture ops huge": f((D + "mixture", "[{ops: '900', contexts: [garden]}]")),
    "mixture no contexts": f((D + "mixture", "[{ops: '2', contexts: []}]")),
    "mixture context": f((D + "mixture", "[{ops: '2', contexts: [gardn]}]")),
    "mixture mode": f((D + "mixture", "[{ops: '2', contexts: [garden], modes: [backwards]}]")),
    "mixture key": f((D + "mixture", "[{op: '2', contexts: [garden]}]")),
    "mixture text": f((D + "mixture", "3")),
    "graph key": f((D + "graph.leafs", "1")),
    "graph distractors": f((D + "graph.distractors", "[4,2]")),
    "graph range": f((D + "graph.number_range", "-4")),
    "graph share": f((D + "graph.constants", "4")),
    "row_length 0": f((D + "row_length", "0")),
    "row_length 4": f((D + "row_length", "4")),
    "batch_rows 0": f((D + "batch_rows", "0")),
    "workers -1": f((D + "workers", "-1")),
    "loss_on": f((D + "loss_on", "half")),
    "share_of": f((D + "share_of", "words")),
    "packing": f((D + "packing.fit", "loose")),
    "seed text": f((D + "seed", "x")),
    "seed everything": f(("seed_everything", "x")),
    "files nowhere": f((D + "mixture", "null"), (D + "files.train", "[nowhere.jsonl]")),
    "files empty": f((D + "mixture", "null"), (D + "files.train", "[empty.jsonl]")),
    "files bad": f((D + "mixture", "null"), (D + "files.train", "[bad.jsonl]")),
    "files folder": f((D + "mixture", "null"), (D + "files.train", "[.]")),
    "nothing to train": f((D + "mixture", "null")),
    "held_out problems 0": f((D + "held_out.problems", "0")),
    "held_out problems -1": f((D + "held_out.problems", "-1")),
    "held_out batch 0": f((D + "held_out.batch_size", "0")),
    "band ops": f((D + "held_out.bands", "{a: x}")),
    "band comma": f((D + "held_out.bands", "{'2,3': '2'}")),
    "band op3": f((D + "held_out.bands", "{op3: '2'}")),
    "band all": f((D + "held_out.bands", "{all: '2'}")),
    "band slash": f((D + "held_out.bands", "{'a/b': '2'}")),
    "band empty": f((D + "held_out.bands", "{'': '2'}")),
    "held_out contexts": f((D + "held_out.contexts", "[gardn]")),
    "held_out no contexts": f((D + "held_out.contexts", "[]")),
    "held_out modes": f((D + "held_out.modes", "[sideways]")),
    "budget 0": f(("budget.max_tokens", "0")),
    "budget text": f(("budget.max_tokens", "lots")),
    "budget batch": f(("budget.batch_tokens", "100")),
    "ckpt nowhere": f(("ckpt_path", "nowhere.ckpt")),
    "ckpt empty": f(("ckpt_path", "empty.ckpt")),
    "ckpt foreign": f(("ckpt_path", "foreign.ckpt")),
    "ckpt text": f(("ckpt_path", "text.ckpt")),
    "ckpt folder": f(("ckpt_path", "start")),
    "ckpt flipped": f(("ckpt_path", "flipped.ckpt")),
    "ckpt cut": f(("ckpt_path", "cut.ckpt")),
    "callbacks unknown": f((T + "callbacks", "[{class_path: callbacks.Nope}]")),
    "callbacks argument": f((T + "callbacks", "[{class_path: callbacks.EntropyMonitor, init_args: {x: 1}}]")),
    "callbacks text": f((T + "callbacks", "x")),
    "logger": f((T + "logger", "x")),
    "weighted": f(("pass_at_k.weighted", "{a: {'2': 0.5}}")),
    "weighted ops": f(("pass_at_k.weighted", "{a: {'x': 1}}")),
    "ks": f(("pass_at_k.ks", "[0]")),
    "resamples": f(("pass_at_k.resamples", "-1")),
    "level": f(("pass_at_k.level", "7")),
    "root is a file": f((T + "default_root_dir", "empty.yaml")),
    "root read-only": f((T + "default_root_dir", "/proc/here")),
    "test without weights": ["test", "--config", "ok.yaml"],
    "test ckpt": ["test", "--config", "ok.yaml", "--ckpt_path", "nowhere"],
    "test folder": ["test", "--config", "ok.yaml", "--ckpt_path", "empty_folder"],
    "midtrain without start": m(),
    "midtrain start nowhere": m((M + "init_from", "nowhere")),
    "midtrain start empty": m((M + "init_from", "empty.ckpt")),
    "midtrain start foreign": m((M + "init_from", "foreign.ckpt")),
    "midtrain start bad folder": m((M + "init_from", "bad_start")),
    "midtrain start no weights": m((M + "init_from", "no_weights")),
    "midtrain start bad json": m((M + "init_from", "bad_json")),
    "midtrain replay": m((M + "init_from", "start"), (D + "replay_share", "2")),
    "midtrain architecture": m((M + "init_from", "start"), (M + "architecture", "{model_type: qwen2}")),
    "rl reward": r((M + "reward", "NoReward")),
    "rl reward class": r((M + "reward.class_path", "callbacks.Checkpoint")),
    "rl reward grader": r((M + "reward", "{class_path: lightning_modules.rewards.StrictReward, init_args: {grader: magic}}")),
    "rl size 0": r((M + "group.size", "0")),
    "rl size 1": r((M + "group.size", "1")),
    "rl resample": r((M + "group.resample", "-1")),
    "rl workers": r((M + "group.verify_workers", "-2")),
    "rl minibatches": r((M + "update.minibatches", "0")),
    "rl many minibatches": r((M + "update.minibatches", "1000")),
    "rl epochs": r((M + "update.epochs", "0")),
    "rl clip": r((M + "clip.low", "2")),
    "rl clip high": r((M + "clip.high", "-1")),
    "rl kl": r((M + "kl.weight", "-1")),
    "rl kl estimator": r((M + "kl.estimator", "k9")),
    "rl kl target": r((M + "kl.target", "0.1")),
    "rl temperature": r((M + "sampling.temperature", "0")),
    "rl prompts": r((D + "prompts_per_rollout", "0")),
    "rl start": r((M + "init_from", "nowhere")),
    "rl credit": r((M + "credit", "x")),
    "rl advantage": r((M + "advantage", "x")),
    "run nowhere": ["run", "nowhere.yaml", "--out", "out"],
    "run two no out": ["run", "pass_at_k_edge", "beyond_reach"],
    "run list": ["run", "list.yaml", "--out", "out"],
    "run notyaml": ["run", "notyaml.yaml", "--out", "out"],
    "run bomb": ["run", "bomb.yaml", "--out", "out"],
    "run key": ["run", "recipe_key.yaml", "--out", "out"],
    "run about": ["run", "recipe_about.yaml", "--out", "out"],
    "run stage path": ["run", "recipe_path.yaml", "--out", "out"],
    "run config": ["run", "recipe_config.yaml", "--out", "out"],
    "run set": ["run", "recipe_set.yaml", "--out", "out"],
    "run set value": ["run", "recipe_setvalue.yaml", "--out", "out"],
    "run seeds": ["run", "recipe.yaml", "--out", "out", "--seed", "x"],
    "run seed empty": ["run", "recipe.yaml", "--out", "out", "--seed", ""],
    "run scale": ["run", "pass_at_k_edge", "--out", "out", "--scale", "huge"],
    "run scale of nothing": ["run", "recipe.yaml", "--out", "out", "--scale", "tiny"],
    "run only": ["run", "recipe.yaml", "--out", "out", "--only", "x"],
    "run at-once": ["run", "recipe.yaml", "--out", "out", "--at-once", "0"],
    "run out file": ["run", "recipe.yaml", "--out", "empty.yaml"],
    "run empty": ["run", "empty.yaml", "--out", "out"],
    "run numbers": ["run", "recipe_number.yaml", "--out", "out"],
    "run start": ["run", "recipe_start.yaml", "--out", "out"],
    "run stage null": ["run", "recipe_null.yaml", "--out", "out"],
    "run arms": ["run", "recipe_arms.yaml", "--out", "out"],
    "iterate nowhere": ["iterate", "nowhere.yaml", "--out", "out"],
    "iterate key": ["iterate", "iterate_key.yaml", "--out", "out"],
    "iterate grader": ["iterate", "iterate_grader.yaml", "--out", "out"],
    "iterate ops": ["iterate", "iterate_ops.yaml", "--out", "out"],
    "iterate start": ["iterate", "iterate_start.yaml", "--out", "out"],
    "report nowhere": ["report", "nowhere"],
    "report empty": ["report", "empty_folder"],
    "report file": ["report", "empty.yaml"],
    "generate no out": ["generate"],
    "generate ops": ["generate", "--ops", "x", "--count", "1", "--out", "g.jsonl"],
    "generate count": ["generate", "--count", "0", "--out", "g.jsonl"],
    "generate count -": ["generate", "--count", "-3", "--out", "g.jsonl"],
    "generate context": ["generate", "--contexts", "gardn", "--count", "1", "--out", "g.jsonl"],
    "generate mode": ["generate", "--modes", "up", "--count", "1", "--out", "g.jsonl"],
    "generate split": ["generate", "--split", "x", "--count", "1", "--out", "g.jsonl"],
    "generate workers": ["generate", "--count", "1", "--workers", "-1", "--out", "g.jsonl"],
    "generate folder": ["generate", "--count", "1", "--out", "empty_folder"],
    "generate nowhere": ["generate", "--count", "1", "--out", "/proc/x/g.jsonl"],
    "generate distractors": ["generate", "--count", "1", "--distractors", "5-2", "--out", "g.jsonl"],
    "generate range": ["generate", "--count", "1", "--number-range", "0", "--out", "g.jsonl"],
    "generate mixture": ["generate", "--count", "1", "--mixture", "nowhere.yaml", "--out", "g.jsonl"],
    "generate mixture list": ["generate", "--count", "1", "--mixture", "notyaml.yaml", "--out", "g.jsonl"],
    "generate huge op": ["generate", "--ops", "500", "--contexts", "garden", "--count", "1", "--out", "g.jsonl"],
    "tokenizer out": ["tokenizer"],
    "tokenizer small": ["tokenizer", "--out", "t", "--vocab-size", "20", "--examples", "20"],
    "tokenizer mixture": ["tokenizer", "--out", "t", "--mixture", "nowhere.yaml"],
    "tokenizer file": ["tokenizer", "--out", "empty.yaml", "--examples", "20"],
    "verify nowhere": ["verify", "nowhere.jsonl"],
    "verify folder": ["verify", "."],
    "verify grader": ["verify", "rows.jsonl", "--grader", "magic"],
    "verify onto itself": ["verify", "rows.jsonl", "--out", "rows.jsonl"],
    "verify out folder": ["verify", "rows.jsonl", "--out", "empty_folder"],
    "verify workers": ["verify", "rows2.jsonl", "--workers", "-1"],
    "ask nowhere": ["ask", "nowhere", "--random", "--op", "3"],
    "export nowhere": ["export", "nowhere"],
    "export empty": ["export", "empty_folder"],
    "export file": ["export", "empty.yaml"],
    "verify onto itself linked": ["verify", "rows.jsonl", "--out", "./rows.jsonl"],
    "generate nothing": ["generate", "--count", "x", "--out", "g.jsonl"],
}


def make_files(folder: Path) -> None:
    """Configs that work and those that do not, recipes, weights whole and damaged."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("pretrain", "midtrain", "grpo"):
        config, short = minute_config(name), {"pretrain": "ok", "midtrain": "mid", "grpo": "rl"}[name]
        config["trainer"] |= {"max_steps": 1, "default_root_dir": str(folder / f"run_{short}")}
        if name == "midtrain":
            config["model"]["init_args"].pop("init_from", None)
        if name == "grpo":
            config["model"]["init_args"]["init_from"] = str(folder / "start")
        (folder / f"{short}.yaml").write_text(yaml.safe_dump(config))
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
    row = {
        "problem": "The number of roses equals 3.", "question": "How many roses are there?",
        "response": " Define roses as A; so A = 3. </solution> <answer> 3 </answer>",
    }  # fmt: skip
    texts = {
        "empty.yaml": "", "notyaml.yaml": "a: [1, 2\nb: }", "tab.yaml": "a:\n\tb: 1", "list.yaml": "- 1\n- 2\n",
        "bomb.yaml": bomb,
        "deep.yaml": "a: " + "[" * 5000 + "]" * 5000, "empty.jsonl": "", "bad.jsonl": "{nope}\n", "empty.ckpt": "",
        "rows.jsonl": json.dumps(row) + "\n", "rows2.jsonl": json.dumps(row) + "\n", "text.ckpt": "hello", "number.yaml": "3",
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / "binary.yaml").write_bytes(bytes(range(256)))
    (folder / "latin.yaml").write_bytes("model: é".encode("latin1"))
    _make_weights(folder)
    _make_recipes(folder)


def _make_weights(folder: Path) -> None:
    torch.manual_seed(0)
    model = build_language_model(TINY)
    model.save_pretrained(folder / "start")
    torch.save({"a": 1}, folder / "foreign.ckpt")
    weights = {f"language_model.{name}": held for name, held in model.state_dict().items()}
    torch.save({"state_dict": weights, "language_model_config": model.config.to_dict(), "global_step": 0}, folder / "whole.ckpt")
    content = bytearray((folder / "whole.ckpt").read_bytes())
    (folder / "cut.ckpt").write_bytes(content[: len(content) // 2])
    content[len(content) // 2] ^= 64
    (folder / "flipped.ckpt").write_bytes(content)
    for name in ("empty_folder", "bad_start", "no_weights", "bad_json"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "bad_start/config.json").write_text("{}")
    (folder / "bad_json/config.json").write_text("{nope")
    (folder / "no_weights/config.json").write_text((folder / "start/config.json").read_text())


def _make_recipes(folder: Path) -> None:
    ok = {"stages": {"pretrain": {"config": "ok.yaml"}}}
    recipes = {
        "recipe": ok, "recipe_key": ok | {"stage": 1}, "recipe_about": ok | {"about": 3},
        "recipe_arms": ok | {"arms": {"data": 3}},
        "recipe_path": {"stages": {"../../x": {"config": "ok.yaml"}}},
        "recipe_config": {"stages": {"a": {"config": "nowhere.yaml"}}},
        "recipe_set": {"stages": {"a": {"config": "ok.yaml", "set": {"trainer.max_stepz": 3}}}},
        "recipe_setvalue": {"stages": {"a": {"config": "ok.yaml", "set": {"trainer.max_steps": "many"}}}},
        "recipe_start": {"stages": {"a": {"config": "ok.yaml", "init_from": "b"}}}, "recipe_null": {"stages": {"a": None}},
        "recipe_number": 3,
    }  # fmt: skip
    rounds = {"config": "mid.yaml", "start_from": str(folder / "start"), "ops": "2"}
    recipes |= {
        "iterate_key": rounds | {"opps": 2}, "iterate_grader": rounds | {"keep": {"grader": "magic"}},
        "iterate_ops": rounds | {"ops": "x"}, "iterate_start": rounds | {"start_from": "nowhere"},
    }  # fmt: skip
    for name, content in recipes.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
