"""Folders of stages: what each holds, and how a stage is trained and tested, each once, and before that sampled if it learns from
own solutions.

A recipe without arms keeps stages in `OUT/STAGE` and runs them in this process. One with arms keeps them in
`OUT/stages/KIND-DIGEST`, where arms and recipes share equal stages, and runs each in a child process, so that a crash ends one
stage only.
"""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial, reduce
from pathlib import Path
from threading import Event
from time import monotonic, sleep
from typing import IO, Any

import yaml

from callbacks.files import read_json, write_json, write_text
from recipes.cli import run_stage
from recipes.planning.plan import Planned
from recipes.planning.resolve import flags
from recipes.rejection.rejection_sampling import SAMPLED, files_of
from recipes.rejection.rejection_sampling import main as sample
from recipes.running import preloaded
from recipes.running.preloaded import FRONT_DOOR
from recipes.validity import is_tested, is_trained, started_from, weights_after

HARDWARE = ("trainer.accelerator", "model.init_args.attention", "model.init_args.compile")  # may differ from machine to machine
LAST_LINES = 5  # of a log, shown if a stage fails
INTERRUPTED = Event()  # by Ctrl-C, which threads do not get
LATE = 60  # seconds after which a file that another machine wrote is seen


def in_process(command: list[str]) -> bool:
    """Run `sample`, `fit` or `test` in this process."""
    return (sample(command[1:]) if command[0] == "sample" else run_stage(command)) == 0


def finish(
    folder: Path, fit: Sequence[str], test: Sequence[str], run: Callable[[list[str]], bool] = in_process, alone: bool = True
) -> bool:
    """Train a stage unless it is trained, then test it unless it is tested; both resume where they stopped.

    Args:
        folder: of its files.
        fit: arguments of `fit`: configs and settings.
        test: those of `test`, with the weights to test.
        run: takes a command line and returns whether it succeeded.
        alone: this process writes the files; another of a job may see them a moment late, and takes `run` at its word.

    Returns:
        Whether the stage is complete: an exit status alone does not say that training ended, nor which weights were tested.
    """
    place = ["--trainer.default_root_dir", str(folder)]
    trained = is_trained(folder) or (run(["fit", *fit, *place, "--ckpt_path", "last"]) and (not alone or is_trained(folder)))
    return trained and (is_tested(folder) or (run(["test", *test, *place]) and (not alone or is_tested(folder))))


