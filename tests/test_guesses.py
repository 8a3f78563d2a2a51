"""Guesses that reason about nothing: how often they are right, and that balanced problems leave them no more than chance."""

import re
from collections import Counter
from statistics import mode as most_common

import pytest

import main
from datamodules.problems import synthesis as module
from datamodules.problems.context import PUBLISHED
from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.guesses import PREDICTORS, Guesses, guessable, guessed, seen
from datamodules.problems.mixture import MODES, Cell
from datamodules.problems.synthesis import Synthesis
from grammar import parse_problem

FORWARD, REVERSE = MODES


def read(example) -> dict[str, float]:
    """Oracle: guesses from the text alone, by regular expressions."""
    text = example.problem
    given = [int(number) for number in re.findall(r" equals (\d+)\.", text)] or [0]
    numbers = [int(number) for number in re.findall(r"\b\d+\b", text)] or [0]
    place = re.search(r" in ([A-Z][\w ]+)\?", example.question)
    here = [int(n) for n in re.findall(rf" in {re.escape(place[1])} equals (\d+)\.", text)] if place else []
    largest = max(given)
    return {
        "largest": largest, "half": largest / 2, "third": largest / 3, "last": given[-1], "first": given[0],
        "smallest": min(given), "most frequent": most_common(given), "first of all": numbers[0], "last of all": numbers[-1],
        "sum": sum(given),
        "sum of all": sum(numbers), "at the place": sum(here), "sentences": text.count("."), "twice": 2 * largest,
    }  # fmt: skip


def measured(context, mode, op, count, **spec) -> tuple[float, str, float]:
    """The share of the most frequent answer, the best of `read`'s guesses, and its share."""
    contexts = PUBLISHED if context is None else [context]
    answers, right = Counter(), Counter()
    data = Synthesis(None, GraphSpec(**spec))
    for i in range(count):
        example = data.example("train", i, Cell(op, contexts[i % len(contexts)], mode))
        graph = example.graph
        answers[graph.answer] += 1
        right.update(k for k, v in read(example).items() if (v if graph.modulus is None else v % graph.modulus) == graph.answer)
    name, hits = right.most_common(1)[0] if right else ("none", 0)
    return max(answers.values()) / count, name, hits / count


@pytest.mark.parametrize(("op", "guess", "least"), [(2, "largest", 0.9), (3, "largest", 0.85), (4, "half", 0.3)])
def test_published_reverse_problems_of_few_operations_are_guessed(op, guess, least):
    frequent, name, share = measured(None, REVERSE, op, 200)
    assert name == guess
    assert share > least > 4 * frequent


@pytest.mark.parametrize("op", [3, 4, 5, 6, 8])
@pytest.mark.parametrize(("context", "mode"), [(None, FORWARD), (None, REVERSE), ("garden", FORWARD)])
def test_no_guess_beats_the_most_frequent_answer_by_half_on_balanced_problems(context, mode, op):
    frequent, name, share = measured(context, mode, op, 300, profile="balanced")
    assert share <= 1.5 * frequent, name


@pytest.mark.long
@pytest.mark.parametrize("op", range(3, 21))
@pytest.mark.parametrize(
    ("context", "mode"), [(None, FORWARD), (None, REVERSE), ("hospital_wards", REVERSE), ("garden", FORWARD)]
)
def test_no_guess_beats_the_most_frequent_answer_by_half_on_many_balanced_problems(context, mode, op):
    if context == "garden" and op > 12:
        pytest.skip("the context has too few names")
    for spec in ({}, {"unknown_range": (1, 4)}, {"distractors": (2, 4), "number_range": 9}):
        frequent, name, share = measured(context, mode, op, 600, profile="balanced", **spec)
        assert share <= 1.5 * frequent, (spec, name)


