"""Summaries of a table of problems: pass@k with intervals, process accuracy, error kinds, response length."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from grammar import GRADERS
from lightning_modules.metrics.bootstrap import estimate_means
from lightning_modules.metrics.disagreements import FAULTS, RELEASED
from lightning_modules.metrics.pass_at_k import pass_at_k, powers_of_two
from lightning_modules.metrics.problem_table import ERROR_KINDS, NODE_STATUSES, PLACE

Strata = Sequence[tuple[float, Sequence[int]]]  # weight, operations


@dataclass(frozen=True)
class Intervals:
    """Settings of confidence intervals.

    Args:
        level: coverage of the intervals.
        resamples: bootstrap draws of problems; 0: no intervals.
    """

    level: float = 0.95
    resamples: int = 1000

    def __post_init__(self) -> None:
        if not 0 < self.level < 1 or self.resamples < 0:
            raise ValueError(f"{self}: level must be between 0 and 1, resamples at least 0.")


def group_rows(
    table_MC: Tensor, bands: Mapping[str, Sequence[int]], weighted: Mapping[str, Strata], labels: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, list[tuple[float, Tensor]]]]:
    """Cut a table into groups: dimension -> name -> [(weight, [m] row numbers)].

    Args:
        table_MC: see `ProblemTable`; on the CPU.
        bands: name -> operations; dimension "band".
        weighted: name -> [(weight, operations)], weights summing to 1; also in dimension "band".
        labels: "context" and "mode" -> their names, by number.
    """
    op_M = table_MC[:, PLACE["op"]].long()

    def where(mask_M: Tensor, weight: float = 1.0) -> tuple[float, Tensor]:
        return weight, mask_M.nonzero().flatten()

    strata = {**{name: [(1.0, ops)] for name, ops in bands.items()}, **weighted}
    groups = {
        "all": {"all": [where(torch.ones_like(op_M))]},
        "band": {
            name: [where(torch.isin(op_M, torch.tensor(list(ops))), weight) for weight, ops in parts]
            for name, parts in strata.items()
        },
        "op": {str(op): [where(op_M == op)] for op in op_M.unique().tolist()},
    }
    for dimension in ("context", "mode"):
        number_M = table_MC[:, PLACE[dimension]].long()
        groups[dimension] = {name: [where(number_M == i)] for i, name in enumerate(labels[dimension]) if (number_M == i).any()}
    cell_M3 = table_MC[:, [PLACE["op"], PLACE["context"], PLACE["mode"]]].long()
    groups["cell"] = {
        f"{op}/{labels['context'][c]}/{labels['mode'][m]}": [where((cell_M3 == torch.tensor([op, c, m])).all(1))]
        for op, c, m in cell_M3.unique(dim=0).tolist()
    }
    return groups


def summarise(table_MC: Tensor, strata: Sequence[tuple[float, Tensor]], intervals: Intervals) -> dict[str, Any]:
    """Summarise one group of problems.

    Args:
        table_MC: see `ProblemTable`.
        strata: (weight, [m] row numbers), as `group_rows` gives them.
        intervals: settings of the confidence intervals.

    Returns:
        `problems`, `samples`; per grader pass@1, @2, @4 ... @n with mean, standard_error, low, high and the number of problems
        that have k samples; `process_accuracy` likewise; `errors` (share of samples with an error of a kind), `nodes` (share of
        gold quantities of a status), `faults` and `disagreements` (shares of samples; `disagreements.py`), `response_tokens`
        (mean), `finished` (share of responses that end with the end token). The grader `released` is there if it was asked.
    """
    parts = [(weight, table_MC[rows]) for weight, rows in strata]
    everything = torch.cat([part for _, part in parts])
    samples = everything[:, PLACE["samples"]]
    if not len(samples):
        return {"problems": 0, "samples": 0}
    released = (RELEASED,) if not everything[:, PLACE[RELEASED]].isnan().any() else ()
    columns = [(grader, k) for grader in (*GRADERS, *released) for k in powers_of_two(int(samples.max()))]
    values = [(weight, _values(part, columns)) for weight, part in parts]
    estimates = estimate_means(values, level=intervals.level, resamples=intervals.resamples)
    result: dict[str, Any] = {"problems": len(everything), "samples": int(samples.sum())}
    for (grader, k), estimate in zip(columns, estimates, strict=False):
        result.setdefault(grader, {})[f"pass@{k}"] = estimate._asdict()
    result["process_accuracy"] = estimates[-1]._asdict()

    def share(name: str, of: Tensor) -> float:
        """Weighted mean over strata of (sum of a column) / (sum of `of`)."""
        cut = of.split([len(part) for _, part in parts])
        pairs = zip(parts, cut, strict=True)
        return float(sum(weight * part[:, PLACE[name]].sum() / total.sum() for (weight, part), total in pairs))

    nodes = everything[:, [PLACE[f"node/{status}"] for status in NODE_STATUSES]].sum(dim=1)
    result["errors"] = {kind: share(f"error/{kind}", samples) for kind in ERROR_KINDS}
    result["nodes"] = {status: share(f"node/{status}", nodes) for status in NODE_STATUSES}
    result["faults"] = {fault: share(f"fault/{fault}", samples) for fault in FAULTS}
    result["disagreements"] = {
        "answer, not paper": {fault: share(f"answered/{fault}", samples) for fault in FAULTS},
        "paper, not executable": {kind: share(f"unsound/{kind}", samples) for kind in ERROR_KINDS},
    }
    for grader in released:
        found = {"released, not paper": share(f"{grader}/only", samples), "paper, not released": share(f"{grader}/not", samples)}
        result["disagreements"][grader] = found
    return result | {"response_tokens": share("tokens", samples), "finished": share("finished", samples)}


def _values(part_MC: Tensor, columns: Sequence[tuple[str, int]]) -> Tensor:
    """[m, columns + 1]: pass@k of each problem under each grader, then its process accuracy."""
    n_M = part_MC[:, PLACE["samples"]]
    most = int(n_M.max()) if len(n_M) else 0
    found = [
        pass_at_k(part_MC[:, PLACE[grader]], n=n_M, k=k) if k <= most else torch.full_like(n_M, torch.nan)
        for grader, k in columns
    ]
    return torch.stack([*found, part_MC[:, PLACE["process_accuracy"]] / n_M], dim=1)
