"""Shapes of problems, and what is counted of them, on rows written by hand."""

import json

from recipes.findings import solution_shapes

SECOND = "Define roses as A; so A = 3. Define oaks as B; so B = 4. Define ferns as C; so C = B = 4. "
SECOND += "Define pines as D; so D = A + C = 3 + 4 = 2. Answer: 2."
CHAIN = "Define oaks as A; so A = 1. Define figs as B; so B = A = 1. Answer: 1."


def test_a_shape_names_what_each_step_is_made_of():
    assert solution_shapes.shape(SECOND) == "given, given, B, A+C"
    assert solution_shapes.shape(CHAIN) == "given, A"


def test_the_table_holds_shares_before_and_after_of_shapes_that_are_frequent(tmp_path):
    for stage, right in (("midtrain", 1), ("grpo", 3)):
        (tmp_path / "seed7" / stage / "test/samples").mkdir(parents=True)
        cases = [(problem, SECOND) for problem in range(solution_shapes.FEW)] + [(99, CHAIN)]
        rows = [
            {"op": 5, "index": problem, "solution": solution, "accepted": {"executable": sample < right}}
            for problem, solution in cases
            for sample in range(4)
        ]
        rows.append({"op": 4, "index": 0, "solution": SECOND, "accepted": {"executable": True}})
        (tmp_path / "seed7" / stage / "test/samples/test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    lines = solution_shapes.table([tmp_path / "seed7"], 5).splitlines()
    assert [line.split() for line in lines[2:]] == [
        ["given,", "given,", "B,", "A+C", str(solution_shapes.FEW), "0.25", ">", "0.75"]
    ]
