"""Several jobs take turns, a step each, so that whatever else the machine does falls on all of them alike."""

import threading
import time
from collections.abc import Callable

import torch


class Turns:
    """One thread a job; a job runs until it calls `tick` at the end of a step, then the next one does."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.turn = 0
        self.condition = threading.Condition()
        self.seconds: dict[str, list[float]] = {}
        self.started: dict[str, float] = {}
        self.failed: list[BaseException] = []

    def run(self, jobs: dict[str, Callable[[Callable[[], None]], None]]) -> dict[str, list[float]]:
        """Run jobs, each given its `tick`; return the CPU seconds of each one's steps (one thread each, waiting left out)."""
        self.names = list(jobs)
        threads = [threading.Thread(target=self._work, args=(name, job)) for name, job in jobs.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.failed:
            raise self.failed[0]
        return self.seconds

    def _work(self, name: str, job: Callable[[Callable[[], None]], None]) -> None:
        torch.set_num_threads(1)
        self.seconds[name] = []
        self._wait(name)
        try:
            job(lambda: self._tick(name))
        except BaseException as err:  # noqa: BLE001 - handed to `run`, which raises it; the other jobs must not wait for ever
            self.failed.append(err)
        with self.condition:
            place = self.names.index(name)
            self.names.remove(name)
            self.turn = place % max(1, len(self.names))
            self.condition.notify_all()

    def _tick(self, name: str) -> None:
        self.seconds[name].append(time.thread_time() - self.started[name])
        with self.condition:
            self.turn = (self.turn + 1) % len(self.names)
            self.condition.notify_all()
        self._wait(name)

    def _wait(self, name: str) -> None:
        with self.condition:
            self.condition.wait_for(lambda: self.names[self.turn] == name)
        self.started[name] = time.thread_time()
