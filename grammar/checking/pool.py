"""Responses judged, in this process or in a pool of others."""

import os
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from threading import Thread

from grammar.checking.report import Report
from grammar.checking.verify import verify
from grammar.problem.graph import Graph
from grammar.reading.parse import parse_response

Job = tuple[Graph, Sequence[str]]  # a problem, and responses to it


def judge(graph: Graph, responses: Sequence[str]) -> list[Report]:
    """What is true of each response to a problem; equal ones are read once."""
    reports = {text: verify(parse_response(text), graph) for text in dict.fromkeys(responses)}
    return [reports[text] for text in responses]


def leave_signals_to_parent() -> None:
    """In a process that works for another: what a terminal or a scheduler sends to both, the other answers alone.

    It ends if its parent sends SIGTERM, or has ended.
    """
    for signum in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(signum, signal.SIG_IGN)
    if hasattr(signal, "sigtimedwait"):  # not on a Mac
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        told = signal.sigtimedwait({signal.SIGTERM}, 5)
        if told is not None and told.si_pid == parent:
            break
    os._exit(0)


class Verifier:
    """Judges responses to many problems. Its processes start at the first call and last until `close`.

    Problems and reports travel as pickles; `python -m benchmarks.verify_pool` says what that leaves to gain.

    Args:
        workers: other processes that judge; 0: this one does.

    Raises:
        ValueError: if `workers` is negative.
    """

    def __init__(self, workers: int = 0) -> None:
        if workers < 0:
            raise ValueError(f"verify_workers={workers} must be at least 0 (0: this process judges).")
        self.workers = workers
        self.pool: ProcessPoolExecutor | None = None

    def __call__(self, jobs: Sequence[Job]) -> list[list[Report]]:
        """Reports of each job, in their order."""
        if not self.workers:
            return [judge(*job) for job in jobs]
        if self.pool is None:
            # not forked: this process has threads, and perhaps a GPU
            self.pool = ProcessPoolExecutor(self.workers, get_context("spawn"), leave_signals_to_parent)
        chunk = max(1, len(jobs) // (4 * self.workers))
        try:
            return list(self.pool.map(judge, *zip(*jobs, strict=True), chunksize=chunk))
        except BrokenProcessPool:
            self.close()  # the next call starts others
            raise

    def close(self) -> None:
        """Ends the processes."""
        if self.pool is not None:
            self.pool.shutdown()
            self.pool = None
