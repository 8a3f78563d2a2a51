"""Judgements per second on one core: op 2-20, both modes. `python -m benchmarks.verify_speed`.

Problems are those of the reference rows (`tests/reference`; INTERPLAY_REFERENCE names a folder with more of them).
A judgement is reading a response, verifying it and grading it. Garbage collection stays on, as in training.
"""

import random
import time
from collections.abc import Callable, Sequence

from grammar import Graph, gold_trace, grade, parse_problem, parse_response, render_trace, verify
from grammar.checking.problem_facts import facts_of
from grammar.language.lark_tables import TRACES
from grammar.reading.sentences import problems as language
from grammar.writing.solution import variables
from tests.grammar_cases import response_of, rows

GROUP = 128
Case = tuple[str, str, Graph]


def cases() -> list[Case]:
    """(problem, question, graph), all well posed; about half of them reverse."""
    read = [(row["problem"], row["question"], parse_problem(row["problem"], row["question"])) for row in rows("op")]
    return [case for case in read if case[2].well_posed and case[2].order]


def response(graph: Graph, rng: random.Random) -> str:
    """A right response in a random order with random letters; one in four has a number changed."""
    order: list[str] = []
    left = list(graph.order)
    while left:
        ready = [n for n in left if all(parent in order for parent in graph.quantities[n].parents)]
        order.append(rng.choice([n for n in ready if n != graph.end] or ready))
        left.remove(order[-1])
    letters = [letter for letter, _ in zip(variables(reverse=graph.unknown is not None), range(150), strict=False)]
    letters = rng.sample(letters[:50], 50) + letters[50:]
    text = response_of(render_trace(gold_trace(graph, order=order, letters=letters)))
    if rng.random() < 0.25:
        places = [i for i, character in enumerate(text) if character.isdigit()]
        at = rng.choice(places)
        text = text[:at] + rng.choice("123456789") + text[at + 1 :]
    return text


def rate(work: Callable, items: Sequence, repeats: int = 5) -> float:
    """Items per second of CPU, the best of some repeats."""
    best = float("inf")
    for _ in range(repeats):
        started = time.process_time()
        for item in items:
            work(item)
        best = min(best, time.process_time() - started)
    return len(items) / best


def judge(item: tuple[str, Graph]) -> bool:
    """One judgement with the graph at hand."""
    return grade(verify(parse_response(item[0]), item[1]), "executable")


def judge_with_problem(item: tuple[str, str, str]) -> bool:
    """One judgement, the problem read too."""
    return grade(verify(parse_response(item[0]), parse_problem(item[1], item[2])), "executable")


def fresh(items: Sequence[tuple[str, Graph]]) -> list[tuple[str, Graph]]:
    """The same with new graphs, their facts at hand."""
    made = {id(graph): Graph(graph.statements, graph.question, graph.modulus) for _, graph in items}
    for graph in made.values():
        facts_of(graph)
    return [(text, made[id(graph)]) for text, graph in items]


def main() -> None:
    """Measures and prints the table."""
    rng = random.Random(1)
    problems = cases()
    rng.shuffle(problems)
    unique = [(response(graph, rng), graph) for _, _, graph in problems]
    groups = [(response(graph, rng), graph) for _, _, graph in problems[:: max(1, len(problems) // 40)] for _ in range(GROUP)]
    whole = [(text, problem, question) for (text, _), (problem, question, _) in zip(unique, problems, strict=True)]
    for item in unique:
        judge(item)  # shapes are read once per process

    def once(measure: Callable[[], float]) -> float:
        return max(measure() for _ in range(3))

    def with_problem() -> float:
        language().sentence.cache_clear()
        language().cut.cache_clear()
        language().cut.cache_clear()
        return rate(judge_with_problem, whole, 1)

    golds = [graph for _, _, graph in problems]
    table = [
        ("unique traces, graph at hand", once(lambda: rate(judge, fresh(unique), 1)), 5000),
        ("unique traces, problem read too", once(with_problem), 2500),
        (f"groups of {GROUP} per prompt", once(lambda: rate(judge, fresh(groups), 1)), 10000),
        ("reading a trace", rate(lambda item: parse_response(item[0]), unique), 0),
        ("writing a gold trace", rate(gold_trace, golds), 0),
        (
            "plain Lark on a trace",
            rate(lambda item: TRACES.parse(item[0], "trace"), [u for u in unique if not parse_response(u[0]).errors][:200], 2),
            0,
        ),
    ]
    length = sum(len(text) for text, _ in unique) / len(unique)
    print(f"{len(unique)} unique traces, {len(groups) // GROUP} groups; mean {length:.0f} characters")
    print(f"{'case':34} {'per second':>10} {'target':>8} {'ratio':>6}")
    for name, speed, target in table:
        ratio = f"{speed / target:6.2f}" if target else f"{'':6}"
        print(f"{name:34} {speed:10.0f} {target or '':>8} {ratio}")


if __name__ == "__main__":
    main()
