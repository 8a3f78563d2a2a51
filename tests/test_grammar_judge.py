"""`main.py verify` and the adapters for other trainers."""

import gzip
import json

import pytest
from grammar_cases import random_graph, response_of

from grammar import gold_trace, render_problem, render_trace
from grammar.adapters import compute_score, trl_reward
from grammar.judge import judge_row
from main import main as front_door
from recipes.verify_command import main

FIELDS = {"id", "accepted", "answer_correct", "process_accuracy", "basis", "well_posed", "unread", "nodes", "errors"}


@pytest.fixture
def row():
    import random

    graph = random_graph(random.Random(3))
    problem, question = render_problem(graph)
    return {"id": "r1", "problem": problem, "question": question, "solution": render_trace(gold_trace(graph))}


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_file_is_judged_row_by_row(tmp_path, row, capsys):
    wrong = row | {"id": "r2", "response": " <answer> 1000000 </answer>"}
    good = row | {"id": "r3", "response": response_of(row["solution"])}
    source, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n".join(map(json.dumps, (row, wrong, good))) + "\n\n", encoding="utf-8")
    assert main([str(source), "--grader", "executable", "--out", str(out)]) == 0
    verdicts = lines(out)
    assert [(v["id"], v["accepted"]) for v in verdicts] == [("r1", True), ("r2", False), ("r3", True)]
    assert all(set(verdict) == FIELDS and verdict["basis"] == "problem" for verdict in verdicts)
    assert "0.6667" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_workers_write_the_same(tmp_path, row):
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row | {"id": i}) + "\n" for i in range(600)), encoding="utf-8")
    outs = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    for workers, out in zip("12", outs, strict=True):
        assert main([str(source), "--workers", workers, "--out", str(out)]) == 0
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_rows_that_cannot_be_judged_are_reported_and_the_rest_goes_on(tmp_path, row, capsys):
    bad = ["{", "[]", "{}", '{"response": 3}', '{"response": "", "problem": "?"}', '{"solution": "x Answer: 3."}', "[" * 100_000]
    source, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n".join([*bad, json.dumps(row)]), encoding="utf-8")
    assert main([str(source), "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert all(f"line {number}:" in said for number in range(1, len(bad) + 1)) and "line 8" not in said
    assert len(lines(out)) == 1


def test_a_missing_file_is_a_usage_error(tmp_path, capsys):
    assert main([str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path / "none.jsonl"), "--grader", "strict"])
    assert stop.value.code == 2


def test_basis_and_well_posed(row):
    gold = {key: row[key] for key in ("id", "solution")}
    assert judge_row(gold, "paper")["basis"] == "gold" and judge_row(gold, "paper")["well_posed"] is None
    lost = row | {"problem": "", "question": row["question"]}
    verdict = judge_row(lost, "executable")
    assert (verdict["basis"], verdict["well_posed"], verdict["accepted"]) == ("gold", False, True)
    other = row | {"solution": row["solution"].rsplit(" ", 1)[0] + " 1000001."}
    verdict = judge_row(other, "executable")
    assert (verdict["basis"], verdict["well_posed"], verdict["accepted"]) == ("problem", False, False)
    with pytest.raises(ValueError, match="no gold"):
        judge_row({"problem": "", "question": "How many roses are there?", "response": "x"}, "paper")


def test_a_tag_answers_a_response_and_words_answer_a_gold_solution(row):
    assert not judge_row(row | {"response": row["solution"]}, "answer")["accepted"]
    assert judge_row(row, "answer")["accepted"]


def test_trl_reward(row):
    responses = [response_of(row["solution"]), [{"role": "assistant", "content": response_of(row["solution"])}], "no"]
    columns = {"problem": [row["problem"]] * 3, "question": [row["question"]] * 3}
    reward = trl_reward("executable")
    assert reward(prompts=["", "", ""], completions=responses, **columns) == [1.0, 1.0, 0.0]
    assert reward.__name__ == "interplay_executable"


def test_trl_reward_computes_as_the_row_says():
    problem = "The number of oaks equals 4. The number of elms equals 3. The number of figs equals the sum of the number of oaks"
    row = {"problem": problem + " and the number of elms. ", "question": "How many figs are there?"}
    steps = "Define oaks as A; so A = 4. Define elms as B; so B = 3. Define figs as C; so C = A + B = 4 + 3 = {0}. "
    responses = [steps.format(n) + f"</solution><answer> {n} </answer>" for n in (2, 7)]
    columns = {key: [text] * 2 for key, text in row.items()}
    assert trl_reward()(responses, **columns) == [0.0, 1.0]
    assert trl_reward()(responses, **columns, modulus=[5, 5]) == [1.0, 0.0]
    assert trl_reward()(responses, **columns, modulus=[5, None]) == [1.0, 1.0]


def test_compressed_rows_are_judged_into_a_new_folder_and_odd_names_kept(tmp_path, row):
    source, out = tmp_path / "rows.jsonl.gz", tmp_path / "deep/out.jsonl"
    source.write_bytes(gzip.compress("\n".join(json.dumps(row | {"id": name}) for name in ("a", "\ud800")).encode()))
    assert front_door(["verify", str(source), "--out", str(out)]) == 0
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == ["a", "\ud800"]


def test_verl_compute_score(row):
    truth = row["problem"] + row["question"]
    assert compute_score("interplay", response_of(row["solution"]), f"Here is a problem. {truth}") == 1.0
    with pytest.raises(ValueError, match="problem, sentence 0"):
        compute_score("interplay", "no", "Two roses are red. The number of roses equals 3. How many roses are there?")
    assert compute_score("interplay", response_of(row["solution"]), truth, {"grader": "paper"}) == 1.0
    assert compute_score("interplay", "no", truth) == 0.0
