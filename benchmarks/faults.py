"""Mutation check: is each of many single-line faults caught by a test? `python -m benchmarks.faults [WORD ...]`.

A copy of the tree gets one fault at a time, and the tests that should fail run on it. Words choose faults whose file or line
holds one of them. Exit status 1: a fault is missed, a line is not found exactly once, or the tests fail without any fault.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
TABLE = Path(__file__).with_suffix(".txt")
OTHERS = ("callbacks/", "datamodules/", "grammar/", "recipes/")  # a file elsewhere is one of lightning_modules/
LOG = "faults.log"
HEAVY = ["torch", "lightning", "transformers", "torchmetrics", "jsonargparse", "pytest", "hypothesis", "tensorboard"]


class Fault(NamedTuple):
    """A line of a file, what takes its place, and the tests (tests/test_NAME.py) that should fail."""

    file: str
    line: str
    faulty: str
    tests: list[str]


def read_faults() -> list[Fault]:
    """The table in faults.txt: a line "FILE: TESTS", "- " and the line, "+ " and what takes its place; # starts a comment."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    found = []
    for head, line, faulty in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        file, _, tests = head.partition(": ")
        file = file if file.startswith(OTHERS) else f"lightning_modules/{file}"
        found.append(Fault(file, line.removeprefix("- "), faulty.removeprefix("+ "), tests.split()))
    return found


def is_found(fault: Fault, root: Path = ROOT) -> bool:
    """Whether the line is found exactly once in its file."""
    path = root / fault.file
    return path.is_file() and path.read_text(encoding="utf-8").count(f" {fault.line}\n") == 1


def _copy(target: Path) -> None:
    """The files that git knows or would add, except what documents keep in folders."""
    listed = [
        "git",
        "-C",
        str(ROOT),
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "-z",
        "--",
        ":(exclude,glob)docs/*/**",
    ]
    for name in subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)


def _test(tree: str, tests: list[str]) -> None:
    """Run tests in this process; its exit status is pytest's."""
    import pytest

    os.chdir(tree)
    sys.dont_write_bytecode = True
    sys.path = [entry for entry in sys.path if Path(entry).resolve() != ROOT]
    log = os.open(Path(tree) / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *(f"tests/test_{name}.py" for name in tests)])))


def status(tree: Path, tests: list[str]) -> int:
    """Exit status of pytest: 0 all pass, 1 one fails."""
    context = get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    process = context.Process(target=_test, args=(str(tree), tests))
    process.start()
    process.join()
    return process.exitcode


def outcome(tree: Path, fault: Fault) -> str:
    """Run the tests on a tree with a fault, and take it out again: "caught by" a test, "missed", or pytest's exit status."""
    path = tree / fault.file
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(f" {fault.line}\n", f" {fault.faulty}\n"), encoding="utf-8")
    code = status(tree, fault.tests)
    path.write_text(text, encoding="utf-8")
    failed = re.findall(r"^(?:FAILED|ERROR) \S+::(\w+)", (tree / LOG).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {0: "missed", 1: f"caught by {', '.join(failed)}"}.get(code, f"pytest exits with {code}")


def check(faults: list[Fault]) -> list[str]:
    """What is wrong: nothing, if the tests catch every fault.

    Raises:
        SystemExit: they fail without one.
    """
    wrong = [f"{fault.file}: not found exactly once: {fault.line}" for fault in faults if not is_found(fault)]
    if wrong:
        return wrong
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        _copy(tree)
        if code := status(tree, sorted({name for fault in faults for name in fault.tests})):
            raise SystemExit(f"without a fault pytest exits with {code}: {(tree / LOG).read_text(encoding='utf-8')[-2000:]}")
        for fault in faults:
            started = time.perf_counter()
            found = outcome(tree, fault)
            print(f"{time.perf_counter() - started:5.1f} s  {fault.file}: {fault.faulty}\n         {found}", flush=True)
            if not found.startswith("caught"):
                wrong.append(f"{fault.file}: {found}: {fault.faulty}")
    return wrong


def main(words: list[str]) -> int:
    """Check the chosen faults."""
    chosen = [fault for fault in read_faults() if not words or any(word in fault.file or word in fault.line for word in words)]
    wrong = check(chosen)
    print(*wrong, f"{len(chosen) - len(wrong)} of {len(chosen)} faults are caught", sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
