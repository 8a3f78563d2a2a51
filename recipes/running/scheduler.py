"""Stages run on this machine, several at a time, each once the stage that it starts from is complete."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from recipes.planning.plan import Plan, Planned, in_order
from recipes.running.arm_index import write_index
from recipes.running.stage_folders import INTERRUPTED, StageFolders


def run_stages(
    plans: Sequence[Plan], out: Path, at_once: int = 1, hardware: Mapping[str, Any] | None = None, *, preload: bool = False
) -> set[str]:
    """Run every stage but those that start from a failed one.

    Args:
        plans: of one recipe or several, which share equal stages.
        out: folder of the experiment.
        at_once: stages that run side by side and divide the threads that one would have.
        hardware: as in StageFolders.
        preload: as in StageFolders.

    Returns:
        Digests of stages that failed.
    """
    threads = max(1, torch.get_num_threads() // at_once) if at_once > 1 else None
    folders = StageFolders(out, threads=threads, hardware=hardware or {}, preload=preload)
    left, failed = _headed(plans), set()
    running: dict[Future[bool], Planned] = {}
    INTERRUPTED.clear()
    with ThreadPoolExecutor(at_once) as pool, _telling_threads():
        while left or running:
            for head, stage in list(left.items()):
                if folders.complete(stage):
                    print(f"{head}: complete", flush=True)
                elif any(earlier.digest in failed for earlier in stage.chain()):
                    print(f"{head}: left out, since the stage that it starts from failed", flush=True)
                elif len(running) < at_once and (stage.parent is None or folders.complete(stage.parent)):
                    print(f"{head} ===", flush=True)
                    running[pool.submit(folders.finish, stage)] = stage
                else:
                    continue
                del left[head]
            if left and not running:  # what was complete no longer is
                failed |= {stage.digest for stage in left.values()}
                print(f"{', '.join(left)}: left out, since the stages that they start from were changed meanwhile; start again.")
                left.clear()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                stage = running.pop(future)
                if (error := future.exception()) is not None or not future.result():
                    failed.add(stage.digest)
                    print(f"    FAILED {stage.label}:\n{f'    {error!r}' if error else folders.why(stage)}", flush=True)
                for plan in plans:
                    write_index(plan, out, failed)
    return failed


@contextmanager
def _telling_threads() -> Iterator[None]:
    """Let threads that wait for another process know of Ctrl-C, which reaches the main thread alone."""
    try:
        yield
    except KeyboardInterrupt:
        INTERRUPTED.set()
        raise


def _headed(plans: Sequence[Plan]) -> dict[str, Planned]:
    """What is printed of a stage -> the stage, in an order in which they can run."""
    stages = in_order(plans)
    return {
        f"=== {number}/{len(stages)} {stage.label} ({stage.name} of {_few(arms)})": stage
        for number, (stage, arms) in enumerate(stages, start=1)
    }


def _few(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
