"""Text to data: problems to graphs, solutions to traces.

`trace.lark` and `problem.lark` define what is accepted. Here texts are cut into sentences, so that a malformed one becomes an
error with its place, and those around it are read. Any text is read in time linear in its length.
"""

import re
from collections.abc import Callable
from typing import TypeVar

from lark.exceptions import UnexpectedInput

from grammar.language.lark_tables import TRACES, Language
from grammar.problem.graph import Graph
from grammar.problem.names import read_name
from grammar.reading.sentences import ProblemSyntaxError, problems
from grammar.reading.shapes import is_variable, read_body, read_ending
from grammar.reading.trace import PRELUDE, ReverseEnding, Step, StepError, Trace, TraceSyntaxError

T = TypeVar("T")
MAX_PROBLEM = 1_048_576  # characters of a problem
MAX_TEXT = 65_536  # characters of a response; the longest published one has 2,600

_BLANKS, _VAR, _NUMBER = f"{TRACES.blank}*+", TRACES.regexp("VAR"), TRACES.any_of("number")
_STOP, _OPEN_TAG, _CLOSE_TAG, _END = TRACES.text("_STOP"), TRACES.text("_OPEN_TAG"), "</answer>", TRACES.text("_END")
_KNOW = TRACES.text("_KNOW")
_DEFINE = re.compile(f"{TRACES.regexp('_DEFINE')}{TRACES.blank}++")
_AS, _SEMI = TRACES.text("_AS"), TRACES.text("_SEMI")
_PUBLISHED_AS, _PUBLISHED_SEMI = f" {_AS} ", f"{_SEMI} "
_HEAD = re.compile(rf"(\S.*?)(?<=\S){TRACES.blank}++{_AS}{TRACES.blank}++({_VAR}){_BLANKS}{_SEMI}{_BLANKS}", re.DOTALL)
_ANSWER = re.compile(rf"{TRACES.regexp('_ANSWER')}\s*({_NUMBER})\s*{TRACES.regexp('_STOP')}\s*$")
_INTEGER = re.compile(rf"\s*({_NUMBER})\s*{TRACES.regexp('_STOP')}?\s*")
_SPOKEN = {  # terminals that are no fixed text, for messages
    "COUNT": "a name",
    "INT": "a number",
    "NAME": "a name",
    "NEG": "a negative number",
    "SIGN": "'+' or '-'",
    "SO": "'so'",
    "TERM": "a term in x",
    "VAR": "a variable",
    "WHOLE": "'total' or 'average'",
    "$END": "the end of the statement",
}


def parse_problem(problem: str, question: str = "", *, modulus: int | None = None) -> Graph:
    """Reads a problem.

    Args:
        problem:  its sentences, each closed by a full stop.
        question: the question; when empty, the problem's last sentence is.
        modulus:  what its context computes modulo; None in ordinary arithmetic.

    Returns:
        The graph that the text states. Whether it determines an answer is `Graph.well_posed`.

    Raises:
        ProblemSyntaxError: at the first sentence that `problem.lark` does not accept.
    """
    if len(problem) > MAX_PROBLEM:
        raise ProblemSyntaxError(f"problem: {len(problem)} characters; at most {MAX_PROBLEM} are read.")
    text = problem.strip()
    if not question:
        text, stop, question = text.rpartition(". ")
        text += stop.strip()
    if text and not text.endswith("."):
        raise ProblemSyntaxError(f"problem: expected '.' at its end, found {text[-20:]!r}; close each sentence.")
    sentences = text[:-1].split(". ") if text else []
    language = problems()
    statements = tuple(_sentence(language.sentence, s, f"sentence {i}") for i, s in enumerate(sentences))
    try:
        return Graph(statements, _sentence(language.question, question.strip(), "question"), modulus)
    except ProblemSyntaxError:
        raise
    except ValueError as error:
        raise ProblemSyntaxError(f"problem: {error}") from error


def _sentence(read: Callable[[str], T], text: str, where: str) -> T:
    """What one sentence says, or a `ProblemSyntaxError` that says where it is wrong."""
    try:
        return read(text)
    except UnexpectedInput as error:
        place, expected, found = explain(error, text, problems())
        message = f"problem, {where}, character {place}: expected {expected}; found {found}"
        raise ProblemSyntaxError(f"{message}\n    {text[:200]}") from error
    except ValueError as error:
        raise ProblemSyntaxError(f"problem, {where}: {error}") from error


def parse_trace(text: str) -> Trace:
    """Reads a solution: a gold one ("... Answer: 12."), or a response where an <answer> tag says so.

    Whatever a model may have written is read; what `trace.lark` does not accept is in the trace's `errors`. A text in
    which a bare "Answer: 12." must not count is read by `parse_response`.
    """
    match = None if _OPEN_TAG in text or _END in text else _ANSWER.search(text, max(0, len(text) - 64))
    if match is None or len(text) > MAX_TEXT:
        return parse_response(text)
    reader = _Reader(text)
    reader.read(0, match.start())
    return reader.trace(int(match[1]), gold=True)


