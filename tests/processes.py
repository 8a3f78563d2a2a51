"""Functions run in processes of their own, one or several that form a group; all start from a server that has imported torch."""

import os
import socket
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(["recipes.cli", "lightning_modules", "datamodules", "callbacks"])


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def _enter(rank: int, world: int, port: int, function: Callable, arguments: Sequence) -> None:
    import torch

    torch.set_num_threads(1)
    if world > 1:  # as Lightning's own launcher sets it for the processes that it starts
        os.environ |= {
            "LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }  # fmt: skip
    function(*arguments)


def run(
    function: Callable,
    *arguments: object,
    world: int = 1,
    kill_after: float | None = None,
    timeout: float = 480,
    patience: float = 0,
) -> list[int]:
    """Run `function` in `world` processes and return their exit codes.

    All are killed after a while, and `patience` seconds after one has failed.
    """
    port = free_port()
    processes = [FORKS.Process(target=_enter, args=(rank, world, port, function, arguments)) for rank in range(world)]
    for process in processes:
        process.start()
    started, failed = time.monotonic(), None
    while any(process.is_alive() for process in processes):
        late = time.monotonic() - started > (kill_after or timeout)
        if failed is None and any(process.exitcode not in (None, 0) for process in processes):
            failed = time.monotonic()
        if late or (failed is not None and time.monotonic() - failed >= patience):
            for process in processes:
                process.kill()
        time.sleep(0.02)
    for process in processes:
        process.join()
    assert kill_after or time.monotonic() - started <= timeout, "the processes hung"
    return [process.exitcode for process in processes]
