"""Whatever text is read or judged takes time linear in its length: every pattern, every reader, on its own worst cases."""

import ast
import gc
import re
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path

import pytest

import grammar
from grammar import ProblemSyntaxError, parse_problem, parse_response, parse_trace, verify
from grammar.checking.published_scorer import published_verdict
from grammar.checking.verify import coefficient
from grammar.judge import read_row
from grammar.language.lark_tables import TRACES
from grammar.problem.names import read_name
from grammar.reading.gold_graph import graph_of
from grammar.reading.problem import read_problem
from grammar.reading.sentences import problems

FOLDER = Path(grammar.__file__).parent
MOST = 2.3  # times as long for twice the length
MEGABYTE = 1_000_000
SECONDS = 4  # for a megabyte; on an idle core of 2023 it takes at most 0.75, and shared cores can be several times slower


def cpu(work) -> float:
    """Seconds that `work` takes for a text read for the first time: no sentence or name is remembered, no garbage collected."""
    for remembered in (problems().cut, problems().sentence, problems().question, coefficient, read_name):
        remembered.cache_clear()
    gc.disable()
    try:
        started = time.process_time()
        work()
        return time.process_time() - started
    finally:
        gc.enable()


def check_ratio(work, make, size: int) -> None:
    """Fails if `work` takes more than `MOST` times as long for a text of twice the size; the fastest of some times counts.

    A text that outgrows a cache of the processor can cost more for one doubling, so the size doubles twice before it fails:
    what is quadratic is only plainer there.
    """
    for short, long in ((make(size << i), make(size << i + 1)) for i in range(3)):
        times = [float("inf"), float("inf")]
        for _ in range(6):
            times = [min(times[0], cpu(lambda t=short: work(t))), min(times[1], cpu(lambda t=long: work(t)))]
            if times[1] <= max(MOST * times[0], 0.003):
                return
    raise AssertionError(f"{times[0]:.4f} s, {times[1]:.4f} s for twice the length: {short[:80]!r}")


# --- patterns


def patterns() -> dict[str, re.Pattern]:
    """Every regular expression of the package: those of its modules, and the terminals of its grammars."""
    found = {}
    for name, module in sys.modules.items():
        if name.partition(".")[0] == "grammar":
            for key, value in vars(module).items():
                for i, pattern in enumerate(value if isinstance(value, list) else [value]):
                    if isinstance(pattern, re.Pattern):
                        found[f"{name}.{key}.{i}"] = pattern
    language = problems()
    found |= {f"problems.{key}": value for key, value in vars(language).items() if isinstance(value, re.Pattern)}
    for label, lark in (("trace", TRACES.lark), ("problem", language.lark)):
        for terminal in lark.terminals:
            found[f"{label}.lark {terminal.name}"] = re.compile(terminal.pattern.to_regexp())
    return found


PATTERNS = patterns()


def test_every_pattern_is_found():
    """Each `re.compile` is the value of a name that `patterns` looks at; nothing else of `re` reads a text."""
    made = []
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "re":
                made.append((path.name, node.func.attr, ast.unparse(node.args[0])))
    others = [call for call in made if call[1] not in ("compile", "escape")]
    assert others == [("shapes.py", "sub", "' (?=[.,:])'")]  # of the grammar's own words, as it is loaded
    compiled = [call for call in made if call[1] == "compile"]
    ours = {key.rpartition(".")[0] for key in PATTERNS if key.startswith("grammar.")} | {"problems.stop", "problems._pieces"}
    assert len(ours) == len(compiled), (sorted(ours), compiled)
    assert {"problem.lark COUNT", "trace.lark NAME", "problem.lark ASKED"} <= set(PATTERNS)


def samples(tree, most: int = 3) -> list[str]:
    """Some texts that a parsed pattern matches, lookarounds left aside."""
    parts = [_one(op, value) for op, value in tree]
    return ["".join(choice) for choice in _some(product(*parts), most)] if parts else [""]


def _some(iterator: Iterator, most: int) -> list:
    return [item for item, _ in zip(iterator, range(most), strict=False)]


