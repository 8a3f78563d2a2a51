"""`main.py ask`: a model's solution, marked line by line; from runs, folders and checkpoints."""

import io
import json
import random
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml
from grammar_cases import random_graph, response_of
from minute_recipe import minute_config

import main
from datamodules.problems.context import load_context
from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.splits import canonical_hash, split_of
from datamodules.rows.tokenizer import load_tokenizer
from grammar import gold_trace, parse_problem, parse_response, render_trace, verify
from grammar.checking.marking import marked
from lightning_modules.models.language_model import build_language_model
from recipes.trained.trained_model import Kind, kind_of
from tests_support import TINY

GIVEN = "The number of roses equals 3. The number of oaks equals 4."
PROBLEM = f"{GIVEN} The number of ferns equals the sum of the number of roses and the number of oaks."
QUESTION = "How many ferns are there?"
STEPS = ["Define roses as A; so A = 3.", "Define oaks as B; so B = 4.", "Define ferns as C; so C = A + B = 3 + 4 = 2."]
TAIL = "</solution> <answer> 2 </answer>"
SOLUTION = " ".join(["", *STEPS, TAIL])
REVERSE = (
    "The number of a in Z exists, and its number is greater than 0. The number of b in Z equals 3 times the number of a in Z. "
    "The total number of c in Z equals 8."
)
SOLVED = [
    "The question is difficult, so we use equations to solve it.",
    "Define a in Z as x; we don't know its value yet but will find it out later.",
    "Define b in Z as A; B = x = x; so A = 3 * B = (3) * (x) = 3*x.",
    "Define total number of c in Z as C; so C = x + A = x + 3*x = 4*x.",
    "We know C = 8, so we have 4*x = 8 and we solve it through the following steps: Simplifying the equation: 4*x = 8. Move all "
    "terms to one side: 4*x - 8 = 0. Isolate the term with x: 4*x = 8. Divide both sides by 4: x = 8 / 4. Solution: x = 2.",
]


def shown(response: str, problem: str = PROBLEM, question: str = QUESTION, modulus: int | None = 5) -> list[str]:
    """Marked lines: v for right, x for wrong, what is wrong indented."""
    graph = parse_problem(problem, question, modulus=modulus)
    found = []
    for line in marked(response, verify(parse_response(response), graph), graph.answer):
        mark = {True: "v", False: "x", None: "."}[line.right]
        found += [f"{mark} {line.text}", *(f"    {note}" for note in line.notes)]
    return found


