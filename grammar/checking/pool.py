"""Responses judged, in this process or in a pool of others."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from grammar.checking.report import Report
from grammar.checking.verify import verify
from grammar.problem.graph import Graph
from grammar.reading.parse import parse_response

Job = tuple[Graph, Sequence[str]]  # a problem, and responses to it


def judge(graph: Graph, responses: Sequence[str]) -> list[Report]:
    """What is true of each response to a problem; equal ones are read once."""
    reports = {text: verify(parse_response(text), graph) for text in dict.fromkeys(responses)}
    return [reports[text] for text in responses]


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
            self.pool = ProcessPoolExecutor(self.workers, get_context("spawn"))
        chunk = max(1, len(jobs) // (4 * self.workers))
        return list(self.pool.map(judge, *zip(*jobs, strict=True), chunksize=chunk))

    def close(self) -> None:
        """Ends the processes."""
        if self.pool is not None:
            self.pool.shutdown()
            self.pool = None
