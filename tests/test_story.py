"""The story of a recipe in the terminal: sentences that say what the kept numbers of the quickstart say."""

import json
from pathlib import Path

import pytest

from recipes.running.story import growth, reach, tell

STAGES = ("pretrain", "midtrain", "grpo")
KEPT = Path(__file__).parent.parent / "docs/quickstart/seed0"
PRETRAIN, MIDTRAIN, GRPO = (
    json.loads((KEPT / stage / "test/pass_at_k.json").read_text()) for stage in ("pretrain", "midtrain", "grpo")
)


def results(**bands):
    return {name: {"executable": {"pass@1": {"mean": once}, "pass@8": {"mean": ever}}} for name, (once, ever) in bands.items()}


def test_bands_are_sorted_by_what_the_model_reaches():
    assert reach("pretrain", PRETRAIN) == "After pretrain the model solves ID and never solves edge, beyond and hard."
    assert reach("midtrain", MIDTRAIN) == (
        "After midtrain the model sometimes solves ID (0.88), edge (0.29) and beyond (0.14) and never solves hard."
    )
    assert reach("x", results(a=(1.0, 1.0))) == "After x the model solves a."


@pytest.mark.parametrize(
    ("now", "then", "meaning"),
    [
        ((0.69, 0.71), (0.29, 0.80), "surer of what it could already solve"),
        ((0.29, 0.80), (0.00, 0.00), "solves problems that it never solved before"),
        ((0.20, 0.30), (0.50, 0.60), "it has forgotten"),
        ((0.20, 0.60), (0.50, 0.60), "less sure, not less able"),
        ((0.51, 0.60), (0.50, 0.60), "changed no band's pass@1"),
    ],
)
def test_growth_tells_sharpening_from_new_ability(now, then, meaning):
    assert meaning in growth("grpo", results(edge=now), "midtrain", results(edge=then))


def test_the_quickstarts_rl_is_told_with_its_numbers(capsys):
    assert growth("grpo", GRPO, "midtrain", MIDTRAIN).startswith(
        "It changed edge most: pass@1 by +0.40 over midtrain, pass@8 by -0.0"
    )
    tell("grpo", GRPO, ("midtrain", MIDTRAIN))
    said = capsys.readouterr().out
    assert "+0.40" in said and "0.69" in said and "after grpo" in said
    assert "op5" not in said


def test_results_without_bands_are_told_by_operations_and_without_problems_not_at_all(capsys):
    by_operations = results(op2=(1.0, 1.0), op3=(0.0, 0.0))
    assert reach("x", by_operations) == "After x the model solves op2 and never solves op3."
    assert reach("x", results(ID=(1.0, 1.0)) | {"edge": {}}) == "After x the model solves ID."
    tell("x", {}, None)
    assert "asked nothing" in capsys.readouterr().out
