"""A mistake of the user is one line that names it, and exit status 2; nothing is trained and no file is overwritten."""

import re

import pytest
import torch
from bad_inputs import CASES, make_files

import main
from datamodules.yaml_text import read_yaml

QUICK = 5  # every so many of them run with the ordinary tests


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("inputs")
    make_files(place)
    return place


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if i % QUICK == 0 else pytest.mark.long) for i, name in enumerate(CASES)]
)
def test_a_mistake_is_told_in_one_line(name, folder, monkeypatch, capsys):
    if name == "no gpu" and torch.cuda.is_available():
        pytest.skip("here it is no mistake")
    monkeypatch.chdir(folder)
    before = (folder / "rows.jsonl").read_bytes()
    try:
        status = main.main(list(CASES[name]))
    except SystemExit as err:  # argparse
        status = err.code
    lines = [
        line for line in capsys.readouterr().err.splitlines() if "error:" in line or line.startswith(("verify:", "Traceback"))
    ]
    assert status == 2 and len(lines) == 1, lines
    assert len(lines[0]) <= 420 and not re.search(r"Namespace\(|Union subtypes|<class|Traceback", lines[0])
    assert (folder / "rows.jsonl").read_bytes() == before


def test_a_bug_is_told_with_its_traceback(monkeypatch, capsys):
    monkeypatch.setattr("recipes.verify_command._arguments", lambda argv: None)
    assert main.main(["verify"]) == 1
    told = capsys.readouterr().err
    assert "Traceback" in told and "AttributeError" in told and "please report it" in told


def test_a_mistake_names_the_key_and_what_is_wrong_with_it(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    for name, said in {
        "text lr": "error: model.init_args.optimizer.init_args.lr: expected a number, got 'fast'.",
        "unknown data key": "error: data: there is no 'row_lenght'; did you mean 'row_length'?",
        "schedule warmup": "error: schedule: warmup=2.0 must be in [0, 1) and floor=0.0 in [0, 1].",
        "mixture key": "error: data.init_args.mixture: there is no 'op'; did you mean 'ops'?",
        "ckpt flipped": "is damaged; give another, or `last` for the newest whole one of the run.",
        "verify onto itself": "is the file that is read; give another, as verdicts would replace it.",
        "run stage path": "a stage cannot be called '../../x'",
        "test without weights": "error: test needs trained weights; give them by --ckpt_path.",
        "rl reward grader": "'magic'",
        "run two no out": "several recipes share one folder; name it by --out",
        "run scale": "scale 'huge' does not exist",
        "run scale of nothing": "--scale",
        "verify out folder": "--out empty_folder is a folder; name a file",
        "tokenizer small": "raise --vocab-size or lower --numbers",
        "not yaml": "notyaml.yaml, line 2",
        "latin yaml": "latin.yaml is not text in UTF-8",
        "alias bomb": "has more than 1,000,000 values, its aliases written out",
    }.items():
        assert main.main(list(CASES[name])) == 2
        told = capsys.readouterr().err
        assert said in told, (name, told)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-2", 0.01), ("4.2e6", 4.2e6), ("1E3", 1000.0), ("3", 3), ("2.6m", "2.6m"), ("5-7", "5-7"), ("-.5", -0.5)],
)
def test_numbers_in_yaml_are_numbers(text, value):

    assert read_yaml(f"a: {text}")["a"] == value and type(read_yaml(f"a: {text}")["a"]) is type(value)
