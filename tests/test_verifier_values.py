"""What the verifier finds in solutions that are almost right: verdicts, reasons, places in the text; what hashes keep apart."""

from datamodules.problems.splits import canonical_hash, structure_hash
from grammar import Report, grade, parse_problem, parse_response, parse_trace, verify
from grammar.checking.marking import marked
from grammar.judge import judge_row
from grammar.problem import graph
from grammar.reading.gold_graph import graph_of

PLANTS = (
    "The number of roses equals 3. The number of oaks equals 4. The number of ferns equals the number of roses. "
    "How many ferns are there?"
)
BIRDS = (
    "The number of owls in Z equals 3. The number of crows in Y equals 2. "
    "The number of ants in Z equals the total number of birds in Y. How many ants does Z have?"
)
REVERSE = (
    "The number of a in Z exists, and its number is greater than 0. The number of b in Z equals the number of a in Z. "
    "The number of c in Z equals 2 times the number of b in Z. The total number of d in Z equals 8. How many a does Z have?"
)
SOLVED = (
    "The question is difficult, so we use equations to solve it. Define a in Z as x; we don't know its value yet but will "
    "find it out later. Define b in Z as A; so A = x = x. Define c in Z as B; C = A = x; so B = 2 * C = (2) * (x) = 2*x. "
    "Define total number of d in Z as D; E = x + A = x + x = 2*x; so D = E + B = 2*x + 2*x = 4*x. We know D = 8, so we have "
    "4*x = 8 and we solve it through the following steps: Simplifying the equation: 4*x = 8. Move all terms to one side: "
    "4*x - 8 = 0. Isolate the term with x: 4*x = 8. Divide both sides by 4: x = 8 / 4. Solution: x = 2."
)


def judged(problem: str, steps: str, answer: int, modulus: int | None = None) -> Report:
    """The report on a response whose text begins with its steps."""
    return verify(parse_response(f"{steps} </solution> <answer> {answer} </answer>"), parse_problem(problem, modulus=modulus))


def verdict(report: Report) -> tuple[list[str], bool, bool]:
    """The kinds of its errors in their order, and whether `paper` and `executable` accept it."""
    return [error.kind for error in report.errors], grade(report, "paper"), grade(report, "executable")


def statuses(report: Report) -> list[tuple[str, str]]:
    return [(node.name, node.status) for node in report.nodes]


def spans(report: Report) -> list[tuple[str, int | None, int, int]]:
    return [(error.kind, error.step, error.start, error.end) for error in report.errors]


def test_a_quantity_made_of_more_than_its_parents_has_wrong_parents():
    steps = "Define roses as A; so A = 3. Define oaks as B; so B = 4. Define ferns as C; so C = {} = 3."
    right, more = judged(PLANTS, steps.format("A"), 3), judged(PLANTS, steps.format("A + B"), 3)
    assert statuses(right) == [("roses", "correct"), ("ferns", "correct")]
    assert verdict(right) == ([], True, True)
    assert statuses(more) == [("roses", "correct"), ("ferns", "wrong_parents")]
    assert verdict(more) == (["arithmetic", "parents"], False, False)


def test_the_reason_of_a_step_is_its_first_error():
    report = judged(PLANTS, "Define roses as A; so A = 3. Define oaks as B; so B = 4. Define ferns as C; so C = A + B = 3.", 3)
    assert [step.reason for step in report.steps] == ["", "", "'A+B' is 7, not '3', in 'so C = A + B = 3'"]
    assert [step.correct for step in report.steps] == [True, True, False]


def test_errors_of_a_definition_span_its_sentence_and_errors_of_a_chain_the_chain():
    steps = "Define roses as A; so A = 4. Define ferns as C; so C = A = 3."
    report = judged(PLANTS, steps, 3)
    assert spans(report) == [("value", 0, 0, 28), ("arithmetic", 1, 48, 60)]
    assert (steps[0:28], steps[48:60]) == ("Define roses as A; so A = 4.", "so C = A = 3")


def test_a_letter_computed_twice_in_one_step_is_an_error_of_letters():
    report = judged(PLANTS, "Define roses as A; so A = 3; so A = 3. Define ferns as C; so C = A = 3.", 3)
    assert verdict(report)[0] == ["letters"] and not verdict(report)[2]
    assert report.errors[0].step == 0 and report.errors[0].message == "'A' is computed a second time"