@dataclass(frozen=True)
class StageFolders:
    """The stages of an experiment.

    out:      that of `run --out`.
    plain:    stages of a recipe without arms.
    threads:  of each child process; None: PyTorch's default.
    hardware: settings of this machine, keys of HARDWARE, above those of stages that have the key; no part of what a stage is.
    preload:  child processes are forks of one that has imported what they need.
    """

    out: Path
    plain: bool = False
    threads: int | None = None
    hardware: Mapping[str, Any] = field(default_factory=dict)
    preload: bool = False

    def folder(self, stage: Planned) -> Path:
        """Where a stage's files lie."""
        return self.out / stage.name if self.plain else self.out / "stages" / stage.label

    def complete(self, stage: Planned) -> bool:
        """Whether nothing is left to do."""
        folder = self.folder(stage)
        return (
            self._record(folder).get("digest") == stage.digest and self.fits(stage) and is_trained(folder) and is_tested(folder)
        )

    def fits(self, stage: Planned) -> bool:
        """Whether a stage was started from the weights that its parent has now, which may have been trained again."""
        return started_from(self.folder(stage), None if stage.parent is None else self.folder(stage.parent))

    @staticmethod
    def _record(folder: Path) -> dict[str, Any]:
        """`stage.json`; empty: there is none."""
        record = folder / "stage.json"
        return read_json(record) if record.is_file() else {}

    def prepare(self, stage: Planned) -> None:
        """Write `stage.yaml`, the config as it is run, and `stage.json`, which says what the stage is.

        Raises:
            ValueError: the folder holds another stage, or one without such a record, or one that started from other weights.
        """
        folder = self.folder(stage)
        held = self._record(folder).get("digest")
        if held != stage.digest and (held or (folder / "config.yaml").is_file()):
            what = f"was made with another seed, config or start ({held}, not {stage.digest})"
            raise ValueError(
                f"{folder} {what if held else 'does not say how it was made (by hand, or by an earlier version)'}; give another "
                "--out, or remove the folder."
            )
        start = self._start(stage)
        if not (folder / "stage.yaml").is_file():
            # bands are evaluated and listed in the order of the keys: as written, or, as runs with arms always had it, sorted
            write_text(folder / "stage.yaml", yaml.safe_dump(stage.config, sort_keys=not self.plain))
        rejection = {} if stage.rejection is None else {"rejection_sampling": asdict(stage.rejection)}
        record = {"kind": stage.kind, "digest": stage.digest, "parent": stage.parent and stage.parent.label}
        write_json(folder / "stage.json", record | start | rejection)

    def _start(self, stage: Planned) -> dict[str, str]:
        """The weights that a stage started from, as recorded, or will start from; empty: not known."""
        if stage.parent is None:
            return {}
        folder, now = self.folder(stage), weights_after(self.folder(stage.parent))
        begun = any((folder / name).exists() for name in ("training.json", "checkpoints", SAMPLED))
        held = self._record(folder).get("start") if begun else now
        if now and not self.fits(stage) and begun:
            raise ValueError(
                f"{folder} started from other weights than {stage.parent.name} has now, which was trained again; remove the "
                "folder to train it from these."
            )
        return {"start": held} if held else {}

    def finish(self, stage: Planned, *, alone: bool = True) -> bool:
        """Train and test a stage unless that is done; return whether it is complete.

        Args:
            stage: whose parent is trained.
            alone: lock the stage, waiting for a process that works on it; false for those processes of a job that join another.
        """
        if self.plain:
            self.prepare(stage)
            return self._finish(stage, in_process)
        with self._locked(stage) if alone else _open(os.devnull) as lock:
            if alone:
                self.prepare(stage)
            return self._finish(stage, partial(self._run, stage, lock), alone)

    def _finish(self, stage: Planned, run: Callable[[list[str]], bool], alone: bool = True) -> bool:
        folder = self.folder(stage)
        settings = ["--config", str(folder / "stage.yaml"), *flags(_known(self.hardware, stage.config))]
        if stage.parent is not None:
            settings += ["--model.init_args.init_from", str(self.folder(stage.parent) / "huggingface")]
        fit = list(settings)
        if stage.rejection is not None:
            if not self._sample(stage, settings, run, alone):
                return False
            fit += flags({"data.init_args.files": files_of([folder]), "data.init_args.mixture": None})
        return finish(folder, fit, [*settings, "--ckpt_path", str(folder / "checkpoints" / "last.ckpt")], run, alone)

    def _sample(self, stage: Planned, settings: Sequence[str], run: Callable[[list[str]], bool], alone: bool) -> bool:
        """Sample the solutions that a stage learns from unless that is done; return whether their rows are there.

        Raises:
            ValueError: the model to sample from is not there.
        """
        folder = self.folder(stage)
        if (folder / SAMPLED).is_file():
            return True
        if stage.parent is not None and not (start := self.folder(stage.parent) / "huggingface").is_dir():
            raise ValueError(f"{stage.name}: the model whose solutions it learns from is not there ({start}); train it first.")
        asked = {
            "rejection_sampling": asdict(stage.rejection),
            "model.init_args.evaluation.seed": stage.config["seed_everything"],
        }
        place = ["--trainer.default_root_dir", str(folder)]
        return run(["sample", *settings, *place, *flags(asked)]) and _appears(folder / SAMPLED, seconds=0 if alone else LATE)

    def _run(self, stage: Planned, lock: IO[str], command: list[str]) -> bool:
        """Run a command in a child process, which logs to `COMMAND.log`."""
        if self.preload:
            return preloaded.run(command, self.folder(stage) / f"{command[0]}.log", lock.fileno(), self.threads)
        environment = os.environ | ({"OMP_NUM_THREADS": str(self.threads)} if self.threads else {})
        # the child holds the lock too: if this process is killed, no other starts the stage while the child lives
        with (self.folder(stage) / f"{command[0]}.log").open("a", encoding="utf-8") as log:
            ended = subprocess.run(
                [sys.executable, str(FRONT_DOOR), *command], stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                pass_fds=[lock.fileno()], env=environment, check=False,
            )  # fmt: skip
        return ended.returncode == 0

    def why(self, stage: Planned) -> str:
        """The last lines that a failed stage printed, and where the rest is."""
        logs = [path for command in ("test", "fit", "sample") if (path := self.folder(stage) / f"{command}.log").is_file()]
        if not logs:
            return "it printed nothing"
        lines = [line for line in logs[0].read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        return "\n".join([*(f"    {line}" for line in lines[-LAST_LINES:]), f"    ({logs[0]})"])

    @contextmanager
    def _locked(self, stage: Planned) -> Iterator[IO[str]]:
        """Hold the stage's lock, once no other process does."""
        self.folder(stage).mkdir(parents=True, exist_ok=True)
        with _open(self.folder(stage) / "claim.lock") as lock:
            if not _try_lock(lock):
                print(f"    another process works on {stage.label}; waiting for it", flush=True)
                while not _try_lock(lock):
                    if INTERRUPTED.wait(1):
                        raise RuntimeError("interrupted while it waited for another process")
            yield lock


def _try_lock(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _known(settings: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings whose keys a config has: a policy has no attention to choose."""

    def has(key: str) -> bool:
        *parents, last = key.split(".")
        return last in reduce(lambda part, name: part.get(name) or {}, parents, config)

    return {key: value for key, value in settings.items() if has(key)}


def _appears(path: Path, seconds: int) -> bool:
    """Whether a file is there, now or within some seconds."""
    end = monotonic() + seconds
    while not path.is_file() and monotonic() < end:
        sleep(1)
    return path.is_file()


def _open(path: Path | str) -> IO[str]:
    return open(path, "w", encoding="utf-8")
