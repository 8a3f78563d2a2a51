"""Measure published rows and fit the profile that draws such problems: `python -m benchmarks.published_profile --reference DIR`.

DIR holds op2.jsonl ... op20.jsonl in the published schema. For each mode and band of operations the shares of every statistic
are measured; weights are fitted on draws of our own sampler by maximum entropy (the dual is convex), operations counting alike.
Writes datamodules/problems/published.json and prints the total variation of fresh draws from what was measured, band by band.
"""

import json
from argparse import ArgumentParser
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import count, product
from pathlib import Path
from random import Random

import torch

from datamodules.problems.context import PUBLISHED, load_context
from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.mixture import MODES
from datamodules.problems.published import BANDS, PROFILE, kept, proposed, published_spec, statistics
from datamodules.problems.sampler import sample_graph
from grammar import parse_problem, parse_trace
from grammar.reading.gold_graph import graph_of

SHARPEST = 0.98  # quantile of weights that is kept for certain
STEPS, RIDGE = 400, 1e-3  # of the fit
ROUNDS, DAMPING, SEEN = 60, 0.3, 2e-3  # of the rounds after it; a share that is lost in the noise
Cell = tuple[bool, int]  # reverse, operations


def published(folder: Path) -> dict[Cell, list[Counter[str]]]:
    """Statistics of published rows; of ill-posed ones too, whose solution says what was meant."""
    found: dict[Cell, list[Counter[str]]] = defaultdict(list)
    for op in range(2, 21):
        for line in (folder / f"op{op}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            gold = graph_of(parse_trace(row["solution"]))
            others = {s.name for s in parse_problem(row["problem"], row["question"]).statements} - set(gold.order)
            found[row["mode"] == MODES[1], op].append(statistics(gold, len(others)))
    return found


def shares(found: Iterable[Counter[str]]) -> dict[str, dict[str, float]]:
    """Statistic -> value -> share."""
    total: dict[str, Counter[str]] = defaultdict(Counter)
    for each in found:
        for name, number in each.items():
            statistic, _, value = name.partition(" ")
            total[statistic][value] += number
    return {name: {value: number / of.total() for value, number in sorted(of.items())} for name, of in total.items()}


def variation(a: dict[str, float], b: dict[str, float]) -> float:
    """Total variation of two distributions."""
    return sum(abs(a.get(value, 0) - b.get(value, 0)) for value in a.keys() | b.keys()) / 2


def proposals(op: int, distractors: Mapping[str, float], draws: int, *, reverse: bool) -> list[Counter[str]]:
    """Statistics of draws of our own sampler, before any is refused."""
    numbers, found = {int(number): share for number, share in distractors.items()}, []
    for i in range(draws):
        rng = Random(f"published/{op}/{reverse}/{i}")
        spec = proposed(GraphSpec(), numbers, rng)
        try:
            drawn = sample_graph(op, load_context(PUBLISHED[i % len(PUBLISHED)]), spec, rng, reverse=reverse)
        except ValueError:  # more distractors than the context has names for
            print("not built", op, spec.distractors)
            continue
        found.append(statistics(drawn.graph))
    return found


def fit(drawn: Mapping[int, list[Counter[str]]], target: Mapping[str, float]) -> tuple[dict[str, float], dict[int, float]]:
    """Weights for which the mean statistics of draws are the target's, and for each op the quantile SHARPEST of their sums.

    Minimises mean_op log mean_i exp(w . f_i) - w . target + ridge: the dual of maximum entropy.
    """
    every = {name for of in drawn.values() for each in of for name in each} | target.keys()
    names = sorted(name for name in every if not name.startswith("distractors "))  # drawn as measured
    place = {name: i for i, name in enumerate(names)}
    wanted = torch.tensor([target.get(name, 0.0) for name in names], dtype=torch.float64)
    rows = {}
    for op, of in drawn.items():
        rows[op] = torch.zeros(len(of), len(names), dtype=torch.float64)
        for i, each in enumerate(of):
            for name, number in each.items():
                if name in place:
                    rows[op][i, place[name]] = number
    weights = torch.zeros(len(names), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=STEPS, line_search_fn="strong_wolfe", tolerance_grad=1e-6)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        normalised = torch.stack([torch.logsumexp(of @ weights, 0) for of in rows.values()]).mean()
        found = normalised - weights @ wanted + RIDGE * weights.square().sum()
        found.backward()
        return found

    optimizer.step(loss)
    fitted, ceilings = raked(rows, weights.detach(), wanted)
    return {name: round(float(value), 3) for name, value in zip(names, fitted, strict=True) if abs(value) > 5e-4}, ceilings


def raked(rows: Mapping[int, torch.Tensor], weights: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, dict[int, float]]:
    """Weights after ROUNDS of iterative fitting to what is kept when weights above the ceilings count alike; and the ceilings."""
    for _ in range(ROUNDS):
        ceilings = {op: float((of @ weights).quantile(SHARPEST)) for op, of in rows.items()}
        chances = {op: (of @ weights - ceilings[op]).clamp(max=0).exp() for op, of in rows.items()}
        found = torch.stack([chances[op] @ of / chances[op].sum() for op, of in rows.items()]).mean(0)
        weights = weights + DAMPING * ((wanted + SEEN) / (found + SEEN)).log()
    return weights, {op: round(ceiling, 3) for op, ceiling in ceilings.items()}


def fresh(op: int, draws: int, *, reverse: bool) -> tuple[list[Counter[str]], int]:
    """Statistics of draws that the profile keeps, and how many were drawn for them."""
    found = []
    for i in count():
        rng = Random(f"fresh/{op}/{reverse}/{i}")
        try:
            spec = published_spec(GraphSpec(), op, rng, reverse=reverse)
            graph = sample_graph(op, load_context(PUBLISHED[i % len(PUBLISHED)]), spec, rng, reverse=reverse).graph
        except ValueError:
            continue
        if kept(graph, op, rng, reverse=reverse):
            found.append(statistics(graph))
        if len(found) == draws:
            return found, i + 1
    raise AssertionError


def main() -> None:
    """Measures, fits, writes, checks."""
    parser = ArgumentParser(prog="python -m benchmarks.published_profile", description=__doc__)
    parser.add_argument("--reference", type=Path, required=True, help="folder of published rows")
    parser.add_argument("--draws", type=int, default=3000, help="of our own for each cell of the fit")
    parser.add_argument("--checks", type=int, default=400, help="fresh problems of each cell, to check it")
    parser.add_argument("--out", type=Path, default=PROFILE)
    parser.add_argument("--only", nargs="+", help='groups to fit again, e.g. "forward 5-7" (default: all)')
    args = parser.parse_args()
    rows = published(args.reference)
    result = json.loads(args.out.read_text(encoding="utf-8")) if args.only else {}
    chosen = [
        (reverse, band) for reverse, band in product((False, True), BANDS) if not args.only or _name(reverse, band) in args.only
    ]
    for reverse, band in chosen:
        result[_name(reverse, band)] = fitted_group(rows, band, args.draws, reverse=reverse)
    args.out.write_text(json.dumps(result, separators=(",", ":")).replace('},"', '},\n"') + "\n", encoding="utf-8")
    for reverse, band in chosen:
        drawn = [fresh(op, args.checks, reverse=reverse) for op in BANDS[band]]
        ours = shares([each for found, _ in drawn for each in found])
        measured = result[_name(reverse, band)]["measured"]
        apart = {name: round(variation(measured[name], ours[name]), 3) for name in measured}
        share = args.checks * len(drawn) / sum(number for _, number in drawn)
        print(f"{_name(reverse, band):16} kept {share:.3f} ", apart, flush=True)


def fitted_group(rows: Mapping[Cell, list[Counter[str]]], band: str, draws: int, *, reverse: bool) -> dict[str, object]:
    """What published.json holds of one mode and band."""
    theirs = [each for op in BANDS[band] for each in rows[reverse, op]]
    measured = shares(theirs)
    target = {name: number / len(theirs) for name, number in sum(theirs, Counter()).items()}
    drawn = {op: proposals(op, measured["distractors"], draws, reverse=reverse) for op in BANDS[band]}
    weights, ceilings = fit(drawn, target)
    return {
        "rows": len(theirs), "measured": {name: {v: round(s, 4) for v, s in of.items()} for name, of in measured.items()},
        "distractors": measured["distractors"], "weights": weights, "ceilings": ceilings,
    }  # fmt: skip


def _name(reverse: bool, band: str) -> str:
    return f"{'reverse' if reverse else 'forward'} {band}"


if __name__ == "__main__":
    main()