A, B, C = (f"v {step}" for step in STEPS)
LETTER = "    letters: 'B' is used before it is declared, in 'so C = A + B = 3 + 4 = 2'"
PARENTS = "    parents: 'ferns' is made of 'roses', 'oaks', not of 'roses'"
NO_TAG = "    answer: expected '<answer> N </answer>', found no <answer>"
CASES = [
    ("", "", [A, B, C]),
    # syntax: in a step, between steps, where a step should be, in an ending, between the tags
    ("so A = 3.", "A = 3. Hm, well.", [
        "v Define roses as A; A = 3.",
        "x Hm, well.", "    syntax: expected 'Define ...' or 'We know ...', found 'Hm, well.'", B, C]),
    ("C = A + B = 3", "C == A + B = 3", [A, B, "x Define ferns as C; so C == A + B = 3 + 4 = 2.",
        "    syntax: expected '(' or a negative number or a number or a term in x or a variable; found '= A + B = 3 + 4 = 2'"]),
    ("oaks as B", "oaks", [A, "x Define oaks; so B = 4.",
        "    syntax: expected 'NAME as LETTER; ...' after 'Define', found 'oaks; so B = 4.'", f"x{C[1:]}", LETTER, PARENTS,
        "x 'oaks' is never defined"]),
    ("</sol", "We know C = 2, so </sol", [A, B, C, "x We know C = 2, so",
        "    syntax: expected ', so we have' or '.' or '/' or ':'; found ', so'"]),
    ("</solution>", "</solution> So", [A, B, C, "x </solution> So", "    syntax: expected <answer>, found 'So'"]),
    ("Define roses", "\x1b[31m red\n\nDefine roses", ["x \\x1b[31m red",
        "    syntax: expected 'Define NAME as LETTER; ...', found '\\x1b[31m red'", A, B, C]),
    # missing, with letters and parents
    (STEPS[1], "", [A, f"x{C[1:]}", LETTER, PARENTS, "x 'oaks' is never defined"]),
    # value, with arithmetic
    ("B = 4", "B = 3", [A, "x Define oaks as B; so B = 3.", "    value: 'oaks' is 4, not 3", f"x{C[1:]}",
        "    arithmetic: 'A+B' is 1, not '2', in 'so C = A + B = 3 + 4 = 2'",
        "    arithmetic: '3+4' is not 'A+B' with values: '3+3', in 'so C = A + B = 3 + 4 = 2'"]),
    ("4 = 2", "4 = 7", [A, B, "x Define ferns as C; so C = A + B = 3 + 4 = 7.",
        "    arithmetic: the result is not reduced modulo 5, in 'so C = A + B = 3 + 4 = 7'", "    value: 'ferns' is 2, not 7"]),
    ("ferns as C; so C", "ferns as A; so A", [A, B, "x Define ferns as A; so A = A + B = 3 + 4 = 2.",
        "    letters: 'A' already stands for something else; take a new letter"]),
    ("Define ferns", "Define elms as F; so F = 1. Define ferns", [A, B, "x Define elms as F; so F = 1.",
        "    ungrounded: the problem does not say what 'elms' is", C]),
    # equation, in a problem without an unknown
    ("</sol", f"{SOLVED[4]} </sol", [A, B, C, f"x {SOLVED[4]}", "    equation: the problem has no unknown to solve for"]),
    # answer
    ("> 2 <", "> 4 <", [A, B, C, "x answer 4", "    answer: 4 is wrong: the answer is 2"]),
    ("> 2 <", "> two <", [A, B, C, "x no answer", "    answer: expected an integer in <answer>, found ' two '",
        "    answer: the answer is 2"]),
    (f" {TAIL}", "", [A, B, C, "x no answer", NO_TAG, "    answer: the answer is 2"]),
    (SOLUTION, "", [*(f"x {name!r} is never defined" for name in ("roses", "oaks", "ferns")), "x no answer", NO_TAG,
        "    answer: the answer is 2"]),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "lines"), CASES)
def test_what_is_wrong_stands_under_the_line_it_concerns(old, new, lines):
    assert old in SOLUTION
    answered = any(line.endswith(("o answer", "x answer 4")) for line in lines)
    assert shown(SOLUTION.replace(old, new, 1)) == lines + ([] if answered else ["v answer 2"])


@pytest.mark.parametrize(
    ("old", "new", "place", "lines"),
    [
        ("", "", 0, []),
        ("= 4*x. We", "= 5*x. We", 3, [
            f"x {SOLVED[3].replace('= 4*x', '= 5*x')}",
            "    arithmetic: 'x+A' is 4*x, not '5*x', in 'so C = x + A = x + 3*x = 5*x'",
            "    arithmetic: 'x+3*x' is 4*x, not '5*x', in 'so C = x + A = x + 3*x = 5*x'",
            "    value: 'total number of c in Z' is 4*x, not 5*x",
            f"x {SOLVED[4]}", "    equation: 'C' is 5*x, so the equation is 5*x = 8"]),
        ("4*x - 8 = 0", "4*x - 6 = 0", 4, [
            f"x {SOLVED[4].replace('- 8', '- 6')}", "    equation: 4*x - 6 = 0 does not follow from 4*x = 8"]),
        (" Solution: x = 2.", "", 4, [
            f"x {SOLVED[4].removesuffix(' Solution: x = 2.')}", "    syntax: expected 'Solution:'; found the end",
            "x expected 'We know ...': x is never solved for"]),
        (f" {SOLVED[4]}", "", 4, ["x expected 'We know ...': x is never solved for"]),
    ],
)  # fmt: skip
def test_in_reverse_the_opening_has_no_mark_and_the_equation_has_one(old, new, place, lines):
    right = [f". {SOLVED[0]}", *(f"v {step}" for step in SOLVED[1:])]
    expected = [*right[:place], *lines] if lines else right
    response = " ".join(["", *SOLVED, TAIL])
    assert shown(response.replace(old, new, 1), REVERSE, "How many a does Z have?", None) == [*expected, "v answer 2"]


