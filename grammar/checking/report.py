"""What was found about a solution: facts for graders and rewards, no scores."""

from typing import Literal, NamedTuple

from grammar.reading.trace import StepError, Trace

Status = Literal["correct", "missing", "wrong_value", "wrong_parents", "wrong_both"]


class NodeVerdict(NamedTuple):
    """Whether the solution has a quantity of the problem's gold solution right; its last definition counts."""

    name: str
    status: Status


class StepVerdict(NamedTuple):
    """Whether one step is free of errors; `reason` is the first of them, else empty; characters as in the trace."""

    name: str
    start: int
    end: int
    correct: bool
    reason: str


class Report(NamedTuple):
    """Facts about a solution.

    answer:           the integer it states; None if it states none.
    answer_correct:   whether that is the problem's answer.
    nodes:            a verdict for each quantity that a gold solution defines.
    process_accuracy: the share of `nodes` that is correct, 0 to 1.
    errors:           everything wrong with it; `executable` accepts if there is none.
    trace:            the solution.
    computed:         those of `nodes` that come of two or more numbers; others only repeat one that the text states, or a node.
    """

    answer: int | None
    answer_correct: bool
    nodes: tuple[NodeVerdict, ...]
    process_accuracy: float
    errors: tuple[StepError, ...]
    trace: Trace
    computed: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[StepVerdict, ...]:
        """A verdict for each step of the trace, in its order."""
        reasons: dict[int, str] = {}
        for error in self.errors:
            if error.step is not None:
                reasons.setdefault(error.step, error.message)
        return tuple(
            StepVerdict(step.name, step.start, step.end, i not in reasons, reasons.get(i, ""))
            for i, step in enumerate(self.trace.steps)
        )

    def to_dict(self) -> dict[str, object]:
        """The facts as JSON knows them."""
        return {
            "answer": self.answer,
            "answer_correct": self.answer_correct,
            "process_accuracy": self.process_accuracy,
            "nodes": [node._asdict() for node in self.nodes],
            "errors": [error._asdict() for error in self.errors],
            "steps": [step._asdict() for step in self.steps],
        }
