"""Progress of a run: bars on a terminal, elsewhere a line every ten seconds."""

import math
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from time import perf_counter
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar

SHOWN = (("train/loss", "loss {:.4f}"), ("train/reward", "reward {:.3f}"), ("train/tokens_per_s", "{:,.0f} tokens/s"))


def progress() -> ProgressBar:
    """The callback that suits standard output."""
    return StageBar() if sys.stdout.isatty() else ProgressLines()


def stage_name(trainer: Trainer) -> str:
    """The name of a run's folder."""
    return Path(trainer.default_root_dir).name


class StageBar(RichProgressBar):
    """Lightning's bars; that of training shows the stage's name, since runs are counted in updates, not in epochs."""

    def _get_train_description(self, current_epoch: int) -> str:
        return f"{stage_name(self.trainer):{len(self.validation_description)}}"

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """What lines show, read as the bar is drawn; with `prog_bar`, Lightning would wait for the device at every batch."""
        found = trainer.callback_metrics
        return super().get_metrics(trainer, pl_module) | {key: float(found[key]) for key, _ in SHOWN if key in found}


class ProgressLines(ProgressBar):
    """A line every few seconds, whatever the run does: `pretrain: step 120 of 500, loss 0.2310, 12,563 tokens/s, 0:00:30 left`.

    A thread prints it, so that a step of minutes does not look like a hang.

    Args:
        every_s: seconds between two lines.
    """

    def __init__(self, every_s: float = 10.0) -> None:
        super().__init__()
        self.every_s, self.speaks = every_s, True
        self.ended = Event()
        self.done = self.first_step = 0
        self.since = perf_counter()

    def disable(self) -> None:
        """Print nothing: another process does."""
        self.speaks = False

    def enable(self) -> None:
        """Print again."""
        self.speaks = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print what `Trainer.print` is given."""
        if self.speaks:
            print(*args, **kwargs, flush=True)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Start to print."""
        super().setup(trainer, pl_module, stage)
        self.ended, self.since = Event(), perf_counter()
        if trainer.is_global_zero:
            Thread(target=self._speak, args=(self.ended,), daemon=True).start()

    def _speak(self, ended: Event) -> None:
        while not ended.wait(self.every_s):
            self.print(self.line())

    def _fall_silent(self, *args: object, **kwargs: object) -> None:
        self.ended.set()

    teardown = on_exception = _fall_silent

    def on_train_start(self, trainer: Trainer, *args: object) -> None:
        """Start the clock at the first step of this process, also in a resumed run."""
        self.since, self.first_step = perf_counter(), trainer.global_step

    def _start_counting(self, trainer: Trainer, *args: object) -> None:
        self.done = 0
        if trainer.state.fn != "fit":
            self.since = perf_counter()

    on_validation_start = on_test_start = on_predict_start = _start_counting

    def _count(self, *args: object, **kwargs: object) -> None:
        self.done += 1

    on_validation_batch_end = on_test_batch_end = on_predict_batch_end = _count

    def line(self) -> str:
        """Where the run is now."""
        parts = self._training() if self.trainer.state.fn == "fit" else self._evaluation()
        return f"{stage_name(self.trainer)}: {', '.join(parts)}"

    def _training(self) -> list[str]:
        trainer, step = self.trainer, self.trainer.global_step
        steps = trainer.max_steps if trainer.max_steps > 0 else math.inf
        at = f"step {step} of {steps}" if steps < math.inf else f"step {step}"
        if trainer.validating:
            return [at, f"validation batch {self.done} of {_total(trainer.num_val_batches)}"]
        found = trainer.callback_metrics
        shown = [text.format(float(found[key])) for key, text in SHOWN if key in found]
        return [at, *shown, *self._left(step - self.first_step, steps - step)]

    def _evaluation(self) -> list[str]:
        trainer = self.trainer
        batches = {"validate": "num_val_batches", "test": "num_test_batches", "predict": "num_predict_batches"}
        total = _total(getattr(trainer, batches[trainer.state.fn]))
        return [f"{trainer.state.fn.value}, batch {self.done} of {total}", *self._left(self.done, total - self.done)]

    def _left(self, done: int, more: float) -> list[str]:
        """How long `more` will take, if known."""
        if done < 1 or not 0 < more < math.inf:
            return []
        return [f"{timedelta(seconds=round((perf_counter() - self.since) / done * more))} left"]


def _total(batches: float | Sequence[float]) -> float:
    return sum(batches) if isinstance(batches, Sequence) else batches
