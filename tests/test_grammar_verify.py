"""What verify finds in responses a model might write, forward, reverse and hostile."""

import json
import re
import time
from itertools import pairwise
from string import ascii_letters

import pytest

from grammar import (
    Graph,
    ProblemSyntaxError,
    Quantity,
    TraceSyntaxError,
    grade,
    parse_problem,
    parse_response,
    parse_trace,
    render_trace,
    verify,
)

GRAPH = Graph(
    (
        Quantity("roses", "given", (), 7),
        Quantity("tulips", "copy", ("roses",), 2, "times"),
        Quantity("oaks", "sum", ("roses", "tulips")),
        Quantity("weeds", "difference", ("tulips", "roses")),
    ),
    "oaks",
)
GOLD = (
    "Define roses as A; so A = 7. Define tulips as B; C = A = 7; so B = 2 * C = 2 * 7 = 14. "
    "Define oaks as D; so D = A + B = 7 + 14 = 21."
)
REVERSE = parse_problem(
    "The number of a in Z exists, and its number is greater than 0. The number of b in Z equals 3 times the number of a in Z. "
    "The total number of c in Z equals 8. How many a does Z have?"
)
SOLVED = (
    "The question is difficult, so we use equations to solve it. Define a in Z as x; we don't know its value yet but will find "
    "it out later. Define b in Z as A; B = x = x; so A = 3 * B = (3) * (x) = 3*x. Define total number of c in Z as C; "
    "so C = x + A = x + 3*x = 4*x. We know C = 8, so we have 4*x = 8 and we solve it through the following steps: "
    "Simplifying the equation: 4*x = 8. Move all terms to one side: 4*x - 8 = 0. Isolate the term with x: 4*x = 8. "
    "Divide both sides by 4: x = 8 / 4. Solution: x = 2."
)


def judged(steps: str, graph: Graph = GRAPH, answer: str = " </solution> <answer> 21 </answer>"):
    report = verify(parse_response(f" {steps}{answer}"), graph)
    return {error.kind for error in report.errors}, grade(report, "paper"), grade(report, "executable")


@pytest.mark.parametrize(
    ("old", "new", "kinds", "paper"),
    [
        ("", "", set(), True),
        ("so D = A + B = 7 + 14 = 21", "so D = A + B = 21", set(), True),
        ("so D = A + B = 7 + 14 = 21", "D=A+B=7+14=21", set(), True),
        ("7 + 14 = 21", "7 + 15 = 21", {"arithmetic"}, True),
        ("7 + 14 = 21", "6 + 15 = 21", {"arithmetic"}, True),
        ("A + B = 7 + 14", "B + A = 14 + 7", set(), True),
        ("A + B = 7 + 14", "B - A = 14 - 7", {"arithmetic"}, True),
        ("C = A = 7; so B = 2 * C = 2 * 7", "so B = A + A = 7 + 7", set(), True),
        ("C = A = 7; so B = 2 * C = 2 * 7", "so B = A * 2 = 7 * 2", set(), True),
        ("C = A = 7; so B = 2 * C = 2 * 7", "so B = 7 + A = 7 + 7", {"arithmetic"}, True),
        ("so D = A + B = 7 + 14 = 21", "so D = A + B = 7 + 14 = 22", {"arithmetic", "value"}, False),
        ("so D = A + B = 7 + 14 = 21", "so D = 21", {"parents"}, False),
        ("so D = A + B", "so D = A + E", {"letters", "parents"}, False),
        ("Define roses as A", "Define roses as B", {"syntax", "value", "letters", "parents"}, False),
        ("Define oaks", "Define oak", {"ungrounded", "missing"}, False),
        ("Define oaks", "Define weeds as F; so F = B - A = 14 - 7 = 7. Define oaks", set(), True),
        ("Define oaks", "Define weeds as F; so F = B - A = 14 - 7 = 8. Define oaks", {"arithmetic", "value"}, True),
        ("Define oaks", "Define bees as F; so F = 3. Define oaks", {"ungrounded"}, True),
        ("Define oaks", "Define roses as F; so F = 7. Define oaks", {"letters"}, True),
        ("Define oaks", "Hm. Define oaks", {"syntax"}, True),
        ("so A = 7.", "so A = 7", {"syntax"}, True),
        ("so A = 7.", "so A = seven.", {"syntax"}, False),
        ("so A = 7.", "so Z = 7.", {"syntax", "value"}, False),
        ("so A = 7.", "so A = 7.0.", {"syntax"}, True),
    ],
)
def test_forward_changes(old, new, kinds, paper):
    text = GOLD.replace(old, new, 1)
    found, by_paper, executable = judged(text)
    assert (found, by_paper, executable) == (kinds, paper, not kinds)


