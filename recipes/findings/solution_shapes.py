"""How RL changes each shape of problem: python -m recipes.findings.solution_shapes runs/quickstart/seed0 [runs/...] --op 5

A shape is a gold solution without names and numbers, such as `given, given, B, A+C`: two numbers, a copy of the second, the sum
of the first and the copy. Writes docs/quickstart/solution_shapes.md: for each shape and seed, the share of samples that
`executable` accepts after mid-training and after GRPO.
"""

from argparse import ArgumentParser
from pathlib import Path

from callbacks.evaluation.sample_files import read_samples
from callbacks.files import write_text
from callbacks.text_tables import align
from grammar import parse_trace
from grammar.reading.gold_graph import graph_of
from recipes.named_files import HOME

PAGE = HOME / "docs/quickstart/solution_shapes.md"
STAGES = ("midtrain", "grpo")
MODULUS = 5  # of context `garden`
FEW = 5  # shapes of fewer held-out problems are left out
ABOUT = f"""A shape is a gold solution without names and numbers: A, B, C and D are its quantities in order, `B` a copy of the
second, `A+C` a sum. Cells: the share of samples that `executable` accepts after mid-training > after GRPO. Shapes of fewer
than {FEW} held-out problems are left out."""


def shape(solution: str) -> str:
    """The steps of a solution, each as the letters of its terms."""
    made = graph_of(parse_trace(solution), modulus=MODULUS).statements
    letters = {quantity.name: chr(ord("A") + i) for i, quantity in enumerate(made)}
    return ", ".join("+".join(letters[parent] for parent in quantity.parents) or "given" for quantity in made)


def shares(stage: Path, op: int) -> dict[str, tuple[int, float]]:
    """Shape -> (held-out problems, share of samples that are right in every step)."""
    found: dict[str, dict[int, list[bool]]] = {}
    for row in read_samples([stage / "test/samples/test.jsonl"]):
        if row["op"] == op:
            problems = found.setdefault(shape(row["solution"]), {})
            problems.setdefault(row["index"], []).append(row["accepted"]["executable"])
    return {
        name: (len(problems), sum(map(sum, problems.values())) / sum(map(len, problems.values())))
        for name, problems in found.items()
    }


def table(runs: list[Path], op: int) -> str:
    """Shape x seed: before and after RL, the most frequent shape first."""
    found = {run.name: [shares(run / stage, op) for stage in STAGES] for run in runs}
    problems = {name: count for name, (count, _) in next(iter(found.values()))[0].items() if count >= FEW}
    rows = [["shape", "problems", *found]]
    for name in sorted(problems, key=problems.__getitem__, reverse=True):
        changes = (" > ".join(f"{stage[name][1]:.2f}" for stage in stages) for stages in found.values())
        rows.append([name, str(problems[name]), *changes])
    return align(rows)


def main(argv: list[str] | None = None) -> None:
    """Count and write."""
    parser = ArgumentParser(prog="python -m recipes.findings.solution_shapes", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of quickstart runs, named seedN")
    parser.add_argument("--op", type=int, default=5, help="of the held-out problems (default: %(default)s)")
    args = parser.parse_args(argv)
    command = f"{parser.prog} {' '.join(map(str, args.runs))} --op {args.op}"
    text = f"# Shapes of op {args.op}, mid-training > GRPO\n\n{ABOUT}\n\n```\n{table(args.runs, args.op)}\n```\n\n`{command}`\n"
    write_text(PAGE, text)


if __name__ == "__main__":
    main()