def test_letters_not_declared_are_told_in_the_order_of_the_alphabet():
    report = judged(PLANTS, "Define roses as A; so A = 3. Define ferns as C; so C = U + S + T + Q + A + R = 3.", 3)
    assert [error.message[:32] for error in report.errors if error.kind == "letters"] == [
        "'Q' is used before it is declare", "'R' is used before it is declare", "'S' is used before it is declare",
        "'T' is used before it is declare", "'U' is used before it is declare",
    ]  # fmt: skip


def test_parents_are_told_in_the_order_in_which_the_problem_mentions_them():
    problem = (
        "The number of roses equals 3. The number of oaks equals 4. "
        "The number of ferns equals the sum of the number of oaks and the number of roses. How many ferns are there?"
    )
    report = judged(problem, "Define oaks as A; so A = 4. Define roses as B; so B = 3. Define ferns as C; so C = 7.", 7)
    assert [error.message for error in report.errors] == ["'ferns' is made of 'roses', 'oaks', not of none"]


def test_an_extra_total_is_of_a_kind_and_a_place_of_the_problem():
    steps = (
        "Define crows in Y as A; so A = 2. Define total number of birds in Y as B; so B = A = 2. "
        "Define ants in Z as C; so C = B = 2. {}"
    )
    implied = "Define owls in Z as E; so E = 3. Define total number of birds in Z as D; so D = E + C = 3 + 2 = 5."
    assert verdict(judged(BIRDS, steps.format(implied), 2)) == ([], True, True)
    cars = judged(BIRDS, steps.format("Define total number of cars in Y as D; so D = A = 2."), 2)
    assert verdict(cars) == (["ungrounded"], True, False)
    assert cars.errors[0].message == "the problem does not say what 'total number of cars in Y' is"
    elsewhere = judged(BIRDS, steps.format("Define total number of birds in X as D; so D = A = 2."), 2)
    assert verdict(elsewhere) == (["ungrounded"], True, False)


def test_only_what_has_no_parents_may_be_left_open():
    opened = "Define b in Z as A; we don't know its value yet but will find it out later."
    assert verdict(judged(REVERSE, SOLVED, 2)) == ([], True, True)
    report = judged(REVERSE, SOLVED.replace("Define b in Z as A; so A = x = x.", opened), 2)
    assert statuses(report) == [
        ("a in Z", "correct"), ("b in Z", "wrong_parents"), ("c in Z", "correct"), ("total number of d in Z", "correct"),
    ]  # fmt: skip
    assert verdict(report) == (["value"], False, False)
    assert report.errors[0].message == "the problem does not leave 'b in Z' open"


def test_a_last_side_with_a_letter_other_than_x_states_no_value():
    """2*x + 2*x is x + E + x, E being 2*x, but that is no value."""
    report = judged(REVERSE, SOLVED.replace("2*x + 2*x = 4*x. We", "2*x + 2*x = x + E + x. We"), 2)
    assert statuses(report) == [
        ("a in Z", "correct"), ("b in Z", "correct"), ("c in Z", "correct"), ("total number of d in Z", "wrong_value"),
    ]  # fmt: skip
    kinds, paper, executable = verdict(report)
    assert "value" in kinds and (paper, executable) == (False, False)


def test_under_a_modulus_each_chain_ends_reduced():
    problem = "The number of a equals 3. The number of b equals 7 plus the number of a. How many b are there?"
    between = judged(problem, "Define a as A; so A = 3. Define b as B; so B = 7 + A = 7 + 3 = 0.", 0, modulus=5)
    assert verdict(between) == ([], True, True)
    at_the_end = judged(problem, "Define a as A; so A = 3. Define b as B; C = 7; so B = C + A = 7 + 3 = 0.", 0, modulus=5)
    assert [error.message for error in at_the_end.errors] == ["the result is not reduced modulo 5, in 'C = 7'"]
    assert verdict(at_the_end)[0] == ["arithmetic"] and not verdict(at_the_end)[2]