@pytest.mark.parametrize(
    ("old", "new", "kinds"),
    [
        ("", "", set()),
        ("= x + 3*x = 4*x. We", "= x + 3*x = 5*x. We", {"arithmetic", "value", "equation"}),
        ("= x + 3*x = 4*x. We", "= 3*x + x = 4*x. We", {"arithmetic"}),
        ("(3) * (x)", "3 * x", set()),
        ("= x + 3*x = 4*x. We", "= x + (3*x) = 4*x. We", set()),
        ("(3) * (x)", "(x) * (3)", {"arithmetic"}),
        ("Divide both sides by 4", "Divide both sides by 2", {"equation"}),
        ("x = 8 / 4", "x = 8 / 2", {"equation"}),
        ("4*x - 8 = 0", "4*x - 6 = 0", {"equation"}),
        ("4*x - 8 = 0", "2*x - 4 = 0", set()),
        ("We know C = 8", "We know C = 9", {"equation"}),
        ("We know C", "We know A", {"equation"}),
        ("Solution: x = 2", "Solution: x = 3", {"equation"}),
        (" We know", "", {"syntax", "equation"}),
        ("Define a in Z as x", "Define a in Z as q", {"letters", "parents"}),
        ("Define total", "Define total number of c in Z as x; so x = 8. Define total", {"letters", "value", "parents"}),
    ],
)
def test_reverse_changes(old, new, kinds):
    found, _, executable = judged(SOLVED.replace(old, new, 1), REVERSE, " </solution> <answer> 2 </answer>")
    assert executable == (not kinds) and found == kinds


@pytest.mark.parametrize(
    ("ending", "answer"),
    [
        ("</solution> <answer> 21 </answer>", 21),
        ("<answer>21", 21),
        ("<answer> 21 </answer> <answer> 3 </answer>", 21),
        ("<answer> 3 <answer> 21", 21),
        ("<answer> 21. </answer> and more", 21),
        ("<answer> 021 </answer>", 21),
        ("<answer> 21.0 </answer>", None),
        ("<answer> 21 owls </answer>", None),
        ("<answer> ٢١ </answer>", None),
        ("<answer> 2_1 </answer>", None),
        ("<answer> 99999999999999999999 </answer>", None),
        ("Answer: 21.", None),
        ("", None),
    ],
)
def test_only_the_tag_answers_in_a_response(ending, answer):
    assert parse_response(f" {GOLD} {ending}").answer == answer


def test_a_gold_solution_answers_by_its_last_words():
    assert parse_trace(f"{GOLD} Answer: 21.").answer == 21 and parse_trace(f"{GOLD} Answer: 21.").gold
    assert parse_trace(f"{GOLD} Answer: 21. </solution>").answer is None


def test_a_malformed_step_says_where_and_what_and_its_neighbours_are_read():
    text = GOLD.replace("so A = 7", "so A = 7 +")
    trace = parse_response(text)
    error = trace.errors[0]
    assert (error.kind, error.step, text[error.start : error.end]) == ("syntax", 0, "")
    assert "a number" in error.message and "the end" in error.message
    assert [step.shape is None for step in trace.steps] == [True, False, False]
    report = verify(trace, GRAPH)
    assert [node.status for node in report.nodes] == ["wrong_both", "correct", "correct"]
    assert [step.correct for step in report.steps] == [False, True, True]
    with pytest.raises(TraceSyntaxError, match="character"):
        render_trace(trace)


def test_a_modulus_reduces_every_result():
    graph = Graph(GRAPH.statements, "oaks", 10)
    text = GOLD.replace("= 14.", "= 4.").replace("7 + 14 = 21", "7 + 4 = 1")
    assert judged(text, graph, "<answer> 1 </answer>") == (set(), True, True)
    assert "arithmetic" in judged(text.replace("= 4.", "= 14."), graph, "<answer> 1 </answer>")[0]


