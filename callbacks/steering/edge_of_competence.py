"""A curriculum that follows the model: problems that it solves sometimes but not reliably."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from lightning import LightningModule, Trainer

from callbacks.files import run_folder, write_text
from callbacks.kept_state import KeptState
from callbacks.processes import sum_over_processes
from grammar import grade
from grammar.graders import check_grader

FILE = "frontier.jsonl"


class Rate(NamedTuple):
    """Pass@1 (`once`) and pass@k (`ever`) on the problems of a cell."""

    once: float
    ever: float


class EdgeOfCompetence(KeptState):
    """Train on the cells (op x context x mode) of the mixture where pass@1 is low and pass@k is not; probe again at intervals.

    A probe samples k completions, as rollouts are sampled, to fresh training problems of every cell; held-out problems are left
    alone, and nothing is learnt from it. The compute ledger has its cost under `probe`. Later rollouts draw from the cells at the
    edge, in proportion to the mixture's weights. If no cell is at the edge, those are taken where pass@k exceeds pass@1 the most.

    Logs of the last probe `train/edge/pass@1/opN`, `train/edge/pass@K/opN` (means over contexts and modes), `train/edge/cells`
    (how many are at the edge), and `train/edge/op_lowest`, `op_mean`, `op_highest` of the cells that are trained on. Every probe
    is a row of `frontier.jsonl` in the run's folder: `step`, and of each cell op, context, mode, pass@1, pass@k, `chosen`.

    It uses `cells`, `cell_problems` and `focus` of the data module, and `probe` of the module.

    Args:
        grader: says what is solved.
        k: completions of a problem.
        problems: of each cell in one probe, all processes together.
        every_n_steps: updates between probes; the first is before training.
        pass_1_at_most: a cell above is too easy.
        pass_k_at_least: a cell below is too hard.
    """

    kept = ("probes", "probed_at", "latest")  # the chosen cells are the data module's state

    def __init__(
        self, grader: str = "executable", k: int = 8, problems: int = 8, every_n_steps: int = 20,
        pass_1_at_most: float = 0.5, pass_k_at_least: float = 0.25,
    ) -> None:  # fmt: skip
        if k < 2 or problems < 1 or every_n_steps < 1:
            raise ValueError(
                f"EdgeOfCompetence: k={k} must be at least 2, problems={problems} and every_n_steps={every_n_steps} at least 1."
            )
        if not (0 <= pass_1_at_most <= 1 and 0 <= pass_k_at_least <= 1):
            raise ValueError(
                f"EdgeOfCompetence: pass_1_at_most={pass_1_at_most}, pass_k_at_least={pass_k_at_least} must be within 0 and 1."
            )
        check_grader(grader)
        self.grader, self.k, self.problems, self.every_n_steps = grader, k, problems, every_n_steps
        self.pass_1_at_most, self.pass_k_at_least = pass_1_at_most, pass_k_at_least
        self.probes, self.probed_at = 0, -1
        self.latest: dict[str, float] = {}  # logs of the last probe

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse data without cells to choose from."""
        data = trainer.datamodule
        if stage == "fit" and not getattr(data, "cells", ()):
            raise ValueError(
                f"EdgeOfCompetence chooses cells of a PromptDataModule's mixture; this {type(data).__name__} has none."
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop rows of probes that are still to come; probe if there was none."""
        path = run_folder(trainer) / FILE
        if trainer.is_global_zero and path.is_file():
            rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
            write_text(path, "".join(rows[: self.probes]))
        if self.probes == 0:
            self._probe(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: object) -> None:
        """Probe if due, so that a checkpoint of this step holds the choice; log."""
        step = trainer.global_step
        if step % self.every_n_steps == 0 and step != self.probed_at and step != trainer.max_steps:
            self._probe(trainer, pl_module)
        pl_module.log_dict(self.latest)

    def _probe(self, trainer: Trainer, pl_module: LightningModule) -> None:
        cells = trainer.datamodule.cells
        rates = self._measure(trainer, pl_module, cells)
        at_edge = [i for i, rate in enumerate(rates) if rate.once <= self.pass_1_at_most and rate.ever >= self.pass_k_at_least]
        chosen = at_edge or most_to_gain(rates)
        trainer.datamodule.focus([cells[i] for i in chosen])
        self.probes, self.probed_at = self.probes + 1, trainer.global_step
        ops = [cells[i].op for i in chosen]
        self.latest = {
            "train/edge/cells": float(len(at_edge)), "train/edge/op_lowest": float(min(ops)),
            "train/edge/op_mean": sum(ops) / len(ops), "train/edge/op_highest": float(max(ops)),
        }  # fmt: skip
        for op in sorted({cell.op for cell in cells}):
            of_op = [rate for cell, rate in zip(cells, rates, strict=True) if cell.op == op]
            self.latest[f"train/edge/pass@1/op{op}"] = sum(rate.once for rate in of_op) / len(of_op)
            self.latest[f"train/edge/pass@{self.k}/op{op}"] = sum(rate.ever for rate in of_op) / len(of_op)
        self._write(trainer, cells, rates, set(chosen))

    def _measure(self, trainer: Trainer, pl_module: LightningModule, cells: Sequence[Any]) -> list[Rate]:
        """Rates on `problems` fresh problems of each cell, which processes share."""
        rank, world = trainer.global_rank, trainer.world_size
        if len(cells) * self.problems < world:
            raise ValueError(
                f"EdgeOfCompetence: {len(cells)} cells x problems={self.problems} are too few for {world} processes."
            )
        first = self.probes * self.problems
        places = [(cell, first + number) for cell in range(len(cells)) for number in range(self.problems)][rank::world]
        batch = trainer.datamodule.cell_problems([(cells[cell], index) for cell, index in places])
        once, ever = [0.0] * len(cells), [0.0] * len(cells)
        for (cell, _), reports in zip(places, pl_module.probe(batch, self.k), strict=True):
            accepted = sum(grade(report, self.grader) for report in reports)
            once[cell] += accepted / self.k
            ever[cell] += accepted > 0
        sums = sum_over_processes(trainer, once + ever)
        return [Rate(a / self.problems, b / self.problems) for a, b in zip(sums[: len(cells)], sums[len(cells) :], strict=True)]

    def _write(self, trainer: Trainer, cells: Sequence[Any], rates: Sequence[Rate], chosen: set[int]) -> None:
        path = run_folder(trainer) / FILE
        if not trainer.is_global_zero or trainer.fast_dev_run:
            return
        found = [
            {
                "op": cell.op, "context": cell.context, "mode": cell.mode, "pass@1": rate.once, f"pass@{self.k}": rate.ever,
                "chosen": i in chosen,
            }
            for i, (cell, rate) in enumerate(zip(cells, rates, strict=True))
        ]  # fmt: skip
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
        write_text(path, before + json.dumps({"step": trainer.global_step, "cells": found}) + "\n")


def most_to_gain(rates: Sequence[Rate]) -> list[int]:
    """Indices of the cells where pass@k exceeds pass@1 the most: all cells if it does nowhere."""
    most = max(rate.ever - rate.once for rate in rates)
    return [i for i, rate in enumerate(rates) if rate.ever - rate.once == most]
