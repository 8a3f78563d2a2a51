"""The language agrees with the published data: bytes, operation counts, well-posedness, verdicts."""

from collections import Counter

import pytest
from grammar_cases import response_of, rows

from grammar import gold_trace, grade, parse_problem, parse_response, parse_trace, render_problem, render_trace, verify
from grammar.judge import judge_row
from grammar.reading.gold_graph import graph_of


@pytest.mark.parametrize("name", ["op", "depth3"])
def test_problems_and_solutions_come_back_to_the_byte(name):
    for row in rows(name):
        assert render_problem(parse_problem(row["problem"], row["question"])) == (row["problem"], row["question"])
        assert render_trace(parse_trace(row["solution"])) == row["solution"]
        response = response_of(row["solution"])
        assert render_trace(parse_response(response)) == response


@pytest.mark.parametrize("name", ["op", "depth3"])
def test_gold_solutions_state_the_published_operation_count(name):
    for row in rows(name):
        assert graph_of(parse_trace(row["solution"])).op == row["op"], row["id"]


def test_well_posed_agrees_with_the_independent_solver_on_all_rows():
    problems = {row["id"]: row for row in rows("op")}
    for known in rows("well_posed"):
        row = problems[known["id"]]
        assert judge_row(row, "answer")["well_posed"] == known["well_posed"], (known, row)
    assert len(rows("well_posed")) == len(problems) >= 95


@pytest.mark.parametrize("name", ["op", "depth3"])
def test_gold_solutions_of_well_posed_problems_are_accepted(name):
    ill = {row["id"] for row in rows("well_posed") if not row["well_posed"]}
    for row in rows(name):
        if row["id"] in ill:
            continue
        graph = parse_problem(row["problem"], row["question"])
        assert graph.op == row["op"]
        report = verify(parse_trace(row["solution"]), graph)
        assert not report.errors and grade(report, "paper") and grade(report, "executable"), (row["id"], report.errors)
        assert grade(verify(gold_trace(graph), graph), "executable")


@pytest.mark.parametrize("grader", ["paper", "executable"])
def test_graders_say_what_is_expected_of_them_on_every_verdict(grader):
    problems = {row["id"]: row for row in rows("op")}
    seen = Counter()
    for case in rows("verdicts"):
        expected = case[f"expect_{grader}"]
        if expected is None or not case["well_posed"]:
            continue
        row = problems[case["id"]]
        report = verify(parse_response(case["candidate"]), parse_problem(row["problem"], row["question"]))
        assert grade(report, grader) == expected, (case["vid"], case["kind"], report.errors)
        seen[expected] += 1
    assert min(seen.values()) > len(rows("verdicts")) // 15


@pytest.mark.parametrize("grader", ["paper", "executable"])
def test_with_the_gold_trace_alone_graders_say_it_too_for_ill_posed_problems(grader):
    for case in rows("verdicts"):
        expected = case[f"expect_{grader}"]
        if expected is not None:
            verdict = judge_row({"response": case["candidate"], "solution": case["gold_solution"]}, grader)
            assert verdict["accepted"] == expected, (case["vid"], case["kind"], verdict["errors"])
            assert (verdict["basis"], verdict["well_posed"]) == ("gold", None)
