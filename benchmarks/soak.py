"""Does a long run stay within bounds? `python -m benchmarks.soak [--every S] [--out FILE.json] COMMAND ...`

Runs a command of `main.py` and, every few seconds, reads the resident memory and open files of its processes. The table gives
each at five moments; the last line tells how much memory grew over the second half, in which a run that keeps nothing is flat.
"""

import json
import subprocess
import sys
import time
from argparse import REMAINDER, ArgumentParser
from pathlib import Path
from statistics import median
from typing import NamedTuple

ROOT = Path(__file__).parent.parent


class Reading(NamedTuple):
    """Seconds since the start; resident memory in MB and open files of all processes."""

    seconds: float
    memory: float
    files: int


def family(pid: int) -> list[int]:
    """A process and all that it started."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        return [pid, *(one for child in children.read_text().split() for one in family(int(child)))]
    except OSError:
        return []


def read(pid: int, started: float) -> Reading:
    """The state of a process and its children, without those that have just ended."""
    memory, files = 0, 0
    for one in family(pid):
        try:
            status = Path(f"/proc/{one}/status").read_text()
            memory += next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
            files += len(list(Path(f"/proc/{one}/fd").iterdir()))
        except (OSError, StopIteration):
            continue
    return Reading(time.monotonic() - started, memory / 1024, files)


def watch(command: list[str], every: float) -> tuple[int, list[Reading]]:
    """Run a command to its end; its exit status and the readings."""
    started, readings = time.monotonic(), []
    process = subprocess.Popen([sys.executable, str(ROOT / "main.py"), *command], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        readings.append(read(process.pid, started))
        time.sleep(every)
    return process.returncode, [one for one in readings if one.memory]


def main() -> int:
    """Run, print and keep."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=float, default=2.0, help="seconds between readings")
    parser.add_argument("--out", type=Path, help="where to keep the readings as JSON")
    parser.add_argument("command", nargs=REMAINDER, help="e.g. fit --config ... --trainer.max_steps=2000")
    args = parser.parse_args()
    status, readings = watch(args.command, args.every)
    for fraction in (0.1, 0.25, 0.5, 0.75, 1.0):
        one = readings[min(len(readings) - 1, int(fraction * len(readings)))]
        print(f"{one.seconds:7.0f} s   {one.memory:7.0f} MB   {one.files:4d} open files")
    half = len(readings) // 2
    quarters = readings[half : half + half // 2], readings[half + half // 2 :]
    third, last = (median(one.memory for one in part) for part in quarters)
    growth = last / third - 1
    print(f"memory of the last quarter against the third: {growth:+.1%} (exit status {status})")
    if args.out:
        kept = {"command": args.command, "status": status, "growth": growth, "readings": [list(one) for one in readings]}
        args.out.write_text(json.dumps(kept))
    return status


if __name__ == "__main__":
    sys.exit(main())
