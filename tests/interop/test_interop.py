"""Libraries open the exported folder, each in an environment of its own, and give what the trained model gives: `make interop`.

The reference is computed from the run's checkpoint and the tokenizer it was trained with, not from the folder.
"""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import yaml
from consumer_job import LAST, LIMIT, document
from jsonargparse import ArgumentParser
from lightning import LightningDataModule

from datamodules.files.jsonl import to_row
from datamodules.problems.synthesis import Example
from datamodules.rows.documents import token_ids
from datamodules.rows.tokenizer import load_tokenizer
from grammar import grade, parse_response, verify
from lightning_modules.models.language_model import load_language_model
from lightning_modules.rollout import SamplingParams, sample

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
RUN = ROOT / "runs/interop"
CONSUMERS = sorted(path.stem for path in (HERE / "requirements").glob("*.txt"))
GRADERS = ("answer", "executable")
END = "</answer>"
SOLVED, UNSOLVED = 30, 10  # problems of the bands ID and edge
pytestmark = [pytest.mark.interop, pytest.mark.timeout(3600)]


@dataclass
class Reference:
    """What our own sampling gives at temperature 0: prompts and solutions of problems, tokens of solutions, logits [LAST, V]."""

    examples: list[Example]
    ids: list[list[int]]
    texts: list[str]
    lengths: list[int]
    logits: torch.Tensor

    def verdicts(self, grader, texts):
        reports = [verify(parse_response(text), e.graph) for text, e in zip(texts, self.examples, strict=True)]
        return [grade(report, grader) for report in reports]


@pytest.fixture(scope="session")
def data():
    parser = ArgumentParser()
    parser.add_subclass_arguments(LightningDataModule, "data")
    config = yaml.safe_load((ROOT / "configs/data/quickstart_pretrain.yaml").read_text())
    return parser.instantiate_classes(parser.parse_object({"data": config})).data


def command(*words):
    subprocess.run([sys.executable, "main.py", *map(str, words)], cwd=ROOT, check=True)


@pytest.fixture(scope="session")
def checkpoint():
    """The quickstart's first stage with another base of its positions, trained here unless it is there."""
    if not (RUN / "huggingface/config.json").is_file():
        theta = ("--model.init_args.architecture.rope_theta", "1e5")
        command("fit", "--config", "configs/experiment/quickstart_pretrain.yaml", "--trainer.default_root_dir", RUN, *theta)
    return RUN / "checkpoints/last.ckpt"


@pytest.fixture(scope="session")
def folder(checkpoint, tmp_path_factory):
    """The folder, written by today's code."""
    written = tmp_path_factory.mktemp("exported") / "huggingface"
    command("export", checkpoint, "--out", written)
    return written


def solve(model, tokenizer, examples):
    ids = token_ids([example.prompt for example in examples], tokenizer)
    stop, params = [tokenizer.convert_tokens_to_ids(END), tokenizer.eos_token_id], SamplingParams(LIMIT, temperature=0.0)
    done = sample(model.eval(), ids, 1, params, stop_ids=stop, pad_id=tokenizer.pad_token_id)
    texts = tokenizer.batch_decode(done.rows(), skip_special_tokens=False)
    text = document([{"prompt": examples[0].prompt, "response": examples[0].response}])
    with torch.inference_mode():
        logits = model(torch.tensor(token_ids([text], tokenizer))).logits[0, -LAST:]
    return Reference(examples, ids, texts, done.length_N.tolist(), logits)


@pytest.fixture(scope="session")
def reference(checkpoint, data):
    band = max(SOLVED, UNSOLVED)
    found = data.held_out_examples("test", band)
    return solve(load_language_model(str(checkpoint)), data.tokenizer, found[:SOLVED] + found[band : band + UNSOLVED])


@pytest.fixture(scope="session")
def results(folder, reference, tmp_path_factory):
    """What each consumer gave, by name; run once."""
    given = {}

    def of(name):
        python = ROOT / ".venv-interop" / name / "bin/python"
        if not python.is_file():
            pytest.skip(f"{python.relative_to(ROOT)} is not there; `make interop` makes it")
        if name not in given:
            given[name] = consume(name, python, folder, reference, tmp_path_factory.mktemp(name))
        assert isinstance(given[name], dict), given[name]
        return given[name]

    yield of
    if out := os.environ.get("INTEROP_OUT"):
        write_table(Path(out), given, reference)


