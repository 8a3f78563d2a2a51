"""Verified pass@k of held-out problems and all that goes with it: logged, and after an evaluation written to files."""

import math
from collections.abc import Mapping
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from callbacks.files import run_folder, write_json
from callbacks.text_tables import align, bands_of
from grammar import GRADERS


def without_nan(value: Any) -> Any:
    """Nested dicts with None for nan, which JSON lacks."""
    if isinstance(value, Mapping):
        return {key: without_nan(held) for key, held in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def read_weights(weighted: Mapping[str, Mapping[str, float]]) -> dict[str, list[tuple[float, list[int]]]]:
    """Read {"ID as published": {"2-4": 0.2, "5-7": 0.3, "8-10": 0.5}} as name -> [(weight, operations)].

    Raises:
        ValueError: operations cannot be read, or weights do not sum to 1.
    """
    found = {}
    for name, parts in weighted.items():
        if not math.isclose(sum(parts.values()), 1.0, abs_tol=1e-6):
            raise ValueError(f"pass_at_k.weighted {name!r}: weights sum to {sum(parts.values()):g}, not 1.")
        strata = []
        for ops, weight in parts.items():
            low, _, high = str(ops).partition("-")
            if not low.isdigit() or not (high or low).isdigit():
                raise ValueError(f"pass_at_k.weighted {name!r}: expected operations such as 8 or 2-4, found {ops!r}.")
            strata.append((weight, list(range(int(low), int(high or low) + 1))))
        found[name] = strata
    return found


def passes_of(grades: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Grader -> pass@k, of all that the grades of a band hold."""
    return {grader: found for grader, found in grades.items() if isinstance(found, dict) and "pass@1" in found}


def as_text(bands: Mapping[str, Any]) -> str:
    """Pass@1 and pass@n under each grader, one line for each band; operation counts are left to the files."""
    rows = []
    for name in bands_of(bands):
        grades = bands[name]
        if grades["problems"]:
            cells = [f"{grades['problems']} x {grades['samples'] // grades['problems']}"]
            for found in passes_of(grades).values():
                first, last = found["pass@1"], list(found.values())[-1]
                cells += [f"{e['mean']:.3f} [{e['low']:.3f}, {e['high']:.3f}]" for e in (first, last)]
            rows.append([name, *cells])
    n = max((int(row[1].split(" x ")[1]) for row in rows), default=1)
    graders = next((passes_of(grades) for grades in bands.values() if grades["problems"]), GRADERS)
    head = ["band", "samples", *(f"{grader} pass@{k}" for grader in graders for k in (1, n))]
    return align([head, *rows], underline=False)


class VerifiedPassAtK(Callback):
    """Log `STAGE/GRADER/pass@K/BAND`, `.../opN`, process accuracy and gold likelihood.

    `validate` and `test` also write, in the run's folder, `evaluation.json` (everything, see docs/evaluation.md) and
    `pass_at_k.json` (pass@k by band and op only).

    It calls the module's `summary` and `identity`.

    Args:
        ks: which k are logged; None: 1 and the number of samples. Files have 1, 2, 4 ... all.
        weighted: further bands as weighted means of bands, e.g. the paper's
            {"ID weighted": {"2-4": 0.2, "5-7": 0.3, "8-10": 0.5}}; weights sum to 1.
        level: share of the confidence intervals that cover the truth.
        resamples: bootstrap draws of problems.
    """

    def __init__(
        self, ks: tuple[int, ...] | None = None, weighted: dict[str, dict[str, float]] | None = None, level: float = 0.95,
        resamples: int = 1000,
    ) -> None:  # fmt: skip
        if (ks and min(ks) < 1) or not 0 < level < 1 or resamples < 0:
            raise ValueError(
                f"pass_at_k: ks={ks} must be at least 1, level={level} within 0 and 1, resamples={resamples} at least 0."
            )
        self.ks, self.weighted, self.level, self.resamples = ks, read_weights(weighted or {}), level, resamples

    def _log(self, pl_module: LightningModule, stage: str, name: str, grades: dict[str, Any]) -> None:
        def log(key: str, value: float) -> None:
            pl_module.log(f"{stage}/{key}/{name}", value, rank_zero_only=True)

        for grader, found in passes_of(grades).items():
            for metric in [f"pass@{k}" for k in self.ks] if self.ks else [*found][:: max(1, len(found) - 1)]:
                if metric in found:
                    log(f"{grader}/{metric}", found[metric]["mean"])
                else:
                    rank_zero_warn(f"pass_at_k.ks: {metric} is not estimated from these samples; there are {', '.join(found)}.")
        if "process_accuracy" in grades:
            log("process_accuracy", grades["process_accuracy"]["mean"])

    def _finish(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        alone = trainer.state.fn.value != "fit"
        found = pl_module.summary(self.weighted, level=self.level, resamples=self.resamples if alone else 0)
        if not found:
            return
        bands = found["grades"]["band"] | {f"op{op}": grades for op, grades in found["grades"]["op"].items()}
        for name, grades in bands.items():
            self._log(pl_module, stage, name, grades)
        for name, kinds in found.get("likelihood", {}).items():
            if kinds:
                pl_module.log(f"{stage}/gold_nll_nats/{name}", kinds["all"]["nll_nats"], rank_zero_only=True)
        if alone:
            head = {"settings": pl_module.identity(), "seconds": dict(pl_module.judgements.seconds)}
            folder = run_folder(trainer)
            if trainer.is_global_zero:
                write_json(folder / "evaluation.json", without_nan(head | found))
                write_json(folder / "pass_at_k.json", without_nan({name: passes_of(grades) for name, grades in bands.items()}))
                print(f"{as_text(bands)}\n{folder / 'evaluation.json'} has the rest", flush=True)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log, and write unless this is a validation in training."""
        if not trainer.sanity_checking:
            self._finish(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log and write."""
        self._finish(trainer, pl_module, "test")
