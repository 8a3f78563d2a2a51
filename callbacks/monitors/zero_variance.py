"""Groups of completions without a learning signal: how many, and whether they are too easy or too hard."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from callbacks.kept_state import KeptState
from callbacks.processes import sum_over_processes
from grammar import grade
from grammar.graders import check_grader

HIGHEST_OP = 64  # problems with more operations count as this


class ZeroVariance(KeptState):
    """Log which groups have no signal since all completions earn the same; the module logs `train/zero_variance` itself.

    `train/zero_variance/solved`: share of all groups that have no signal and every completion accepted: too easy.
    `train/zero_variance/failed`: share that has none, and every completion rejected: too hard.
    `train/zero_variance/opN`:    share of the groups with N operations that has none.

    Args:
        grader: says what is solved.
        patience: stop training after so many rollouts in a row without any signal; None: never.
    """

    kept = ("silent",)

    def __init__(self, grader: str = "executable", patience: int | None = None) -> None:
        check_grader(grader)
        if patience is not None and patience < 1:
            raise ValueError(f"ZeroVariance: patience={patience} must be at least 1; leave it out to go on.")
        self.grader, self.patience = grader, patience
        self.silent = 0  # rollouts in a row without any signal

    @property
    def done(self) -> bool:
        """Whether there has been no signal for too long."""
        return self.patience is not None and self.silent >= self.patience

    def on_rollout(self, trainer: Trainer, pl_module: LightningModule, groups: Sequence[Any]) -> dict[str, float]:
        """Count, and stop if there has been no signal for too long."""
        every, flat = Counter(), Counter()
        for group in groups:
            op = min(group.example.cell.op, HIGHEST_OP)
            every[op] += 1
            if not group.varies:
                flat[op] += 1
                verdicts = {grade(report, self.grader) for report in group.reports}
                flat["solved"] += verdicts == {True}
                flat["failed"] += verdicts == {False}
        ops = range(HIGHEST_OP + 1)
        counts = [flat["solved"], flat["failed"], *(every[op] for op in ops), *(flat[op] for op in ops)]
        solved, failed, *by_op = sum_over_processes(trainer, counts)
        every_op, flat_op = by_op[: len(ops)], by_op[len(ops) :]
        total = sum(every_op)
        self.silent = 0 if sum(flat_op) < total else self.silent + 1
        if self.done:
            rank_zero_warn(f"ZeroVariance: {self.silent} rollouts in a row without any signal; training stops.")
            trainer.should_stop = True
        return {
            "train/zero_variance/solved": solved / total,
            "train/zero_variance/failed": failed / total,
            **{f"train/zero_variance/op{op}": flat_op[op] / every_op[op] for op in ops if every_op[op]},
        }
