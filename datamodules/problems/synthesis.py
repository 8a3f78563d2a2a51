"""Example = f(split, seed, index): random access to endless data, without state and without a corpus.

No problem is in two splits, up to the order of its sentences and, in large cells, its names (`splits.py`).
One gold solution in a hundred is checked against its problem text; tests check every one.
"""

from dataclasses import dataclass, field
from random import Random

from datamodules.problems.context import Context, load_context
from datamodules.problems.fillers import with_fillers
from datamodules.problems.graph_spec import FEWEST_BALANCED, Drawn, GraphSpec
from datamodules.problems.guesses import guessable
from datamodules.problems.keyed import keyed_random
from datamodules.problems.mixture import MODES, Cell, Mixture
from datamodules.problems.published import counted_spec, defective, kept, published_spec
from datamodules.problems.sampler import sample_graph
from datamodules.problems.splits import SPLITS, split_hash, split_of
from grammar import Graph, grade, parse_problem, parse_trace, render_problem, verify, write_solution
from grammar.writing.solution import variables

QUESTION, SOLUTION, ANSWER = ("<question>", "</question>"), ("<solution>", "</solution>"), ("<answer>", "</answer>")
GOLD_ANSWER = " Answer: "  # before the number that ends a gold solution


class TrainingText:
    """A problem with its solution, in the training format."""

    __slots__ = ()
    problem: str
    question: str
    solution: str
    cell: Cell

    @property
    def prompt(self) -> str:
        """The input of a model: everything up to and including `<solution>`."""
        return f"{QUESTION[0]} {self.problem.strip()} {self.question.strip()} {QUESTION[1]} {SOLUTION[0]}"

    @property
    def response(self) -> str:
        """The text to learn after the prompt; EOS follows. The solution's `Answer: N.` moves into the answer tag."""
        steps, _, answer = self.solution.strip().rpartition(GOLD_ANSWER)
        return f" {steps} {SOLUTION[1]} {ANSWER[0]} {answer.removesuffix('.')} {ANSWER[1]}"


REDRAWS = 2000  # draws before a cell is said to have no problem in a split
PICKY = 10  # draws for each of REDRAWS where a profile refuses most of them
CHECK_EVERY = 100
REVERSE = MODES[1]
SINGLES = 52  # one-letter variables; in reverse mode without x and X
_VARIABLES = {reverse: tuple(variables(reverse=reverse)) for reverse in (False, True)}


@dataclass(frozen=True, slots=True)
class Example(TrainingText):
    """A problem with its gold solution, and the graph that it states (under `GraphSpec.defects`: was meant to state)."""

    id: str
    problem: str
    question: str
    solution: str
    cell: Cell
    graph: Graph = field(repr=False, compare=False)


@dataclass(frozen=True)
class Synthesis:
    """The endless data of a mixture.

    Args:
        mixture: probabilities of cells; None if every call of `example` names its cell.
        graph: the shape of the graphs.
        random_letters: name steps by random letters, as the published data does; false: A, B, C ... in order.
        seed: another seed, other examples.
    """

    mixture: Mixture | None
    graph: GraphSpec = GraphSpec()
    random_letters: bool = True
    seed: int = 0

    def example(self, split: str, index: int, cell: Cell | None = None) -> Example:
        """Return example number `index` of `split`, from `cell` or from one drawn by the mixture.

        Raises:
            ValueError: an unknown split, or a cell that cannot be built or has no problem in the split.
        """
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is unknown; choose one of {list(SPLITS)}.")
        rng = keyed_random(f"{split}/{self.seed}/{index}/{cell or 'mixture'}")
        cell = cell or self.mixture.draw(rng)
        context, reverse = load_context(cell.context), cell.mode == REVERSE
        key = split_hash(cell.op, context, counted_spec(self.graph, cell.op, reverse=reverse), reverse=reverse)
        withheld = self._withheld(split, index)
        picky = self.graph.profile != "plain"
        draws = REDRAWS * (PICKY if picky else 1)
        for _ in range(draws):
            drawn = self._draw(cell.op, context, rng, reverse=reverse)
            if drawn is None or (withheld and withheld & drawn.graph.compositions()):
                continue
            if split_of(key(drawn.graph)) == split:
                if self.graph.fillers[1]:
                    drawn = with_fillers(drawn, context, self.graph, rng)
                return self._write(drawn, cell, f"{split}-{self.seed}-{index}-op{cell.op}", rng, check=index % CHECK_EVERY == 0)
        few = f" that its profile keeps (`graph.profile: {self.graph.profile}`)" if picky else ""
        few += f" without what is withheld (`graph.withheld: {list(self.graph.withheld)}`)" if withheld else ""
        raise ValueError(
            f"no problem of {cell} falls into split {split!r} in {draws} draws: the cell has too few problems{few}; raise its "
            "`op`, allow distractors, or use a context with more names."
        )

    def _withheld(self, split: str, index: int) -> set[str]:
        """The compositions that an example must not have."""
        if split != "train" or not self.graph.withheld:
            return set()
        draw = keyed_random(f"exposed/{self.seed}/{index}").random() if self.graph.exposed else 1.0
        return set() if draw < self.graph.exposed else set(self.graph.withheld)

    def _draw(self, op: int, context: Context, rng: Random, *, reverse: bool) -> Drawn | None:
        """A draw of the sampler; None if the profile refuses it."""
        if self.graph.profile == "published":
            if context.modulus is not None or not context.places:
                raise ValueError(
                    f"context {context.name!r}: graph.profile 'published' needs places and no modulus; set it to plain."
                )
            drawn = sample_graph(op, context, published_spec(self.graph, op, rng, reverse=reverse), rng, reverse=reverse)
            return drawn if kept(drawn.graph, op, rng, reverse=reverse) else None
        drawn = sample_graph(op, context, self.graph.at(op), rng, reverse=reverse)
        return None if self.graph.profile == "balanced" and op >= FEWEST_BALANCED and guessable(drawn.graph) else drawn

    def _write(self, drawn: Drawn, cell: Cell, name: str, rng: Random, *, check: bool) -> Example:
        letters = shuffled_letters(cell.op, rng, reverse=cell.mode == REVERSE) if self.random_letters else None
        stated = defective(drawn.graph) if self.graph.defects else drawn.graph
        problem, question = render_problem(stated)
        solution = write_solution(drawn.graph, order=drawn.order, letters=letters)
        example = Example(name, problem, question, solution, cell, drawn.graph)
        if check and stated is drawn.graph:
            check_gold(example)
        return example


def shuffled_letters(count: int, rng: Random, *, reverse: bool) -> list[str]:
    """`count` variables in random order: single letters first, then pairs."""
    names = _VARIABLES[reverse]
    singles = SINGLES - 2 * reverse
    letters = rng.sample(names[:singles], min(count, singles))
    return letters + rng.sample(names[singles:], count - singles) if count > singles else letters


def check_gold(example: Example) -> None:
    """Check an example by the grammar: its text alone must give its op and accept its solution. A failure is our bug."""
    graph = parse_problem(example.problem, example.question, modulus=example.graph.modulus)
    report = verify(parse_trace(example.solution), graph)
    assert graph.well_posed, f"{example.id}: the text determines no answer: {graph.why_not}"
    assert graph.op == example.cell.op, f"{example.id}: {graph.op} operations, not {example.cell.op}"
    assert grade(report, "executable"), f"{example.id}: gold solution rejected: {report.errors}"