@pytest.mark.parametrize(
    "text",
    [
        "Define a as x; so x = 9**9**9.",
        "Define a as x; so x = " + "9" * 10**6 + ".",
        "Define " * 120_000,
        "Define a as A; so A = " + "(" * 500_000,
        "Define a as A; so A = " + "1 + " * 12_000 + "1.",
        "Define a as A; " + "so A = A * A; " * 4_000,
        "".join(f"Define n{i} as A; so A = A * A = A * A = 99999999 * 99999999. " for i in range(900)),
        "Define a as A; " + "; ".join(f"{a}{b} = 1" for a in "BCDEFGHJKLMNPQRSTUVWYZ" for b in ascii_letters) + "; so A = 1.",
        "<answer>" * 120_000,
        "</solution>" + "<" * 10**6,
        "\x00\x01%s%d{}" * 1000,
        "We know " * 100_000,
        "Define a as A; so A = 1. We know " + "x = " * 10_000,
        "Define a as A;" + " " * 60_000 + "so A = 1.",
        "Define " + "a " * 30_000 + "as A; so A = 1.",
    ],
    ids=lambda text: text[:30],
)
def test_hostile_text_is_judged_or_refused_within_a_second(text):
    started = time.process_time()  # not the clock: other work may share the cores
    for graph in (GRAPH, REVERSE, GRAPH, REVERSE):
        assert not grade(verify(parse_response(text), graph), "executable")
        assert not grade(verify(parse_trace(text + " Answer: 21."), graph), "executable")
    assert time.process_time() - started < 4


def test_powers_by_steps_stay_bounded():
    letters = ["A"] + [a + b for a in "QRST" for b in "bcdefghjk"]
    chains = "; ".join(f"{b} = {a} * {a} = 9 * 9 = 81" for a, b in pairwise(letters))
    report = verify(parse_response(f"Define roses as A; so A = 7. Define tulips as B; {chains}; so B = Qb = 14."), GRAPH)
    assert any("admitted size" in error.message for error in report.errors)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("The number of roses equals 3 How many roses are there?", "expected '.'|question|end"),
        ("The number of roses equals three. How many roses are there?", "sentence 0, character 27"),
        ("The number of roses equals 3. How many?", "question"),
        ("The number of roses equals 3.", "expected"),
        ("", "question"),
    ],
)
def test_a_problem_outside_the_language_says_where(text, message):
    with pytest.raises(ProblemSyntaxError, match=message):
        parse_problem(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("The number of a equals the number of b. How many a are there?", "missing"),
        ("The number of a equals 3. The number of a equals 4. How many a are there?", "contradict"),
        ("The number of a equals the number of b. The number of b equals the number of a. How many a are there?", "itself"),
        ("The number of a exists, and its number is greater than 0. How many a are there?", "free"),
        (
            "The number of a in Z exists, and its number is greater than 0. The number of b in Z equals the number of a in Z. "
            "The total number of c in Z equals 5. How many a does Z have?",
            "5/2",
        ),
    ],
)
def test_a_problem_says_why_it_determines_no_answer(text, why):
    graph = parse_problem(text)
    assert not graph.well_posed and graph.answer is None and why in graph.why_not


def test_facts_go_to_json():
    facts = json.loads(json.dumps(verify(parse_response(GOLD.replace("= 21", "= 22")), GRAPH).to_dict()))
    assert [node["status"] for node in facts["nodes"]] == ["correct", "correct", "wrong_value"]
    assert {"kind", "step", "message", "start", "end"} == set(facts["errors"][0])


def test_an_unknown_grader_names_the_choices():
    with pytest.raises(ValueError, match="answer, paper, executable"):
        grade(verify(parse_response(GOLD), GRAPH), "strict")


def test_a_report_does_not_depend_on_what_was_judged_before():
    """A solution that calls the unknown y and copies it as "y = y" states no value: of its two steps only the first is right."""
    graph = parse_problem(
        "The number of a in Z exists, and its number is greater than 0. The number of b in Z equals the number of a in Z. "
        "The number of c in Z equals 2 times the number of b in Z. The total number of d in Z equals 8. How many a does Z have?"
    )
    gold = (
        "The question is difficult, so we use equations to solve it. Define a in Z as x; we don't know its value yet but will "
        "find it out later. Define b in Z as A; so A = x = x. Define c in Z as B; C = A = x; so B = 2 * C = (2) * (x) = 2*x. "
        "Define total number of d in Z as D; E = x + A = x + x = 2*x; so D = E + B = 2*x + 2*x = 4*x. We know D = 8, so we have "
        "4*x = 8 and we solve it through the following steps: Simplifying the equation: 4*x = 8. Move all terms to one side: "
        "4*x - 8 = 0. Isolate the term with x: 4*x = 8. Divide both sides by 4: x = 8 / 4. Solution: x = 2."
    )
    wrong = re.sub(r"\bx\b", "y", gold).partition(" Define c in Z")[0]
    answer = " </solution> <answer> 2 </answer>"
    reports = [verify(parse_response(f" {text}{answer}"), graph)[:5] for text in (wrong, gold, gold, wrong, gold, wrong)]
    assert reports[0] == reports[3] == reports[5] and reports[1] == reports[2] == reports[4]
    assert reports[0][3] == 0.25
    assert [node.status for node in reports[0][2]] == ["correct", "wrong_value", "missing", "missing"]
    assert reports[1][3] == 1 and not reports[1][4]
