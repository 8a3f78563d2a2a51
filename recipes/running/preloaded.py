"""Commands in processes that start in a moment: forks of one that has imported what stages need, by Python's forkserver.

A stage is two or three commands, and to import PyTorch, Lightning and transformers takes five to ten seconds of each. Hours of
training do not mind; many short stages side by side do. The server imports and computes nothing, so that its forks have threads
and a GPU of their own. Linux only.
"""

import atexit
import os
import runpy
import sys
from collections.abc import Sequence
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

import torch

from recipes.named_files import HOME

FRONT_DOOR = HOME / "main.py"
IMPORTED = ["interplay", "recipes.cli", "lightning_modules", "datamodules", "matplotlib.figure", "torch.utils.tensorboard"]


def available() -> bool:
    """Whether this system can."""
    return sys.platform == "linux" and "forkserver" in get_all_start_methods()


class _Shared:
    """A file descriptor that the other process has, too: the same open file, with its locks."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __getstate__(self) -> Any:
        return DupFd(self.fd)

    def __setstate__(self, duplicate: Any) -> None:
        self.fd = duplicate.detach()


def run(command: Sequence[str], log: Path, held: int, threads: int | None) -> bool:
    """Run a command of the front door in a process of its own, and return whether it succeeded.

    Args:
        command: its words.
        log: file to which it prints.
        held: file descriptor that the process holds open, so that a lock on it outlives this one.
        threads: of its computations; None: PyTorch's default.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([str(HOME), *filter(None, [os.environ.get("PYTHONPATH")])]))
    process = context.Process(target=_command, args=([str(FRONT_DOOR), *command], str(log), _Shared(held), threads))
    process.start()
    process.join()
    return process.exitcode == 0


def _command(words: list[str], log: str, held: _Shared, threads: int | None) -> None:
    """What `python WORDS >> LOG 2>&1` does."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(file, stream)
    if threads:
        torch.set_num_threads(threads)
    sys.argv = words
    try:
        runpy.run_path(words[0], run_name="__main__")  # ends with `sys.exit`
    finally:
        atexit._run_exitfuncs()  # a process of multiprocessing leaves them out