def test_a_gold_solution_alone_is_judged_with_the_modulus_of_its_row():
    solution = (
        "Define roses as A; so A = 4. Define oaks as B; so B = 3. Define ferns as C; so C = A + B = 4 + 3 = {0}. Answer: {0}."
    )
    two, seven = solution.format(2), solution.format(7)
    assert judge_row({"solution": two, "modulus": 5}, "executable")["accepted"] is True
    assert judge_row({"solution": two}, "executable", modulus=5)["accepted"] is True
    assert judge_row({"solution": two}, "executable")["accepted"] is False
    assert judge_row({"solution": seven, "modulus": 5}, "executable")["accepted"] is False
    assert judge_row({"solution": seven}, "executable")["accepted"] is True
    read = graph_of(parse_trace(two), modulus=5)
    assert (read.modulus, read.answer) == (5, 2)


def test_of_two_equal_definitions_the_first_defines_and_the_other_is_an_equation():
    read = parse_problem(
        "The number of a equals 2. The number of b equals 2. The number of c equals the number of a. "
        "The number of c equals the number of b. How many c are there?"
    )
    assert read.definitions["c"].parents == ("a",)
    assert read.order == ("a", "c") and read.answer == 2
    assert [(quantity.name, quantity.parents) for quantity in read.restated] == [("c", ("b",))]


def test_sentences_too_long_to_search_may_say_what_the_answer_depends_on(monkeypatch):
    read = parse_problem(PLANTS)
    assert read.order == ("roses", "ferns")
    assert read.may_depend_on(["It rains on nothing"]) is False
    monkeypatch.setattr(graph, "_MOST_SEARCHED", 10)
    assert read.may_depend_on(["It rains on nothing"]) is True
    monkeypatch.setattr(graph, "_MOST_SEARCHED", 38)  # 19 characters, two names
    assert read.may_depend_on(["It rains on nothing"]) is False


def test_a_chain_spans_its_text_without_the_blanks_around_it():
    text = "Define roses as A; B = 3 ; so A = B = 3 . Answer: 3."
    trace = parse_trace(text)
    assert not trace.errors
    assert [(s.letter, s.text, s.start, s.end) for s in trace.steps[0].statements] == [
        ("B", "B = 3", 19, 24),
        ("A", "so A = B = 3", 27, 39),
    ]
    assert (text[19:24], text[27:39]) == ("B = 3", "so A = B = 3")


def test_the_ending_ends_with_its_last_word():
    text = f"{SOLVED}   </solution> <answer> 2 </answer>"
    ending = parse_response(text).ending
    assert (ending.start, ending.end) == (326, 566)
    assert text[326:566].startswith("We know D = 8,") and text[326:566].endswith("Solution: x = 2.")


def test_lines_are_marked_in_the_order_of_the_text():
    text = (
        "So. Define roses as A; so A = 3. Hm,\n well. Define oaks as B; so B = 4. Define ferns as C; so C = A = 3. "
        "</solution> Then <answer> 3 </answer>"
    )
    assert [(line.text, line.right) for line in marked(text, verify(parse_response(text), parse_problem(PLANTS)), 3)] == [
        ("So.", False),
        ("Define roses as A; so A = 3.", True),
        ("Hm, well.", False),
        ("Define oaks as B; so B = 4.", True),
        ("Define ferns as C; so C = A = 3.", True),
        ("</solution> Then", False),
        ("answer 3", True),
    ]


def test_the_canonical_hash_keeps_scales_and_questions_apart():
    text = "The number of a equals 2. The number of b equals 2 {} the number of a. How many {} are there?"
    plus, times = (canonical_hash(parse_problem(text.format(scale, "b"))) for scale in ("plus", "times"))
    assert plus != times
    assert plus != canonical_hash(parse_problem(text.format("plus", "a")))
    turned = "The number of b equals 2 plus the number of a. The number of a equals 2. How many b are there?"
    assert plus == canonical_hash(parse_problem(turned))


def test_the_structure_hash_keeps_moduli_apart():
    """It forgets names and orders; the modulus is neither, and with another the answer is another."""
    text = "The number of a equals 4. The number of b equals 2 times the number of a. How many b are there?"
    renamed = text.replace("of a", "of oaks")
    problems = [parse_problem(text, modulus=modulus) for modulus in (None, 5, 7)]
    assert [problem.answer for problem in problems] == [8, 3, 1]
    hashes = [structure_hash(problem) for problem in problems]
    assert len({*hashes}) == 3
    assert hashes == [structure_hash(parse_problem(renamed, modulus=modulus)) for modulus in (None, 5, 7)]
