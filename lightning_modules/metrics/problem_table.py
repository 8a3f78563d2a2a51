"""One row of counts per problem, from which every summary is computed.

These are rows, not sums, as confidence intervals resample problems; processes only join their rows.
"""

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from grammar import GRADERS, Report, grade
from grammar.checking.report import Status
from lightning_modules.metrics.disagreements import COUNTED, ERROR_KINDS, count_disagreements

NODE_STATUSES: tuple[str, ...] = get_args(Status)
COLUMNS = (
    "index", "op", "context", "mode", "samples", *GRADERS, "process_accuracy", "tokens", "finished",
    *(f"error/{kind}" for kind in ERROR_KINDS), *(f"node/{status}" for status in NODE_STATUSES),
    *COUNTED,
)  # fmt: skip
PLACE = {name: i for i, name in enumerate(COLUMNS)}


def problem_row(
    labels: tuple[int, int, int, int], reports: Sequence[Report], tokens: Sequence[int], finished: Sequence[bool],
    released: Sequence[bool] | None = None,
) -> list[float]:  # fmt: skip
    """Count the verdicts on the samples of one problem.

    Args:
        labels: index, op, number of the context, number of the mode.
        reports: of each of n samples.
        tokens: length of each response.
        finished: whether each response ended with the end token.
        released: whether the published scorer accepts each; None: not asked.

    Returns:
        A value for each of `COLUMNS`: sums over samples; `error/KIND` counts samples with an error of that kind.
    """
    errors = [{error.kind for error in report.errors} for report in reports]
    statuses: list[str] = [node.status for report in reports for node in report.nodes]
    return [
        *labels, len(reports), *(sum(grade(report, grader) for report in reports) for grader in GRADERS),
        sum(report.process_accuracy for report in reports), sum(tokens), sum(finished),
        *(sum(kind in found for found in errors) for kind in ERROR_KINDS),
        *(statuses.count(status) for status in NODE_STATUSES), *count_disagreements(reports, released),
    ]  # fmt: skip


class JoinedRows(Metric):
    """A table to which each process adds rows, if any; `compute` gives the rows of all.

    Args:
        columns: width of the table.
        dtype: of its numbers.
    """

    full_state_update = False

    def __init__(self, columns: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.columns, self.kind = columns, dtype
        self.add_state("rows", [], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        """Drop all rows but an empty table, so that processes without rows can gather."""
        super().reset()
        self.rows.append(torch.zeros(0, self.columns, dtype=self.kind, device=self.device))

    def add(self, rows_MC: Tensor) -> None:
        """Add [M, C] rows."""
        self.rows.append(rows_MC.to(self.device, self.kind).reshape(-1, self.columns))

    def compute(self) -> Tensor:
        """[M, C] rows of all batches and processes."""
        return dim_zero_cat(self.rows)


class ProblemTable(JoinedRows):
    """Joins the rows of all batches and processes; see `COLUMNS`."""

    def __init__(self) -> None:
        super().__init__(len(COLUMNS), torch.float64)

    def update(self, rows: Sequence[Sequence[float]]) -> None:
        """Add rows of problems."""
        self.add(torch.tensor(rows, dtype=torch.float64))

    def compute(self) -> Tensor:
        """[M, C] rows of all problems, by index."""
        rows_MC = super().compute()
        return rows_MC[rows_MC[:, PLACE["index"]].argsort()]