def consume(name, python, folder, reference, where):
    """What a consumer gave, or its complaint; it runs beside the rows, and sees of this project the grammar alone."""
    rows = [
        to_row(example) | {"modulus": example.graph.modulus, "prompt": example.prompt, "response": example.response}
        for example in reference.examples
    ]
    (where / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (where / "grammar").symlink_to(ROOT / "grammar")
    kind = re.sub(r"-[\d.]+$", "", name).replace("-", "_")
    variables = {"PYTHONPATH": str(where), "HF_HUB_OFFLINE": "1", "HF_HOME": str(where), "VLLM_NO_USAGE_STATS": "1"}
    done = subprocess.run(
        [python, HERE / f"consumer_{kind}.py", folder, "rows.jsonl", "given.json"],
        cwd=where, env=os.environ | variables, capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    return done.stderr[-4000:] if done.returncode else json.loads((where / "given.json").read_text())


def expected_texts(name, reference):
    """The reference's; lm-eval cuts what it stops at, from any model."""
    return [text.removesuffix(END) for text in reference.texts] if name == "lm-eval" else reference.texts


def alike(theirs, ours):
    return sum(one == other for one, other in zip(theirs, ours, strict=True))


def write_table(out, given, reference):
    """Write what was compared, in numbers."""
    found = {}
    for name, result in sorted(given.items()):
        found[name] = {
            "versions": result["versions"],
            "prompts": alike(result["ids"], reference.ids),
            "texts": {way: alike(texts, expected_texts(name, reference)) for way, texts in result["texts"].items()},
            "lengths": {way: alike(lengths, reference.lengths) for way, lengths in result["lengths"].items()},
            **{
                grader: {way: sum(reference.verdicts(grader, texts)) for way, texts in result["texts"].items()}
                for grader in GRADERS
            },
            "logits": (torch.tensor(result["logits"]) - reference.logits).abs().max().item(),
        }
    ours = {grader: sum(reference.verdicts(grader, reference.texts)) for grader in GRADERS}
    made = {"problems": len(reference.texts), "cpu": torch.backends.cpu.get_cpu_capability(), **ours, "consumers": found}
    out.write_text(json.dumps(made, indent=2) + "\n")


def test_the_reference_solves_some_and_ends_each_answer(reference):
    right = reference.verdicts("executable", reference.texts)
    assert sum(right[:SOLVED]) > SOLVED / 2 and not all(right[SOLVED:])
    assert all(text.count(END) == 1 and text.endswith(END) for text in reference.texts)
    assert max(reference.lengths) < LIMIT


def test_our_own_reading_of_the_folder_is_the_trained_model(folder, reference):
    ours = solve(load_language_model(str(folder)), load_tokenizer(str(folder)), reference.examples)
    assert (ours.ids, ours.texts) == (reference.ids, reference.texts)
    torch.testing.assert_close(ours.logits, reference.logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", CONSUMERS)
class TestConsumer:
    def test_versions_are_the_pinned_ones(self, name, results):
        pins = dict(re.findall(r"^(\S+?)==(\S+)$", (HERE / f"requirements/{name}.txt").read_text(), re.MULTILINE))
        assert {package: found.partition("+")[0] for package, found in results(name)["versions"].items()}.items() <= pins.items()

    def test_prompts_are_the_same_tokens(self, name, results, reference):
        assert results(name)["ids"] == reference.ids

    def test_greedy_solutions_are_the_same_to_their_end(self, name, results, reference):
        for texts in results(name)["texts"].values():
            assert texts == expected_texts(name, reference)

    def test_generation_stops_at_the_answer(self, name, results, reference):
        given = results(name)["lengths"]
        assert set(given) == ({"generate"} if name != "lm-eval" else set())
        assert all(lengths == reference.lengths for lengths in given.values())

    def test_graders_accept_the_same(self, name, results, reference):
        for grader in GRADERS:
            for texts in results(name)["texts"].values():
                assert reference.verdicts(grader, texts) == reference.verdicts(grader, reference.texts)

    def test_logits_are_the_same(self, name, results, reference):
        torch.testing.assert_close(torch.tensor(results(name)["logits"]), reference.logits, rtol=0, atol=1e-4)


def test_lm_eval_scores_what_our_graders_score(results, reference):
    scores = {grader: sum(found := reference.verdicts(grader, reference.texts)) / len(found) for grader in GRADERS}
    assert results("lm-eval")["scores"] == pytest.approx(scores)


def test_a_step_of_trl_learns_from_the_verdicts(results, reference):
    step = results("trl")["step"]
    examples = [example for example in reference.examples for _ in range(step["group"])]
    sampled = replace(reference, examples=examples)
    assert step["rewards"] == [float(right) for right in sampled.verdicts("executable", step["completions"])]
    assert step["log"]["completions/clipped_ratio"] == sum(not text.endswith(END) for text in step["completions"]) / len(examples)
    assert 0 < step["log"]["reward"] < 1 and step["log"]["grad_norm"] > 0 and step["moved"] > 0
