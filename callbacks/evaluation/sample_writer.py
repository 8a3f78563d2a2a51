"""Every sample of a validation, test or prediction as JSONL: problem, response, verdicts, report."""

import json
from typing import Any, NamedTuple

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from callbacks.evaluation.sample_store import SampleStore
from callbacks.files import run_folder, write_text
from grammar import GRADERS, grade


class Kept(NamedTuple):
    """A response of an earlier, interrupted evaluation."""

    text: str
    tokens: int
    finished: bool


class SampleWriter(Callback):
    """Write `samples/test.jsonl` (`validate`, `predict`) in the run's folder, batch by batch; validation in training writes none.

    With several processes each writes its own, `test.rank1.jsonl` and so on. Started again with the same weights, problems and
    settings (`samples/test.settings.json`), an evaluation samples only problems that are not kept; under others it starts afresh.

    Reads of a step's outputs: `rollout`; of the module: `identity`, `evaluation.samples`; and sets its `recall`.
    """

    def __init__(self) -> None:
        """Nothing is kept yet."""
        self.store: SampleStore | None = None

    def _start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.store, stage = None, trainer.state.stage.value
        if trainer.state.fn.value == "fit":
            return
        folder = run_folder(trainer) / "samples"
        store = SampleStore(folder, stage, pl_module.evaluation.samples)
        identity = json.loads(json.dumps(pl_module.identity()))
        world, barrier = trainer.world_size, trainer.strategy.barrier
        if trainer.is_global_zero and not store.holds(identity):
            folder.mkdir(parents=True, exist_ok=True)
            store.clear()
            for name in ("evaluation.json", "pass_at_k.json"):
                (folder.parent / name).unlink(missing_ok=True)
            write_text(store.settings, json.dumps(identity, indent=1))
        barrier("samples: settings")
        for rank in store.files():
            if rank % world == trainer.global_rank:
                store.repair(rank)
        barrier("samples: repaired")
        store.load()
        barrier("samples: loaded")
        self.store, pl_module.recall = store, self._recall

    on_validation_start = on_test_start = on_predict_start = _start

    def _recall(self, index: int) -> list[Kept] | None:
        rows = self.store.read(index)
        return rows and [Kept(row["response"], row["tokens"], row["finished"]) for row in rows]

    def _write(self, trainer: Trainer, pl_module: LightningModule, outputs: dict[str, Any], *args: object) -> None:
        if self.store is None or "rollout" not in outputs:
            return
        done, rows = outputs["rollout"], []
        for place, known in enumerate(done.recalled):
            if not known:
                rows += sample_rows(done, place)
        if rows:
            self.store.append(trainer.global_rank, rows)

    on_validation_batch_end = on_test_batch_end = on_predict_batch_end = _write

    def _finish(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.store is not None:
            pl_module.recall = lambda index: None
            self.store = None

    on_validation_end = on_test_end = on_predict_end = _finish


def sample_rows(done: Any, place: int) -> list[dict[str, Any]]:
    """The rows of the problem at `place` of a judged batch, one for each sample."""
    example = done.examples[place]
    modulus = {} if example.graph.modulus is None else {"modulus": example.graph.modulus}
    return [
        {
            "index": done.indices[place], "sample": number, "id": example.id, "op": example.cell.op,
            "template": example.cell.context, "mode": example.cell.mode, "problem": example.problem,
            "question": example.question, "solution": example.solution, "response": answer.text, "tokens": answer.tokens,
            "finished": answer.finished, "accepted": {grader: grade(report, grader) for grader in GRADERS},
            "report": report.to_dict(), **modulus,
        }
        for number, (answer, report) in enumerate(zip(done.answers[place], done.reports[place], strict=True))
    ]  # fmt: skip
