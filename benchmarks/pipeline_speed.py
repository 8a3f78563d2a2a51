"""From text to packed batches of tokens, tokens per second on one core: `python -m benchmarks.pipeline_speed`.

Documents are those of the paper's pre-training mixture, made beforehand; what is timed is tokenizing, packing and laying out
rows. Beside it stands the whole way, examples made as well, which is what a training run pays. Seconds are those of this
process's CPU; the tokenizer works in one thread. The three cases take turns, window by window, so that whatever else the machine
does falls on all of them.

--out FILE  writes the figures as JSON.
"""

import json
import os
import time
from argparse import ArgumentParser
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # before the library is used

import torch

from datamodules import PretrainDataModule
from datamodules.problems.synthesis import Example, Synthesis
from datamodules.rows.documents import encode
from datamodules.rows.windows import STRIDE, Windows

MIXTURE = "pretrain_20_30_50"
TARGETS = {"text to packed batches": 1_000_000, "examples to packed batches": 500_000}  # tokens per second
ROW_LENGTH = 2048


class InMemory:
    """Examples made beforehand, again and again."""

    seed = 0

    def __init__(self, source: Synthesis, count: int) -> None:
        self.examples = [source.example("train", i) for i in range(count)]

    def example(self, split: str, index: int) -> Example:
        """Example number `index`, counted over all windows."""
        window, place = divmod(index, STRIDE)
        return self.examples[(1009 * window + place) % len(self.examples)]


def measure(windows: int) -> dict[str, float]:
    """Name of a case -> tokens per second of CPU time; and how full the rows are."""
    torch.set_num_threads(1)
    data = PretrainDataModule(MIXTURE, "published", share_of="tokens")
    source, mixture, tokenizer = data.synthesis, data.synthesis.mixture, data.tokenizer
    texts = InMemory(source, 2000)
    packed, whole = (Windows(s, "train", tokenizer, mixture.cells, row_length=ROW_LENGTH) for s in (texts, source))
    seconds = dict.fromkeys(("text to packed batches", "of which tokenizing", "examples to packed batches"), 0.0)
    tokens = dict.fromkeys(seconds, 0)
    cells = 0
    for number in range(-1, windows):  # the first is a warm-up
        drawn = [texts.example("train", i) for i in range(200)]
        for name, job in zip(
            seconds,
            (lambda n=number + 1: packed[n], lambda drawn=drawn: encode(drawn, tokenizer), lambda n=number + 1: whole[n]),
            strict=True,
        ):
            started = time.process_time()
            made = job()
            spent = time.process_time() - started
            if number >= 0:
                seconds[name] += spent
                rows = None if isinstance(made, list) else made.batch
                tokens[name] += sum(len(d.ids) for d in made) if rows is None else int((rows.document_BT > 0).sum())
                cells += 0 if rows is None else rows.tokens_BT.numel()
    rates = {name: tokens[name] / seconds[name] for name in seconds}
    filled = (tokens["text to packed batches"] + tokens["examples to packed batches"]) / cells
    return rates | {"share of rows filled": filled}


def main() -> None:
    """Measures and prints the table."""
    parser = ArgumentParser(prog="python -m benchmarks.pipeline_speed", description=__doc__)
    parser.add_argument("--windows", type=int, default=12, help="of 32 rows, for each case")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    figures = measure(args.windows)
    print(f"{'':30} {'tokens/s':>10} {'target':>8} {'ratio':>6}")
    filled = figures["share of rows filled"]
    for name, rate in figures.items():
        if rate is not filled:
            target = TARGETS.get(name, 0)
            print(f"{name:30} {rate:10.0f} {target or '':>8} {f'{rate / target:6.2f}' if target else ''}")
    print(f"rows of {ROW_LENGTH} tokens are {100 * filled:.1f}% full")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
