"""Every sample of a test or a prediction as JSONL: problem, response, verdicts, report."""

import json
import os
from pathlib import Path
from typing import Any, TextIO

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from grammar import GRADERS, grade


class SampleWriter(Callback):
    """Write `samples/test.jsonl` or `samples/predict.jsonl` in the run's folder; a file appears when it is complete.

    With several processes each writes its own, `test.rank1.jsonl` and so on.
    """

    def __init__(self) -> None:
        """Nothing is open."""
        self.file: TextIO | None = None
        self.path: Path | None = None

    def _open(self, trainer: Trainer, *args: object) -> None:
        stage = trainer.state.stage.value
        rank = f".rank{trainer.global_rank}" if trainer.global_rank else ""
        self.path = Path(trainer.log_dir or trainer.default_root_dir) / "samples" / f"{stage}{rank}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = self.path.with_suffix(".part").open("w", encoding="utf-8")

    on_test_epoch_start = on_predict_epoch_start = _open

    def _write(self, trainer: Trainer, pl_module: LightningModule, outputs: dict[str, Any], *args: object) -> None:
        rollout = outputs["rollout"]
        for example, responses, reports in zip(rollout.examples, rollout.responses, rollout.reports, strict=True):
            for number, (response, report) in enumerate(zip(responses, reports, strict=True)):
                row = {
                    "id": example.id, "sample": number, "op": example.cell.op, "template": example.cell.context,
                    "mode": example.cell.mode, "problem": example.problem, "question": example.question,
                    "solution": example.solution, "response": response,
                    "accepted": {grader: grade(report, grader) for grader in GRADERS}, "report": report.to_dict(),
                }  # fmt: skip
                self.file.write(json.dumps(row, ensure_ascii=False) + "\n")

    on_test_batch_end = on_predict_batch_end = _write

    def _close(self, *args: object) -> None:
        self.file.close()
        os.replace(self.file.name, self.path)

    on_test_epoch_end = on_predict_epoch_end = _close
