"""Checkpoints that appear whole or not at all, with the state of random number generators; a signal to stop leaves one too."""

import errno
import os
import random
import re
import shlex
import signal
import sys
from pathlib import Path
from shutil import rmtree
from threading import current_thread, main_thread
from types import FrameType
from typing import Any

import numpy
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loops.fit_loop import _FitLoop
from torch import distributed

from callbacks.files import CHECKSUMS, checksum, damage, run_folder, write_json
from callbacks.steps import is_logged, is_update

CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # schedulers warn of a preemption by either of the last two
ORDINARY = re.compile(r"epoch=\d+-step=\d+(-v\d+)?")


class Stopped(SystemExit):
    """A signal stopped training; the exit status is that of a process which the signal ended: 128 + its number."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)


class StopSignals:
    """Catches the first of CAUGHT; a second one ends the process at once.

    caught: the signal's number; None: none yet.
    """

    def __init__(self) -> None:
        self.caught: int | None = None
        self.before: dict[int, Any] = {}

    def watch(self) -> None:
        """Start to catch signals; only the main thread can."""
        self.caught = None
        if current_thread() is main_thread() and not self.before:
            self.before = {signum: signal.signal(signum, self._note) for signum in CAUGHT}

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.caught = signum
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for other in CAUGHT[1:]:
            signal.signal(other, signal.SIG_DFL)
        print(f"\n{signal.Signals(signum).name}: training stops after this update; once more to stop at once.", flush=True)

    def release(self) -> None:
        """Restore the earlier handlers."""
        for signum, handler in self.before.items():
            signal.signal(signum, handler)
        self.before = {}


class ResumedFitLoop(_FitLoop):
    """Lightning's loop, which passes over a run that is over, hooks and all; a resumed one gets its `on_train_start` and
    `on_train_end`: if it was killed between its last checkpoint and the files that follow training, they are written now.
    """

    @property
    def skip(self) -> bool:
        """Whether to return at once."""
        return super().skip and not self.restarting


class Checkpoint(ModelCheckpoint):
    """ModelCheckpoint whose checkpoints are written under another name (`.part`) and renamed when they are on disk.

    `ckpt_path: last` takes the newest whole one of a run's checkpoints, whatever its name; without one, training starts afresh.
    If validation follows an update, its checkpoint is saved after it: a resumed run validates exactly once. None is saved
    between the batches of an update (`accumulate_grad_batches`), whose gradients it would not hold; it waits for the update.
    Ctrl-C, SIGTERM and SIGUSR1 end training after the current update (and the validation that follows it), with a checkpoint;
    several processes check for them when Lightning logs, and after validation. A run that is over, started again, writes again
    what follows training.
    """

    stopping = False  # a stop that was asked for between the batches of an update
    waiting: tuple[Any, ...] | None = None  # for validation: what on_train_batch_end was called with
    owed = False  # the checkpoint of a validation that came between the batches of an update
    written_with: int | None = None  # `save_top_k` when the checkpoint was written from which this run goes on

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.save_last == "link":
            raise ValueError("checkpoint.save_last: a link may name an older checkpoint than the last; set it to true.")
        self.signals = StopSignals()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give a resumed run its hooks, by the class of Lightning's loop, which takes no other loop."""
        super().on_fit_start(trainer, pl_module)
        trainer.fit_loop.__class__ = ResumedFitLoop

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Catch signals."""
        super().on_train_start(trainer, pl_module)
        self.stopping = False
        if _last_of(trainer) is self:  # when it stops, the others have saved
            self.signals.watch()
        self._remove_leftover(trainer)

    def state_dict(self) -> dict[str, Any]:
        """How many checkpoints are kept, besides what Lightning keeps."""
        return super().state_dict() | {"save_top_k": self.save_top_k}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore."""
        super().load_state_dict(state)
        self.written_with = state.get("save_top_k")

    def _remove_leftover(self, trainer: Trainer) -> None:
        """Remove what this run, killed between saving a checkpoint and removing the one before, has left.

        A checkpoint of another run, from which this one goes on in a folder of its own, and those beside it, stay.
        """
        kept = (self.save_top_k, self.written_with, self.monitor, self.filename)
        if kept != (1, 1, None, None) or not self.best_model_path or len(trainer.checkpoint_callbacks) > 1:
            return
        own = Path(self.best_model_path).resolve().parent == Path(self.dirpath or "").resolve()
        if own and trainer.is_global_zero:
            for path in Path(self.best_model_path).parent.glob("*" + self.FILE_EXTENSION):
                if ORDINARY.fullmatch(path.stem) and str(path) != self.best_model_path:
                    _remove(path)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save if asked to, but no weights that are not finite; stop catching signals.

        Several processes save together, and one that fails does so alone: it would wait for the others.
        """
        if trainer.world_size > 1 and not isinstance(exception, Stopped):
            if self.save_on_exception:
                print("checkpoint.save_on_exception: no checkpoint is saved, as other processes may go on.", flush=True)
        elif not isinstance(exception, FloatingPointError):
            super().on_exception(trainer, pl_module, exception)
        self.signals.release()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Exit if a signal came after the last update; everything is written by now."""
        super().teardown(trainer, pl_module, stage)
        self.signals.release()
        late, self.signals.caught = self.signals.caught, None
        if late is not None:
            raise Stopped(late)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save if due, or wait for validation."""
        self._finish_update(trainer, batch_idx)
        if _validates_now(trainer):
            self.waiting = (outputs, batch, batch_idx)
        elif is_update(trainer, batch_idx):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            if self.owed:
                self.owed = False
                super().on_validation_end(trainer, pl_module)
            self._stop_if_asked(trainer, checked=is_logged(trainer, trainer.global_step))

    def _finish_update(self, trainer: Trainer, batch_idx: int) -> None:
        """Let whatever stops training (`max_time`, early stopping) stop it between updates."""
        self.stopping |= trainer.should_stop
        trainer.should_stop = self.stopping and is_update(trainer, batch_idx)

    def _stop_if_asked(self, trainer: Trainer, *, checked: bool) -> None:
        """Save and stop after an update, unless it was the last and training is done anyway.

        checked: whether several processes ask each other now.
        """
        if trainer.global_step == trainer.max_steps:
            return
        caught = self.signals.caught
        if trainer.world_size > 1:
            if not checked:
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
            print(f"To resume: {resume_command(sys.argv)}", flush=True)
        raise Stopped(caught)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the checkpoint that waited, and stop if asked."""
        waiting, self.waiting = self.waiting, None
        if waiting is not None and not is_update(trainer, waiting[-1]):
            self._finish_update(trainer, waiting[-1])
            self.owed = True
            return
        if waiting is not None:
            super().on_train_batch_end(trainer, pl_module, *waiting)
        super().on_validation_end(trainer, pl_module)
        if waiting is not None:
            if self._every_n_epochs == 1:  # neither steps nor minutes say when to save
                self._save_newest(trainer)
            self._stop_if_asked(trainer, checked=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save updates that came after the last validation or interval, before anything records that training has ended."""
        super().on_train_epoch_end(trainer, pl_module)
        self._save_newest(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See ModelCheckpoint; a `fast_dev_run` leaves none."""
        if not trainer.fast_dev_run:
            super().on_train_end(trainer, pl_module)

    def _save_newest(self, trainer: Trainer) -> None:
        """Let `last.ckpt` be the newest, also where the score of `monitor` was not among the best."""
        if self.save_last and not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        for logger in trainer.loggers:
            logger.save()  # what was logged before a checkpoint outlives it
        part = filepath + ".part"
        if trainer.is_global_zero:
            _remove(Path(part))
        trainer.strategy.barrier()
        try:
            super()._save_checkpoint(trainer, part)
        except RuntimeError as err:  # torch's writer of files tells a full disk that way
            raise OSError(errno.EIO, f"the checkpoint cannot be written ({str(err).partition(chr(10))[0]})", part) from err
        self._last_checkpoint_saved = filepath
        if trainer.is_global_zero:
            _put(Path(part), Path(filepath))
        trainer.strategy.barrier()

    def _remove_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        if trainer.is_global_zero and Path(filepath).exists():
            part = filepath + ".part"
            os.replace(filepath, part)  # a half-removed folder must not look like a checkpoint
            _remove(Path(part))
        trainer.strategy.barrier()

    def _find_last_checkpoints(self, trainer: Trainer) -> set[str]:
        folder = Path(self.dirpath) if self.dirpath else run_folder(trainer) / "checkpoints"
        found = newest_checkpoint(folder, tell=trainer.is_global_zero)
        return {str(found)} if found is not None else set()


def whole_checkpoints(folder: Path, *, tell: bool = True) -> list[Path]:
    """The undamaged checkpoints of a folder, oldest first; tell: print which are left out."""
    paths = {path: damage(path) for path in folder.glob("*" + ModelCheckpoint.FILE_EXTENSION)}
    for path, fault in paths.items():
        if fault and tell:
            print(f"{path} is left out: {fault}.", flush=True)
    return sorted((path for path, fault in paths.items() if not fault), key=lambda path: path.stat().st_mtime)


def newest_checkpoint(folder: Path, *, tell: bool = True) -> Path | None:
    """The newest undamaged checkpoint of a folder: `last.ckpt`, or one of a later step that was written after it; None: none.

    Times alone do not tell: in a copy of a folder they are those of copying.
    """
    whole = whole_checkpoints(folder, tell=tell)
    last = folder / f"{ModelCheckpoint.CHECKPOINT_NAME_LAST}{ModelCheckpoint.FILE_EXTENSION}"
    if last not in whole:
        return whole[-1] if whole else None
    return next((path for path in reversed(whole[whole.index(last) + 1 :]) if step_of(path) > step_of(last)), last)


def step_of(checkpoint: Path) -> int:
    """The training step at which a checkpoint was written; a sharded one keeps its counters beside the weights."""
    file = checkpoint / "meta.pt" if checkpoint.is_dir() else checkpoint
    return int(torch.load(file, map_location="cpu", mmap=checkpoint.is_file(), weights_only=True)["global_step"])


def _last_of(trainer: Trainer) -> Checkpoint:
    return [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, Checkpoint)][-1]


