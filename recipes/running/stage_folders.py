"""Where stages are made and kept: `OUT/stages/KIND-DIGEST`, one folder for all arms and recipes that share a stage.

A stage is complete when training and testing have left their last files; an incomplete one is gone on with. Each is worked on in
processes of its own, `main.py fit` and `main.py test`, so that one that dies takes nothing with it.
"""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import yaml

from callbacks.files import write_text
from recipes.planning.plan import Planned

FRONT_DOOR = Path(__file__).parents[2] / "main.py"
LAST_LINES = 5  # of a log, shown where a stage fails


@dataclass(frozen=True)
class Workplace:
    """A folder of stages.

    out:     that of `run --out`.
    threads: of each process of a stage; None: as PyTorch would have it.
    """

    out: Path
    threads: int | None = None

    def folder(self, stage: Planned) -> Path:
        """Where a stage's files lie."""
        return self.out / "stages" / stage.label

    def trained(self, stage: Planned) -> bool:
        """Whether training has ended."""
        return (self.folder(stage) / "training.json").is_file()

    def complete(self, stage: Planned) -> bool:
        """Whether nothing is left to do."""
        return self.trained(stage) and (self.folder(stage) / "test" / "pass_at_k.json").is_file()

    def prepare(self, stage: Planned) -> None:
        """Write down what the stage is: `stage.yaml`, its config as it is run, and `stage.json`."""
        folder = self.folder(stage)
        for name, text in (("stage.yaml", yaml.safe_dump(stage.config)), ("stage.json", json.dumps(stage.record, indent=1))):
            if not (folder / name).is_file():
                write_text(folder / name, text)

    def make(self, stage: Planned, *, alone: bool = True) -> bool:
        """Train and test a stage, each unless that is done; whether it is complete now.

        Args:
            stage: whose parent is trained.
            alone: keep other processes from the stage, and wait for one that works on it; false for those of a job's processes
                that join another one.
        """
        with self._claimed(stage) if alone else _open(os.devnull) as claim:
            if alone:
                self.prepare(stage)
            done = self.trained(stage) or self._run(stage, "fit", "last", claim)
            last = self.folder(stage) / "checkpoints" / "last.ckpt"
            return done and (self.complete(stage) or self._run(stage, "test", str(last), claim))

    def _run(self, stage: Planned, command: str, checkpoint: str, claim: IO[str]) -> bool:
        folder = self.folder(stage)
        arguments = [
            command, "--config", str(folder / "stage.yaml"), "--trainer.default_root_dir", str(folder), "--ckpt_path", checkpoint,
        ]  # fmt: skip
        if stage.parent is not None:
            arguments += ["--model.init_args.init_from", str(self.folder(stage.parent) / "huggingface")]
        environment = os.environ | ({"OMP_NUM_THREADS": str(self.threads)} if self.threads else {})
        # the process holds the claim, too: should this one be killed, no other starts while that one goes on
        with (folder / f"{command}.log").open("a", encoding="utf-8") as log:
            ended = subprocess.run(
                [sys.executable, str(FRONT_DOOR), *arguments], stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                pass_fds=[claim.fileno()], env=environment, check=False,
            )  # fmt: skip
        return ended.returncode == 0

    def why(self, stage: Planned) -> str:
        """The last lines of what a failed stage printed, and where the rest is."""
        logs = [path for command in ("test", "fit") if (path := self.folder(stage) / f"{command}.log").is_file()]
        if not logs:
            return "it printed nothing"
        lines = [line for line in logs[0].read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        return "\n".join([*(f"    {line}" for line in lines[-LAST_LINES:]), f"    ({logs[0]})"])

    @contextmanager
    def _claimed(self, stage: Planned) -> Iterator[IO[str]]:
        """The stage for this process alone, once no other works on it."""
        self.folder(stage).mkdir(parents=True, exist_ok=True)
        with _open(self.folder(stage) / "claim.lock") as claim:
            try:
                fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"    another process works on {stage.label}; waiting for it", flush=True)
                fcntl.flock(claim, fcntl.LOCK_EX)
            yield claim


def _open(path: Path | str) -> IO[str]:
    return open(path, "w", encoding="utf-8")
