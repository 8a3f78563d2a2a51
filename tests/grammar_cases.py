"""Reference rows, and random problems built without the project's sampler."""

import gzip
import json
import os
import random
from functools import cache
from pathlib import Path

from grammar import Graph, Quantity

OWN = Path(__file__).parent / "reference"  # see its README.md
REFERENCE = Path(os.environ.get("INTERPLAY_REFERENCE", OWN))


@cache
def rows(name: str) -> tuple[dict, ...]:
    """Rows of one reference file, or of op2..op20 for "op"."""
    names = [f"op{op}" for op in range(2, 21)] if name == "op" else [name]
    return tuple(json.loads(line) for found in names for line in _text(found).splitlines())


def _text(name: str) -> str:
    """The text of a file of the reference folder, or of our own where that has none of the name."""
    paths = [folder / f"{name}.jsonl{ending}" for folder in (REFERENCE, OWN) for ending in ("", ".gz")]
    path = next(path for path in paths if path.exists())
    return (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).decode()


def spread(name: str, count: int) -> tuple[dict, ...]:
    """About so many rows of a reference file, evenly spaced; all where it holds fewer."""
    return rows(name)[:: max(1, len(rows(name)) // count)]


def response_of(solution: str) -> str:
    """What a model would write for a gold solution."""
    steps, answer = solution.rsplit(" Answer: ", 1)
    return f" {steps} </solution> <answer> {answer[:-1]} </answer>"


def random_graph(rng: random.Random, *, reverse: bool = False, placed: bool = True, modulus: int | None = None) -> Graph:
    """A problem that determines its answer; drawn again until it does, within small numbers."""
    while True:
        graph = _draw(rng, reverse=reverse, placed=placed, modulus=modulus)
        if graph.well_posed and graph.order and all(abs(code) < 10**30 or reverse for code in graph.codes.values()):
            return graph


def _draw(rng: random.Random, *, reverse: bool, placed: bool, modulus: int | None) -> Graph:
    items = ["adult owl", "sci-fi movie", "rock'n'roll bar", "élan"]
    places = ["Pine Ridge", "Cinéma de Montreval", "Area 51"] if placed else [""]
    names = [f"{item} in {place}" if place else item.replace(" ", "-") for item in items for place in places]
    rng.shuffle(names)
    names = names[: rng.randint(2, len(names))]
    total = "total number of things"
    statements: list[Quantity] = []
    known: list[str] = []
    for position, name in enumerate(names):
        if reverse and position == 0:
            statements.append(Quantity(name, "unknown"))
        else:
            statements.append(_statement(rng, name, known))
        known.append(name)
    question = rng.choice(names)
    if placed and rng.random() < 0.5:
        question = f"{total} in {rng.choice(names).partition(' in ')[2]}"
    if reverse:
        probe = Graph(tuple(statements), question)
        values = {name: value for name, value in probe.values.items() if not isinstance(value, int)}
        end = rng.choice([name for name in values if name != names[0]] or [names[0]])
        form, root = values[end], rng.randint(1, 4)
        constant = form.slope * root + form.constant
        if end == names[0] or not 0 <= constant < 10**6:
            return Graph((), names[0])
        statements.append(Quantity(end, "given", (), constant))
        question = names[0]
    rng.shuffle(statements)
    return Graph(tuple(statements), question, modulus)


def _statement(rng: random.Random, name: str, known: list[str]) -> Quantity:
    rule = rng.choice(("given", "copy", "sum", "sum", "difference") if known else ("given",))
    if rule == "given":
        return Quantity(name, "given", (), rng.randint(1, 9))
    parents = rng.sample(known, min(len(known), {"copy": 1, "difference": 2}.get(rule, rng.randint(2, 4))))
    if rule != "copy" and len(parents) < 2:
        rule = "copy"
    scale = rng.choice((None, "plus", "times"))
    return Quantity(name, rule, tuple(parents), rng.randint(2, 4) if scale else None, scale)
