"""docs/verifier.md says what the graders do: each of its examples is judged."""

import re
from pathlib import Path

import pytest

from grammar import GRADERS, grade, parse_problem, parse_response, verify
from grammar.problem.names import read_name

PAGE = (Path(__file__).parents[1] / "docs/verifier.md").read_text(encoding="utf-8")
CODE = re.compile(r"`([^`]*)`")


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def table(text: str) -> list[list[str]]:
    """The rows of its first table, without its head."""
    rows = [[cell.strip(" ") for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return rows[2:]


def code(cell: str) -> str:
    return "".join(CODE.findall(cell))


def changes(title: str) -> list[tuple[str, str, str, str, list[bool]]]:
    problem, solution = (re.search(rf"```{kind}\n(.*)\n```", section(title))[1] for kind in ("problem", "solution"))
    rows = table(section(title))
    return [(problem, solution, code(old), code(new), [v == "yes" for v in verdicts[:3]]) for old, new, *verdicts in rows]


@pytest.mark.parametrize(("problem", "solution", "old", "new", "verdicts"), [*changes("Forward"), *changes("In reverse")])
def test_responses_get_the_verdicts_of_the_page(problem, solution, old, new, verdicts):
    assert old in solution
    report = verify(parse_response(f" {solution.replace(old, new, 1)}"), parse_problem(problem))
    assert [grade(report, grader) for grader in GRADERS] == verdicts, report.errors


@pytest.mark.parametrize(("problem", "follows", "answer"), table(section("What is asked, and how it follows")))
def test_problems_follow_as_the_page_says(problem, follows, answer):
    graph = parse_problem(code(problem))
    assert str(graph.answer).lower() == answer
    how = "in reverse" if graph.unknown else "forward"
    assert follows == (how if graph.solvable else "open" if graph.answer is None else "several equations")


@pytest.mark.parametrize(("name", "verdict"), table(section("Names and sentences")))
def test_names_are_read_as_the_page_says(name, verdict):
    try:
        assert read_name(code(name)).text == code(name) and verdict == "read"
    except ValueError:
        assert verdict == "refused"


def test_the_page_has_examples():
    assert len(changes("Forward")) > 15 and len(changes("In reverse")) > 8