def _one(op, value) -> list[str]:
    match str(op):
        case "LITERAL":
            return [chr(value)]
        case "NOT_LITERAL" | "ANY":
            return ["y"]
        case "IN":
            return [_member(value)]
        case "BRANCH":
            return [text for tree in value[1] for text in samples(tree, 1)]
        case "SUBPATTERN":
            return samples(value[3])
        case "ATOMIC_GROUP":
            return samples(value)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            return [text * max(1, value[0]) for text in samples(value[2])]
        case _:  # places and lookarounds
            return [""]


def _member(value) -> str:
    kinds = {"CATEGORY_SPACE": " ", "CATEGORY_NOT_SPACE": "y", "CATEGORY_WORD": "w", "CATEGORY_DIGIT": "7"}
    if str(value[0][0]) == "NEGATE":
        return "y"
    op, what = value[0]
    return chr(what) if str(op) == "LITERAL" else chr(what[0]) if str(op) == "RANGE" else kinds[str(what)]


def pumps(tree, before: str = "") -> Iterator[tuple[str, str]]:
    """(what stands before, what is repeated) for every part of a pattern that repeats without bound, at any depth."""
    for op, value in tree:
        name = str(op)
        for part in _parts(name, value):
            yield from pumps(part, before)
        if "REPEAT" in name and value[1] > 1000:
            yield from ((before, text) for text in samples(value[2]))
        before += _one(op, value)[0]


def _parts(name: str, value) -> list:
    """The patterns inside a part of one."""
    if name == "BRANCH":
        return value[1]
    if "REPEAT" in name:
        return [value[2]]
    return {"SUBPATTERN": lambda: [value[3]], "ATOMIC_GROUP": lambda: [value]}.get(name, lambda: _looks(name, value))()


