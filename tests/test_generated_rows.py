"""Every generated row is solvable from its text alone, with exactly its operations and a right solution.

The oracle is `problem_solver`, which shares no code with the package.
"""

from pathlib import Path

import pytest
from problem_solver import check_solution, read, solve

from benchmarks.generate_speed import resident_mib
from datamodules.problems.context import context_names, load_context
from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.mixture import MODES, Cell, Component, Mixture
from datamodules.problems.splits import SPLITS
from datamodules.problems.synthesis import Synthesis

SPECS = {
    "default": GraphSpec(),
    "published unknown": GraphSpec(unknown_range=(1, 4)),
    "depth 3": GraphSpec(depth=3),
    "many distractors": GraphSpec(distractors=(3, 12)),
    "depth 3, trees, in order": GraphSpec(depth=3, reuse=0.0, distractors=(0, 0), shuffle=False),
    "wide": GraphSpec(number_range=50, max_value=10_000, differences=1.0, unknown_range=(1, 300)),
    "narrow": GraphSpec(max_terms=2, constants=0.1, fan_out=2, totals=0.8),
}


def cells(context: str, spec: GraphSpec) -> list[tuple[int, str]]:
    """(largest op tried, mode): a hundred, but where short definitions, or a context, have fewer names."""
    words = load_context(context)
    if spec.depth == 3 and words.parts is None:
        return []
    if not words.places:
        return [(30, mode) for mode in MODES[: 1 if words.modulus is not None else 2]]
    return [(60 if spec.max_terms == 2 else 100, mode) for mode in MODES]


def hold_to_the_solver(spec: GraphSpec, context: str, indices: range, ops: list[int]) -> None:
    synthesis = Synthesis(Mixture([Component("2", [context])]), spec, seed=7)
    modulus = load_context(context).modulus
    for largest, mode in cells(context, spec):
        for index in indices:
            op = ops[index % len(ops)]
            if op > largest:
                continue
            split = list(SPLITS)[0 if op > 20 else index % 3]
            example = synthesis.example(split, index, Cell(op, context, mode))
            problem = read(example.problem, example.question, modulus)
            answer, operations, _ = solve(problem)
            assert operations == op, example
            assert example.solution.endswith(f" Answer: {answer}."), example
            check_solution(example.solution, problem)


@pytest.mark.parametrize("context", context_names())
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_rows_are_solvable_from_their_text(spec, context):
    hold_to_the_solver(spec, context, range(8), [2, 3, 4, 6, 9, 14, 20, 60])


@pytest.mark.long
@pytest.mark.parametrize("context", context_names())
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_thousands_of_rows_are_solvable_from_their_text(spec, context):
    hold_to_the_solver(spec, context, range(1000, 1200), [*range(2, 21), 27, 40, 55, 70, 85, 100])


def check_operations(problem: str, question: str, op: int) -> None:
    _, operations, _ = solve(read(problem, question))
    assert operations == op


def test_the_solver_finds_what_is_wrong():
    """The oracle itself: a changed number, sign, letter, step or statement does not pass."""
    synthesis = Synthesis(Mixture([Component("8", ["crazy_zootopia"])]), GraphSpec(distractors=(0, 0)))
    for mode in MODES:
        found = 0
        for index in range(30):
            example = synthesis.example("train", index, Cell(8, "crazy_zootopia", mode))
            problem = read(example.problem, example.question)
            first, *others = example.solution.split("Define ")
            digit = max(i for i, c in enumerate(example.solution[:-12]) if c.isdigit())
            wrong = [
                first + "Define ".join(["", *others[1:]]),
                first + "Define ".join(["", *others[::-1]]),
                example.solution.replace(" + ", " - ", 1),
                example.solution[:digit] + str((int(example.solution[digit]) + 1) % 10) + example.solution[digit + 1 :],
            ]
            for text in wrong:
                if text != example.solution:
                    with pytest.raises((AssertionError, KeyError, NameError, SyntaxError, ValueError)):
                        check_solution(text, problem)
                    found += 1
            *sentences, _ = example.problem.strip().split(". ")
            with pytest.raises((AssertionError, KeyError, ValueError)):
                check_operations(". ".join(sentences) + ".", example.question, 8)
        assert found > 60


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_stays_flat():
    """After a warm-up, forty thousand more rows leave the process as large as it was, within 4 MiB."""
    synthesis = Synthesis(Mixture([Component("2-20", ["crazy_zootopia", "hospital_wards"], MODES)]))
    sizes = []
    for index in range(60_000):
        synthesis.example("train", index)
        if index in (19_999, 59_999):
            sizes.append(resident_mib())
    assert sizes[1] - sizes[0] < 4
