"""Responses that were judged wrongly once, each with the right verdict, and the kinds that they belong to."""

import json
import re
import time

import problem_solver
import pytest
from grammar_cases import OWN, rows

from grammar import Graph, Quantity, grade, parse_problem, parse_response, parse_trace, render_trace, verify
from grammar.judge import judge_row
from grammar.problem.names import read_name
from grammar.reading import sentences

CASES = rows("attacks")
NOISE = rows("noise_rows")
PRE = "The question is difficult, so we use equations to solve it. "


def judged(case, **changes):
    row = {key: case[key] for key in ("problem", "question", "modulus", "response")} | changes
    return judge_row(row, "executable")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["why"][:60])
def test_a_case_gets_its_verdict(case):
    assert judged(case)["accepted"] == case["expect"]


def solved(steps: str, a: int, moved: str, b: int, root: int, known: str = "t = 13") -> str:
    """A response in reverse."""
    form = known.split(" = ")[1]
    left = moved.split(" = ", maxsplit=1)[0]
    return (
        f"{PRE}{steps} We know {known}, so we have {left} = {form} and we solve it through the following steps: Simplifying the "
        f"equation: {left} = {form}. Move all terms to one side: {a}*x - {b} = 0. Isolate the term with x: {a}*x = {b}. Divide "
        f"both sides by {a}: x = {b} / {a}. Solution: x = {root}. </solution> <answer> {root} </answer>"
    )


REVERSE = parse_problem(
    "The number of f exists, and its number is greater than 0. The number of g equals 3 times the number of f. "
    "The number of h equals 4. The number of d equals the difference between the number of g and the number of f. "
    "The number of t equals the difference between the number of d and the number of h. The number of t equals 6. "
    "How many f are there?"
)
STEPS = (
    "Define f as x; we don't know its value yet but will find it out later. Define g as g; n = x = x; so g = 3 * n = {0} = 3*x. "
    "Define h as h; so h = 4. Define d as d; so d = g - x = {1} = 2*x. Define t as t; so t = d - h = {2} = 2*x - 4."
)


@pytest.mark.parametrize(
    ("sides", "accepted"),
    [
        (("(3) * (x)", "(3*x) - (x)", "(2*x) - (4)"), True),
        (("3 * x", "3*x - x", "2*x - 4"), True),
        (("3 * (x)", "(3*x) - x", "2*x - (4)"), True),
        (("(3) * (x)", "(3*x) - (x)", "2*x - 4"), True),
        (("x * 3", "3*x - x", "2*x - 4"), False),  # the values in another order
        (("3 * x", "3*x - 1", "2*x - 4"), False),
        (("3 * x", "x - 3*x", "2*x - 4"), False),
    ],
)
def test_parentheses_around_values_are_free_where_they_change_nothing(sides, accepted):
    text = solved(STEPS.format(*sides), 2, "2*x - 4 = 6", 10, 5, "t = 6")
    assert grade(verify(parse_response(text), REVERSE), "executable") == accepted


def test_parentheses_that_the_value_needs_are_asked_for():
    graph = parse_problem(
        "The number of a equals 9. The number of f exists, and its number is greater than 0. "
        "The number of g equals the sum of the number of f and the number of a. "
        "The number of t equals the difference between the number of a and the number of g. "
        "The number of s equals 8 plus the number of t. The number of s equals 3. How many f are there?"
    )
    steps = (
        "Define a as a; so a = 9. Define f as x; we don't know its value yet but will find it out later. "
        "Define g as g; so g = x + a = x + 9 = x + 9. Define t as t; so t = a - g = {} = -x. "
        "Define s as s; q = t = -x; so s = 8 + q = 8 + -x = 8 - x."
    )
    verdicts = {}
    for side in ("(9) - (x + 9)", "9 - (x + 9)", "9 - x + 9", "9 - x - 9"):
        text = solved(steps.format(side), -1, "8 - x = 3", -5, 5, "s = 3").replace("-1*x - -5", "5 - x")
        verdicts[side] = grade(verify(parse_response(text), graph), "executable")
    assert verdicts == {"(9) - (x + 9)": True, "9 - (x + 9)": True, "9 - x + 9": False, "9 - x - 9": False}


def test_the_equation_is_about_the_quantity_that_is_known():
    """Not about an intermediate of another step that is twice, or minus, that quantity."""
    case = next(case for case in CASES if "intermediate of a later step" in case["why"])
    report = judged(case)
    assert [error["kind"] for error in report["errors"]] == ["equation"]