def _validates_now(trainer: Trainer) -> bool:
    """Whether Lightning validates after this batch: it is due, and there is something to validate on, as far as is known."""
    loop, found = trainer.fit_loop, trainer.val_dataloaders
    due = loop.epoch_loop._should_check_val_fx(loop._data_fetcher)
    return due and (found is None or not loop.epoch_loop.val_loop.skip)


def _remove(path: Path) -> None:
    if path.is_dir():
        rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _put(part: Path, path: Path) -> None:
    """Move `part` to `path` once its bytes are on disk; a folder gets checksums, and one of that name is moved away first."""
    if part.is_dir():
        files = sorted(file for file in part.rglob("*") if file.is_file())
        write_json(part / CHECKSUMS, {str(file.relative_to(part)): checksum(file) for file in files})
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


def resume_command(argv: list[str]) -> str:
    """The command that resumes what `argv` started: the same, and for `fit` from its last checkpoint."""
    words = list(argv)
    if words[1:2] == ["fit"]:
        kept = [w for i, w in enumerate(words) if not w.startswith("--ckpt_path") and words[max(0, i - 1)] != "--ckpt_path"]
        words = [*kept, "--ckpt_path", "last"]
    return shlex.join([sys.executable.rpartition("/")[2], *words])


class RandomState(Callback):
    """Save the generators of Python, NumPy, torch and the GPU of every process with each checkpoint.

    A process without a state in the checkpoint (there are more than before) keeps the generators it has.
    """

    def __init__(self) -> None:
        self.restored: list[dict[str, Any]] = []

    def state_dict(self) -> dict[str, Any]:
        """States by process; every process must call this."""
        states = [_state()]
        if distributed.is_available() and distributed.is_initialized():
            states = [None] * distributed.get_world_size()
            distributed.all_gather_object(states, _state())
        return {"states": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep them until training starts."""
        self.restored = state["states"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore this process's generators."""
        if trainer.global_rank < len(self.restored):
            _restore(self.restored[trainer.global_rank])
        self.restored = []


def _state() -> dict[str, Any]:
    state: Any = numpy.random.get_state()
    kind, keys, *rest = state
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype("int64")), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def _restore(state: dict[str, Any]) -> None:
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, *rest = state["numpy"]
    numpy.random.set_state((kind, keys.numpy().astype("uint32"), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
