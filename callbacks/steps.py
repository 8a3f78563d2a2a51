"""Where a run stands: whether an update is whole, and whether its step is logged."""

from lightning import Trainer


def is_update(trainer: Trainer, batch_idx: int) -> bool:
    """Whether a batch is the last of an update."""
    whole = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
    return whole or trainer.fit_loop.epoch_loop.batch_progress.is_last_batch


def is_logged(trainer: Trainer, step: int) -> bool:
    """Whether Lightning logs after so many updates; with `log_every_n_steps: 0` it never does."""
    return trainer.log_every_n_steps > 0 and step % trainer.log_every_n_steps == 0
