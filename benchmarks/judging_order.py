"""Judgements in random order against those of a reader that knows nothing: `python -m benchmarks.judging_order --size N`.

What a verdict is made of (graphs with their facts, shapes of sentences and steps, names) is kept between judgements. Here each
problem and response is judged with all of it gone; then pairs are judged in random order, graphs shared or read anew, what is
kept dropped now and then. `--texts N` mangles as many texts more and has all of them read by everything that reads.
"""

import argparse
import json
import random
import time
import zlib
from collections.abc import Sequence

from grammar import (
    GRADERS,
    Graph,
    gold_trace,
    grade,
    parse_problem,
    parse_response,
    render_problem,
    render_trace,
    verify,
)  # fmt: skip
from grammar.checking.verify import coefficient
from grammar.problem.names import read_name
from grammar.reading import sentences, shapes
from tests.grammar_cases import random_graph, response_of, rows
from tests.mangled_texts import fuzz, mangled

Pair = tuple[str, str, str]  # problem, question, response


def pairs(count: int, rng: random.Random) -> list[Pair]:
    """Problems with responses: right ones, ones of other problems, mangled ones."""
    problems = [(row["problem"], row["question"], row["solution"]) for row in rows("op")]
    for number in range(40):
        graph = random_graph(rng, reverse=number % 2 == 0)
        problems.append((*render_problem(graph), render_trace(gold_trace(graph))))
    found = [(case["problem"], case["question"], case["response"]) for case in rows("attacks")]
    while len(found) < count:
        problem, question, solution = rng.choice(problems)
        response = response_of(rng.choice((solution, solution, rng.choice(problems)[2])))
        found.append((problem, question, mangled(rng, response) if rng.random() < 0.7 else response))
    return found


def forget() -> None:
    """Drops all that is kept between judgements but the grammars."""
    language = sentences.problems()
    for cached in (language.cut, language.sentence, language.question, read_name, coefficient):
        cached.cache_clear()
    for kept in (language.shapes, shapes.KINDS, shapes._SHAPES, shapes._ENDINGS):
        kept.clear()


def mark(response: str, graph: Graph) -> int:
    """A number for all that is found about a response."""
    report = verify(parse_response(response), graph)
    facts = [report.to_dict(), [grade(report, grader) for grader in GRADERS]]
    return zlib.crc32(json.dumps(facts, sort_keys=True).encode())


def differences(size: int, seed: int = 0, kinds: int = 2000) -> list[Pair]:
    """The pairs whose report was another one in some of `size` judgements in random order."""
    rng = random.Random(seed)
    judged = pairs(min(kinds, max(100, size // 10)), rng)
    expected = []
    for problem, question, response in judged:
        forget()
        expected.append(mark(response, parse_problem(problem, question)))
    graphs: dict[tuple[str, str], Graph] = {}
    wrong: dict[Pair, None] = {}
    for _ in range(size):
        at = rng.randrange(len(judged))
        problem, question, response = judged[at]
        draw = rng.random()
        if draw < 0.001:
            forget()
        graph = graphs.get((problem, question)) if draw < 0.9 else None
        if graph is None:
            graph = graphs[problem, question] = parse_problem(problem, question)
        if mark(response, graph) != expected[at]:
            wrong[judged[at]] = None
    return list(wrong)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=20_000, help="judgements in random order")
    parser.add_argument("--texts", type=int, default=0, help="mangled texts to read and judge")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    started = time.process_time()
    wrong = differences(arguments.size, arguments.seed)
    print(f"{arguments.size} judgements in random order: {len(wrong)} differ; {time.process_time() - started:.0f} s")
    for pair in wrong[:3]:
        print(json.dumps(pair))
    if arguments.texts:
        started = time.process_time()
        fuzz(arguments.seed + 2, arguments.texts)
        print(f"{arguments.texts} mangled texts: typed errors only; {time.process_time() - started:.0f} s")


if __name__ == "__main__":
    main()
