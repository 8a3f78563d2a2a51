"""Judging a rollout here against judging it in a pool of processes. `python -m benchmarks.verify_pool [WORKERS]`.

Problems of op 11-14 with six responses each, a fifth of whose steps are wrong; small and large rollouts take turns. The last
column is what the pool leaves to this process: with enough cores, the pool cannot be faster than that.
"""

import random
import re
import sys
import time

from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.mixture import Component, Mixture
from datamodules.problems.synthesis import Synthesis
from grammar.checking.pool import Job, Verifier

GROUP, TURNS = 6, 3
CONTEXTS = ["crazy_zootopia", "teachers_in_school", "movie_festival_awards"]


def jobs(prompts: int) -> list[Job]:
    """Problems and responses."""
    synthesis, rng = Synthesis(Mixture([Component("11-14", CONTEXTS)]), GraphSpec(), random_letters=True), random.Random(0)

    def spoiled(response: str) -> str:
        steps = response.split(". ")
        return ". ".join(
            re.sub(r"\d+", lambda found: str(int(found[0]) + 1), step, count=1) if rng.random() < 0.2 else step for step in steps
        )

    examples = (synthesis.example("train", i) for i in range(prompts))
    return [(example.graph, [spoiled(example.response) for _ in range(GROUP)]) for example in examples]


def timed(verifier: Verifier, work: list[Job]) -> tuple[float, float]:
    """Seconds, and CPU seconds of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    verifier(work)
    return time.perf_counter() - wall, time.process_time() - cpu


def main(workers: int) -> None:
    """Print the table."""
    here, pool = Verifier(), Verifier(workers)
    pool(jobs(4 * workers))  # the processes start
    print(f"{'completions':>11}  {'here':>8}  {f'{workers} workers':>9}  {'ratio':>5}  {'left here':>9}")
    for prompts in (8, 64, 1024):
        turns = [(timed(here, jobs(prompts)), timed(pool, jobs(prompts))) for _ in range(TURNS)]
        (serial, alone), (parallel, left) = (min(turn[i] for turn in turns) for i in (0, 1))
        row = f"{prompts * GROUP:>11}  {serial:>7.3f}s  {parallel:>8.3f}s  {serial / parallel:>5.2f}  {left / alone:>9.2f}"
        print(row, flush=True)
    pool.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
