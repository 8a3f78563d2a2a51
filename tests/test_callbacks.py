"""Callbacks, apart from a Trainer."""

import pytest

from callbacks.evaluation.sample_log import as_markdown
from callbacks.files import new_folder, write_text
from grammar import parse_problem, parse_response, verify

PROBLEM = "The number of roses equals 3. The number of oaks equals the number of roses. "
QUESTION = "How many oaks are there?"


def markdown(response: str) -> list[str]:
    report = verify(parse_response(response), parse_problem(PROBLEM, QUESTION, modulus=5))
    return as_markdown(PROBLEM, QUESTION, response, report).splitlines()


def test_a_right_sample_is_marked_right():
    lines = markdown(" Define roses as A; so A = 3. Define oaks as B; so B = A = 3. </solution> <answer> 3 </answer>")
    assert [line[:3] for line in lines if line.startswith("- ")] == ["- ✓", "- ✓", "- ✓"]
    assert lines[-1] == "- ✓ answer 3"


def test_a_wrong_step_is_marked_with_its_reason():
    lines = markdown(" Define roses as A; so A = 3. Define oaks as B; so B = A = 4. </solution> <answer> 4 </answer>")
    steps = [line for line in lines if line.startswith("- ")]
    assert steps[0].startswith("- ✓")
    assert steps[1].startswith("- ✗") and "—" in steps[1]
    assert lines[-1] == "- ✗ answer 4 — *answer: 4 is wrong: the answer is 3*"


def test_files_appear_whole_or_not_at_all(tmp_path):
    write_text(tmp_path / "a/b.txt", "x")
    assert (tmp_path / "a/b.txt").read_text() == "x"
    with pytest.raises(RuntimeError), new_folder(tmp_path / "folder") as part:  # noqa: PT012
        (part / "half").write_text("x")
        raise RuntimeError
    assert not (tmp_path / "folder").exists()
    with new_folder(tmp_path / "folder") as part:
        (part / "whole").write_text("x")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["whole"]
    assert not list(tmp_path.glob("*.part"))
