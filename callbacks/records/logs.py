"""Logs of a resumed run: they continue at the checkpoint's step, and what came after it is dropped."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

from callbacks.files import run_folder, write_text
from callbacks.steps import is_logged, is_update


class RewindLogs(Callback):
    """When training starts, drop log entries of steps that are still to come: all of them in a fresh run.

    A checkpoint is saved before its own update is logged; it holds what is about to be logged, and a resumed run logs that. A
    validation between the batches of the update (`accumulate_grad_batches`) was logged at the same step; it is logged again.
    It calls `rewind(step)` of loggers that have it.
    """

    def __init__(self) -> None:
        self.pending: list[dict[str, float | int]] = []  # rows of one step
        self.trained = False  # whether these logs are of a training
        self.between = False  # whether a validation came between the batches of this update

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """An update begins."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self.between = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See whether the update goes on."""
        if not trainer.sanity_checking and trainer.state.fn == TrainerFn.FITTING:
            self.between = not is_update(trainer, trainer.fit_loop.epoch_loop.batch_idx)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep what this update is about to log; once validation runs, it has been logged."""
        due = trainer.training and is_logged(trainer, trainer.global_step)
        kinds = [*(["val/"] if self.between else []), "train/"] if due else []
        rows = [{k: v.item() for k, v in trainer.callback_metrics.items() if k.startswith(kind)} for kind in kinds]
        checkpoint["pending_log"] = [row | {"epoch": trainer.current_epoch} for row in rows if row]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take it from the checkpoint; those of earlier versions have one row, or none."""
        pending = checkpoint.get("pending_log") or []
        self.pending = [pending] if isinstance(pending, dict) else pending

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Clear the logs that an earlier evaluation left in the folder of this one."""
        if stage != "fit" and not self.trained:
            folder = run_folder(trainer).resolve()
            self._rewind([one for one in trainer.loggers if Path(one.log_dir or "").resolve() == folder], 0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Rewind to `trainer.global_step`."""
        self.trained = True
        self._rewind(trainer.loggers, trainer.global_step - bool(self.pending))
        self.pending = []

    def _rewind(self, loggers: Sequence[Logger], step: int) -> None:
        for logger in loggers:
            if hasattr(logger, "rewind"):
                logger.rewind(step)
                for row in self.pending:
                    logger.log_metrics(row, step)


class TensorBoard(TensorBoardLogger):
    """TensorBoardLogger that can be rewound."""

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Tell TensorBoard to leave out events of earlier files from `step` on."""
        start = Event(step=step, session_log=SessionLog(status=SessionLog.START))
        self.experiment._get_file_writer().add_event(start)


class MetricsCSV(CSVLogger):
    """CSVLogger that writes each row at once, keeps what `metrics.csv` holds, and can be rewound."""

    def __init__(self, save_dir: str | Path, name: str | None = "", version: int | str | None = "", prefix: str = "") -> None:
        super().__init__(save_dir, name, version, prefix, flush_logs_every_n_steps=1)

    @property
    @rank_zero_only
    def experiment(self) -> ExperimentWriter:
        """The writer of this run."""
        if self._experiment is None:  # type: ignore[has-type]  # Lightning declares it
            self._experiment = _KeepingWriter(self.log_dir)
        return self._experiment

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Drop rows of `step` and later."""
        self.experiment.rewind(step)


class _KeepingWriter(ExperimentWriter):
    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        self.metrics_keys = self._rows()[0]

    def _check_log_dir_exists(self) -> None:
        """Keep the files of the folder."""

    def _rows(self) -> tuple[list[str], list[dict[str, Any]]]:
        """Header and rows of the file, without a last line that a killed process left unfinished."""
        path = Path(self.metrics_file_path)
        if not path.is_file():
            return [], []
        whole, end, _ = path.read_text(encoding="utf-8").rpartition("\n")
        reader = csv.DictReader((whole + end).splitlines())
        return list(reader.fieldnames or []), list(reader)

    def _write(self, keys: list[str], rows: list[dict[str, Any]]) -> None:
        lines = [",".join(keys), *(",".join(row.get(key) or "" for key in keys) for row in rows)]
        write_text(Path(self.metrics_file_path), "\n".join(lines) + "\n")

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        """Rewrite the file as a whole or not at all."""
        self._write(fieldnames, self._rows()[1])

    def rewind(self, step: int) -> None:
        keys, rows = self._rows()
        if step == 0:
            Path(self.metrics_file_path).unlink(missing_ok=True)
            self.metrics_keys = []
        elif keys:
            self._write(keys, [row for row in rows if int(row["step"]) < step])
