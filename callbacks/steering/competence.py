"""Training that ends when a model is able enough, not after a number of tokens."""

from lightning import LightningModule, Trainer

from callbacks.files import run_folder, write_json
from callbacks.kept_state import KeptState

ROUNDING = 1e-6  # of scores, which are logged in float32


class UntilCompetent(KeptState):
    """Stop training once every operation of a band is solved, so that models of different seeds are equally able.

    Models of the same size and tokens differ: some have just learned an operation that others have not. Then a difference
    after RL is partly one of the bases. The score is the lowest pass@1 at validation of the band's numbers of operations, of
    which each should have as many problems (`held_out.per_op: true`). `trainer.max_steps` is the cap; a run that reaches it
    says so. `competence.json` in the run's folder has, for every run, `reached` and each validation's step, lowest score
    and operation.

    Args:
        band: of `held_out.bands`; those that the model was trained on.
        level: pass@1 of every operation.
        grader: that judges.
    """

    kept = ("history",)

    def __init__(self, band: str = "ID", level: float = 0.95, grader: str = "executable") -> None:
        if not 0 < level <= 1:
            raise ValueError(f"UntilCompetent: level={level} must be above 0 and at most 1.")
        self.band, self.level, self.grader = band, level, grader
        self.history: list[tuple[int, float, int]] = []  # step, lowest score, its operation

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare with the level, and stop."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        scores = trainer.strategy.broadcast(self._scores(trainer))  # only the first process has them all
        op = min(scores, key=scores.__getitem__)
        self.history.append((trainer.global_step, scores[op], op))
        trainer.should_stop = trainer.should_stop or self.done

    @property
    def done(self) -> bool:
        """Whether the last validation was good enough."""
        return bool(self.history) and self.history[-1][1] >= self.level - ROUNDING

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep how it went."""
        folder = run_folder(trainer)
        if not trainer.is_global_zero or not self.history:
            return
        names = ("step", "pass@1", "op")
        rows = [dict(zip(names, row, strict=True)) for row in self.history]
        wanted = {"band": self.band, "level": self.level, "grader": self.grader}
        write_json(folder / "competence.json", {"reached": self.done, **wanted, "validations": rows})
        step, score, op = self.history[-1]
        said = "competent" if self.done else f"NOT competent (wanted {self.level})"
        print(f"{said} after {step} updates: lowest pass@1 of {self.band} is {score:.3f}, at op {op}", flush=True)

    def _scores(self, trainer: Trainer) -> dict[int, float]:
        """Operation -> pass@1; empty on other processes than the first.

        Raises:
            ValueError: validation does not log them.
        """
        if not trainer.is_global_zero:
            return {}
        bands, logged = trainer.datamodule.bands, trainer.callback_metrics
        if self.band not in bands:
            raise ValueError(f"UntilCompetent: there is no band {self.band!r}; choose one of {sorted(bands)}.")
        names = {op: f"val/{self.grader}/pass@1/op{op}" for op in bands[self.band]}
        if missing := sorted(op for op, name in names.items() if name not in logged):
            raise ValueError(
                f"UntilCompetent: validation has no {names[missing[0]]}; choose a grader that judges, and set "
                "`data.init_args.held_out.per_op: true`, so that every operation has problems."
            )
        return {op: float(logged[name]) for op, name in names.items()}