def spoilt(text: str, rng: random.Random) -> str:
    """A few characters, words or sentences dropped, doubled or swapped."""
    for _ in range(rng.randint(0, 3)):
        unit = rng.choice((".", " ", "= "))
        parts = text.split(unit)
        i, j = rng.randrange(len(parts)), rng.randrange(len(parts))
        change = rng.randrange(3)
        if change == 0:
            parts[i], parts[j] = parts[j], parts[i]
        elif change == 1:
            parts.insert(i, parts[j])
        else:
            del parts[i]
        text = unit.join(parts)
    return text


def test_every_error_is_shown_once_and_all_that_is_judged_is_shown():
    rng, judged = random.Random(7), Counter()
    for number in range(300):
        graph = random_graph(rng, reverse=number % 2 == 1)
        text = spoilt(response_of(render_trace(gold_trace(graph))), rng)
        report = verify(parse_response(text), graph)
        *lines, answer = marked(text, report)
        notes = [note for line in (*lines, answer) for note in line.notes]
        left_out = [line.text for line in lines if line.right is False and not line.notes]
        said = Counter([note.partition(": ")[2] for note in notes] + left_out)
        assert said == Counter(error.message for error in report.errors)
        assert (report.errors == ()) == all(line.right is not False for line in (*lines, answer))
        written = "".join("".join(line.text for line in lines if line.text not in left_out).split())
        plain = "".join(text.split())
        assert plain.startswith(written)
        assert not plain[len(written) :] or plain[len(written) :].startswith(("<answer>", "</solution>", "</answer>"))
        judged.update({error.kind for error in report.errors} or {"none"})
    assert {"none", "syntax", "missing", "letters", "arithmetic", "parents", "equation", "answer"} <= judged.keys()


KEPT = Path(__file__).parent / "kept/pretrain/step2.ckpt"
WRONG = SOLUTION.replace("B = 4", "B = 3")


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A run whose model has learned one wrong solution by heart."""
    folder, tokenizer = tmp_path_factory.mktemp("taught"), load_tokenizer("garden")
    torch.manual_seed(0)
    model = build_language_model(TINY)
    prompt = f"<question> {PROBLEM} {QUESTION} </question> <solution>"
    ids = torch.tensor([tokenizer(prompt + WRONG)["input_ids"]])
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(150):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    for saved in (model, tokenizer):
        saved.save_pretrained(folder / "huggingface")
    (folder / "config.yaml").write_text(yaml.safe_dump(minute_config("pretrain")))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of four updates."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "minute.yaml").write_text(yaml.safe_dump(minute_config("pretrain")))
    run = folder / "run"
    assert main.main(["fit", "--config", str(folder / "minute.yaml"), "--trainer.default_root_dir", str(run)]) == 0
    return run


def ask(*words: object) -> int:
    return main.main(["ask", *map(str, words)])


EXPECTED = f"""{PROBLEM}
{QUESTION}
(normalforward, op 4, modulo 5)

✓ {STEPS[0]}
✗ Define oaks as B; so B = 3.
  value: 'oaks' is 4, not 3
✗ {STEPS[2]}
  arithmetic: 'A+B' is 1, not '2', in 'so C = A + B = 3 + 4 = 2'
  arithmetic: '3+4' is not 'A+B' with values: '3+3', in 'so C = A + B = 3 + 4 = 2'
