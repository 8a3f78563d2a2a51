"""What is asked and how it follows: every problem of up to five quantities against an oracle."""

import re
from collections import Counter

import pytest
from small_graphs import Small, every

from grammar import GRADERS, Graph, gold_trace, grade, parse_problem, parse_response, render_trace, verify
from grammar.judge import judge_row

ANSWER = " </solution> <answer> {} </answer>"


def verdicts(graph: Graph, text: str) -> tuple[bool, ...]:
    report = verify(parse_response(text), graph)
    return tuple(grade(report, grader) for grader in GRADERS)


def check(small: Small) -> str:
    """Compares everything that is said of a problem with the oracle; returns how its answer follows."""
    graph = parse_problem(*small.text())
    number, how = small.determined(), small.follows()
    assert graph.verdict[0] == number, small
    assert graph.answer == (number if number is not None and number.denominator == 1 else None), small
    assert graph.solvable == (how is not None), (small, how)
    assert number is not None or how is None
    bare = "" if number is None else ANSWER.format(number)
    assert verdicts(graph, bare) == (number is not None, False, False), small
    if how is None:
        return "several equations" if number is not None else "open"
    assert (graph.unknown is None) == (how == "forward"), small
    gold = render_trace(gold_trace(graph)).rsplit(" Answer: ", 1)[0]
    assert verdicts(graph, gold + bare) == (True, True, True), (small, gold)
    steps = re.findall(r"Define .*?\. ?", gold)
    for step in steps:  # each is needed
        assert verdicts(graph, gold.replace(step, "", 1) + bare) == (True, False, False), (small, step)
    wrong = ANSWER.format(number + 1)
    assert verdicts(graph, gold + wrong) == (False, False, False)
    return how


def test_every_problem_of_up_to_four_quantities():
    found = Counter(check(small) for counts in (1, 2, 3) for small in every(counts))
    assert min(found.values()) > 20 and set(found) == {"forward", "reverse", "several equations", "open"}


@pytest.mark.long
def test_every_problem_of_five_quantities():
    found = Counter(map(check, every(4)))
    assert sum(found.values()) > 20_000


def test_a_problem_that_needs_several_equations_has_an_answer_and_no_solution():
    """Two unknowns, two equations: the answer is judged, no solution can say how it follows."""
    problem = (
        "The number of a in Z exists, and its number is greater than 0. The number of c in Z equals the sum of the number of a "
        "in Z and the number of b in Z. The number of d in Y equals the sum of the number of c in Z and the number of a in Z. "
        "The number of c in Z equals 7. The number of d in Y equals 10."
    )
    graph = parse_problem(problem, "How many b does Z have?")
    assert graph.answer == 4 and graph.well_posed and not graph.solvable
    guess = "Define b in Z as B; so B = 4. </solution> <answer> 4 </answer>"
    report = verify(parse_response(guess), graph)
    assert [grade(report, grader) for grader in GRADERS] == [True, False, False] and report.process_accuracy == 0
    with pytest.raises(ValueError, match="several equations"):
        gold_trace(graph)
    assert judge_row({"problem": problem, "question": "How many b does Z have?", "response": guess}, "answer")["accepted"]


def test_a_contradiction_anywhere_determines_nothing():
    text = "The number of a equals 3. The number of b equals 4. The number of b equals 5. How many a are there?"
    assert parse_problem(text).answer is None
