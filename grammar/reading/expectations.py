"""Where Lark stopped in a text, in words."""

from lark.exceptions import UnexpectedInput

from grammar.language.lark_tables import Language

_SPOKEN = {  # terminals that are no fixed text, for messages
    "COUNT": "a name",
    "INT": "a number",
    "NAME": "a name",
    "ASKED": "a name",
    "BARE": "a name",
    "ITEM": "a name",
    "PLACE": "a name",
    "NEG": "a negative number",
    "SIGN": "'+' or '-'",
    "SO": "'so'",
    "TERM": "a term in x",
    "VAR": "a variable",
    "WHOLE": "'total' or 'average'",
    "$END": "the end of the statement",
}


def explain(error: UnexpectedInput, text: str, language: Language) -> tuple[int, str, str]:
    """Where Lark stopped, what it expected there, and what it found."""
    place = error.pos_in_stream
    if place is None or place < 0 or getattr(getattr(error, "token", None), "type", "") == "$END":
        place = len(text)
    names = next(filter(None, (getattr(error, known, None) for known in ("accepts", "expected", "allowed"))), ())
    expected = " or ".join(sorted({_SPOKEN.get(name) or language.spoken(name) for name in names}))
    return place, expected or "nothing", repr(text[place : place + 20]) if text[place:] else "the end"