✓ answer 2
graders: answer ✓, paper ✗, executable ✗
"""


def test_a_problem_is_asked_of_a_run(taught, capsys, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert ask(taught, f" {GIVEN}\n  {PROBLEM.removeprefix(GIVEN)}", QUESTION) == 0
    printed = capsys.readouterr()
    assert printed.out == EXPECTED and printed.err == ""


def test_marks_are_coloured_on_a_terminal_and_plain_where_stdout_is_not_unicode(taught, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes stdout for a terminal
    monkeypatch.setenv("TERM", "xterm-256color")
    assert ask(taught, PROBLEM, QUESTION) == 0
    coloured = capsys.readouterr().out
    assert f"\x1b[32m✓ {STEPS[0]}\x1b[0m" in coloured and "\x1b[31m✗ Define oaks as B; so B = 3.\x1b[0m" in coloured
    monkeypatch.delenv("FORCE_COLOR")
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert ask(taught, PROBLEM, QUESTION) == 0
    stdout.flush()
    plain = EXPECTED.replace("✓", "[ok]").replace("✗", "[no]").replace("\n  ", "\n     ")
    assert stdout.buffer.getvalue().decode("ascii") == plain


def test_what_computes_modulo_what(taught, capsys):
    shutil.copytree(taught / "huggingface", bare := taught.parent / "bare" / "model", dirs_exist_ok=True)
    for words, answer in [((), 7), (("--modulus", 6), 1), (("--context", "garden"), 2), (("--context", "crazy_zootopia"), 7)]:
        assert ask(bare, PROBLEM, QUESTION, "--json", *words) == 0
        row = json.loads(capsys.readouterr().out)
        wrong = [error["message"] for error in row["errors"] if error["kind"] == "answer"]
        assert wrong == ([] if answer == 2 else [f"2 is wrong: the answer is {answer}"])


def test_json_is_what_verify_says(taught, tmp_path, capsys):
    assert ask(taught, PROBLEM, QUESTION, "--json", "--samples", 3, "--temperature", 3, "--seed", 1) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 3 and len({row["response"] for row in rows}) > 1
    asked, out = tmp_path / "asked.jsonl", tmp_path / "verdicts.jsonl"
    asked.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main.main(["verify", str(asked), "--out", str(out)]) == 0
    verdicts = [json.loads(line) for line in out.read_text().splitlines()]
    assert [{key: row[key] for key in verdict} for row, verdict in zip(rows, verdicts, strict=True)] == verdicts
    assert all(row["problem"] == PROBLEM and row["question"] == QUESTION and row["seed"] == 1 for row in rows)


@pytest.mark.long
def test_random_problems_are_of_the_run_s_kind_and_no_run_trains_on_them(trained, capsys):
    garden = {word for group in load_context("garden").items for word in group}
    problems = []
    for seed in (3, 4, 3):
        assert ask(trained, "--random", "--op", 6, "--seed", seed, "--json", "--max-new-tokens", 5) == 0
        row = json.loads(capsys.readouterr().out)
        graph = parse_problem(row["problem"], row["question"], modulus=row["modulus"])
        assert graph.op == 6 and graph.modulus == 5 and set(graph.mentioned) <= garden
        assert {s.rule for s in graph.statements} <= {"given", "copy", "sum"}  # as the run's `graph` has it
        assert split_of(canonical_hash(graph)) == "test"
        assert row["tokens"] == 5 and not row["finished"]
        problems.append(row["problem"])
    assert problems[0] == problems[2] != problems[1]
    assert ask(trained, "--random", "--op", 6, "--max-new-tokens", 5, "--context", "crazy_zootopia", "--samples", 2) == 0
    printed = capsys.readouterr().out
    assert "(crazy_zootopia, normalforward, op 6, seed " in printed and printed.count("  cut off after 5 tokens\n") == 2
    assert "\nSolution 2 of 2:\n" in printed


@pytest.mark.long
def test_checkpoints_are_asked_like_the_folder_that_training_left(trained, tmp_path, capsys):
    def response(run):
        assert ask(run, PROBLEM, QUESTION, "--json", "--max-new-tokens", 12) == 0
        return json.loads(capsys.readouterr().out)

    whole = response(trained)
    assert whole["modulus"] == 5
    stopped = shutil.copytree(trained, tmp_path / "stopped", ignore=shutil.ignore_patterns("huggingface"))
    shutil.copy(KEPT, stopped / "checkpoints/z.ckpt")  # older, and last by name
    beside = shutil.copy(stopped / "checkpoints/last.ckpt", stopped / "beside.ckpt")
    for run in (trained / "huggingface", stopped, stopped / "checkpoints/last.ckpt", beside):
        assert response(run) == whole
    kept = response(KEPT)
    assert kept["modulus"] == 5 and kept["response"] != whole["response"]


def test_the_kind_of_a_run_is_that_of_its_held_out_problems_or_else_of_its_mixture():
    mixture = [{"ops": "2-4", "contexts": ["garden"], "modes": ["normalforward"], "weight": 1.0}]
    graph = {"max_terms": 2, "distractors": [0, 1]}
    assert kind_of({"mixture": mixture, "graph": graph}) == Kind(("garden",), graph=GraphSpec(max_terms=2, distractors=(0, 1)))
    held_out = {"contexts": ["crazy_zootopia", "garden"], "modes": ["forwardreverse"]}
    both = kind_of({"mixture": mixture, "held_out": held_out})
    assert both == Kind(("crazy_zootopia", "garden"), ("forwardreverse",))
    with pytest.raises(ValueError, match="modulo different numbers; say which by --context"):
        both.modulus  # noqa: B018
    assert kind_of({"mixture": "seed_10", "held_out": {"contexts": []}}).contexts == ("crazy_zootopia", "teachers_in_school")
    assert kind_of({}) == Kind() and Kind().modulus is None
    for strange in ({"graph": {"colour": "red"}}, {"mixture": [{"weights": 1}]}, {"held_out": ["garden"]}):
        with pytest.raises(ValueError, match="other settings of problems than this version"):
            kind_of(strange)


def test_a_usage_error_is_one_line_and_status_2(taught, tmp_path, capsys):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/config.json").write_text('{"model_type": "no such type"}')
    (tmp_path / "study").mkdir()
    shutil.copytree(taught / "huggingface", tmp_path / "study/pretrain/huggingface")
    shutil.copytree(taught / "huggingface", tmp_path / "untold", ignore=shutil.ignore_patterns("tokenizer*"))
    strange = shutil.copytree(taught / "huggingface", tmp_path / "strange/huggingface").parent
    (strange / "config.yaml").write_text("model: gpt")
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    (tmp_path / "torn.ckpt").write_bytes(b"torn")
    (tmp_path / "empty.ckpt").touch()
    draw, text = ("--random", "--op", 4), (PROBLEM, QUESTION)
    for words, said in [
        (("none", *draw), "none does not exist; give a run's folder, a Hugging Face folder or a .ckpt file."),
        ((tmp_path / "foreign", *draw), "cannot be opened as a model: "),
        ((tmp_path / "foreign.ckpt", *draw), "was not written by one of our modules"),
        ((tmp_path / "torn.ckpt", *draw), "torn.ckpt cannot be opened as a model: "),
        ((tmp_path / "empty.ckpt", *draw), "empty.ckpt cannot be opened as a model: "),
        ((tmp_path / "study", *draw), "it holds the runs pretrain, name one of them."),
        ((tmp_path / "untold", *text), "has no tokenizer.json, and no config.yaml of a run is beside it"),
        ((taught / "huggingface/config.json", *text), "cannot be opened as a model: "),
        ((tmp_path / "study/pretrain", *draw), "name a --context for --random."),
        ((strange, *draw), "config.yaml is not the config of a run: it has no `data.init_args`."),
        ((taught,), "give a problem and a question"),
        ((taught, PROBLEM), "give a problem and a question"),
        ((taught, *text, "--op", 4), "give a problem and a question"),
        ((taught, *text, *draw), "--random goes with --op N"),
        ((taught, "--random"), "--random goes with --op N"),
        ((taught, *draw, "--modulus", 5), "--random goes with --op N"),
        ((taught, *draw, "--context", "nowhere"), "context 'nowhere' does not exist"),
        ((taught, "--random", "--op", 99), "op=99 cannot be built in context 'garden'"),
        ((taught, *text, "--samples", 0), "--samples 0 must be at least 1."),
        ((taught, *text, "--temperature", -1), "temperature at least 0"),
        ((taught, *text, "--modulus", 1), "expected None or at least 2"),
        ((taught, "Roses are red.", QUESTION), "problem, sentence 0, character 0: expected"),
        ((taught, GIVEN, QUESTION), "the problem determines no answer: 'ferns' stays free: a definition is missing."),
        ((taught, f"{PROBLEM} " * 20, QUESTION), "leaves no position for a completion, as the model has 512"),
    ]:
        assert ask(*words) == 2, words
        printed = capsys.readouterr()
        assert said in printed.err and printed.err.startswith("error: ") and printed.err.count("\n") == 1, printed.err
        assert printed.out == ""
    for words in ((), (taught, *draw, "--mode", "sideways")):
        with pytest.raises(SystemExit) as stop:
            ask(*words)
        assert stop.value.code == 2
