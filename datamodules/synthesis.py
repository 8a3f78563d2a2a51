"""Example = f(split, seed, index): random access to endless data, without state and without a corpus.

Splits are a partition of canonical hashes of problems, so no problem stands in two of them, whatever the order of its sentences.
Gold solutions are checked against their problem text, one in a hundred here, every one in the tests.
"""

from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random
from string import ascii_letters

from datamodules.context import load_context
from datamodules.graph_spec import Drawn, GraphSpec
from datamodules.mixture import Cell, Mixture
from datamodules.sampler import sample_graph
from grammar import Graph, gold_trace, grade, parse_problem, parse_trace, render_problem, render_trace, verify

SPLITS = {"train": 0.9, "validation": 0.05, "test": 0.05}  # shares of the space of canonical hashes
REDRAWS = 2000  # problems drawn before a cell counts as having none in a split
CHECK_EVERY = 100

QUESTION, SOLUTION, ANSWER = ("<question>", "</question>"), ("<solution>", "</solution>"), ("<answer>", "</answer>")


@dataclass(frozen=True, slots=True)
class Example:
    """One problem with its gold solution; `graph` is what the problem says."""

    id: str
    problem: str
    question: str
    solution: str
    cell: Cell
    graph: Graph = field(repr=False, compare=False)

    @property
    def prompt(self) -> str:
        """What a model is given: everything up to and including `<solution>`."""
        return f"{QUESTION[0]} {self.problem.strip()} {self.question} {QUESTION[1]} {SOLUTION[0]}"

    @property
    def response(self) -> str:
        """What a model should write after the prompt; EOS follows."""
        steps, _, answer = self.solution.rpartition(" Answer: ")
        return f" {steps} {SOLUTION[1]} {ANSWER[0]} {answer.removesuffix('.')} {ANSWER[1]}"


def canonical_hash(graph: Graph) -> bytes:
    """Digest of a problem that does not depend on the order of its sentences."""
    statements = sorted(repr((s.name, s.rule, s.parents, s.constant, s.scale)) for s in graph.statements)
    return blake2b("\n".join((*statements, graph.question)).encode(), digest_size=8).digest()


def split_of(graph: Graph) -> str:
    """Name the only split that `graph` may stand in."""
    point, edge = int.from_bytes(canonical_hash(graph), "big") / 2**64, 0.0
    for split, share in SPLITS.items():
        edge += share
        if point < edge:
            return split
    return split


@dataclass(frozen=True)
class Synthesis:
    """The endless data of a mixture.

    mixture:        which cells, how often.
    graph:          the shape of the graphs.
    random_letters: name steps by random letters, as the published data does; false: A, B, C ... in order.
    seed:           another seed, other examples.
    """

    mixture: Mixture
    graph: GraphSpec = GraphSpec()
    random_letters: bool = True
    seed: int = 0

    def example(self, split: str, index: int, cell: Cell | None = None) -> Example:
        """Return example number `index` of `split`, from `cell` or else from a cell drawn by the mixture.

        Raises:
            ValueError: an unknown split, or a cell that cannot be built or has no problem in the split.
        """
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is unknown; choose one of {list(SPLITS)}.")
        where = cell or "mixture"
        rng = Random(blake2b(f"{split}/{self.seed}/{index}/{where}".encode(), digest_size=16).digest())
        cell = cell or self.mixture.draw(rng)
        context = load_context(cell.context)
        for _ in range(REDRAWS):
            drawn = sample_graph(cell.op, context, self.graph, rng)
            if split_of(drawn.graph) == split:
                return self._write(drawn, cell, f"{split}-{self.seed}-{index}-op{cell.op}", rng, check=index % CHECK_EVERY == 0)
        raise ValueError(f"no problem of {cell} falls into split {split!r} in {REDRAWS} draws; the cell has too few problems.")

    def _write(self, drawn: Drawn, cell: Cell, name: str, rng: Random, *, check: bool) -> Example:
        letters = rng.sample(ascii_letters, len(ascii_letters)) if self.random_letters else None
        problem, question = render_problem(drawn.graph)
        solution = render_trace(gold_trace(drawn.graph, order=drawn.order, letters=letters))
        example = Example(name, problem, question, solution, cell, drawn.graph)
        if check:
            check_gold(example)
        return example


def check_gold(example: Example) -> None:
    """Hold an example to the grammar: its text alone must give its op and accept its solution. A failure is our bug."""
    graph = parse_problem(example.problem, example.question, modulus=example.graph.modulus)
    report = verify(parse_trace(example.solution), graph)
    assert graph.well_posed, f"{example.id}: the text determines no answer: {graph.why_not}"
    assert graph.op == example.cell.op, f"{example.id}: {graph.op} operations, not {example.cell.op}"
    assert grade(report, "executable"), f"{example.id}: gold solution rejected: {report.errors}"
