"""Problems as plain rows, with all that a reward needs to judge solutions: for other libraries (docs/elsewhere.md)."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Self

from datamodules.files.jsonl import to_row
from datamodules.problems.context import PUBLISHED
from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.mixture import MODES, Component, Mixture
from datamodules.problems.synthesis import Example, Synthesis


@dataclass(frozen=True)
class Problems:
    """Endless problems, drawn evenly from operations x contexts x modes; problem i depends only on these settings and i.

    ops:      operations: "5", "2-10" or "2-4,8".
    contexts: names of contexts (`datamodules/contexts/`).
    modes:    `normalforward`, `forwardreverse`.
    split:    `train`, `validation` or `test`; no problem is in two.
    seed:     another seed, other problems.
    graph:    the shape of the problems' graphs.
    """

    ops: str = "2-10"
    contexts: Sequence[str] = PUBLISHED
    modes: Sequence[str] = MODES[:1]
    split: str = "train"
    seed: int = 0
    graph: GraphSpec = GraphSpec()

    def __post_init__(self) -> None:
        for cell in self.synthesis.mixture.cells:  # one that cannot be built fails now
            self.synthesis.example(self.split, 0, cell)

    @classmethod
    def of(cls, config: object) -> Self:
        """Those that the attributes of these names say."""
        return cls(**{field.name: getattr(config, field.name) for field in fields(cls)})

    @cached_property
    def synthesis(self) -> Synthesis:
        """What draws them."""
        return Synthesis(Mixture([Component(self.ops, self.contexts, self.modes)]), self.graph, seed=self.seed)

    def row(self, index: int) -> dict[str, Any]:
        """Problem number `index`, as `training_row` gives it."""
        return training_row(self.synthesis.example(self.split, index), self.graph.depth)

    def rows(self, count: int) -> list[dict[str, Any]]:
        """The first `count` problems."""
        return [self.row(index) for index in range(count)]


def training_row(example: Example, depth: int = 2) -> dict[str, Any]:
    """The published columns (`jsonl.to_row`) and those that training asks for.

    prompt:   what a model of this project continues: the problem in tags, up to and including `<solution>`.
    response: the gold solution as such a model writes it.
    plain:    the problem for any other model, which must be told what its context computes modulo.
    answer:   the number, as text.
    modulus:  what the context computes modulo, or None.
    """
    modulus = example.graph.modulus
    remark = f" All numbers are taken modulo {modulus}." if modulus else ""
    return to_row(example, depth) | {
        "prompt": example.prompt, "response": example.response, "plain": f"{example.problem}{example.question}{remark}",
        "answer": str(example.graph.answer), "modulus": modulus,
    }  # fmt: skip
