"""The table of faults stays true, and tests of formulas, metrics and rewards catch theirs (`benchmarks/faults.py` checks all)."""

import subprocess
import sys

import pytest

from benchmarks.faults import ROOT, is_found, read_faults

FAULTS = read_faults()
ROOMS = ("formulas/", "metrics/", "rewards/")


def test_every_line_of_the_table_is_found_once():
    assert len(FAULTS) > 24
    assert not [(fault.file, fault.line) for fault in FAULTS if not is_found(fault)]
    assert all(fault.line != fault.faulty for fault in FAULTS)
    assert f"each of {len(FAULTS)} single-line faults" in (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("room", ROOMS)
def test_each_fault_of_a_formula_is_caught(room):
    """In a process of its own: the server that this one's processes start from has imported the faultless tree."""
    command = [sys.executable, "-m", "benchmarks.faults", room]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    count = sum(f"/{room}" in fault.file for fault in FAULTS)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    assert f"{count} of {count} faults are caught" in ended.stdout
