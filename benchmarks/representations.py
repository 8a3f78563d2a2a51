"""How far the last stage of each arm moved its model: `python -m benchmarks.representations STUDY`, a folder of `run --out`.

For each last stage and the one it started from, on the prompts of the held-out problems that the stage was tested on: the
relative distance of weights, and after the embedding and each layer the linear CKA of hidden states over all tokens of the
prompts (`lightning_modules.metrics`). Writes `representations.json` there: stage -> start, distance, cka, gain in pass@1.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from callbacks.evaluation.sample_files import read_samples
from callbacks.files import read_json, write_json
from callbacks.text_tables import align
from datamodules.problems.mixture import Cell
from datamodules.problems.synthesis import Example
from grammar import parse_problem
from lightning_modules.metrics import linear_cka, relative_distance
from recipes.report.studies import find_studies
from recipes.trained.trained_model import Trained, open_run

GRADE = ("grades", "all", "all", "executable", "pass@1", "mean")


def prompts_of(stage: Path, most: int) -> list[str]:
    """Prompts of the first held-out problems that a stage was tested on."""
    found: dict[str, str] = {}
    for row in read_samples(sorted((stage / "test/samples").glob("test*.jsonl"))):
        if row["sample"] == 0 and len(found) < most:
            problem, question = row["problem"], row["question"]
            cell = Cell(row["op"], row["template"], row["mode"])
            found[row["id"]] = Example(row["id"], problem, question, "", cell, parse_problem(problem, question)).prompt
    return list(found.values())


@torch.no_grad()
def hidden_states(trained: Trained, prompts: Sequence[str]) -> list[Tensor]:
    """[N, D] after the embedding and after each layer, over the N tokens of all prompts."""
    of_prompts = []
    for prompt in prompts:
        ids = torch.tensor([trained.tokenizer(prompt, add_special_tokens=False)["input_ids"]])
        of_prompts.append([states[0] for states in trained.model(ids, output_hidden_states=True).hidden_states])
    return [torch.cat(states) for states in zip(*of_prompts, strict=True)]


def moved(start: Path, end: Path, most: int) -> dict[str, Any]:
    """Distance, CKA of each layer, and gain of the stage `end` that started from `start`."""
    prompts = prompts_of(end, most)
    first, second = (open_run(folder) for folder in (start, end))
    pairs = zip(hidden_states(first, prompts), hidden_states(second, prompts), strict=True)
    cka = [round(linear_cka(one, other).item(), 6) for one, other in pairs]
    weights = [dict(of.model.named_parameters()) for of in (first, second)]
    solved = []
    for folder in (start, end):
        held = read_json(folder / "test/evaluation.json")
        for key in GRADE:
            held = held[key]
        solved.append(held)
    distance = relative_distance(*({name: of.detach() for name, of in held.items()} for held in weights)).item()
    return {"start": start.name, "prompts": len(prompts), "distance": distance, "cka": cka, "gain": solved[1] - solved[0]}


def main(argv: Sequence[str] | None = None) -> None:
    """Print, and write `representations.json` into the study's folder."""
    parser = ArgumentParser(prog="python -m benchmarks.representations", description=__doc__)
    parser.add_argument("study", type=Path, help="folder of `run --out`")
    parser.add_argument("--prompts", type=int, default=200, help="held-out problems at most (default: %(default)s)")
    args = parser.parse_args(argv)
    runs = [(group.label, run) for study in find_studies(args.study) for group in study.groups for run in group.runs]
    found: dict[str, dict[str, Any]] = {}
    rows = [["arm", "seed", "distance", "CKA, embedding to last layer", "gain in pass@1"]]
    for label, run in runs:
        if run.before is not None:
            name = run.last.folder
            if name not in found:
                found[name] = moved(args.study / run.before.folder, args.study / name, args.prompts)
            of = found[name]
            cka = " ".join(f"{value:.3f}" for value in of["cka"])
            rows.append([label, str(run.seed), f"{of['distance']:.4f}", cka, f"{of['gain']:+.3f}"])
    print(align(rows))
    write_json(args.study / "representations.json", found)


if __name__ == "__main__":
    main(sys.argv[1:])
