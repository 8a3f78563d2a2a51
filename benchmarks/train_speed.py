"""What the framework costs: tokens per second against a bare PyTorch loop and transformers.Trainer, on a CPU.

`python -m benchmarks.train_speed` (needs `accelerate`, for transformers.Trainer). The three do the same steps in turn, on one
thread, and the table has medians of ratios, so that what else the machine does falls on all of them. Ratios are of CPU time;
wall time, on a machine with nothing else to do, gives the same.
"""

import argparse
import json
import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from benchmarks.sides import Job, bare, ours, rows_of, transformers_trainer
from callbacks.run_record import environment
from datamodules import PretrainDataModule
from datamodules.mixture import Component

CONTEXTS = ["crazy_zootopia", "teachers_in_school", "movie_festival_awards"]
MIXTURE = [
    Component("2-4", CONTEXTS, weight=0.2),
    Component("5-7", CONTEXTS, weight=0.3),
    Component("8-10", CONTEXTS, weight=0.5),
]
ARCHITECTURE = {
    "model_type": "qwen2", "vocab_size": 2200, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048, "tie_word_embeddings": True,
}  # fmt: skip
STEPS = 5


def data() -> PretrainDataModule:
    """Rows of the paper's mixture."""
    return PretrainDataModule(MIXTURE, "published", row_length=1024, batch_rows=1)


def rounds(sides: dict[str, Callable[[], tuple[float, ...]]], count: int) -> dict[str, list[float]]:
    """Seconds of each side, in turn, `count` times; all must start with the same loss."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(count):
        losses = {}
        names = list(sides)
        for name in names[number % len(names) :] + names[: number % len(names)]:  # nobody is always first
            spent, losses[name], *_ = sides[name]()
            seconds[name].append(spent)
        assert max(losses.values()) - min(losses.values()) < 1e-3, f"the sides do not train the same: {losses}"
    return seconds


def main() -> None:
    """Measure, print the table, keep it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    job = Job(ARCHITECTURE, rows_of(data(), STEPS + 1), clock=time.process_time)
    with TemporaryDirectory() as folder:
        sides = {
            "this project": lambda: ours(job), "bare loop": lambda: bare(job),
            "transformers.Trainer": lambda: transformers_trainer(job, folder),
        }  # fmt: skip
        seconds = rounds(sides, args.rounds)
    live = Job(ARCHITECTURE, job.batches, clock=time.perf_counter)
    wait = ours(live, data())[2].callback_metrics
    report(job, seconds, float(wait["train/data_wait"]) if "train/data_wait" in wait else None, args.out)


def report(job: Job, seconds: dict[str, list[float]], wait: float | None, out: Path | None) -> None:
    """Print at most twelve lines."""
    step = median(seconds["bare loop"]) / STEPS
    table = {}
    print(
        f"{job.timed_tokens // STEPS} tokens a step, {step * 1000:.0f} ms of CPU in the bare loop; "
        f"{len(seconds['bare loop'])} rounds of {STEPS} steps"
    )
    print(f"{'side':22} {'tokens/s':>9} {'this project is':>16} {'target':>8}")
    for name, times in seconds.items():
        ratios = [other / mine for other, mine in zip(times, seconds["this project"], strict=True)]
        target = {"bare loop": ">= 0.97", "transformers.Trainer": ">= 1.00"}.get(name, "")
        print(f"{name:22} {job.timed_tokens / median(times):9.0f} {median(ratios):15.3f}x {target:>8}")
        table[name] = {"tokens_per_s": job.timed_tokens / median(times), "ratio": median(ratios), "ratios": ratios}
    if wait is not None:
        print(f"{'waiting for data':22} {wait:9.2%} {'':16} {'< 2%':>8}")
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        found = {"environment": environment(), "sides": table, "data_wait": wait, "step_ms": step * 1000}
        out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
