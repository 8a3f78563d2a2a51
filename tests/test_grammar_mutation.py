"""Every single-token change of a gold trace that changes its meaning is rejected; one that does not is accepted."""

import random
import re
from collections import Counter

import pytest
from grammar_cases import random_graph, rows, spread

from grammar import Graph, gold_trace, grade, parse_problem, parse_trace, render_trace, verify
from grammar.writing.solution import variables
from grammar_oracle import still_right

TOKENS = re.compile(r"\d+|\w+|[^\w\s]")


def mutants(text: str, rng: random.Random, count: int) -> set[str]:
    """The text with one token replaced by another of its sort, or by any of the text's, or left out."""
    places = list(TOKENS.finditer(text))
    pool = sorted({place[0] for place in places} | set("+-*=;.0129kqxZ"))
    found = set()
    for _ in range(count):
        place = rng.choice(places)
        sort = rng.random()
        if place[0].isdigit() and sort < 0.6:
            new = str(max(0, int(place[0]) + rng.choice((-1, 1, 10, -int(place[0])))))
        elif len(place[0]) == 1 and sort < 0.8:
            new = rng.choice([token for token in pool if len(token) == 1])
        else:
            new = rng.choice([*pool, ""])
        found.add(text[: place.start()] + new + text[place.end() :])
    return found - {text}


def check(graph, gold: str, rng: random.Random, count: int) -> int:
    """Compares our judgement with the oracle's; returns how many mutants were still right."""
    assert still_right(gold, gold), gold
    right = 0
    for text in mutants(gold, rng, count):
        report = verify(parse_trace(text), graph)
        expected = still_right(gold, text)
        assert grade(report, "executable") == expected, f"{text}\n{report.errors}\nof {gold}"
        right += expected
    return right


@pytest.mark.parametrize("reverse", [False, True])
def test_single_token_changes_of_our_solutions(reverse):
    rng = random.Random(11 + reverse)
    for _ in range(60):
        graph = random_graph(rng, reverse=reverse)
        check(graph, render_trace(gold_trace(graph)), rng, 40)


def test_single_token_changes_of_published_solutions():
    rng = random.Random(13)
    ill = {row["id"] for row in rows("well_posed") if not row["well_posed"]}
    for row in [row for row in spread("op", 230) if row["id"] not in ill] + list(spread("depth3", 28)):
        check(parse_problem(row["problem"], row["question"]), row["solution"], rng, 12)


def regrouped(text: str, rng: random.Random) -> str:
    """The text with some parentheses left out or put in, within its middle sides."""
    spots = list(re.finditer(r"\(([^()]*)\)|(?<=[-+*=] )-?\d*\*?x(?= )|(?<=[-+*] )\d+(?= [-+*=])", text))
    for spot in sorted(rng.sample(spots, min(len(spots), rng.randint(1, 3))), key=lambda spot: -spot.start()):
        inside = spot[1] if spot[1] is not None else f"({spot[0]})"
        text = text[: spot.start()] + inside + text[spot.end() :]
    return text


def test_parentheses_left_out_or_put_in_are_judged_as_by_arithmetic():
    """Accepted exactly where another reader, with its own arithmetic, finds every equality still true."""
    rng, verdicts = random.Random(23), Counter()
    while sum(verdicts.values()) < 400:
        graph = random_graph(rng, reverse=rng.random() < 0.8)
        gold = render_trace(gold_trace(graph))
        steps, ending, tail = gold.partition(" We know ")
        text = regrouped(steps, rng) + ending + tail
        if text != gold:
            expected = still_right(gold, text)
            assert grade(verify(parse_trace(text), graph), "executable") == expected, text
            verdicts[expected] += 1
    assert min(verdicts[True], verdicts[False]) > 40, verdicts


@pytest.mark.long
def test_many_single_token_changes_of_published_solutions():
    rng = random.Random(17)
    ill = {row["id"] for row in rows("well_posed") if not row["well_posed"]}
    for row in [row for row in rows("op") if row["id"] not in ill] + list(rows("depth3")):
        check(parse_problem(row["problem"], row["question"]), row["solution"], rng, 100)


@pytest.mark.parametrize("reverse", [False, True])
def test_what_is_remembered_of_other_solutions_changes_no_report(reverse):
    rng = random.Random(19 + reverse)
    for _ in range(40):
        graph = random_graph(rng, reverse=reverse)
        letters = list(variables(reverse=reverse))[:120]
        texts = []
        for _ in range(6):
            rng.shuffle(letters)
            text = render_trace(gold_trace(graph, letters=letters))
            texts += [text, *mutants(text, rng, 15)]
        rng.shuffle(texts)
        for text in texts:
            trace = parse_trace(text)
            fresh = Graph(graph.statements, graph.question)
            assert verify(trace, graph)[:5] == verify(trace, fresh)[:5], text
