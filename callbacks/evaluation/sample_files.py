"""Samples of an evaluation in JSONL files, one per process: problem, response, verdicts, report.

The rows of a problem stand together; its texts, which are most of a row, stand in the first of them. `whole_lines` puts them into
the others. The files only grow, so that an interrupted evaluation can continue: all rows of a problem are written at once, and
what a crash left of an unfinished write is cut off.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from callbacks.files import read_json, run_folder, write_json
from grammar import GRADERS, grade

_INDEX = re.compile(rb'\{"index": (\d+), "sample": (\d+),')
_TEXTS = ("problem", "question", "solution")  # of a problem, in its first row


def whole_lines(lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Numbered lines of a file in which each sample has its problem's texts; lines that are no samples stay as they are.

    Args:
        lines: (number, line), as written by `SampleWriter`, or any others.
    """
    index, texts = None, b""
    for number, line in lines:
        match = _INDEX.match(line)
        if match and int(match[2]) == 0:
            index, texts = match[1], _texts(line)
        elif match and match[1] == index and texts and b'"problem": "' not in line:
            line = line.rstrip()[:-1] + b", " + texts + b"}\n"
        yield number, line


def _texts(line: bytes) -> bytes:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # whoever reads the line will say so
        return b""
    return json.dumps({key: row[key] for key in _TEXTS if key in row}).encode()[1:-1]


def read_samples(paths: Iterable[str | Path]) -> Iterator[dict[str, Any]]:
    """Rows of `samples/*.jsonl`, one for each sample, each with its problem's texts."""
    for path in paths:
        with Path(path).open("rb") as file:
            yield from (json.loads(line) for _, line in whole_lines(enumerate(file, 1)))


def problems_of(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Rows of one samples file, problem by problem."""
    for _, rows in groupby(read_samples([path]), key=itemgetter("index")):
        yield list(rows)


class Place(NamedTuple):
    """Where the rows of a problem are: bytes `start` ... `end` of a file."""

    path: Path
    start: int
    end: int


class SampleStore:
    """Rows of samples by problem.

    Args:
        folder: of the files.
        stage: what their names start with.
        samples: rows of a complete problem.
    """

    def __init__(self, folder: Path, stage: str, samples: int) -> None:
        self.folder, self.stage, self.samples = folder, stage, samples
        self.places: dict[int, Place] = {}
        self.settings = folder / f"{stage}.settings.json"

    def path(self, rank: int) -> Path:
        """The file of process number `rank`."""
        return self.folder / (f"{self.stage}.rank{rank}.jsonl" if rank else f"{self.stage}.jsonl")

    def files(self) -> dict[int, Path]:
        """Process number -> its file, of those that exist."""
        ranks = {0: self.path(0)}
        for path in self.folder.glob(f"{self.stage}.rank*.jsonl"):
            ranks[int(path.suffixes[-2].removeprefix(".rank"))] = path
        return {rank: path for rank, path in sorted(ranks.items()) if path.is_file()}

    def holds(self, identity: dict[str, Any]) -> bool:
        """Whether the files were sampled under these settings."""
        return self.settings.is_file() and read_json(self.settings) == identity

    def clear(self) -> None:
        """Remove the files."""
        self.settings.unlink(missing_ok=True)
        for path in self.files().values():
            path.unlink()

    def repair(self, rank: int) -> None:
        """Cut an incomplete problem off the end of a process's file, if it has one."""
        path = self.path(rank)
        if path.is_file():
            kept = max((place.end for place in self._scan(path).values()), default=0)
            if kept < path.stat().st_size:
                os.truncate(path, kept)

    def load(self) -> None:
        """Find the complete problems in all files."""
        self.places = {index: place for path in self.files().values() for index, place in self._scan(path).items()}

    def _scan(self, path: Path) -> dict[int, Place]:
        found: dict[int, Place] = {}
        at = start = expected = 0
        with path.open("rb") as file:
            for line in file:
                match = _INDEX.match(line)
                if match is None or int(match[2]) != expected or not line.endswith(b"}\n"):
                    break
                start = at if expected == 0 else start
                at += len(line)
                expected = (expected + 1) % self.samples
                if expected == 0:
                    found[int(match[1])] = Place(path, start, at)
        return found

    def read(self, index: int) -> list[dict[str, Any]] | None:
        """The rows of a problem; None if there are none."""
        place = self.places.get(index)
        if place is None:
            return None
        with place.path.open("rb") as file:
            file.seek(place.start)
            return [json.loads(line) for line in file.read(place.end - place.start).splitlines()]

    def append(self, rank: int, rows: list[dict[str, Any]]) -> None:
        """Append rows of whole problems, and wait until they are on disk."""
        with self.path(rank).open("ab") as file:
            file.write(b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows))
            file.flush()
            os.fsync(file.fileno())


class Kept(NamedTuple):
    """A response of an earlier, interrupted evaluation."""

    text: str
    tokens: int
    finished: bool


class SampleWriter(Callback):
    """Write `samples/test.jsonl` (`validate`, `predict`) in the run's folder, batch by batch; validation in training writes none.

    With several processes each writes its own, `test.rank1.jsonl` and so on. Started again with the same weights, problems and
    settings (`samples/test.settings.json`), an evaluation samples only problems that are missing; otherwise it starts afresh.

    It reads `rollout` of a step's outputs, `identity` and `evaluation.samples` of the module, and sets the module's `recall`.
    """

    store: SampleStore | None = None

    def _start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finish(trainer, pl_module)
        stage = trainer.state.stage.value
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
            write_json(store.settings, identity)
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
        return None if rows is None else [Kept(row["response"], row["tokens"], row["finished"]) for row in rows]

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

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Recall nothing in what this module does next."""
        self._finish(trainer, pl_module)


def sample_rows(done: Any, place: int) -> list[dict[str, Any]]:
    """The rows of the problem at `place` of a judged batch, one for each sample."""
    example = done.examples[place]
    texts = {"problem": example.problem, "question": example.question, "solution": example.solution}
    modulus = {} if example.graph.modulus is None else {"modulus": example.graph.modulus}
    judged = done.released[place]
    released = [{}] * len(done.reports[place]) if judged is None else [{"released": accepted} for accepted in judged]
    return [
        {
            "index": done.indices[place], "sample": number, "id": example.id, "op": example.cell.op,
            "template": example.cell.context, "mode": example.cell.mode, **modulus, **(texts if number == 0 else {}),
            "response": answer.text, "tokens": answer.tokens, "finished": answer.finished,
            "accepted": {grader: grade(report, grader) for grader in GRADERS} | released[number], "report": report.to_dict(),
        }
        for number, (answer, report) in enumerate(zip(done.answers[place], done.reports[place], strict=True))
    ]  # fmt: skip
