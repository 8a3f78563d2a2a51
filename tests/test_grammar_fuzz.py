"""No mangled text makes reading or judging raise anything but typed errors, or take long; no order changes a verdict."""

import pytest
from mangled_texts import fuzz

from benchmarks.judging_order import differences


def test_mangled_text_raises_typed_errors_only():
    fuzz(1, 2_000)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_200_000_mangled_texts_raise_typed_errors_only():
    fuzz(2, 200_000)


def test_what_was_judged_before_changes_no_report():
    assert differences(6_000, seed=1) == []


@pytest.mark.long
def test_what_was_judged_before_changes_no_report_of_many():
    """`python -m benchmarks.judging_order --size 1000000` judges more."""
    assert differences(100_000, seed=2) == []
