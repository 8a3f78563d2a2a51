"""Budgets in tokens or problems: the number of updates of a run, and of batches in an update."""

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


class TokenBudget(Callback):
    """Set the Trainer's `max_steps` and `accumulate_grad_batches` from numbers of tokens.

    Tokens are positions of packed rows, padding included, as in the paper (512K per update).
    It reads `row_length` and `batch_rows` of the data module, and for a budget in problems `tokens_per_problem`.

    Args:
        max_tokens: of the run; rounded down to whole updates, at least one. If `trainer.max_steps` is set too, the smaller
            number of updates holds. None: `trainer.max_steps` alone.
        batch_tokens: of an update, on all devices together; accumulation follows. None: `trainer.accumulate_grad_batches`.
        validate_every: updates between validations. None: `trainer.val_check_interval`, which counts batches.
        max_problems: problems of the run instead of tokens, so that runs with different tokenizers see equally many: as many
            tokens as these have on average, in rows that are full.
    """

    def __init__(
        self, max_tokens: float | None = None, batch_tokens: int | None = None, validate_every: int | None = None,
        max_problems: float | None = None,
    ) -> None:  # fmt: skip
        given = {"max_tokens": max_tokens, "batch_tokens": batch_tokens, "validate_every": validate_every}
        for name, value in {**given, "max_problems": max_problems}.items():
            if value is not None and value < 1:
                raise ValueError(f"budget.{name}={value:g} must be at least 1; leave it out for no such budget.")
        if max_tokens is not None and max_problems is not None:
            raise ValueError("budget: max_tokens and max_problems are two budgets of one run; give one of them.")
        self.max_tokens, self.batch_tokens, self.validate_every = max_tokens, batch_tokens, validate_every
        self.max_problems = max_problems

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set the Trainer's limits."""
        if stage != "fit" or trainer.fast_dev_run:
            return
        if (self.batch_tokens, self.max_tokens, self.max_problems) != (None, None, None):
            per_batch, max_tokens = self._tokens_per_batch(trainer), self.max_tokens
            if self.max_problems is not None:
                max_tokens = self.max_problems * trainer.datamodule.tokens_per_problem
            if self.batch_tokens is not None:
                trainer.accumulate_grad_batches = accumulation(self.batch_tokens, per_batch, trainer.accumulate_grad_batches)
            if max_tokens is not None:
                steps = max(1, int(max_tokens // (per_batch * trainer.accumulate_grad_batches)))
                limit = trainer.max_steps
                trainer.fit_loop.epoch_loop.max_steps = steps if limit == -1 else min(steps, limit)
        if self.validate_every is not None:
            trainer.val_check_interval = self.validate_every * trainer.accumulate_grad_batches
            trainer.check_val_every_n_epoch = None

    def _tokens_per_batch(self, trainer: Trainer) -> int:
        data = trainer.datamodule
        if not hasattr(data, "row_length"):
            raise ValueError(f"a budget in tokens needs data of packed rows, not {type(data).__name__}; set `trainer.max_steps`.")
        return data.row_length * data.batch_rows * trainer.world_size


def accumulation(batch_tokens: int, per_batch: int, wanted: int = 1) -> int:
    """Batches of `per_batch` tokens (all devices together) that make up an update of `batch_tokens`.

    Args:
        batch_tokens: of an update.
        per_batch: rows x row length x devices.
        wanted: `trainer.accumulate_grad_batches`; 1 if it is not set.

    Raises:
        ValueError: the number is not whole, or not what is wanted.
    """
    count, rest = divmod(batch_tokens, per_batch)
    if rest or not count:
        raise ValueError(
            f"budget.batch_tokens={batch_tokens} is not a multiple of the {per_batch} tokens of one batch on all devices "
            "(row_length x batch_rows x devices); change `data.init_args.batch_rows`, the number of devices, or the budget."
        )
    if wanted not in (1, count):
        raise ValueError(
            f"budget.batch_tokens={batch_tokens} makes {count} batches an update, trainer.accumulate_grad_batches says {wanted}; "
            "leave one of the two out."
        )
    return count
