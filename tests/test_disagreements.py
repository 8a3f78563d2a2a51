"""Causes of disagreement between graders: each sample under one, so that they add up to the difference."""

from math import isnan

import pytest

from grammar import grade, parse_problem, parse_response, verify
from lightning_modules.metrics.disagreements import COUNTED, FAULTS, RELEASED, count_disagreements, fault_of

GRAPH = parse_problem(
    "The number of roses equals 3. The number of oaks equals 4. The number of ferns equals the sum of the number of roses and "
    "the number of oaks. The number of lilies equals 2 plus the number of ferns.",
    "How many lilies are there?",
)
STEPS = (
    "Define roses as A; so A = 3.", "Define oaks as B; so B = 4.", "Define ferns as C; so C = A + B = 3 + 4 = 7.",
    "Define lilies as D; k = C = 7; so D = 2 + k = 2 + 7 = 9.",
)  # fmt: skip


def judged(answer: int = 9, **changes: str):
    """A response whose steps are changed by their first letter's place; an empty text leaves one out."""
    steps = [changes.get(name, step) for name, step in zip(("roses", "oaks", "ferns", "lilies"), STEPS, strict=True)]
    return verify(parse_response(f" {' '.join(filter(None, steps))} </solution> <answer> {answer} </answer>"), GRAPH)


SOUND = judged()
MISSING = judged(oaks="", ferns="Define ferns as C; so C = A + A = 3 + 3 = 7.")  # and wrong parents, which come second
PARENTS = judged(ferns="Define ferns as C; so C = A + A = 3 + 4 = 7.")
BOTH = judged(ferns="Define ferns as C; so C = A + A = 3 + 3 = 6.")
VALUES = judged(ferns="Define ferns as C; so C = A + B = 3 + 4 = 8.")
GUESSED = judged(answer=5)
UNTRUE = judged(lilies="Define lilies as D; k = C = 7; so D = 2 + k = 9 + 7 = 9.")
SAMPLES = (SOUND, MISSING, PARENTS, BOTH, VALUES, GUESSED, UNTRUE)


@pytest.mark.parametrize(
    ("report", "fault"),
    [
        (SOUND, None), (MISSING, "missing"), (PARENTS, "parents"), (BOTH, "parents"), (VALUES, "values"), (GUESSED, None),
        (UNTRUE, None),
    ],
)  # fmt: skip
def test_a_sample_counts_under_its_first_fault(report, fault):
    assert fault_of(report) == fault


@pytest.mark.parametrize("number", range(0, 128, 3))
def test_causes_add_up_to_the_difference_of_two_graders(number):
    """Oracle: the graders themselves, on subsets of samples, some with a wrong answer as well."""
    reports = [report for i, report in enumerate(SAMPLES) if number >> i & 1]
    reports += [report._replace(answer_correct=False) for report in reports[::2]]
    counts = dict(zip(COUNTED, count_disagreements(reports), strict=True))
    passed = {name: sum(grade(report, name) for report in reports) for name in ("answer", "paper", "executable")}
    assert sum(counts[f"answered/{fault}"] for fault in FAULTS) == passed["answer"] - passed["paper"]
    unsound = sum(count for name, count in counts.items() if name.startswith("unsound/"))
    assert unsound == passed["paper"] - passed["executable"]
    faulty = sum(counts[f"fault/{fault}"] for fault in FAULTS)
    assert faulty == sum(any(node.status != "correct" for node in report.nodes) for report in reports)


def test_the_published_scorer_disagrees_both_ways():
    counts = dict(zip(COUNTED, count_disagreements([SOUND, SOUND, VALUES, UNTRUE], [True, False, True, True]), strict=True))
    assert (counts[RELEASED], counts["released/only"], counts["released/not"]) == (3, 1, 1)
    assert counts["unsound/arithmetic"] == 1
    assert isnan(dict(zip(COUNTED, count_disagreements([SOUND]), strict=True))[RELEASED])
