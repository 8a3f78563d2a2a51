"""`trace.lark` and `problem.lark` are the specification: their headers are true, and reading fast is reading by Lark."""

import random
import re
from pathlib import Path

import pytest
from grammar_cases import random_graph, response_of, spread
from lark.exceptions import UnexpectedInput

from grammar import (
    ProblemSyntaxError,
    gold_trace,
    grade,
    parse_problem,
    parse_trace,
    render_problem,
    render_trace,
    verify,
)
from grammar.language import lark_tables
from grammar.reading import sentences, shapes

FOLDER = Path(lark_tables.__file__).parent


def header(file: str, word: str) -> list[str]:
    mark = f"// {word}: "
    lines = (FOLDER / file).read_text(encoding="utf-8").splitlines()
    return [line.removeprefix(mark) for line in lines if line.startswith(mark)]


def plainly(text: str) -> bool:
    """Oracle: whole text, plain Lark, nothing remembered."""
    try:
        lark_tables.TRACES.parse(text, "trace")
    except UnexpectedInput:
        return False
    return True


@pytest.mark.parametrize("line", header("trace.lark", "accepts"))
def test_trace_header_accepts(line):
    assert plainly(line) and not parse_trace(line).errors


@pytest.mark.parametrize("line", header("trace.lark", "rejects"))
def test_trace_header_rejects(line):
    assert not plainly(line) and (parse_trace(line).errors or not parse_trace(line).steps)


@pytest.mark.parametrize("line", header("problem.lark", "accepts"))
def test_problem_header_accepts(line):
    sentences.problems().parse(line, "problem")
    graph = parse_problem(line)
    assert " ".join(render_problem(graph)).replace("  ", " ") == line


@pytest.mark.parametrize("line", header("problem.lark", "rejects"))
def test_problem_header_rejects(line):
    with pytest.raises(UnexpectedInput):
        sentences.problems().parse(line, "problem")
    with pytest.raises(ProblemSyntaxError):
        parse_problem(line)


def agree(text: str) -> None:
    """The fast path and plain Lark accept the same, and make the same of it."""
    trace = parse_trace(text)
    assert (not trace.errors and bool(trace.steps)) == plainly(text), (text, trace.errors)
    for step in trace.steps:
        if step.shape is not None and step.shape.chains:
            assert shapes.read_plainly(step.body) == (step.shape, list(step.words))


def spoil(rng: random.Random, text: str) -> str:
    """The text with one character or one word changed, in ways that reach the grammar's corners."""
    pieces = text.split(" ")
    i = rng.randrange(len(pieces))
    match rng.randrange(5):
        case 0:
            del pieces[i]
        case 1:
            pieces[i] = rng.choice(pieces)
        case 2:
            pieces.insert(i, rng.choice(["", "so", "x", "=", "+", "-", "*", "4", "-2", "2*x", "ab", "0", ";", "(", "."]))
        case 3:
            pieces[i] = pieces[i] + rng.choice(";.:,()*-x19é'\t")
        case _:
            pieces[i] = pieces[i][1:] or "="
    return " ".join(pieces)


def stirred(rng: random.Random, text: str) -> str:
    """The text with a step or the equation's solution moved, doubled or left out."""
    pieces = re.split(r"(?<=\.) (?=Define |We know |Answer)", text)
    i, piece = rng.randrange(len(pieces)), rng.choice(pieces)
    if rng.randrange(3):
        pieces.remove(piece)
    if rng.randrange(3):
        pieces.insert(i, piece)
    return " ".join(pieces)


def test_the_fast_path_agrees_with_lark_on_random_and_spoilt_solutions():
    rng = random.Random(5)
    for number in range(60):
        text = render_trace(gold_trace(random_graph(rng, reverse=number % 2 == 0)))
        agree(text)
        for _ in range(6):
            agree(spoil(rng, text))
            agree(stirred(rng, text))


OPENINGS = (
    "Define\xa0", "Define\x0b", "Define\u3000", "Define \xa0", "Define\t", "Define  ", "Define re", "Define reDefine ",
    "Define elms reDefine ", "Define elms Define ", "Define'", "Define-", "Define Defined ", "Define Define's ",
)  # fmt: skip


@pytest.mark.parametrize("opening", OPENINGS)
def test_blanks_and_the_word_define_are_read_as_lark_reads_them(opening):
    agree(f"{opening}roses as A; so A = 3. Define oaks as  B; so B = A = 3. Answer: 3.")
    agree(f"Define oaks as B; so B = 3. {opening}roses as A; so A = B = 3. Answer: 3.")


def test_a_step_after_the_equation_is_solved_is_an_error():
    """To guess x and derive afterwards what it was solved from is no solution."""
    graph = random_graph(random.Random(3), reverse=True)
    *steps, tail, answer = re.split(r"(?<=\.) (?=Define |We know |Answer)", render_trace(gold_trace(graph)))
    assert not parse_trace(" ".join([*steps, tail, answer])).errors
    late = parse_trace(" ".join([*steps[:-1], tail, steps[-1], answer]))
    assert [error.step for error in late.errors] == [len(late.steps) - 1]
    assert not grade(verify(late, graph), "executable")


def test_the_fast_path_agrees_with_lark_on_published_solutions():
    for row in spread("op", 126) + spread("depth3", 28):
        agree(row["solution"])
        agree(response_of(row["solution"]).strip())


def read(reader, sentence: str):
    try:
        return reader(sentence)
    except (UnexpectedInput, ValueError) as error:
        return type(error)


def test_sentences_read_fast_are_sentences_read_by_lark():
    rng, language = random.Random(7), sentences.problems()
    for row in spread("op", 126) + spread("depth3", 28):
        for sentence in row["problem"].strip()[:-1].split(". "):
            for text in (sentence, spoil(rng, sentence), spoil(rng, spoil(rng, sentence))):
                assert read(language.sentence, text) == read(language.read_plainly, text), text


def test_a_word_in_the_wrong_place_is_not_taken_for_a_letter_of_a_known_shape():
    tail = (
        "We know l = 6, so we have 2*x = 6 and we solve it through the following steps: Simplifying the equation: 2*x = 6. "
        "Move all terms to one side: 2*x - 6 = 0. Isolate the term with x: 2*x = 6. Divide both sides by 2: x = 6 / 2. "
        "Solution: x = 3."
    )
    shapes.read_ending(tail)
    for old, new in (("with x:", "with y:"), ("so we have", "so be have"), ("following", "xx"), ("to one", "at one")):
        with pytest.raises(UnexpectedInput):
            shapes.read_ending(tail.replace(old, new))
    with pytest.raises(UnexpectedInput):
        shapes.read_body("as k = 3")


def test_a_sentence_with_odd_blanks_teaches_nothing_wrong():
    odd = "The number of a equals\t4 plus the sum of the number of b and the number of c"
    assert sentences.problems().sentence(odd).constant == 4
    even = odd.replace("\t4 plus ", " ")
    assert (
        sentences.problems().sentence(even) == sentences.problems().read_plainly(even)
        and sentences.problems().sentence(even).constant is None
    )


def test_letters_are_ascii():
    kelvin = "so \N{KELVIN SIGN} = 3"  # lower-cases to k
    with pytest.raises(UnexpectedInput):
        shapes.read_body(kelvin)
