"""Texts mangled at random, and everything that reads them."""

import random
import time

from grammar import (
    ProblemSyntaxError,
    gold_trace,
    grade,
    parse_problem,
    parse_response,
    parse_trace,
    render_problem,
    render_trace,
    verify,
)
from grammar.reading.gold_graph import graph_of
from grammar.reading.problem import read_problem
from tests.grammar_cases import random_graph

WORDS = [
    "Define",
    "as",
    "so",
    "=",
    "+",
    "-",
    "*",
    ";",
    ".",
    ",",
    "(",
    ")",
    "x",
    "2*x",
    "A",
    "k",
    "ab",
    "3",
    "14",
    "-2",
    "0",
    "Answer:",
    "</solution>",
    "<answer>",
    "</answer>",
    "We know",
    "so we have",
    "Solution:",
    "The number of",
    "equals",
    "the sum of",
    "and the number of",
    "the difference between",
    "plus",
    "times",
    "How many",
    "are there?",
    "in",
    "roses",
    "Pine Ridge",
    "total number of",
    "average number of",
    "per",
    "exists, and its number is greater than 0",
    "What is the",
    "\n",
    "\t",
    "é",
    "\x00",
    "%s",
    "D.C.",
    "St. Louis",
    "(orca)",
    "as a",
    "does",
    "?",
    "Nice weather.",
    "e\u0301",
    "{}",
    "999999999",
    "1234567890",
]
PER_KB = 0.05  # seconds


def mangled(rng: random.Random, text: str) -> str:
    """The text with a few random edits of characters, words or stretches."""
    for _ in range(rng.randint(1, 6)):
        at, to = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        match rng.randrange(6):
            case 0:
                text = text[:at] + text[at + rng.randint(1, 3) :]
            case 1:
                text = text[:at] + rng.choice(WORDS) + text[at:]
            case 2:
                text = text[:at] + chr(rng.choice((rng.randrange(32, 127), rng.randrange(0x3000)))) + text[at + 1 :]
            case 3:
                text = text[: at + 40] + text[at:to] + text[to:]
            case 4:
                text = text[:at] + text[at + rng.randint(1, 60) :]
            case _:
                text = text[:at] + " ".join(rng.choices(WORDS, k=rng.randint(1, 12))) + text[at:]
    return text


def judge(text: str, graphs: list) -> None:
    """Everything that reads text, once."""
    for read in (parse_trace, parse_response):
        trace = read(text)
        for graph in graphs:
            report = verify(trace, graph)
            report.to_dict()
            assert not grade(report, "executable") or (grade(report, "paper") and grade(report, "answer"))
        try:
            render_trace(trace)
            graph_of(trace)
        except ValueError:
            pass
    for problem in (text, f"{text} How many roses are there?"):
        try:
            graph, unread = read_problem(problem)
        except ProblemSyntaxError:
            continue
        try:
            assert parse_problem(problem).statements == graph.statements and not unread
        except ProblemSyntaxError:
            assert unread
        graph.may_depend_on([sentence.text for sentence in unread])
        assert not graph.solvable or grade(verify(gold_trace(graph), graph), "executable")
        assert graph.well_posed == (graph.why_not is None)
        verify(trace, graph)


def fuzz(seed: int, strings: int) -> None:
    """Reads and judges so many texts; fails if anything but a typed error is raised, or it takes long."""
    rng = random.Random(seed)
    for number in range(strings // 20):
        graph = random_graph(rng, reverse=number % 2 == 0, placed=number % 3 > 0)
        other = random_graph(rng, reverse=number % 4 == 0)
        texts = [render_trace(gold_trace(graph)), " ".join(render_problem(graph))]
        for _ in range(20):
            text = mangled(rng, rng.choice(texts)) if rng.random() < 0.8 else " ".join(rng.choices(WORDS, k=rng.randint(1, 60)))
            limit = PER_KB * (len(text) / 1024 + 0.1)
            for _attempt in range(3):
                started = time.process_time()
                judge(text, [graph, other])
                elapsed = time.process_time() - started
                if elapsed < limit:
                    break
            assert elapsed < limit * 4, f"{elapsed:.3f} s for {len(text)} characters: {text!r}"  # judge reads it 8 times
