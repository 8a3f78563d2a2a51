"""Evaluation against a loop over transformers' `generate` with n samples a prompt. `python -m benchmarks.eval_speed [MODEL]`.

Same model, prompts, temperature and limits, in one run on a CPU; ratios, so that noise hits both sides. MODEL is a Hugging Face
folder of the quickstart; without one a model is trained for `STEPS` steps first (and kept under runs/benchmarks).
Rows: problems like those trained on; harder ones; and, as the worst case for sharing, fresh weights, whose samples agree in
nothing and all run to the limit. The last line is the share of a whole `main.py test` that reading and judging responses takes.
"""

import json
import sys
import time
from pathlib import Path

import torch
import yaml
from transformers import AutoModelForCausalLM, PreTrainedModel

import main as front_door
from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.mixture import Component, Mixture
from datamodules.problems.synthesis import Synthesis
from datamodules.rows.documents import encode_prompts
from datamodules.rows.tokenizer import load_tokenizer
from lightning_modules.rollout import SamplingParams, sample

FOLDER, CONFIG, STEPS = Path("runs/benchmarks/eval_speed"), "configs/experiment/quickstart_pretrain.yaml", 250
DATA = "configs/data/quickstart_pretrain.yaml"
SAMPLES, TEMPERATURE, LIMIT, PROMPTS = 64, 0.7, 1024, 8
TARGET, MOST_VERIFYING = 4.0, 0.05


def trained() -> Path:
    """Train a small model, once."""
    if not (FOLDER / "huggingface").is_dir():
        short = ["--trainer.max_steps", str(STEPS), "--trainer.limit_val_batches", "0", "--trainer.enable_progress_bar", "false"]
        assert front_door.main(["fit", "--config", CONFIG, "--trainer.default_root_dir", str(FOLDER), *short]) == 0
    return FOLDER / "huggingface"


def prompts(ops: str) -> list[list[int]]:
    """Prompts of the quickstart's world."""
    world = GraphSpec(**yaml.safe_load(Path(DATA).read_text(encoding="utf-8"))["init_args"]["graph"])
    synthesis = Synthesis(Mixture([Component(ops, ["garden"])]), world, random_letters=False)
    numbers = list(range(PROMPTS))
    return encode_prompts([synthesis.example("test", i) for i in numbers], numbers, load_tokenizer("garden")).prompt_ids


def loop_over_generate(model: PreTrainedModel, prompt_ids: list[list[int]], limit: int, stop: list[int]) -> int:
    """What people write: one prompt at a time, n samples of it."""
    tokens = 0
    for ids in prompt_ids:
        tensor = torch.tensor([ids])
        output = model.generate(
            tensor, attention_mask=torch.ones_like(tensor), do_sample=True, temperature=TEMPERATURE, top_k=0, top_p=1.0,
            num_return_sequences=SAMPLES, max_new_tokens=limit, eos_token_id=stop or None, pad_token_id=1,
        )  # fmt: skip
        tokens += int((output[:, len(ids) :] != 1).sum())
    return tokens


def measure(name: str, model: PreTrainedModel, prompt_ids: list[list[int]], limit: int, stop: list[int]) -> str:
    """One row of the table."""
    params = SamplingParams(max_new_tokens=limit, temperature=TEMPERATURE)

    def seconds() -> float:
        started = time.perf_counter()
        sample(model, prompt_ids, SAMPLES, params, stop_ids=stop, pad_id=1)
        return time.perf_counter() - started

    ours, started = seconds(), time.perf_counter()
    loop_over_generate(model, prompt_ids, limit, stop)
    loop = time.perf_counter() - started
    ours = (ours + seconds()) / 2  # before and after the loop: both see the same machine
    return f"{name:34} {loop:8.2f} {ours:8.2f} {loop / ours:7.1f} {TARGET:7.1f}"


def verification_share(model: Path) -> float:
    """Of the seconds of a whole evaluation."""
    arguments = [
        "test", "--config", CONFIG, "--ckpt_path", str(model), "--trainer.default_root_dir", str(FOLDER / "evaluation"),
        "--trainer.enable_progress_bar", "false", "--model.init_args.evaluation.samples", str(SAMPLES),
        "--model.init_args.evaluation.sampling.temperature", str(TEMPERATURE), "--data.init_args.held_out.problems", "24",
        "--model.init_args.evaluation.seed", str(time.time_ns() % 1_000_000),  # samples that are kept would not be drawn again
    ]  # fmt: skip
    started = time.perf_counter()
    assert front_door.main(arguments) == 0
    took = time.perf_counter() - started
    return json.loads((FOLDER / "evaluation/test/evaluation.json").read_text())["seconds"]["verification"] / took


def main() -> None:
    """Measure and print the table."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else trained()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    fresh = AutoModelForCausalLM.from_config(model.config).eval()
    share = verification_share(folder)
    with torch.inference_mode():
        rows = [
            measure("trained, op 2-4 as trained on", model, prompts("2-4"), LIMIT, [9, 3]),
            measure("trained, op 2-10", model, prompts("2-10"), LIMIT, [9, 3]),
            measure("fresh weights, 64 tokens each", fresh, prompts("2-10"), 64, []),
        ]
    print(f"{PROMPTS} prompts x {SAMPLES} samples, temperature {TEMPERATURE}; seconds and their ratio")
    print(f"{'model':34} {'generate':>8} {'ours':>8} {'x':>7} {'target':>7}")
    print("\n".join(rows))
    print(f"verification: {share:.1%} of an evaluation (at most {MOST_VERIFYING:.0%})")


if __name__ == "__main__":
    main()
