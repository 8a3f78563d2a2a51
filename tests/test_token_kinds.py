"""Kinds of tokens of gold solutions."""

import re
from itertools import pairwise

import pytest
from grammar_cases import spread

from datamodules.rows.token_kinds import TOKEN_KINDS, kind_spans, kinds_of_tokens, response_token_kinds
from grammar import TraceSyntaxError, parse_response

FORWARD = (
    " Define roses as A; so A = 3. Define oaks as B; so B = A = 3. Define tulips as C; d = A + B = 3 + 3 = 6; "
    "so C = 2 * d = 2 * 6 = 12. </solution> <answer> 12 </answer>"
)
REVERSE = (
    " The question is difficult, so we use equations to solve it. Define adult owl in Mayer Aquarium as w; so w = 2. "
    "Define adult parrot in Mayer Aquarium as x; we don't know its value yet but will find it out later. "
    "Define total number of adult animals in Mayer Aquarium as u; so u = x + w = x + 2 = x + 2. "
    "We know u = 4, so we have x + 2 = 4 and we solve it through the following steps: Simplifying the equation: x + 2 = 4. "
    "Move all terms to one side: x - 2 = 0. Isolate the term with x: 1*x = 2. Divide both sides by 1: x = 2 / 1. "
    "Solution: x = 2. </solution> <answer> 2 </answer>"
)


def texts(response: str) -> dict[str, list[str]]:
    spans = kind_spans(response, parse_response(response))
    return {kind: [response[s.start : s.end] for s in spans if s.kind == kind] for kind in TOKEN_KINDS}


def test_spans_of_a_forward_solution():
    found = texts(FORWARD)
    assert found["name"] == ["roses", "oaks", "tulips"]
    assert found["letter"] == ["A", "A", "B", "B", "C", "d", "C"]
    assert found["operand"] == ["A", "A + B", "3 + 3", "2 * d", "2 * 6"]
    assert found["result"] == ["3", "3", "6", "12", "12"]


def test_spans_of_a_reverse_solution():
    found = texts(REVERSE)
    assert found["letter"] == ["w", "w", "x", "u", "u"]
    assert found["operand"] == ["x + w", "x + 2", "u = 4", "x + 2 = 4", "1: x = 2 / 1"]
    assert found["result"] == ["2", "x + 2", "x + 2 = 4", "x - 2 = 0", "1*x = 2", "x = 2", "2"]


def test_what_is_left_over_is_fixed_wording():
    """Oracle: with the spans cut out, published rows have only the words of the language left."""
    known = set(re.findall(r"\w+", REVERSE)) - {"adult", "owl", "parrot", "Mayer", "Aquarium"}
    for row in spread("op", 28):
        steps, _, answer = row["solution"].rpartition(" Answer: ")
        text = f" {steps} </solution> <answer> {answer.removesuffix('.')} </answer>"
        spans = kind_spans(text, parse_response(text))
        assert all(a.end <= b.start for a, b in pairwise(spans))
        rest = "".join(" " if any(s.start <= i < s.end for s in spans) else c for i, c in enumerate(text))
        assert set(re.findall(r"\w+", rest)) <= known
        assert "=" not in rest.split("We know")[0].replace(" = ", "")


def test_every_token_has_the_kind_of_its_characters(synthesis, tokenizer):
    """Oracle: characters one by one."""
    for index in range(20):
        text = synthesis.example("train", index).response
        spans = kind_spans(text, parse_response(text))
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        of_character = ["other"] * len(text)
        for span in spans:
            of_character[span.start : span.end] = [span.kind] * (span.end - span.start)
        kinds = response_token_kinds(synthesis.example("train", index), tokenizer)
        assert len(kinds) == len(encoded["input_ids"])
        assert kinds == [of_character[end - 1] for _, end in encoded["offset_mapping"]]
        assert set(kinds) == set(TOKEN_KINDS)


def test_a_token_that_begins_with_a_blank_has_the_kind_of_its_end():
    text = FORWARD
    spans = kind_spans(text, parse_response(text))
    at = text.index(" roses")
    assert kinds_of_tokens(spans, [(at, at + 6), (at + 6, at + 9), (at + 9, at + 11)]) == ["name", "other", "letter"]


def test_a_malformed_solution_is_refused():
    text = " Define roses as A; so A = . </solution> <answer> 3 </answer>"
    with pytest.raises(TraceSyntaxError, match="well-formed"):
        kind_spans(text, parse_response(text))
