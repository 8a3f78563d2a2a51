"""The table of faults stays true, and tests of formulas, metrics and rewards catch theirs (`benchmarks/faults.py` checks all)."""

import pytest

from benchmarks.faults import check, is_found, read_faults

FAULTS = read_faults()
ROOMS = ("formulas", "metrics", "rewards")


def test_every_line_of_the_table_is_found_once():
    assert len(FAULTS) > 24
    assert not [(fault.file, fault.line) for fault in FAULTS if not is_found(fault)]
    assert all(fault.line != fault.faulty for fault in FAULTS)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("room", ROOMS)
def test_each_fault_of_a_formula_is_caught(room):
    assert not check([fault for fault in FAULTS if fault.file.startswith(f"lightning_modules/{room}/")])