def test_what_stands_between_open_tags_is_read():
    graph = parse_problem("The number of roses equals 3. How many roses are there?")
    step = "Define roses as A; so A = 3."
    for text, accepted in (
        (f"{step} <answer> 3", True),
        (f"{step} <answer> 3 </answer> <answer> 4", True),
        (f"{step} <answer> 4 <answer> 3", False),
        (f"{step} <answer> <answer> 3", False),
        (f"{step} </solution> <answer> Define roses as B; so B = 9. <answer> 3", False),
        (f"<answer> {step} <answer> 3", False),
    ):
        assert grade(verify(parse_response(text), graph), "executable") == accepted, text


def test_no_fixed_point_fools_the_comparison_of_formulas():
    """Coefficients that agree with a + b + c at one published point are found by lattice reduction; points are drawn anew."""
    graph = Graph(
        (
            *(Quantity(name, "given", (), value) for name, value in (("a", 3), ("b", 5), ("c", 7))),
            Quantity("s", "sum", ("a", "b", "c")),
        ),
        "s",
    )
    steps = "Define a as a; so a = 3. Define b as b; so b = 5. Define c as c; so c = 7. Define s as s; "
    left = "-11593587*a + -4145971*b + 6814396*c + 36258313"
    value = -11593587 * 3 - 4145971 * 5 + 6814396 * 7 + 36258313
    text = steps + f"so s = {left} = {value}. <answer> 15 </answer>"
    assert not grade(verify(parse_response(text), graph), "paper")
    formula = "so s = -1*a + 1*b + 1*c + 6 = 15. <answer> 15 </answer>"
    report = verify(parse_response(steps + formula), graph)
    assert [error.kind for error in report.errors] and not grade(report, "executable")


@pytest.mark.parametrize(
    ("modulus", "said", "answer"),
    [
        (5, "{a}2 times the number of b. {a}1.", 3),  # 2b = 1
        (6, "{a}2 times the number of b. {a}4.", None),  # 2b = 4: 2 or 5
        (6, "{a}5 times the number of b. {a}4.", 2),
        (6, "{a}2 times the number of b. {a}1.", None),  # no b
        (6, "{a}2 times the number of b. {a}2. {c}3 times the number of b. {c}3.", 1),  # together they fix it
        (6, "{a}2 times the number of b. {a}2. {c}3 times the number of b. {c}0.", 4),
        (4, "{a}2 times the number of b. {a}2. {c}3 times the number of b. {c}3.", 1),
        (4, "{a}2 times the number of b. {a}2. {c}3 times the number of b. {c}2.", None),  # contradiction
    ],
)
def test_equations_modulo_a_number_are_solved_exactly(modulus, said, answer):
    text = said.format(a="The number of a equals ", c="The number of c equals ").replace(". {", ". {")
    graph = parse_problem(f"{text} How many b are there?", modulus=modulus)
    sides = {b for b in range(modulus) if _holds(said, b, modulus)}
    assert graph.answer == answer == (sides.pop() if len(sides) == 1 else None)


def _holds(said: str, b: int, modulus: int) -> bool:
    numbers = [int(word.strip("{}ac.")) for word in said.split() if word.strip("{}ac.").isdigit()]
    return all((factor * b - value) % modulus == 0 for factor, value in zip(numbers[::2], numbers[1::2], strict=True))


NAMES = [
    "adult moloch (thorny devil) in Lumi", "owl in Washington D.C.", "owl in Washington D.C", "what if? in Summit",
    "film about ballet as a murder mystery in Wien", "cafe\u0301 in Mu\u0308nchen", "हाथी in दिल्ली", "so in Z",
    "owl: barn = x (2*x) in A/B", "film about " + "very " * 60 + "long journeys in Z", "times 3 plus 4 in Z", "Answer in We know",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:20])
def test_a_name_is_what_stands_where_a_name_stands(name):
    problem = (
        f"The number of {name} equals 3. The number of b in D.C. equals 2 times the number of {name}. The number of c in St. "
        f"Louis equals the sum of the number of {name} and the number of b in D.C.. The number of e equals the difference "
        f"between the number of c in St. Louis and the number of {name}."
    )
    graph = parse_problem(problem, "How many e are there?")
    assert graph.mentioned == (name, "b in D.C.", "c in St. Louis", "e") and graph.answer == 6
    text = (
        f"Define {name} as A; so A = 3. Define b in D.C. as B; C = A = 3; so B = 2 * C = 2 * 3 = 6. "
        "Define c in St. Louis as D; so D = A + B = 3 + 6 = 9. Define e as E; so E = D - A = 9 - 3 = 6."
    )
    report = verify(parse_response(f"{text} </solution> <answer> 6 </answer>"), graph)
    assert not report.errors and grade(report, "executable")
    assert render_trace(parse_trace(f"{text} Answer: 6.")) == f"{text} Answer: 6."
    item, _, place = name.partition(" in ")
    assert parse_problem(problem, f"How many {item} does {place} have?").answer == 3


