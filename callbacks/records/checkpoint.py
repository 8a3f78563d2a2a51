"""Checkpoints that appear whole or not at all, files and folders of shards alike; also where a signal asks training to stop."""

import os
import signal
import sys
from pathlib import Path
from shutil import rmtree
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from callbacks.files import run_folder
from callbacks.records.stop_signals import Stopped, StopSignals, command_to_go_on


class Checkpoint(ModelCheckpoint):
    """ModelCheckpoint whose checkpoints are written under another name (`.part`) and renamed when they are on the disk.

    `ckpt_path: last` then takes the newest of a run's checkpoints, whatever its name; without one, training begins.
    Where validation follows an update, its checkpoint waits for it: a resumed run validates neither twice nor never.
    Ctrl-C and SIGTERM end training after the update under way (and the validation that follows it), with a checkpoint; several
    processes look for them when Lightning logs.
    """

    waiting: tuple[Any, ...] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As ModelCheckpoint."""
        super().__init__(*args, **kwargs)
        self.signals = StopSignals()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wait for signals."""
        super().on_train_start(trainer, pl_module)
        self.signals.watch()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Wait no longer."""
        super().on_exception(trainer, pl_module, exception)
        self.signals.release()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """End where a signal came after the last update; all that training leaves is written."""
        super().teardown(trainer, pl_module, stage)
        self.signals.release()
        late, self.signals.caught = self.signals.caught, None
        if late is not None:
            raise Stopped(late)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save where it is due, or wait for validation."""
        loop = trainer.fit_loop
        if loop.epoch_loop._should_check_val_fx(loop._data_fetcher):
            self.waiting = (outputs, batch, batch_idx)
        else:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            self._stop_where_asked(trainer, batch_idx)

    def _stop_where_asked(self, trainer: Trainer, batch_idx: int) -> None:
        """Save and stop after an update, unless it was the last: then training is done anyway."""
        updated = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if not updated or trainer.global_step == trainer.max_steps:
            return
        caught = self.signals.caught
        if trainer.world_size > 1:
            if trainer.global_step % trainer.log_every_n_steps:
                return
            caught = trainer.strategy.reduce_boolean_decision(caught is not None, all=False) and (caught or signal.SIGTERM)
        if not caught:
            return
        if self._last_global_step_saved != trainer.global_step:
            self._save_checkpoint(
                trainer, self.format_checkpoint_name(self._monitor_candidates(trainer), self.CHECKPOINT_NAME_LAST)
            )
        self.signals.caught = None
        if trainer.is_global_zero:
            print(f"Stopped at step {trainer.global_step} of {trainer.max_steps}; saved {self._last_checkpoint_saved}")
            print(f"To go on: {command_to_go_on(sys.argv)}", flush=True)
        raise Stopped(caught)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what waited."""
        if self.waiting is not None:
            super().on_train_batch_end(trainer, pl_module, *self.waiting)
            self.waiting = None
        super().on_validation_end(trainer, pl_module)

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        for logger in trainer.loggers:
            logger.save()  # what was logged before a checkpoint outlives it
        part = filepath + ".part"
        if trainer.is_global_zero:
            _remove(Path(part))
        trainer.strategy.barrier()
        super()._save_checkpoint(trainer, part)
        self._last_checkpoint_saved = filepath
        if trainer.is_global_zero:
            _put(Path(part), Path(filepath))
        trainer.strategy.barrier()

    def _remove_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        if trainer.is_global_zero and Path(filepath).exists():
            part = filepath + ".part"
            os.replace(filepath, part)  # a folder half removed must not look like a checkpoint
            _remove(Path(part))
        trainer.strategy.barrier()

    def _find_last_checkpoints(self, trainer: Trainer) -> set[str]:
        folder = Path(self.dirpath) if self.dirpath else run_folder(trainer) / "checkpoints"
        return {str(path) for path in folder.glob("*" + self.FILE_EXTENSION)}


def _remove(path: Path) -> None:
    if path.is_dir():
        rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _put(part: Path, path: Path) -> None:
    """Move `part` to `path` once its bytes are on the disk; a folder that stands there gives way first."""
    for file in [part] if part.is_file() else part.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
    if path.is_dir():
        old = path.with_name(path.name + ".old.part")
        _remove(old)
        os.replace(path, old)
        os.replace(part, path)
        _remove(old)
    else:
        os.replace(part, path)
