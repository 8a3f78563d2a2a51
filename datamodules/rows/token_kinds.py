"""The kind of each token of a gold solution: name, letter, operand or result.

A step "Define roses as C; so C = A + B = 7 + 8 = 15." says by kind:
    name     "roses": the quantity of the step
    letter   "C", where it is declared and where it is computed: an arbitrary choice
    operand  "A + B" and "7 + 8": the terms of the computation, signs included
    result   "15": the last side of a chain, the number of a leaf ("so C = 5"), and the answer
Everything else is fixed wording ("other"). In the solution of the equation (reverse mode), the known equation and the division
are operands; simplified equations and the solution are results.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, get_args

from transformers import PreTrainedTokenizerBase

from datamodules.problems.synthesis import ANSWER, Example
from grammar import Trace, TraceSyntaxError, parse_response
from grammar.reading.trace import ReverseEnding, Statement, Step

TokenKind = Literal["name", "letter", "operand", "result", "other"]
TOKEN_KINDS: tuple[TokenKind, ...] = get_args(TokenKind)

_ENDING: tuple[tuple[TokenKind, str], ...] = (  # the kind of the text between these words of an ending
    ("operand", r"We know (.*?), so we have"),
    ("operand", r"so we have (.*?) and we solve it"),
    ("result", r"Simplifying the equation: (.*?)\."),
    ("result", r"Move all terms to one side: (.*?)\."),
    ("result", r"Isolate the term with x: (.*?)\."),
    ("operand", r"Divide both sides by (.*?)\."),
    ("result", r"Solution: (.*?)\."),
)


class KindSpan(NamedTuple):
    """Characters `start` ... `end` (excluded) of a text, and their kind."""

    start: int
    end: int
    kind: TokenKind


def kind_spans(text: str, trace: Trace) -> list[KindSpan]:
    """Spans of a solution that are not fixed wording, in the order of the text.

    Args:
        text:  the solution.
        trace: its parse; places are those in `text`.

    Raises:
        TraceSyntaxError: the trace is not well formed.
    """
    if trace.errors:
        raise TraceSyntaxError(f"kinds of tokens: expected a well-formed solution; {trace.errors[0].message}.")
    spans = [span for step in trace.steps for span in _step(text, step)]
    if trace.ending is not None:
        spans += _ending(text, trace.ending)
    if trace.answer is not None:
        start = text.rfind(str(trace.answer))
        spans.append(KindSpan(start, start + len(str(trace.answer)), "result"))
    return spans


def _step(text: str, step: Step) -> Iterator[KindSpan]:
    name = text.index(step.name, step.start)
    yield KindSpan(name, name + len(step.name), "name")
    letter = text.rindex(step.letter, name + len(step.name), step.offset)
    yield KindSpan(letter, letter + len(step.letter), "letter")
    for statement in step.statements:
        yield from _chain(statement)


def _chain(statement: Statement) -> Iterator[KindSpan]:
    """The sides of a chain: "so C", "A + B", "7 + 8", "15"."""
    target, *sides = statement.text.split("=")
    at = statement.start + len(target.rstrip())
    yield KindSpan(at - len(statement.letter), at, "letter")
    at = statement.start + len(target) + 1
    for number, side in enumerate(sides, start=1):
        start = at + len(side) - len(side.lstrip())
        yield KindSpan(start, at + len(side.rstrip()), "result" if number == len(sides) else "operand")
        at += len(side) + 1


def _ending(text: str, ending: ReverseEnding) -> Iterator[KindSpan]:
    for kind, pattern in _ENDING:
        match = re.compile(pattern).search(text, ending.start, ending.end)
        assert match is not None, f"an ending without {pattern!r} was accepted by the grammar"
        yield KindSpan(*match.span(1), kind)


def kinds_of_tokens(spans: Sequence[KindSpan], offsets: Sequence[tuple[int, int]]) -> list[TokenKind]:
    """The kind of each token: that of the span with its last character (a token may start with a blank).

    Args:
        spans:   in the order of the text, not overlapping.
        offsets: characters (start, end) of each token, in the order of the text.
    """
    kinds: list[TokenKind] = []
    at = 0
    for _, end in offsets:
        while at < len(spans) and spans[at].end < end:
            at += 1
        inside = at < len(spans) and spans[at].start < end <= spans[at].end
        kinds.append(spans[at].kind if inside else "other")
    return kinds


def response_token_kinds(example: Example, tokenizer: PreTrainedTokenizerBase) -> list[TokenKind]:
    """The kind of each token of an example's gold response, in the order of its ids, without EOS."""
    text = example.response
    assert text.endswith(ANSWER[1])
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return kinds_of_tokens(kind_spans(text, parse_response(text)), offsets)
