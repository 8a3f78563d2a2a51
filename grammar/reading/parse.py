"""Solutions to traces.

`trace.lark` defines what is accepted. Here a text is cut into sentences, so that a malformed one becomes an error with its
place, and those around it are read. Any text is read in time linear in its length.
"""

import re
from collections.abc import Sequence

from lark.exceptions import UnexpectedInput

from grammar.language.lark_tables import TRACES
from grammar.problem.names import read_name
from grammar.reading.expectations import explain
from grammar.reading.shapes import Shape, is_variable, read_body, read_ending
from grammar.reading.trace import PRELUDE, ErrorKind, ReverseEnding, Step, StepError, Trace, TraceSyntaxError

MAX_TEXT = 65_536  # characters of a response; the longest published one has 2,600

_BLANKS, _NUMBER = " \t\r\n", TRACES.any_of("number")  # blanks: what trace.lark ignores
_STOP, _OPEN_TAG, _CLOSE_TAG, _END = TRACES.text("_STOP"), TRACES.text("_OPEN_TAG"), "</answer>", TRACES.text("_END")
_KNOW = TRACES.text("_KNOW")
_DEFINE = re.compile(f"{TRACES.regexp('_DEFINE')}{TRACES.blank}++")
_AS, _SEMI = TRACES.text("_AS"), TRACES.text("_SEMI")
_PUBLISHED_AS, _PUBLISHED_SEMI = f" {_AS} ", f"{_SEMI} "
_ANY = f"[{_BLANKS}]*+"
_ANSWER = re.compile(rf"{TRACES.regexp('_ANSWER')}{_ANY}({_NUMBER}){_ANY}{TRACES.regexp('_STOP')}{_ANY}$")
_INTEGER = re.compile(rf"({_NUMBER})(?:{_ANY}{TRACES.regexp('_STOP')})?")


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

    The first closed tag counts, else the last open one. All before it is read as steps; what follows a closed tag is not read.
    """
    reader = _Reader(text)
    if len(text) > MAX_TEXT:
        reader.error("syntax", None, f"the text has {len(text)} characters; at most {MAX_TEXT} are read", 0, len(text))
        return reader.trace(None, gold=False)
    ended, opened = text.find(_END), text.find(_OPEN_TAG)
    closed = text.find(_CLOSE_TAG, opened) if opened >= 0 else -1
    if closed < 0:
        opened, closed = text.rfind(_OPEN_TAG), len(text)
    if ended >= 0 and (opened < 0 or ended < opened):
        reader.read(0, ended)
        reader.junk(ended + len(_END), opened if opened >= 0 else len(text), _OPEN_TAG)
    else:
        reader.read(0, opened if opened >= 0 else len(text))
    return reader.trace(reader.answer(opened, closed), gold=False)


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

    def error(self, kind: ErrorKind, step: int | None, message: str, start: int, end: int) -> None:
        self.errors.append(StepError(kind, step, message, start, end))

    def junk(self, start: int, end: int, expected: str) -> None:
        """Notes an error if anything but blanks stands here."""
        if found := self.text[start:end].strip(_BLANKS):
            self.error("syntax", None, f"expected {expected}, found {found[:40]!r}", start, end)

    def read(self, start: int, end: int) -> None:
        """Reads prelude, steps and ending between two places."""
        found = list(_DEFINE.finditer(self.text, start, end))
        starts = [match.start() for match in found] + [end]
        opening = self.text[start : starts[0]].strip(_BLANKS)
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
            head, semicolon, rest = part.partition(_SEMI)
            name, letter = _words_before(head)
            if not (semicolon and name and letter):
                message = f"expected 'NAME as LETTER; ...' after 'Define', found {part[:40].strip()!r}"
                self.error("syntax", None, message, start, stop)
                return
            rest = rest.lstrip(_BLANKS)
        name, offset = name.rstrip(_BLANKS), stop - len(rest)
        body, full_stop, after = rest.partition(_STOP)
        end = offset + len(body) + len(full_stop)
        index = len(self.steps)
        shape: Shape | None = None
        words: Sequence[str] = ()
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
        ending = text[at:].rstrip(_BLANKS)
        try:
            shape, words = read_ending(ending)
            self.ending = ReverseEnding(shape, words, start + at, start + at + len(ending))
        except UnexpectedInput as problem:
            self.malformed(problem, ending, start + at, None)

    def answer(self, opened: int, closed: int) -> int | None:
        """The answer in the tag that opens at a place, if any, and closes at another."""
        if opened < 0:
            self.error("answer", None, "expected '<answer> N </answer>', found no <answer>", len(self.text), len(self.text))
            return None
        start = opened + len(_OPEN_TAG)
        content = self.text[start:closed]
        match = _INTEGER.fullmatch(content.strip(_BLANKS))
        if match is None:
            self.error("answer", None, f"expected an integer in <answer>, found {content[:40]!r}", start, start + len(content))
            return None
        return int(match[1])


def _words_before(head: str) -> tuple[str, str]:
    """NAME and LETTER of "NAME as LETTER", whatever blanks are between; empty if that is not what it says."""
    rest, letter = _last_word(head)
    name, word = _last_word(rest)
    return (name, letter) if word == _AS and is_variable(letter) else ("", "")


def _last_word(text: str) -> tuple[str, str]:
    """What stands before the last word, without blanks at its end, and the word."""
    text = text.rstrip(_BLANKS)
    at = max(map(text.rfind, _BLANKS)) + 1
    return text[:at].rstrip(_BLANKS), text[at:]


def require(trace: Trace) -> Trace:
    """The trace itself.

    Raises:
        TraceSyntaxError: if any of its text was not accepted.
    """
    if trace.errors:
        error = trace.errors[0]
        raise TraceSyntaxError(f"trace, step {error.step}, character {error.start}: {error.message}")
    return trace
