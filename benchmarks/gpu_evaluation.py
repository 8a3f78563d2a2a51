"""Projected time of the paper's evaluation on one GPU. `python -m benchmarks.gpu_evaluation [MODEL]`.

128 samples to each of 200 problems of op 2-20 (19 ops), temperature 0.7, at most 1,024 new tokens, the 100M model in bfloat16.
A few problems of some ops are timed and the rest is interpolated by op. MODEL is a Hugging Face folder with the published
tokenizer; its samples end by themselves. Without one, weights are fresh and every sample is as long as the longest gold solution
of its op, and as fresh samples agree in nothing, nothing is shared: the slow end.
"""

import sys
import time
from pathlib import Path

import torch
import yaml
from transformers import AutoModelForCausalLM, PreTrainedModel

from datamodules.problems.mixture import Component, Mixture
from datamodules.problems.synthesis import Synthesis
from datamodules.rows.documents import encode, encode_prompts
from datamodules.rows.tokenizer import load_tokenizer
from grammar import grade, parse_response, verify
from lightning_modules.models.language_model import build_language_model
from lightning_modules.rollout import SamplingParams, sample

CONTEXTS = ["crazy_zootopia", "teachers_in_school", "movie_festival_awards"]
OPS, SAMPLES, PROBLEMS, TIMED, ROWS, LIMIT = range(2, 21), 128, 200, 32, 4096, 1024
MEASURED = (2, 8, 14, 20)
TARGET_MINUTES = 30


def time_op(model: PreTrainedModel, op: int, *, ends: bool) -> tuple[float, float, int]:
    """Seconds of sampling and of judging `TIMED` problems of an op, and the tokens sampled."""
    tokenizer = load_tokenizer("published")
    synthesis = Synthesis(Mixture([Component(str(op), CONTEXTS)]))
    examples = [synthesis.example("test", i) for i in range(TIMED)]
    batch = encode_prompts(examples, list(range(TIMED)), tokenizer)
    stop = [tokenizer.convert_tokens_to_ids("</answer>"), tokenizer.eos_token_id] if ends else []
    limit = LIMIT if ends else max(len(d.ids) - d.prompt_tokens for d in encode(examples, tokenizer))
    params = SamplingParams(max_new_tokens=limit, temperature=0.7, max_rows=ROWS)
    torch.cuda.synchronize()
    started = time.perf_counter()
    done = sample(model, batch.prompt_ids, SAMPLES, params, stop_ids=stop, pad_id=tokenizer.pad_token_id, share=True)
    texts = tokenizer.batch_decode(done.rows())
    sampled = time.perf_counter()
    for problem, example in enumerate(examples):  # equal responses are read once, as evaluation does
        for text in set(texts[problem * SAMPLES : (problem + 1) * SAMPLES]):
            grade(verify(parse_response(text), example.graph), "executable")
    return sampled - started, time.perf_counter() - sampled, int(done.length_N.sum())


def interpolate(points: dict[int, float], op: int) -> float:
    """Value at `op`, on straight lines between the points."""
    low, high = max(o for o in points if o <= op), min(o for o in points if o >= op)
    return points[low] if low == high else points[low] + (points[high] - points[low]) * (op - low) / (high - low)


def main() -> None:
    """Measure, project and print the table."""
    if not torch.cuda.is_available():
        sys.exit("gpu_evaluation: needs a CUDA device; on a CPU run `python -m benchmarks.eval_speed`.")
    folder = sys.argv[1] if len(sys.argv) > 1 else None
    if folder is None:
        settings = yaml.safe_load(Path("configs/model/pretrain_100m.yaml").read_text())["init_args"]["architecture"]
        model = build_language_model(settings)
    else:
        model = AutoModelForCausalLM.from_pretrained(folder)
    model = model.to("cuda", torch.bfloat16).eval()
    time_op(model, MEASURED[0], ends=folder is not None)  # warm up
    seconds: dict[int, float] = {}
    print(f"{'op':>4} {'sampling s':>11} {'judging s':>10} {'tokens/s':>10}   ({TIMED} problems x {SAMPLES} samples)")
    for op in MEASURED:
        sampling, judging, tokens = time_op(model, op, ends=folder is not None)
        seconds[op] = (sampling + judging) * PROBLEMS / TIMED
        print(f"{op:4} {sampling:11.2f} {judging:10.2f} {tokens / sampling:10.0f}")
    minutes = sum(interpolate(seconds, op) for op in OPS) / 60
    print(
        f"projected: {minutes:.1f} minutes for {len(OPS)} ops x {PROBLEMS} problems x {SAMPLES} samples (target {TARGET_MINUTES})"
    )


if __name__ == "__main__":
    main()
