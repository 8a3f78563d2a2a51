"""Stages as jobs of a cluster or of this machine, through `submitit`.

`slurm` submits all jobs with their dependencies and returns; `local` (a process each) and `debug` (in this one) wait for the end.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from recipes.planning.plan import Planned
from recipes.planning.resolve import processes
from recipes.running.stage_folders import StageFolders

CLUSTERS = ("slurm", "local", "debug")


@dataclass(frozen=True)
class StageJob:
    """What a job runs; one that is preempted is queued again and resumes from its last checkpoint."""

    out: Path
    stage: Planned
    hardware: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self) -> None:
        """Train and test the stage; every process of the job calls it.

        Raises:
            RuntimeError: the stage failed; jobs that depend on this one end, too.
        """
        folders = StageFolders(self.out, hardware=self.hardware)
        if not folders.finish(self.stage, alone=_rank() == 0):
            raise RuntimeError(f"{self.stage.label} failed:\n{folders.why(self.stage)}")

    def checkpoint(self) -> Any:
        """Called by submitit before a job is preempted."""
        return _submitit().helpers.DelayedSubmission(self)


def submit(
    stages: Sequence[Planned], out: Path, cluster: str, settings: Mapping[str, Any], hardware: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Submit every stage that is not complete, and say so.

    Args:
        stages: each once, in an order in which they can run.
        out: folder of the experiment, seen by all machines.
        cluster: "slurm", "local" or "debug".
        settings: of `submitit.AutoExecutor.update_parameters`, e.g. timeout_min, gpus_per_node, slurm_partition.
        hardware: as in StageFolders.

    Returns:
        Digest -> job; unless the cluster is slurm, all have ended.

    Raises:
        ValueError: a stage that would not train as one on a job's tasks.
    """
    for stage in stages:
        _check_tasks(stage, settings)
    folders, jobs = StageFolders(out), {}
    with _told("--launcher"):
        executor = _submitit().AutoExecutor(folder=out / "jobs", cluster=cluster)
    given = dict(settings)
    further = given.pop("slurm_additional_parameters", {})
    failed: set[str] = set()
    for stage in stages:
        if folders.complete(stage):
            continue
        parent = stage.parent.digest if stage.parent else None
        if parent in failed or (cluster != "slurm" and parent in jobs and jobs[parent].exception() is not None):
            failed.add(stage.digest)
            continue
        wait = {"slurm_additional_parameters": {**further, **_after(jobs.get(parent))}} if cluster == "slurm" else {}
        with _told("--job"):
            executor.update_parameters(name=stage.label, **given, **wait)
        folders.prepare(stage)
        job = jobs[stage.digest] = executor.submit(StageJob(out, stage, hardware or {}))
        print(f"submitted job {job.job_id}: {stage.label} ({stage.name})", flush=True)
    if cluster != "slurm":
        for stage in stages:
            if stage.digest in jobs:
                ended = "complete" if jobs[stage.digest].exception() is None else "failed"  # waits
                print(f"job {jobs[stage.digest].job_id} {ended}: {stage.label} ({stage.name})", flush=True)
    return jobs


@contextmanager
def _told(word: str) -> Iterator[None]:
    """What submitit refuses, whatever it raises, is about this word of the command."""
    try:
        yield
    except (NameError, AssertionError, RuntimeError, TypeError) as err:
        raise ValueError(f"{word}: submitit refuses it: {err or type(err).__name__}.") from err


def _check_tasks(stage: Planned, settings: Mapping[str, Any]) -> None:
    """Each task of a job is a process of the Trainer; surplus ones would each train for itself, in one folder."""
    trainer, tasks = stage.config["trainer"], settings.get("tasks_per_node", 1) * settings.get("nodes", 1)
    if tasks > 1 and processes(stage.config) not in (None, tasks):
        raise ValueError(
            f"--job asks for {tasks} tasks, but stage {stage.name!r} ({stage.label}) trains on devices={trainer['devices']} x "
            f"num_nodes={trainer['num_nodes']}. Set trainer.devices, trainer.num_nodes and trainer.strategy in recipe or scale, "
            "or leave tasks_per_node out."
        )


def _rank() -> int:
    """The number of this process within its job."""
    return int(os.environ.get("SLURM_PROCID") or os.environ.get("SUBMITIT_LOCAL_GLOBALRANK") or 0)


def _after(job: Any | None) -> dict[str, Any]:
    """The parameters of a job that starts once another has succeeded, and leaves the queue if that fails."""
    return {} if job is None else {"dependency": f"afterok:{job.job_id}", "kill-on-invalid-dep": "yes"}


def _submitit() -> ModuleType:
    try:
        import submitit
    except ModuleNotFoundError as err:
        raise ValueError("--launcher needs the package submitit: pip install -e '.[slurm]'.") from err
    return submitit
