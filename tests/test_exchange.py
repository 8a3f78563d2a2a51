"""The exchange of published rows and ours is fair: equal cells, each row held out once, intervals over all problems."""

import json
from math import sqrt
from statistics import mean, stdev

import pytest

from benchmarks.exchange import FOLDS, files, pooled
from datamodules.problems.mixture import Cell
from datamodules.problems.synthesis import Synthesis


def read(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_row_is_held_out_once_and_sources_have_the_same_cells(tmp_path):
    cells = [Cell(2, "crazy_zootopia"), Cell(3, "teachers_in_school", "forwardreverse")]
    rows = [Synthesis(None).example("train", i, cell) for cell in cells for i in range(4)]
    held = []
    for fold in range(FOLDS):
        trained, tested = files(tmp_path / str(fold), rows, fold)
        of = {name: read(path) for name, path in trained.items()}
        shapes = [sorted((row["op"], row["template"], row["mode"]) for row in found) for found in of.values()]
        assert shapes[0] == shapes[1] == shapes[2]
        out = [row["problem"] for row in read(tested["published"])]
        assert not {row["problem"] for row in of["published"]} & set(out)
        assert len(read(tested["ours"])) == len(out) == len(rows) - len(of["published"])
        held += out
    assert sorted(held) == sorted(row.problem for row in rows)


def test_folds_are_pooled_as_their_problems_would_be():
    """Oracle: mean and standard error written out; within folds alone, as each has a model of its own."""
    folds = [[0.0, 0.5, 1.0, 1.0], [0.25, 0.75]]
    parts = [{"mean": mean(f), "standard_error": stdev(f) / sqrt(len(f)), "problems": len(f)} for f in folds]
    error = sqrt(sum(len(f) * stdev(f) ** 2 for f in folds)) / 6
    expected = mean([*folds[0], *folds[1]])
    assert pooled(parts) == pytest.approx(
        {"mean": expected, "low": max(0, expected - 1.96 * error), "high": min(1, expected + 1.96 * error), "problems": 6}
    )
    none = pooled([{"mean": 0.0, "standard_error": 0.0, "problems": 60}])
    assert (1 - none["high"]) ** 60 == pytest.approx(0.05)  # that none of 60 is solved happens one time in twenty
