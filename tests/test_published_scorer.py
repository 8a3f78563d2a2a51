"""The grader `released` is the published scorer: it repeats what that scorer was recorded to say, faults included."""

from collections import Counter
from time import perf_counter

import pytest
from grammar_cases import response_of, rows

from grammar.checking.published_scorer import published_verdict, scored_nodes

FORWARD = "Define roses in Kew as A; so A = 3. Define oaks in Kew as B; k = A = 3; so B = 2 + k = 2 + 3 = 5. Answer: 5."


def counts(row: dict) -> tuple[tuple, tuple]:
    """What we count, and what the published scorer was recorded to count."""
    found = published_verdict(row["candidate"], row["gold_solution"])
    recorded = ("n_gold_nodes", "missing", "extra", "value_mismatch", "dep_mismatch", "answer_mismatch")
    return tuple(found), tuple(row[key] for key in recorded)


def test_verdicts_are_the_recorded_ones():
    recorded = list(rows("verdicts"))
    assert [published_verdict(row["candidate"], row["gold_solution"]).perfect for row in recorded] == [
        row["strict"] for row in recorded
    ]


def test_counts_are_the_recorded_ones_but_for_extra_quantities_of_scrambled_words():
    differing = Counter(row["kind"] for row in rows("verdicts") if len({*counts(row)}) > 1)
    assert differing.keys() <= {"garbage_process"} and differing.total() <= 5


def test_gold_solutions_of_all_published_rows_are_perfect():
    assert all(published_verdict(response_of(row["solution"]), row["solution"]).perfect for row in rows("op"))


def test_a_scratch_letter_passes_its_parents_on():
    assert scored_nodes(FORWARD)["oaks in Kew"] == (5.0, frozenset({"roses in Kew"}))


@pytest.mark.parametrize(
    ("wrong", "accepted"),
    [
        ("2 + k = 9 * 9 = 5", True),  # equalities are not checked
        ("2 + k = 2 + 3 = 6", False),
        ("2 + B = 2 + 3 = 5", False),
    ],
)
def test_only_the_last_number_and_the_letters_count(wrong, accepted):
    changed = FORWARD.replace("2 + k = 2 + 3 = 5", wrong)
    assert published_verdict(response_of(changed), FORWARD).perfect == accepted


@pytest.mark.parametrize("hostile", ["Define " * 4000, "Define a as " * 2500, "<" * 15000, "as a " * 5000, "9**" * 5000])
def test_hostile_text_takes_bounded_time(hostile):
    start = perf_counter()
    published_verdict(hostile, FORWARD)
    assert perf_counter() - start < 5