@pytest.mark.parametrize("row", NOISE, ids=lambda row: f"{row['length']}-{row['mode']}")
def test_rows_of_the_published_noise_are_judged(row):
    """Well-posed ones by their text; every gold solution is accepted."""
    verdict = judge_row(row, "executable")
    assert verdict["accepted"] and verdict["unread"] == []
    assert (verdict["basis"] == "problem") == verdict["well_posed"] == solvable(row)


@pytest.mark.parametrize("row", [row for row in NOISE if row["length"] == "32k"], ids=lambda row: row["id"][-6:])
def test_a_problem_of_32k_tokens_is_judged_within_50_milliseconds(row):
    def judge() -> float:
        language = sentences.problems()
        for cached in (language.cut, language.sentence, language.question, read_name):
            cached.cache_clear()
        started = time.process_time()
        assert judge_row(row, "executable")["accepted"]
        return time.process_time() - started

    assert len(row["problem"]) > 100_000
    assert any(judge() < 0.05 for _ in range(30))  # 0.03 on an idle core; other work may share this one


def solvable(row) -> bool:
    """Whether another solver gets the gold answer from the text."""
    text = re.sub(r"D\.C\.(?=[,.]| (?:equals|and the) )", "D_C", row["problem"])
    try:
        answer, _, _ = problem_solver.solve(problem_solver.read(text, row["question"]))
    except AssertionError:
        return False
    return row["solution"].endswith(f" Answer: {answer}.")


ALIEN = [
    "It is a fine day",
    "The number of owls that I like is 3",
    "Each box (of 4) weighs 3.5 kg; or so",
    "",
    "Mind the gap, please",
]


@pytest.mark.parametrize("alien", ALIEN)
@pytest.mark.parametrize("at", [0, 2, 4])
def test_a_sentence_that_no_form_fits_costs_only_itself(alien, at):
    sentences = ["The number of roses equals 3", "The number of oaks equals the number of roses", "The number of elms equals 5"]
    sentences.insert(at, alien)
    row = {"problem": ". ".join(sentences) + ".", "question": "How many oaks are there?"}
    response = "Define roses as A; so A = 3. Define oaks as B; so B = A = 3. <answer> 3 </answer>"
    verdict = judge_row(row | {"response": response}, "executable")
    assert (verdict["accepted"], verdict["basis"], verdict["well_posed"]) == (True, "problem", True)
    assert verdict["unread"] == ([*alien.split(". ")] if alien != "Each box (of 4) weighs 3.5 kg; or so" else [alien])


@pytest.mark.parametrize("alien", ["Two of the oaks in A are young", "In A there are some more", "Some oaks in A bloom"])
def test_a_sentence_that_the_answer_may_depend_on_leaves_the_word_to_the_gold_solution(alien):
    row = {
        "problem": f"The number of oaks in A equals 3. The number of elms in B equals 4. {alien}.",
        "question": "What is the total number of trees in A?",
        "response": "Define oaks in A as A; so A = 3. Define total number of trees in A as B; so B = A = 3. <answer> 3 </answer>",
    }
    with pytest.raises(ValueError, match="sentence 2 is not understood"):
        judge_row(row, "executable")
    gold = row["response"].replace("<answer> 3 </answer>", "Answer: 3.")
    verdict = judge_row(row | {"solution": gold}, "executable")
    assert (verdict["accepted"], verdict["basis"], verdict["well_posed"]) == (True, "gold", False)
    assert verdict["unread"] == [alien]
    elsewhere = row | {
        "question": "How many elms does B have?",
        "response": "Define elms in B as A; so A = 4. <answer> 4 </answer>",
    }
    assert judge_row(elsewhere, "executable")["basis"] == "problem"


def test_the_reference_folder_says_where_its_files_come_from():
    readme = (OWN / "README.md").read_text(encoding="utf-8")
    assert all(name in readme for name in ("attacks.jsonl", "noise_rows.jsonl.gz"))


def test_lines_are_json_objects():
    assert all(set(case) == {"problem", "question", "modulus", "response", "expect", "why"} for case in CASES)
    assert len({json.dumps(row) for row in NOISE}) == len(NOISE)
