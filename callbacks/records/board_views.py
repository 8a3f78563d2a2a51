"""TensorBoard by question: a section of CUSTOM SCALARS for each, pictures of pass@k, runs side by side with their settings."""

import re
from collections.abc import Mapping
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from torch import tensor

from callbacks.records.resume import flat

# section -> chart -> tags of scalars, as regular expressions
LAYOUT = {
    "Does it learn?": {
        "loss": ["Multiline", ["train/loss"]], "reward and its parts": ["Multiline", ["train/reward.*"]],
        "gold likelihood, nats": ["Multiline", [r"val/gold_nll_nats/(?!op\d).*"]],
    },
    "What can it solve?": {
        "every step right, pass@1": ["Multiline", [r"val/executable/pass@1/(?!op\d).*"]],
        "every step right, pass@n": ["Multiline", [r"val/executable/pass@(?!1/)\d+/(?!op\d).*"]],
        "right answers, pass@1": ["Multiline", [r"val/answer/pass@1/(?!op\d).*"]],
    },
    "Is the reasoning sound?": {
        "process accuracy": ["Multiline", [r"val/process_accuracy/(?!op\d).*"]],
        "rollouts: answer right, every step right": ["Multiline", ["train/(answer|executable)$"]],
        "right answers that are not reasoned": ["Multiline", ["train/hacking.*"]],
    },
    "Is RL stable?": {
        "KL, nats": ["Multiline", ["train/(rollout_)?kl_nats"]],
        "ratio and clipped share": ["Multiline", ["train/(ratio|clipped)"]],
        "groups without a gradient": ["Multiline", ["train/zero_variance.*"]],
        "entropy, nats": ["Multiline", ["train/entropy_nats"]],
        "gradient norm": ["Multiline", ["train/gradient_norm"]], "tokens of a response": ["Multiline", ["train/response_tokens"]],
    },
    "What does it cost?": {
        "tokens a second": ["Multiline", ["train/tokens_per_s"]], "seconds a step": ["Multiline", ["train/step_s"]],
        "waiting for data": ["Multiline", ["train/data_wait"]], "memory, GiB": ["Multiline", ["train/memory_gib"]],
    },
}  # fmt: skip
PASS = re.compile(r"(val|test)/executable/(pass@\d+)/op(\d+)")


class BoardViews(Callback):
    """Add to a run's TensorBoard: custom scalars, `pass_at_k` by operations as pictures, `process_accuracy` as a histogram over
    samples, and, when training ends, its settings with its last results (tab HPARAMS).

    It reads logged `STAGE/executable/pass@K/opN` and `rollout.reports` of a step's outputs. Without TensorBoard it does nothing.

    Args:
        settings: of the run, nested; numbers, texts and truth values are shown.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        shown = ((key, value) for key, value in flat(settings or {}) if isinstance(value, bool | int | float | str))
        self.settings = {key.replace("init_args.", ""): value for key, value in shown}
        self.accuracies: list[float] = []
        self.last: dict[str, float] = {}  # the results of the checkpoint from which this run goes on

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lay out the sections."""
        for board in boards(trainer):
            board.experiment.add_custom_scalars(LAYOUT)

    def _start(self, *args: object) -> None:
        self.accuracies = []

    on_validation_epoch_start = on_test_epoch_start = _start

    def _collect(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: object) -> None:
        if isinstance(outputs, Mapping) and "rollout" in outputs:
            self.accuracies += [report.process_accuracy for of in outputs["rollout"].reports for report in of]

    on_validation_batch_end = on_test_batch_end = _collect

    def _show(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        stage = "test" if trainer.testing else "val"
        for board in boards(trainer):
            if self.accuracies:
                board.experiment.add_histogram(f"{stage}/process_accuracy", tensor(self.accuracies), trainer.global_step)
            if (figure := passes_by_op(trainer.callback_metrics, stage)) is not None:
                board.experiment.add_figure(f"{stage}/pass_at_k by operations", figure, trainer.global_step)

    on_validation_end = on_test_end = _show

    def _last(self, trainer: Trainer) -> dict[str, float]:
        """The results that stand beside the settings, of this process or, where it has none, of those before it."""
        wanted = ("val/executable/", "train/loss", "train/reward")
        logged = trainer.callback_metrics.items()
        return self.last | {f"last/{key}": value.item() for key, value in logged if key.startswith(wanted) and "/op" not in key}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the last results: a run that is killed after its last update shows them when it is started again."""
        checkpoint["last_results"] = self._last(trainer)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore them; checkpoints of earlier versions have none."""
        self.last = checkpoint.get("last_results", {})

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the settings with the last results, at the last step: a further part of the run takes them back."""
        metrics = self._last(trainer)
        for board in boards(trainer):
            if self.settings and metrics:
                board.log_hyperparams(self.settings, metrics, step=trainer.global_step)


def boards(trainer: Trainer) -> list[TensorBoardLogger]:
    """The run's TensorBoard loggers, in the process that writes."""
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero]


def passes_by_op(metrics: Mapping[str, Any], stage: str) -> Figure | None:
    """Pass@k against operations, a line for each k; None if fewer than two operations are among the metrics."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for key, value in metrics.items():
        if (match := PASS.fullmatch(key)) and match[1] == stage:
            lines.setdefault(match[2], []).append((int(match[3]), float(value)))
    if max(map(len, lines.values()), default=0) < 2:
        return None
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axis = figure.add_subplot(xlabel="operations", ylabel="every step right", ylim=(-0.03, 1.03))
    for (name, points), marker in zip(sorted(lines.items()), "osD^v" * len(lines), strict=False):
        axis.plot(*zip(*sorted(points), strict=True), marker=marker, label=name)
    axis.legend()
    axis.grid(alpha=0.3)
    return figure