def test_predictors_read_what_they_are_called():
    graph = parse_problem(
        "The number of adult owl in Hill equals 3. The number of adult crow in Bank equals 7. "
        "The number of adult owl in Bank equals 2 plus the number of adult owl in Hill. "
        "The number of adult fox in Bank equals 4.",
        "How many adult owl does Bank have?",
    )
    values = {name: predict(seen(graph)) for name, predict in PREDICTORS.items()}
    assert values["first given number"] == 3
    assert values["last given number"] == 4
    assert values["largest given number"] == 7
    assert values["half of the largest"] == 3.5
    assert values["second largest given number"] == 4
    assert values["sum of the given numbers"] == 14
    assert values["sum of the numbers"] == 16
    assert values["sum of those given at the asked place"] == 11
    assert values["sum of those given of the asked item"] == 3
    assert values["largest less the second"] == 3
    assert values["largest less the smallest"] == 5
    assert values["number of sentences"] == 4
    assert graph.answer == 5
    assert guessed(graph) == ["largest less the smallest"]
    assert guessable(graph)


def test_under_a_modulus_a_guess_counts_before_results_are_reduced():
    text = "The number of roses equals 4. The number of lilies equals the sum of the number of roses and the number of irises. "
    both = (
        text
        + "The number of irises equals 4. The number of tulips equals the sum of the number of lilies and the number of roses."
    )
    graph = parse_problem(both, "How many tulips are there?", modulus=5)  # 12, hence 2
    assert "three times the largest" in guessed(graph)
    assert guessable(graph)  # three times 4
    other = parse_problem(
        both.replace("irises equals 4", "irises equals 1"), "How many tulips are there?", modulus=5
    )  # 9, hence 4
    assert "largest given number" in guessed(other)
    assert not guessable(other)


def test_counts_of_two_parts_add_up():
    data = Synthesis(None)
    graphs = [data.example("train", i, Cell(4, "garden")).graph for i in range(40)]
    whole, parts = Guesses(), [Guesses(), Guesses()]
    for i, graph in enumerate(graphs):
        whole.add(graph)
        parts[i % 2].add(graph)
    parts[0].merge(parts[1])
    assert parts[0] == whole
    assert whole.problems == 40
    assert whole.frequent == max(Counter(graph.answer for graph in graphs).values()) / 40


def test_only_few_operations_change_the_spec():
    spec = GraphSpec(profile="balanced", constants=0.0, known_total=0.1)
    assert spec.at(2) is spec.at(6) is spec
    assert (spec.at(3).copies, spec.at(3).constants, spec.at(3).known_total, spec.at(3).question_total) == (0, 0, 0.1, 0.2)
    plain = GraphSpec()
    assert plain.at(3) is plain


def test_a_cell_without_balanced_problems_says_so(monkeypatch):
    monkeypatch.setattr(module, "REDRAWS", 5)
    with pytest.raises(ValueError, match=r"its profile keeps \(`graph.profile: balanced`\); raise its `op`, allow distractors"):
        Synthesis(None, GraphSpec(profile="balanced", distractors=(0, 0))).example("train", 0, Cell(3, "crazy_zootopia"))


def generated(capsys, *words):
    assert main.main(["generate", "--ops", "2-4", "--contexts", "garden", "--count", "300", *words]) == 0
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]


@pytest.mark.long
def test_the_report_needs_no_file_and_is_the_same_beside_one(tmp_path, capsys):
    alone = generated(capsys, "--report")
    assert len(alone) == 5
    assert [line.split(" | ")[1:3] for line in alone[2:]] == [["2", "100"], ["3", "100"], ["4", "100"]]
    assert generated(capsys, "--report", "--out", str(tmp_path / "rows.jsonl"), "--workers", "2") == alone
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 300
    assert generated(capsys, "--out", str(tmp_path / "more.jsonl")) == []
    assert (tmp_path / "more.jsonl").read_bytes() == (tmp_path / "rows.jsonl").read_bytes()
    assert generated(capsys, "--report", "--balanced") != alone


def test_neither_file_nor_report_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        main.main(["generate", "--count", "3"])
    assert stopped.value.code == 2
    assert "--out (or --report" in capsys.readouterr().err
