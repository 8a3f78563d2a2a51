"""Samples to read in TensorBoard, each step marked right or wrong with the reason."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger


def as_markdown(problem: str, question: str, response: str, report: Any) -> str:
    """One sample as markdown: the problem, its steps with verdicts, the answer."""
    lines = [f"**{problem.strip()} {question}**", ""]
    for step in report.steps:
        reason = "" if step.correct else f" — *{step.reason}*"
        lines.append(f"- {'✓' if step.correct else '✗'} {response[step.start : step.end].strip()}{reason}")
    lines += [f"- ✗ *{error.kind}: {error.message}*" for error in report.errors if error.step is None]
    lines += ["", f"{'✓' if report.answer_correct else '✗'} answer {report.answer}"]
    return "\n".join(lines)


class SampleLog(Callback):
    """Show the first `count` problems of every validation and test, one sample each, as TensorBoard text."""

    def __init__(self, count: int = 4) -> None:
        """Keep the settings."""
        self.count = count
        self.shown = 0

    def _start(self, *args: object) -> None:
        self.shown = 0

    on_validation_epoch_start = on_test_epoch_start = _start

    def _show(self, trainer: Trainer, pl_module: LightningModule, outputs: dict[str, Any], *args: object) -> None:
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if "rollout" not in outputs or not boards or not trainer.is_global_zero:
            return
        rollout = outputs["rollout"]
        stride = max(1, len(rollout.examples) // self.count)  # spread over the bands, which follow each other
        for example, responses, reports in list(zip(rollout.examples, rollout.responses, rollout.reports, strict=True))[::stride]:
            if self.shown == self.count:
                break
            text = as_markdown(example.problem, example.question, responses[0], reports[0])
            boards[0].experiment.add_text(f"samples/{self.shown} (op {example.cell.op})", text, trainer.global_step)
            self.shown += 1

    on_validation_batch_end = on_test_batch_end = _show
