"""The scorer published with arXiv:2512.07783, faults and all: what numbers reported with it mean.

It compares two texts, a response and a gold solution, by regular expressions and without an equation's meaning. A step is all
text from one "Define NAME as L;" to the next; a quantity's parents are the letters in what is assigned to L, those of words too,
and its value is the last number of it. So in reverse problems the prose of the equation ("and we solve it through ...") adds
parents that depend on the letters drawn, coefficients are never read, and a sound solution in other letters is often rejected.
Rebuilt from its behaviour: the same five counts on 3,138 of 3,143 recorded candidates, the same verdict on all
(`tests/test_published_scorer.py`). Unlike the original it takes time linear in the text: names and fillers have a greatest
length.

Not here: our own verdicts (`verify.py`), graders (`grammar/graders.py`).
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

_DEFINE = re.compile(r"Define\s(.{1,400}?)\sas\s++(?:\w{1,40}\s){0,20}?([A-Za-z]);", re.IGNORECASE | re.DOTALL)
_ASSIGNED = re.compile(r"\b([A-Za-z])\s*+=([^.;]+)")
_LETTER = re.compile(r"[A-Za-z]")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_SUM = re.compile(r"[\d\s+\-*/().]{1,60}")
_TAGGED_ANSWER = re.compile(r"<answer>\s*(-?\d+(?:\.\d+)?)", re.IGNORECASE)
_PLAIN_ANSWER = re.compile(r"Answer:\s*(-?\d+(?:\.\d+)?)")
_OPERATORS: Mapping[type, Callable[[float, float], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip
TOLERANCE = 1e-6


class ScoredNode(NamedTuple):
    """What the scorer reads of one quantity; `value` is None if it finds no number."""

    value: float | None
    parents: frozenset[str]


class PublishedVerdict(NamedTuple):
    """What the scorer counts.

    nodes:         quantities of the gold solution.
    missing:       of them, those that the response lacks.
    extra:         quantities of the response that the gold solution lacks.
    wrong_values, wrong_parents: of those in both.
    wrong_answer:  whether the two answers' leading numbers differ.
    """

    nodes: int
    missing: int
    extra: int
    wrong_values: int
    wrong_parents: int
    wrong_answer: bool

    @property
    def perfect(self) -> bool:
        """Whether it counts in published pass@k; extra quantities are allowed."""
        return not (self.missing or self.wrong_values or self.wrong_parents or self.wrong_answer)


def published_verdict(response: str, solution: str) -> PublishedVerdict:
    """Score a response as the published code does.

    Args:
        response: what the model wrote after `<solution>`.
        solution: the gold solution, ending in `Answer: N.` or an answer tag; the verdict depends on its letters.
    """
    found, gold = scored_nodes(response), scored_nodes(solution)
    both = [(found[name], node) for name, node in gold.items() if name in found]
    return PublishedVerdict(
        nodes=len(gold), missing=len(gold) - len(both), extra=len(found.keys() - gold.keys()),
        wrong_values=sum(not _same(ours.value, theirs.value) for ours, theirs in both),
        wrong_parents=sum(ours.parents != theirs.parents for ours, theirs in both),
        wrong_answer=_answer(response) != _answer(solution),
    )  # fmt: skip


def scored_nodes(text: str) -> dict[str, ScoredNode]:
    """Name -> what the scorer reads of it; the last definition of a name counts."""
    body = _without_tags(text)
    heads = list(_DEFINE.finditer(body))
    ends = [*(head.start() for head in heads), len(body)][1:]
    owner: dict[str, str] = {}  # letter -> the last name defined as it
    last: dict[str, str] = {}  # letter -> what is last assigned to it in the whole text
    steps = []
    for head, end in zip(heads, ends, strict=True):
        name, letter, step = head[1].strip(), head[2], body[head.end() : end]
        assigned: dict[str, list[str]] = {}
        for match in _ASSIGNED.finditer(step):
            assigned.setdefault(match[1], []).append(match[2])
            last[match[1]] = match[2]
        owner[letter] = name
        steps.append((name, letter, step, assigned, _parents(letter, assigned, owner)))
    at_last = {letter: _value(said, last, (letter,)) for letter, said in last.items()}
    nodes = {}
    for name, letter, step, assigned, parents in steps:
        value = _value(assigned[letter][-1], last, (letter,)) if letter in assigned else at_last.get(letter)
        nodes[name] = ScoredNode(_last_number(step) if value is None else value, parents)
    return nodes


def _without_tags(text: str) -> str:
    """A blank in place of each "<", one or more characters other than ">", and ">"."""
    kept, at, start = [], 0, text.find("<")
    while start >= 0 and (end := text.find(">", start)) >= 0:
        if end > start + 1:
            kept.append(text[at:start])
            at = end + 1
        start = text.find("<", end)
    return " ".join((*kept, text[at:]))


def _parents(letter: str, assigned: Mapping[str, Sequence[str]], owner: Mapping[str, str]) -> frozenset[str]:
    """Names whose letters stand in what is assigned to `letter`, directly or through letters of this step that name nothing."""
    found, seen, waiting = set(), {letter}, list(assigned.get(letter, ()))
    while waiting:
        for each in _LETTER.findall(waiting.pop()):
            if each in seen:
                continue
            seen.add(each)
            if each in owner:
                found.add(owner[each])
            else:
                waiting += assigned.get(each, ())
    return frozenset(found)


def _value(said: str, last: Mapping[str, str], seen: tuple[str, ...]) -> float | None:
    """The number after the last "=", else the last number, else that of the letter which stands alone after the last "="."""
    end = said.rpartition("=")[2].strip()
    value = _computed(end)
    if value is None:
        value = _last_number(said)
    if value is None and _LETTER.fullmatch(end) and end not in seen and end in last:
        return _value(last[end], last, (*seen, end))
    return value


def _last_number(text: str) -> float | None:
    numbers = _NUMBER.findall(text)
    return float(numbers[-1]) if numbers else None


def _computed(text: str) -> float | None:
    """The value of an expression of numbers, + - * / and parentheses; None for anything else."""
    if not _SUM.fullmatch(text):
        return None
    try:
        return _evaluated(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError):
        return None


def _evaluated(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.UnaryOp):
        return _evaluated(node.operand) * (-1 if isinstance(node.op, ast.USub) else 1)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_evaluated(node.left), _evaluated(node.right))
    raise ValueError("not plain arithmetic")


def _same(a: float | None, b: float | None) -> bool:
    return a == b or (a is not None and b is not None and abs(a - b) < TOLERANCE)


def _answer(text: str) -> float | None:
    """The number that leads the answer tag, or else follows "Answer:"."""
    match = _TAGGED_ANSWER.search(text) or _PLAIN_ANSWER.search(text)
    return float(match[1]) if match else None
