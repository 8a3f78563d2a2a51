"""A second judge of solutions, slow, simple and sharing no code with the package: the meaning of a trace by brute force.

Polynomials are dicts {sorted tuple of symbols: coefficient}. A trace is right when every sentence has published form,
letters are new, every side of every chain equals the others, the second side is the first with values put in, every
formula over names is the gold one's, the equation's lines follow from one another, and the answer is the gold one's.
"""

import re

PRE = "The question is difficult, so we use equations to solve it. "
OPEN = "we don't know its value yet but will find it out later"
TAIL = re.compile(
    r"We know (\S+) = (-?\d+), so we have (.+?) = (.+?) and we solve it through the following steps: "
    r"Simplifying the equation: (.+?) = (.+?)\. Move all terms to one side: (.+?) = (.+?)\. "
    r"Isolate the term with x: (.+?) = (.+?)\. Divide both sides by (-?\d+): x = (-?\d+) / (-?\d+)\. Solution: x = (-?\d+)\. "
)
TOKEN = re.compile(r"\s*(\d+|[A-Za-z]{1,2}\b|[-+*()])")
WORDS = {
    "as",
    "be",
    "by",
    "do",
    "go",
    "he",
    "if",
    "in",
    "is",
    "it",
    "me",
    "my",
    "no",
    "of",
    "on",
    "or",
    "so",
    "to",
    "up",
    "us",
    "we",
}


class Wrong(Exception):
    """The trace is not a right solution."""


def need(condition):
    if not condition:
        raise Wrong


def plus(a, b, times=1):
    out = dict(a)
    for key, value in b.items():
        out[key] = out.get(key, 0) + times * value
    return {key: value for key, value in out.items() if value}


def product(a, b):
    out = {}
    for ka, va in a.items():
        for kb, vb in b.items():
            out = plus(out, {tuple(sorted(ka + kb)): va * vb})
    return out


def evaluate(text, symbols):
    """Recursive descent over +, -, * and parentheses."""
    tokens, at = [], 0
    text = text.strip()
    while at < len(text):
        match = TOKEN.match(text, at)
        need(match)
        tokens.append(match[1])
        at = match.end()
    value, rest = add(tokens, symbols)
    need(not rest)
    return value


def add(tokens, symbols):
    value, tokens = multiply(tokens, symbols)
    while tokens and tokens[0] in "+-":
        sign = 1 if tokens[0] == "+" else -1
        other, tokens = multiply(tokens[1:], symbols)
        value = plus(value, other, sign)
    return value, tokens


def multiply(tokens, symbols):
    value, tokens = atom(tokens, symbols)
    while tokens and tokens[0] == "*":
        other, tokens = atom(tokens[1:], symbols)
        value = product(value, other)
    return value, tokens


def atom(tokens, symbols):
    need(tokens)
    head, *rest = tokens
    if head == "-":
        value, rest = atom(rest, symbols)
        return plus({}, value, -1), rest
    if head == "(":
        value, rest = add(rest, symbols)
        need(rest and rest[0] == ")")
        return value, rest[1:]
    if head.isdigit():
        return ({(): int(head)} if int(head) else {}), rest
    need(head in symbols)
    return symbols[head], rest


def written(value):
    """A value in x as published."""
    a, b = value.get(("x",), 0), value.get((), 0)
    need(set(value) <= {("x",), ()})
    term = {1: "x", -1: "-x"}.get(a, f"{a}*x")
    if not a:
        return str(b)
    if not b:
        return term
    if a < 0 < b:
        return f"{b} - {term[1:]}"
    return f"{term} + {b}" if b > 0 else f"{term} - {-b}"


def meaning(text):
    """(formulas by name, values by name, the name known besides and its number, answer) of a right trace.

    Raises:
        Wrong: if anything in it is not right.
    """
    text = re.sub(r"\s+", " ", text)
    reverse = text.startswith(PRE)
    text = text.removeprefix(PRE)
    formulas, values, made = {}, {}, {}
    if reverse:
        values["x"] = {("x",): 1}
    while step := re.match(r"Define ([^;.]+?) as ([A-Za-z]{1,2}); ([^.]*)\. ", text):
        name, letter, body = step.groups()
        need(letter not in made and name not in formulas and letter.lower() not in WORDS)
        text = text[step.end() :]
        if body == OPEN:
            need(reverse and letter == "x")
            formulas[name], made[letter] = "open", {(name,): 1}
            continue
        parts = [part.strip() for part in body.split("; ")]
        for part in parts:
            target, *sides = part.removeprefix("so ").split(" = ")  # "so" is decoration
            need(sides and target not in made and re.fullmatch("[A-Za-z]{1,2}", target))
            need((target == letter) == (part is parts[-1]) and not (reverse and target == "x"))
            results = [evaluate(side, values) for side in sides]
            need((all(result == results[0] for result in results) and "x" not in sides[-1]) or reverse)
            need(all(result == results[0] for result in results))
            made_of = evaluate(sides[0], made)
            if len(sides) == 3:
                operands = re.split(r" ([-+*]) ", sides[0])
                filled = [part if part in "+-*" else written(evaluate(part, values)) for part in operands]
                need(re.sub("[()]", "", sides[1]) == " ".join(filled) or sides[1] == sides[2])  # parentheses are free if true
            need(len(sides) <= 3 and sides[-1] == written(results[-1]))
            need(set(re.findall(r"[A-Za-z]{1,2}", sides[-1])) <= ({"x"} if reverse else set()))
            if target == letter:
                formulas[name], made[letter] = made_of, {(name,): 1}
            else:
                made[target] = made_of
            values[target] = results[0]
        need(letter in made)
    need(formulas)
    known = tail(text, values, made) if reverse else None
    text = TAIL.sub("", text, count=1) if reverse else text
    answer = re.fullmatch(r"Answer: (-?\d+)\.", text)
    need(answer)
    ends = {
        name: written(values[letter])
        for letter in [step_letter for step_letter in made]
        if (name := one(made[letter])) and letter in values
    }
    return formulas, ends, known, int(answer[1])


def one(formula):
    """The name that a letter stands for; None for an intermediate."""
    (key,) = formula if len(formula) == 1 else [()]
    return key[0] if len(key) == 1 and formula[key] == 1 else None


def tail(text, values, made):
    match = TAIL.match(text)
    need(match)
    letter, known, *parts = match.groups()
    need(letter in values)
    x = {"x": {("x",): 1}}
    sides = [evaluate(part, x) for part in parts[:8]]
    divisor, dividend, by, root = map(int, parts[8:])
    form, constant = values[letter], {(): int(known)} if int(known) else {}
    need(sides[0] == form and sides[1] == constant)
    base = plus(sides[0], sides[1], -1)
    for left, right in zip(sides[2::2], sides[3::2], strict=True):
        line = plus(left, right, -1)
        need(set(line) <= {("x",), ()} and line.get(("x",), 0) * base.get((), 0) == base.get(("x",), 0) * line.get((), 0))
        need(line.get(("x",)))
    need(sides[6] == {("x",): divisor} and sides[7] == ({(): dividend} if dividend else {}))
    need(by == divisor and divisor * root == dividend and text[match.end() :] == f"Answer: {root}.")
    return one(made[letter]), int(known)


def still_right(gold, text):
    """Whether `text` is as right a solution as `gold`: same formulas over the same names, all of it true."""
    expected = meaning(gold)
    try:
        found = meaning(text)
    except Wrong:
        return False
    return found == expected
