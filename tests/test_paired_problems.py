"""The interval of two models' difference on the same problems, against that of paired differences, normally distributed."""

import json
from itertools import combinations
from random import Random
from statistics import mean, stdev

import pytest
import yaml

from recipes.report.paired_problems import Outcome, Outcomes, outcomes, paired_interval
from recipes.report.sourced_numbers import Files, Term

EDGE = "/grades/band/edge/executable/pass@{}/mean"


def write(stage, solved, samples=4, problems="some"):
    """A tested stage; op -> how many samples of each problem were right. Problems of two processes lie in two files.

    Ids are those of places, as they are for synthetic problems: other problems have the same.
    """
    (stage / "test/samples").mkdir(parents=True)
    bands = {"ID": "2-3", "edge": "4-5"}
    (stage / "config.yaml").write_text(yaml.safe_dump({"data": {"init_args": {"held_out": {"bands": bands}}}}))
    rows = [[], []]
    for index, (op, right) in enumerate((op, right) for op, of in solved.items() for right in of):
        for sample in range(samples):
            accepted = {"executable": sample < right, "answer": True}
            rows[index % 2].append({"index": index, "sample": sample, "id": f"test-{index}", "op": op, "accepted": accepted})
    for name, of in zip(("test", "test.rank1"), rows, strict=True):
        (stage / f"test/samples/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in of))
    (stage / "test/samples/test.settings.json").write_text(json.dumps({"problems": problems}))
    return stage


@pytest.fixture
def two(tmp_path):
    """Problems differ more than models do: the second model is right a little more often, on the same problems."""
    draw = Random(1)
    base = {op: [draw.choice((0, 0, 1, 2, 4)) for _ in range(100)] for op in (2, 4, 5)}
    other = {op: [min(4, right + (draw.random() < 0.3)) for right in of] for op, of in base.items()}
    return base, other, write(tmp_path / "base", base), write(tmp_path / "other", other)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_it_is_that_of_paired_differences(two, k):
    base, other, base_folder, other_folder = two

    def passes(right):
        draws = list(combinations([True] * right + [False] * (4 - right), k))
        return mean(any(draw) for draw in draws)

    differences = [passes(b) - passes(a) for op in (4, 5) for a, b in zip(base[op], other[op], strict=True)]
    low, high = paired_interval(outcomes(other_folder), outcomes(base_folder), EDGE.format(k))
    error = stdev(differences) / len(differences) ** 0.5
    assert low == pytest.approx(mean(differences) - 1.96 * error, abs=0.25 * error)
    assert high == pytest.approx(mean(differences) + 1.96 * error, abs=0.25 * error)
    of_op = [passes(b) - passes(a) for a, b in zip(base[5], other[5], strict=True)]
    low, high = paired_interval(outcomes(other_folder), outcomes(base_folder), f"/grades/op/5/executable/pass@{k}/mean")
    assert low < mean(of_op) < high


def test_it_covers_the_true_difference_as_often_as_it_says():
    """A world of 2,000 problems, of which a test draws 60: 95% of the intervals hold the world's difference."""
    draw, named = Random(0), frozenset({("band", "edge")})
    world = []
    for _ in range(2000):
        right = draw.choice((0, 0, 1, 3, 4))
        world.append((right, max(0, min(4, right + draw.choice((-1, 0, 0, 1, 1))))))
    truth = mean((b - a) / 4 for a, b in world)
    held = 0
    for _ in range(200):
        drawn = draw.choices(world, k=60)
        base, other = (Outcomes("", {i: Outcome(named, 4, {"executable": of[j]}) for i, of in enumerate(drawn)}) for j in (0, 1))
        low, high = paired_interval(other, base, EDGE.format(1))
        held += low <= truth <= high
    assert 0.90 <= held / 200 <= 0.99


def test_models_tested_on_other_problems_are_not_paired(two, tmp_path):
    base, other, base_folder, other_folder = two
    key = EDGE.format(1)
    elsewhere = outcomes(write(tmp_path / "elsewhere", other, problems="others"))
    fewer = outcomes(write(tmp_path / "fewer", {2: base[2]}))
    nobody = outcomes(tmp_path / "nobody")
    assert paired_interval(elsewhere, outcomes(base_folder), key) is None
    assert paired_interval(fewer, outcomes(base_folder), key) is None
    assert paired_interval(nobody, nobody, key) is None
    assert paired_interval(outcomes(other_folder), outcomes(base_folder), "/skills/all/x/accuracy") is None
    assert paired_interval(outcomes(other_folder), outcomes(base_folder), "/grades/band/edge/released/pass@1/mean") is None


def test_problems_that_no_model_solves_say_nothing(tmp_path):
    never = [outcomes(write(tmp_path / name, {4: [0] * 60, 5: [0] * 60})) for name in ("one", "other")]
    assert paired_interval(*never, EDGE.format(4)) is None


def test_a_report_of_one_seed_gives_it(two):
    *_, base_folder, other_folder = two
    for folder, value in ((base_folder, 0.3), (other_folder, 0.37)):
        grades = {"band": {"edge": {"executable": {"pass@1": {"mean": value}}}}}
        (folder / "test/evaluation.json").write_text(json.dumps({"grades": grades}))
    paths = [f"{folder.name}/test/evaluation.json" for folder in (other_folder, base_folder)]
    key = EDGE.format(1)
    found = Files(base_folder.parent).number([[Term(1, paths[0], key), Term(-1, paths[1], key)]])
    assert (found.low, found.high) == paired_interval(outcomes(other_folder), outcomes(base_folder), key)
    assert found.value == pytest.approx(0.07)
    turned = Files(base_folder.parent).number([[Term(-1, paths[1], key), Term(1, paths[0], key)]])
    assert turned.low is None  # the first term is what is compared