def _looks(name: str, value) -> list:
    return [value[1]] if name.startswith("ASSERT") else []


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_takes_linear_time_on_its_worst_case(name):
    """What it repeats, repeated; after what comes before it, before what it does not want, and mixed with other repeats."""
    pattern = PATTERNS[name]
    found = dict.fromkeys(pumps(re._parser.parse(pattern.pattern, pattern.flags)))
    pieces = dict.fromkeys([*(pump for _, pump in found), " ", ".", "? ", ". "])
    worst = [(before, pump, end) for before, pump in found for end in ("", "\0", " x", ";")]
    worst += [(before, a + b, "\0") for before, a in found for b in pieces if a != b]
    worst += [("", before + pump, "\0") for before, pump in found if before] + [("y", pump, "\0") for pump in pieces]
    searched = name in ("grammar.reading.parse._DEFINE.0", "problems.stop") or ".published_scorer." in name
    work = (lambda text: sum(1 for _ in pattern.finditer(text))) if searched else pattern.match
    for before, pump, end in dict.fromkeys(worst):
        check_ratio(work, lambda size, b=before, p=pump, e=end: b + p * (size // len(p)) + e, 8_000)
        if not searched:
            check_ratio(pattern.fullmatch, lambda size, b=before, p=pump, e=end: b + p * (size // len(p)) + e, 8_000)


# --- readers

FORWARD = parse_problem("The number of roses equals 7. The number of oaks equals the number of roses. How many oaks are there?")
REVERSE = parse_problem(
    "The number of a in Z exists, and its number is greater than 0. The number of b in Z equals 3 times the number of a in Z. "
    "The total number of c in Z equals 8. How many a does Z have?"
)
RESPONSES = {  # what is before, what is repeated, what is after
    "blanks in a tag": ("<gold> </solution> <answer> 5", " ", "x </answer>"),
    "blanks after a name": ("Define a", " ", ""),
    "Define": ("", "Define ", ""),
    "words": ("Define ", "a ", "as A; so A = 3."),
    "as": ("Define a as ", "as ", ""),
    "as A": ("Define a", " as A", " ;"),
    "as a": ("Define ", "as a ", "as A; so A = 3."),
    "blanks before ;": ("Define a as A", " ", "; so A = 3."),
    "blanks before .": ("Define a as A; so A = 3", " ", "."),
    "sides": ("Define a as A; so A =", " = 3", "."),
    "sides that differ": ("Define a as A; so A =", " = 1 = 2", "."),
    "letters not declared": ("Define a as A; so A =", " = B + 1 = C + 2", "."),
    "long sides that differ": ("Define a as A; so A = 1", " = 1 = " + "2 + " * 50 + "2", "."),
    "chains": ("Define a as A; ", "so A = A * A; ", "."),
    "steps": ("", "Define roses as A; so A = A * A = 3. ", ""),
    "stray totals": ("", "Define total number of c in Z as A; so A = 3. ", ""),
    "parentheses": ("Define a as A; so A = ", "(", ""),
    "terms": ("Define a as A; so A = ", "1 + ", "1."),
    "terms in x": ("Define b in Z as A; so A = ", "2*x + ", "x."),
    "signs": ("Define a as A; so A = ", "-", "."),
    "digits": ("Define a as A; so A = ", "9", "."),
    "powers": ("Define a as A; so A = ", "9**", "9."),
    "open tags": ("", "<answer>", ""),
    "closed tags": ("", "<answer> 3 </answer>", ""),
    "ends": ("", "</solution>", ""),
    "We know": ("Define a as A; so A = 1. ", "We know ", ""),
    "x =": ("Define a as A; so A = 1. We know ", "x = ", ""),
    "an equation": ("Define a as A; so A = 1. We know A = 3, so we have ", "1 + ", "x = 3 and we solve it"),
    "Answer": ("", "Answer: ", ""),
    "blanks after Answer": ("Define a as A; so A = 1. Answer:", " ", "3."),
    "lines": ("", "\n", ""),
    "full stops": ("Define a as A; so A = 3.", ".", ""),
    "full stops in a name": ("Define ", "a. ", "as A; so A = 3."),
    "semicolons": ("Define a as A;", ";", "."),
    "commas": ("Define ", "a, ", "as A; so A = 3."),
    "a word": ("", "x", ""),
    "nulls": ("", "\0", ""),
    "open angles": ("", "<", ""),
    "empty angles": ("", "<>", ""),
    "letters without numbers": ("A = 1 1 1 1 1. ", "Define a as A; ", "A = " + "1 " * 5000 + "."),
    "letters of letters": ("", "Define a as A; so A = B; B = C; ", "C = A."),
}
COUNT = "The number of "
PROBLEMS = {  # a text of about so many characters
    "numbers": lambda n: "".join(f"{COUNT}b{i} in Z equals 3. " for i in range(n // 36)),
    "sums": lambda n: "".join(
        f"{COUNT}b{i} equals the sum of the number of c{i} and the number of d{i}. " for i in range(n // 75)
    ),
    "kinds and places": lambda n: "".join(
        f"{COUNT}b{i} in Y{i} equals the total number of k{i} in Y{i}. " for i in range(n // 62)
    ),
    "kinds of a place": lambda n: "".join(
        f"{COUNT}b{i} in Y equals the total number of k{i} in Z. {COUNT}c{i} in Z equals 3. " for i in range(n // 98)
    ),
    "a long sum": lambda n: f"{COUNT}a in Z equals the sum of " + "the number of b, " * (n // 17) + "and the number of c. ",
    "a chain": lambda n: (
        f"{COUNT}b0 in Y equals 1. "
        + "".join(f"{COUNT}b{i + 1} in Y equals the number of b{i} in Y. " for i in range(n // 58))
        + f"{COUNT}a in Z equals the number of b{n // 58} in Y. "
    ),
    "a chain of free ones": lambda n: "".join(
        f"{COUNT}b{i + 1} in Y equals the sum of the number of b{i} in Y and the number of f{i} in Y. " for i in range(n // 92)
    ),
    "equations": lambda n: "".join(
        f"{COUNT}b{i % 10} in Z equals the sum of the number of f{i % 63} and the number of f{i * i % 63}. "
        for i in range(n // 85)
    ),
    "large equations": lambda n: "".join(
        f"{COUNT}t{i} equals {10**8 + i * i} times the number of f{i % 64}. {COUNT}u{i} equals {10**8 + 7 * i} times the sum of "
        f"the number of t{i} and the number of f{(7 * i + i * i) % 64}. {COUNT}u{i} equals {i}. "
        for i in range(n // 175)
    ),
    "averages": lambda n: "".join(
        f"The average number of w{i} v{i % 200} per owl in Z equals 3. {COUNT}b{i} equals the total number of v{i} k in Z. "
        for i in range(n // 108)
    ),
    "letters": lambda n: "a. " * (n // 3),
    "kinds of sentences": lambda n: "".join(
        f"{COUNT}a {' '.join(('equals', 'plus', 'times', 'the sum of')[i >> j & 3] for j in range(0, 16, 2))}. "
        for i in range(n // 70)
    ),
    "names of keywords": lambda n: "".join(f"{COUNT}plus times{i} equals 3. " for i in range(n // 38)),
    "full stops": lambda n: "." * n,
    "full stops and blanks": lambda n: ". " * (n // 2),
    "blanks": lambda n: f"{COUNT}a" + " " * n + "equals 3.",
    "blanks in no sentence": lambda n: "x" + " " * n + "y.",
    "commas": lambda n: f"{COUNT}a" + ", " * (n // 2) + ".",
    "a long name": lambda n: COUNT + "a" * n + " equals 3. ",
    "many words": lambda n: COUNT + "a " * (n // 2) + " equals 3. ",
    "abbreviations": lambda n: COUNT + "St. a " * (n // 6) + "equals 3. ",
    "and the": lambda n: f"{COUNT}a equals the sum of " + "and the " * (n // 8) + ".",
    "lines": lambda n: f"{COUNT}a in Z equals 3.\n" * (n // 31),
    "a word": lambda n: "x" * n,
    "bad averages": lambda n: "".join(f"The average number of w{i} equals 3. " for i in range(n // 40)),
    "a long solution and much unread": lambda n: (
        PROBLEMS["a chain"](n // 2) + "".join(f"Unread {i} is nice weather we have. " for i in range(n // 80))
    ),
}
QUESTIONS = [
    "How many {}does Z have?",
    "How many a does {}have?",
    "What is the total number of {}?",
    "How many {}are there?",
    "{}",
]
RESPONSE = "Define a in Z as A; so A = 3. <answer> 3 </answer>"


def judge_response(text: str) -> None:
    """Everything that is done with a response, once for each kind of problem."""
    for read in (parse_response, parse_trace):
        trace = read(text)
        assert len([verify(trace, graph).steps for graph in (FORWARD, REVERSE)]) == 2
    with suppress(ValueError):
        graph_of(parse_trace(f"{text} Answer: 3."))
    published_verdict(text, "Define a as A; so A = 3. Answer: 3.")


def judge_problem(text: str, question: str = "How many a does Z have?") -> None:
    """Everything that is done with a problem."""
    try:
        graph, unread = read_problem(text, question)
    except ProblemSyntaxError:
        return
    graph.may_depend_on([sentence.text for sentence in unread])
    assert verify(parse_response(RESPONSE), graph).answer == 3


@pytest.mark.parametrize("name", RESPONSES)
def test_responses_are_judged_in_linear_time(name):
    before, pump, after = RESPONSES[name]

    def text(size: int) -> str:
        return before + pump * (size // len(pump)) + after

    check_ratio(judge_response, text, 10_000)
    for size in (65_000, MEGABYTE):
        assert any(cpu(lambda n=size: verify(parse_response(text(n)), REVERSE)) < 1 for _ in range(3))


@pytest.mark.parametrize("name", PROBLEMS)
def test_problems_are_judged_in_linear_time(name):
    check_ratio(judge_problem, PROBLEMS[name], 50_000)
    text = PROBLEMS[name](MEGABYTE)
    assert any(cpu(lambda: judge_problem(text)) < SECONDS for _ in range(4))


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("pump", ["does ", "have? ", " ", "are there ", "x", "?"])
def test_questions_are_read_in_linear_time(question, pump):
    def asked(size: int) -> str:
        return question.format(pump * (size // len(pump)))

    check_ratio(lambda text: judge_problem("The number of a in Z equals 3.", text), asked, 20_000)
    assert cpu(lambda: judge_problem("The number of a in Z equals 3.", asked(MEGABYTE))) < 1
    assert cpu(lambda: judge_problem(f"The number of a in Z equals 3. {asked(MEGABYTE)}", "")) < 1


@pytest.mark.parametrize("text", ["[" * MEGABYTE, '{"a":' * 200_000, '"' + "a" * MEGABYTE, "1" * MEGABYTE])
def test_json_is_read_or_refused_in_linear_time(text):
    def read() -> None:
        with pytest.raises(ValueError, match=r"nested|Unterminated|limit"):
            read_row(text)

    assert cpu(read) < 1