def parse_response(text: str) -> Trace:
    """Reads what a model wrote after `<solution>`: only an <answer> tag states its answer.

    The first closed tag counts, else the last open one; what follows a closed tag is not read.
    """
    reader = _Reader(text)
    if len(text) > MAX_TEXT:
        reader.error("syntax", None, f"the text has {len(text)} characters; at most {MAX_TEXT} are read", 0, len(text))
        return reader.trace(None, gold=False)
    closed, opened = text.find(_END), text.find(_OPEN_TAG)
    if closed >= 0 and (opened < 0 or closed < opened):
        reader.read(0, closed)
        reader.junk(closed + len(_END), opened if opened >= 0 else len(text), _OPEN_TAG)
    else:
        reader.read(0, opened if opened >= 0 else len(text))
    return reader.trace(reader.answer(opened), gold=False)


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.steps: list[Step] = []
        self.errors: list[StepError] = []
        self.ending: ReverseEnding | None = None
        self.prelude = False

    def trace(self, answer: int | None, *, gold: bool) -> Trace:
        errors = tuple(self.errors)
        return Trace(tuple(self.steps), self.prelude, self.ending, answer, gold, errors, len(self.text))

    def error(self, kind: str, step: int | None, message: str, start: int, end: int) -> None:
        self.errors.append(StepError(kind, step, message, start, end))

    def junk(self, start: int, end: int, expected: str) -> None:
        """Notes an error if anything but blanks stands here."""
        found = self.text[start:end]
        if found and not found.isspace():
            shown = found.strip()[:40]
            self.error("syntax", None, f"expected {expected}, found {shown!r}", start, end)

    def read(self, start: int, end: int) -> None:
        """Reads prelude, steps and ending between two places."""
        found = list(_DEFINE.finditer(self.text, start, end))
        starts = [match.start() for match in found] + [end]
        opening = self.text[start : starts[0]].strip()
        if opening == PRELUDE:
            self.prelude = True
        elif opening:
            self.junk(start, starts[0], "'Define NAME as LETTER; ...'")
        for match, stop in zip(found, starts[1:], strict=True):
            self.step(match.start(), match.end(), stop)

    def step(self, start: int, begin: int, stop: int) -> None:
        """Reads one step, whose "Define" stands at `start` and its name at `begin`, and what follows it up to `stop`."""
        part = self.text[begin:stop]
        head, semicolon, rest = part.partition(_PUBLISHED_SEMI)
        name, as_, letter = head.rpartition(_PUBLISHED_AS)
        if not (semicolon and as_ and is_variable(letter)):
            match = _HEAD.match(part)
            if match is None:
                message = f"expected 'NAME as LETTER; ...' after 'Define', found {part[:40].strip()!r}"
                self.error("syntax", None, message, start, stop)
                return
            name, letter, rest = match[1], match[2], part[match.end() :]
        name, offset = name.rstrip(" "), stop - len(rest)
        body, full_stop, after = rest.partition(_STOP)
        end = offset + len(body) + len(full_stop)
        index, shape, words = len(self.steps), None, ()
        try:
            shape, words = read_body(body)
        except UnexpectedInput as problem:
            self.malformed(problem, body, offset, index)
        self.steps.append(Step(name, letter, shape, words, body, offset, start, end))
        if self.ending is not None:
            self.error("syntax", index, "expected the end after 'Solution: ...', found another step", start, end)
        try:
            read_name(name)
        except ValueError as problem:
            self.error("syntax", index, str(problem), begin, begin + len(head))
        if not full_stop:
            self.error("syntax", index, "expected '.' at the end of the step", end, end)
        elif after != " " and after:
            self.after(after, end)

    def malformed(self, problem: UnexpectedInput, text: str, offset: int, step: int | None) -> None:
        """Notes what Lark did not accept, where, and what it expected."""
        place, expected, found = explain(problem, text, TRACES)
        self.error("syntax", step, f"expected {expected}; found {found}", offset + place, offset + len(text))

    def after(self, text: str, start: int) -> None:
        """Reads what stands between a step and the next: blanks, or the ending."""
        at = text.find(_KNOW)
        if at < 0 or self.ending is not None:
            self.junk(start, start + len(text), "'Define ...' or 'We know ...'")
            return
        self.junk(start, start + at, "'We know ...'")
        ending = text[at:].rstrip()
        try:
            shape, words = read_ending(ending)
            self.ending = ReverseEnding(shape, words, start + at, start + at + len(ending))
        except UnexpectedInput as problem:
            self.malformed(problem, ending, start + at, None)

    def answer(self, opened: int) -> int | None:
        """The answer in the first closed tag, else in the last open one; `opened` is where the first one stands."""
        if opened < 0:
            self.error("answer", None, "expected '<answer> N </answer>', found no <answer>", len(self.text), len(self.text))
            return None
        closed = self.text.find(_CLOSE_TAG, opened)
        start = (opened if closed >= 0 else self.text.rfind(_OPEN_TAG)) + len(_OPEN_TAG)
        content = self.text[start : closed if closed >= 0 else len(self.text)]
        match = _INTEGER.fullmatch(content)
        if match is None:
            self.error("answer", None, f"expected an integer in <answer>, found {content[:40]!r}", start, start + len(content))
            return None
        return int(match[1])


def require(trace: Trace) -> Trace:
    """The trace itself.

    Raises:
        TraceSyntaxError: if any of its text was not accepted.
    """
    if trace.errors:
        error = trace.errors[0]
        raise TraceSyntaxError(f"trace, step {error.step}, character {error.start}: {error.message}")
    return trace


def explain(error: UnexpectedInput, text: str, language: Language) -> tuple[int, str, str]:
    """Where Lark stopped, what it expected there, and what it found."""
    place = error.pos_in_stream
    if place is None or place < 0 or getattr(getattr(error, "token", None), "type", "") == "$END":
        place = len(text)
    names = next(filter(None, (getattr(error, known, None) for known in ("accepts", "expected", "allowed"))), ())
    expected = " or ".join(sorted({_SPOKEN.get(name) or language.spoken(name) for name in names}))
    return place, expected or "nothing", repr(text[place : place + 20]) if text[place:] else "the end"
