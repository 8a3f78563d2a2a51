"""Samples to read in TensorBoard, each step marked right or wrong with the reason."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning import LightningModule, Trainer

from callbacks.kept_state import KeptState
from callbacks.records.board_views import boards
from grammar.checking.marking import MARKS, marked


def as_markdown(problem: str, question: str, response: str, report: Any) -> str:
    """One sample as markdown: the problem, its steps with verdicts, the answer."""
    lines = [f"**{problem.strip()} {question}**", ""]
    for line in marked(response, report):
        lines.append(f"- {MARKS[line.right]} {line.text}" + "".join(f" — *{note}*" for note in line.notes))
    return "\n".join(lines)


def reward_line(parts: Mapping[str, float]) -> str:
    """A reward and its parts: "reward 0.9 = answer 0.2 + process 0.7"."""
    return f"reward {sum(parts.values()):.3g} = " + " + ".join(f"{name} {value:.3g}" for name, value in parts.items())


class SampleLog(KeptState):
    """Show samples as TensorBoard text: of every validation and test, and of rollouts.

    `samples/I (op N)`: one sample each to `count` problems of a validation or test, spread over the bands.
    `rollouts/I`:       one completion each of `count` groups of a rollout, with its reward.

    Args:
        count: samples shown at a time.
        every_n_rollouts: show samples of the first rollout and of every so many after it.
    """

    kept = ("rollouts",)

    def __init__(self, count: int = 4, every_n_rollouts: int = 20) -> None:
        if count < 0 or every_n_rollouts < 1:
            raise ValueError(f"SampleLog: count={count} must be at least 0, every_n_rollouts={every_n_rollouts} at least 1.")
        self.count, self.every_n_rollouts = count, every_n_rollouts
        self.shown = self.rollouts = 0

    def on_rollout(self, trainer: Trainer, pl_module: LightningModule, groups: Sequence[Any]) -> None:
        """Show some of a rollout, if it is due."""
        self.rollouts += 1
        found = boards(trainer)
        if (self.rollouts - 1) % self.every_n_rollouts or not found:
            return
        for number, group in enumerate(groups[:: max(1, len(groups) // max(1, self.count))][: self.count]):
            example, report, parts = group.example, group.reports[0], group.parts[0]
            if parts and group.overlong:
                parts = parts | {"overlong": group.overlong[0]}
            text = as_markdown(example.problem, example.question, group.responses[0], report)
            text = f"op {example.cell.op}\n\n{text}\n\n{reward_line(parts)}"
            found[0].experiment.add_text(f"rollouts/{number}", text, trainer.global_step)

    def _start(self, *args: object) -> None:
        self.shown = 0

    on_validation_epoch_start = on_test_epoch_start = _start

    def _show(self, trainer: Trainer, pl_module: LightningModule, outputs: dict[str, Any], *args: object) -> None:
        found = boards(trainer)
        if "rollout" not in outputs or not found:
            return
        rollout = outputs["rollout"]
        stride = max(1, len(rollout.examples) // max(1, self.count))  # spread over the bands, which follow each other
        for example, responses, reports in list(zip(rollout.examples, rollout.responses, rollout.reports, strict=True))[::stride]:
            if self.shown == self.count:
                break
            text = as_markdown(example.problem, example.question, responses[0], reports[0])
            found[0].experiment.add_text(f"samples/{self.shown} (op {example.cell.op})", text, trainer.global_step)
            self.shown += 1

    on_validation_batch_end = on_test_batch_end = _show
