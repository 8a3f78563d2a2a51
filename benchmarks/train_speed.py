"""What the framework costs: tokens per second against a bare PyTorch loop and transformers.Trainer, on a CPU.

`python -m benchmarks.train_speed` (needs `accelerate`, for transformers.Trainer). The three do the same steps, attention by a
mask over packed rows and logits everywhere; a fourth side is this project as it is shipped (`attention: auto`). They take turns,
a step each, on one thread; the table has medians over these turns. Times are CPU times, from the end of one step to that of the
next.
"""

import argparse
import json
import logging
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from benchmarks.sides import Job, bare, ours, rows_of, transformers_trainer
from benchmarks.turns import Turns
from callbacks.records.run_record import environment
from datamodules import PretrainDataModule
from datamodules.problems.mixture import Component

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
WARM, STEPS = 2, 12


def data() -> PretrainDataModule:
    """Rows of the paper's mixture."""
    return PretrainDataModule(MIXTURE, "published", row_length=768, batch_rows=1)


def measure(job: Job, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each side's steps after the warm-up; all sides must start with the same loss."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        losses: dict[str, float] = {}
        with TemporaryDirectory() as folder:
            sides: dict[str, Callable[[Job], tuple[float, ...]]] = {
                "this project": lambda own: ours(replace(own, settings={"attention": "mask"}))[:2], "bare loop": bare,
                "transformers.Trainer": lambda own, folder=folder: transformers_trainer(own, folder),
                "this project, as shipped": lambda own: ours(own)[:2],
            }  # fmt: skip

            def run(name: str, tick: Callable[[], None], sides: dict = sides, losses: dict = losses) -> None:
                losses[name] = sides[name](replace(job, tick=tick))[1]

            seconds = Turns().run({name: partial(run, name) for name in sides})
        assert max(losses.values()) - min(losses.values()) < 1e-3, f"the sides do not train the same: {losses}"
        for name, steps in seconds.items():
            found.setdefault(name, []).extend(steps[WARM:])
    return found


def main() -> None:
    """Measure, print the table, keep it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    job = Job(ARCHITECTURE, rows_of(data(), WARM + STEPS), warm=WARM)
    seconds = measure(job, args.rounds)
    waited = ours(job, data())[2].callback_metrics["train/data_wait"].item()
    report(job.timed_tokens / STEPS, seconds, waited, args.out)


def report(tokens: float, seconds: dict[str, list[float]], waited: float, out: Path | None) -> None:
    """Print the table; `tokens` of a step."""
    mine, table = seconds["this project"], {}
    print(f"{tokens:.0f} tokens a step; {len(mine)} steps of each side in turn")
    print(f"{'side':24} {'ms a step':>9} {'tokens/s':>9} {'this project is':>16} {'target':>8}")
    for name, times in seconds.items():
        ratios = [other / own for other, own in zip(times, mine, strict=True)]
        target = {"bare loop": ">= 0.97", "transformers.Trainer": ">= 1.00"}.get(name, "")
        print(f"{name:24} {median(times) * 1000:9.0f} {tokens / median(times):9.0f} {median(ratios):15.3f}x {target:>8}")
        table[name] = {"step_ms": median(times) * 1000, "tokens_per_s": tokens / median(times), "ratio": median(ratios)}
    print(f"{'waiting for data':24} {'':9} {'':9} {waited:16.2%} {'< 2%':>8}")
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        found = {"environment": environment(), "steps": len(mine), "sides": table, "data_wait": waited}
        out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
