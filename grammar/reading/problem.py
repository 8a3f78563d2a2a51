"""Problems to graphs.

`problem.lark` defines what is accepted. A text is cut into sentences; one that no form fits costs only itself. Any text is read
in time linear in its length, whatever was read before.
"""

from dataclasses import dataclass

from lark.exceptions import UnexpectedInput

from grammar.problem.graph import Graph
from grammar.problem.quantity import Quantity
from grammar.reading.expectations import explain
from grammar.reading.sentences import Key, ProblemLanguage, ProblemSyntaxError, problems

MAX_PROBLEM = 1_048_576  # characters of a problem
MAX_TERMS = 1 << 18  # quantities that the totals of a problem add up
_MAX_TRIED = 1 << 18  # characters of a problem that Lark may have to read
_TRY = 100  # characters that it could read while it refuses a sentence at its first word
_PLAIN_STOP = ". "
_QUESTIONS = ("How many ", "What is the ")


@dataclass(frozen=True, slots=True)
class Unread:
    """A sentence of a problem that no form of statement fits.

    index: its number in the problem, from 0.
    text:  the sentence, without its full stop.
    """

    index: int
    text: str


def parse_problem(problem: str, question: str = "", *, modulus: int | None = None) -> Graph:
    """Reads a problem of which every sentence is in the language.

    Args:
        problem:  its sentences, each closed by a full stop.
        question: the question; when empty, the problem's last sentence is.
        modulus:  what its context computes modulo; None in ordinary arithmetic.

    Returns:
        The graph that the text states. Whether it determines an answer is `Graph.well_posed`.

    Raises:
        ProblemSyntaxError: at the first sentence that `problem.lark` does not accept.
    """
    graph, unread = read_problem(problem, question, modulus=modulus)
    if unread:
        raise _refusal(unread[0].text, f"sentence {unread[0].index}")
    return graph


def read_problem(problem: str, question: str = "", *, modulus: int | None = None) -> tuple[Graph, tuple[Unread, ...]]:
    """Reads what can be read of a problem; arguments as of `parse_problem`.

    Returns:
        The graph that its readable sentences state, and the others.

    Raises:
        ProblemSyntaxError: if the question is not in the language, or the text is too large.
    """
    if len(problem) > MAX_PROBLEM or len(question) > MAX_PROBLEM:
        raise ProblemSyntaxError(f"problem: {max(len(problem), len(question))} characters; at most {MAX_PROBLEM} are read.")
    text, language = problem.strip(), problems()
    if not question:
        at = max(0, *map(text.rfind, _QUESTIONS))
        text, question = text[:at].strip(), text[at:]
    sentences = _cut(text.removesuffix("."), language) if text else []
    last = [sentences.pop()] if text and not text.endswith(".") else []
    statements, unread = _statements(language, sentences)
    unread += tuple(Unread(len(sentences), sentence) for sentence in last)
    try:
        asked = language.question(question.strip())
    except (UnexpectedInput, ValueError):
        raise _refusal(question.strip(), "question") from None
    try:
        graph = Graph(statements, asked, modulus)
    except ValueError as error:
        raise ProblemSyntaxError(f"problem: {error}") from error
    if len(graph.mentioned) > 1024 and graph.terms > MAX_TERMS:  # 512 totals of 512 quantities have as many
        raise ProblemSyntaxError(f"problem: its totals add up {graph.terms} quantities; at most {MAX_TERMS} are read.")
    return graph, unread


def _cut(text: str, language: ProblemLanguage) -> list[str]:
    """The sentences of a problem, without their full stops."""
    pieces = text.split(_PLAIN_STOP)
    if not any(blank in text for blank in "\n\r\t"):
        odd = [piece for piece in pieces if piece and not piece.startswith("The ")]
        if all(language.stop.match(_PLAIN_STOP + piece) for piece in odd):
            return pieces
    return [sentence.strip() for sentence in language.stop.split(text)]


def _statements(language: ProblemLanguage, sentences: list[str]) -> tuple[tuple[Quantity, ...], tuple[Unread, ...]]:
    """What sentences state, and those that state nothing.

    Lark may have to read the first sentence of each kind, and does up to a number of characters. What is counted depends on the
    text alone, not on kinds that are known already.
    """
    statements, unread, left = [], [], _MAX_TRIED
    kinds: dict[Key | None, bool] = {}  # key -> whether `problem.lark` accepts the sentences of it
    refused: set[str] = set()
    for index, text in enumerate(sentences):
        if text in refused:
            unread.append(Unread(index, text))
            continue
        key, quantity = language.cut(text)[0], None
        new = key not in kinds
        left -= new and len(text) + _TRY
        if left >= 0 if new else kinds[key]:
            try:
                quantity = language.sentence(text)
                if new and (key in language.shapes or language.settles(text, quantity)):
                    kinds[key] = True
            except UnexpectedInput:
                if key is not None:
                    kinds[key] = False
            except ValueError:  # a bad name
                pass
        if quantity is not None:
            statements.append(quantity)
        else:
            refused.add(text)
            unread.append(Unread(index, text))
    return tuple(statements), tuple(unread)


def _refusal(text: str, where: str) -> ProblemSyntaxError:
    """Why a sentence, or the question, is not read, and where it is wrong."""
    language = problems()
    try:
        if where == "question":
            language.question(text)
        else:
            language.read_plainly(text)
    except UnexpectedInput as error:
        place, expected, found = explain(error, text, language)
        return ProblemSyntaxError(f"problem, {where}, character {place}: expected {expected}; found {found}\n    {text[:200]}")
    except ValueError as error:
        return ProblemSyntaxError(f"problem, {where}: {error}")
    return ProblemSyntaxError(
        f"problem, {where}: expected '.' at its end, and sentences of fewer forms in one problem\n    {text[:200]}"
    )
