"""Whether difficulty is length: `python -m benchmarks.lengths RUN` for a tested run.

Where problems with more operations are also longer, a model that fails on them may fail at positions that it never saw. For
each number of operations this prints, from the samples of the run's test: lengths of prompts in tokens; how much their
distribution overlaps with that of one operation fewer, and that of the distances between one mention of a name and the next
(both in bins of BIN tokens); and the share of responses whose first step names a quantity that the answer needs and that refers
to no other, in all and by length of the prompt. A model that knows where to begin has not been stopped by the length.
"""

import re
import sys
from argparse import ArgumentParser
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml
from transformers import PreTrainedTokenizerBase

from callbacks.evaluation.sample_files import read_samples
from callbacks.files import write_json
from callbacks.text_tables import align
from datamodules.rows.tokenizer import load_tokenizer
from grammar import parse_problem

BIN = 8  # tokens
FIRST = re.compile(r"\s*Define (.+?) as ")


def overlap(a: Iterable[int], b: Iterable[int]) -> float:
    """Shared mass of two distributions in bins of BIN tokens: 1 if they are equal, 0 if they do not meet."""
    one, other = (Counter(value // BIN for value in values) for values in (list(a), list(b)))
    return sum(min(one[key] / one.total(), other[key] / other.total()) for key in one)


def distances(text: str, names: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens from each mention of a name to its next."""
    starts = [start for start, _ in tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]]
    found = []
    for name in names:
        at = [sum(start <= match.start() for start in starts) for match in re.finditer(rf"\b{re.escape(name)}\b", text)]
        found += [b - a for a, b in pairwise(at)]
    return found


def begins_right(row: dict[str, Any]) -> bool:
    """Whether the first step names a quantity that the answer needs and that refers to no other."""
    graph, match = parse_problem(row["problem"], row["question"]), FIRST.match(row["response"])
    if match is None or match[1] not in graph.order:
        return False
    return not graph.quantities[match[1]].parents


def measured(rows: Iterable[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> dict[int, dict[str, Any]]:
    """Operations -> lengths and distances of its problems, and (length, began right) of its responses."""
    found: dict[int, dict[str, Any]] = defaultdict(lambda: {"lengths": [], "distances": [], "began": []})
    for row in rows:
        of, prompt = found[row["op"]], f"{row['problem']} {row['question']}"
        if row["sample"] == 0:
            length = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
            graph = parse_problem(row["problem"], row["question"])
            of["lengths"].append(length)
            of["distances"] += distances(f"{prompt} {row['solution']}", graph.order, tokenizer)
        of["began"].append((length, begins_right(row)))
    return dict(sorted(found.items()))


def summary(found: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Operations -> what the table shows."""
    result: dict[int, dict[str, Any]] = {}
    for op, of in found.items():
        middle = sorted(length for length, _ in of["began"])[len(of["began"]) // 2]
        halves = [[right for length, right in of["began"] if (length >= middle) == long] for long in (False, True)]
        result[op] = {
            "problems": len(of["lengths"]), "shortest": min(of["lengths"]), "longest": max(of["lengths"]),
            "lengths shared": round(overlap(of["lengths"], found[op - 1]["lengths"]), 3) if op - 1 in found else None,
            "distances shared": round(overlap(of["distances"], found[op - 1]["distances"]), 3) if op - 1 in found else None,
            "first name right": round(fmean(right for _, right in of["began"]), 3),
            "in short prompts": round(fmean(halves[0]), 3) if halves[0] else None,
            "in long prompts": round(fmean(halves[1]), 3),
        }  # fmt: skip
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Print, and write `lengths.json` into the run's folder."""
    parser = ArgumentParser(prog="python -m benchmarks.lengths", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a run that was tested")
    run = parser.parse_args(argv).run
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    tokenizer = load_tokenizer(config["data"]["init_args"]["tokenizer"])
    found = summary(measured(read_samples(sorted((run / "test/samples").glob("test*.jsonl"))), tokenizer))
    names = list(next(iter(found.values())))
    print(
        align([["op", *names], *([str(op), *("-" if of[n] is None else str(of[n]) for n in names)] for op, of in found.items())])
    )
    write_json(run / "lengths.json", found)


if __name__ == "__main__":
    main(sys.argv[1:])
