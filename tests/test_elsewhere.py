"""Problems and graders in other trainers: docs/elsewhere.md runs as it stands, where its libraries are installed."""

import importlib.util
import io
import json
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from itertools import combinations
from pathlib import Path
from threading import Thread

import pytest
import torch
from problem_solver import read, solve
from transformers import PreTrainedTokenizerFast

from datamodules.problem_rows import Problems
from datamodules.rows.documents import encode
from datamodules.rows.tokenizer import load_tokenizer
from grammar import GRADERS
from grammar.adapters import compute_score, score, trl_reward
from lightning_modules.models.folder import write_folder, write_tokenizer
from lightning_modules.models.language_model import build_language_model
from tests_support import PLAIN, TINY

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/elsewhere.md").read_text(encoding="utf-8")
LIBRARIES = {"datasets", "reasoning_gym", "trl", "verifiers"}
VARIETY = [
    Problems("2-6"), Problems("2-6", modes=["forwardreverse"]), Problems("3-5", ["garden"], split="test", seed=1),
]  # fmt: skip


def section(name):
    """The part of the page under a heading; "" is what stands before the first."""
    return PAGE.split("\n## ")[0] if not name else PAGE.partition(f"\n## {name}\n")[2].split("\n## ")[0]


def blocks(language, name):
    return re.findall(rf"```{language}\n(.*?)```", section(name), re.DOTALL)


def run(code):
    """What a block defines and prints; skips where a library is missing."""
    defined, printed = {}, io.StringIO()
    try:
        with redirect_stdout(printed):
            exec(compile(code, "docs/elsewhere.md", "exec"), defined)
    except ModuleNotFoundError as missing:
        if missing.name not in LIBRARIES:
            raise
        pytest.skip(str(missing))
    return defined, printed.getvalue()


def answered(text, number):
    return re.sub(r"<answer> -?\d+ </answer>", f"<answer> {number} </answer>", text)


def misread(text):
    """The solution with another number in its first step, and the answer as it was."""
    return re.sub(r"= \d+\.", "= 999.", text, count=1)


class TestRows:
    def test_the_page_shows_a_row(self):
        (code,), (shown,) = blocks("python", ""), blocks("text", "")
        assert run(code)[1] == shown

    @pytest.mark.parametrize("problems", VARIETY)
    def test_answers_are_those_of_an_independent_solver(self, problems):
        for row in problems.rows(20):
            assert row["answer"] == str(solve(read(row["problem"], row["question"], row["modulus"]))[0])

    @pytest.mark.parametrize("problems", VARIETY)
    def test_graders_accept_gold_solutions_and_reject_spoilt_ones(self, problems):
        for row in problems.rows(20):
            asked = row["problem"], row["question"]
            gold, wrong = row["response"], answered(row["response"], 1234)
            for grader in GRADERS:
                assert [score(text, *asked, grader, row["modulus"]) for text in (gold, wrong)] == [1, 0]
            assert [score(misread(gold), *asked, grader, row["modulus"]) for grader in ("answer", "executable")] == [1, 0]

    def test_a_row_depends_on_its_number_alone(self):
        forwards = Problems("2-6", split="test", seed=3).rows(20)
        again = Problems("2-6", split="test", seed=3)
        assert [again.row(i) for i in reversed(range(20))] == forwards[::-1]
        assert forwards != Problems("2-6", split="test", seed=4).rows(20)

    def test_splits_are_disjoint(self):
        found = [
            {
                (frozenset(row["problem"].split(". ")), row["question"])
                for row in Problems("2-3", ["garden"], split=split).rows(400)
            }
            for split in ("train", "validation", "test")
        ]
        assert all(len(problems) > 100 for problems in found)
        assert not any(one & other for one, other in combinations(found, 2))

    def test_prompt_response_and_end_are_what_pretraining_reads(self):
        tokenizer, problems = load_tokenizer("garden"), Problems("2-4", ["garden"])
        for index, row in enumerate(problems.rows(5)):
            (document,) = encode([problems.synthesis.example("train", index)], tokenizer)
            assert document.ids == tokenizer(row["prompt"] + row["response"] + tokenizer.eos_token)["input_ids"]

    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({"split": "tests"}, "split 'tests' is unknown"), ({"ops": "2,500"}, "op=500 cannot be built"),
            ({"contexts": ["gardens"]}, "context 'gardens' does not exist"), ({"contexts": "garden"}, "not a list"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_drawn_is_refused_at_once(self, settings, says):
        with pytest.raises(ValueError, match=says):
            Problems(**settings)


@pytest.fixture
def minute_model(tmp_path, monkeypatch):
    """A model that has seen what solutions look like, in the folder that the page names; the test runs beside it."""
    pytest.importorskip("trl")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    tokenizer = load_tokenizer("garden")
    model = build_language_model(TINY | {"vocab_size": len(tokenizer)})
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rows = Problems("2", ["garden"], graph=PLAIN).rows(3200)
    for start in range(0, len(rows), 16):
        texts = [row["prompt"] + row["response"] + tokenizer.eos_token for row in rows[start : start + 16]]
        batch = tokenizer(texts, return_tensors="pt", padding=True)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path / re.search(r'model="(.+)"', section("TRL"))[1]
    folder.mkdir(parents=True)
    stop = [tokenizer.convert_tokens_to_ids("</answer>"), tokenizer.eos_token_id]
    write_folder(folder, model.config, model.state_dict(), tokenizer, stop, {}, {})
    return model


class TestTRL:
    def test_rewards_go_by_the_columns_of_rows(self):
        rows = [row for problems in VARIETY for row in problems.rows(3)]
        columns = {key: [row[key] for row in rows] for key in rows[0]}
        messages = [[{"role": "assistant", "content": row["response"]}] for row in rows]
        texts = [answered(row["response"], 1234) if i % 2 else misread(row["response"]) for i, row in enumerate(rows)]
        called = {"prompts": columns.pop("prompt"), "completion_ids": [[]] * len(rows), "trainer_state": None, **columns}
        assert trl_reward("executable")(completions=messages, **called) == [1.0] * len(rows)
        assert trl_reward("executable")(completions=texts, **called) == [0.0] * len(rows)
        assert trl_reward("answer")(completions=texts, **called) == [1.0 - i % 2 for i in range(len(rows))]

    def test_the_page_trains_a_step(self, minute_model):
        (code,) = blocks("python", "TRL")
        trainer = run(code)[0]["trainer"]
        log = trainer.state.log_history[0]
        answer, executable = (log[f"rewards/interplay_{grader}/mean"] for grader in ("answer", "executable"))
        assert 0 < answer < 1 and executable <= answer and log["reward"] == pytest.approx(answer + executable)
        assert trainer.state.global_step == 1 and log["grad_norm"] > 0
        assert not torch.equal(trainer.model.model.embed_tokens.weight, minute_model.model.embed_tokens.weight)


class TestVerl:
    def test_the_page_writes_files_that_the_reward_scores(self, tmp_path, monkeypatch):
        datasets = pytest.importorskip("datasets")
        monkeypatch.chdir(tmp_path)
        (code,), (keys,) = blocks("python", "verl"), blocks("bash", "verl")
        run(code)
        reward = loaded(re.search(r"FOLDER/(\S+)", keys)[1])
        for split, count in {"train": 1000, "test": 100}.items():
            file = datasets.load_dataset("parquet", data_files=f"{split}.parquet", cache_dir=str(tmp_path))["train"]
            assert len(file) == count
            assert set(file.column_names) == {"data_source", "prompt", "ability", "reward_model", "extra_info"}
            for row, problem in zip(file, Problems("2-4", ["garden"], split=split).rows(20), strict=False):
                assert row["prompt"] == [{"role": "user", "content": problem["prompt"]}]
                texts = problem["response"], answered(problem["response"], 1234), misread(problem["response"])
                assert [call(reward, row, text) for text in texts] == [1.0, 0.0, 0.0]

    def test_the_reward_loads_by_its_path_in_any_folder(self, tmp_path):
        """Where the project is installed, as the page says, and its folder is not on the path."""
        try:
            metadata.version("interplay")
        except metadata.PackageNotFoundError:
            pytest.skip("the project is not installed here")
        (keys,), row = blocks("bash", "verl"), VARIETY[0].row(0)
        place = ROOT / re.search(r"FOLDER/(\S+)", keys)[1]
        called = ("interplay", row["response"], row["problem"] + row["question"], {"modulus": row["modulus"]})
        code = f"""
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("custom_module", {str(place)!r})
spec.loader.exec_module(module := module_from_spec(spec))
print(module.compute_score(*{called!r}))
"""
        settings = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        asked = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=settings, capture_output=True, text=True, check=False
        )
        assert (asked.stdout, asked.returncode) == ("1.0\n", 0), asked.stderr

    def test_the_reward_is_called_from_threads(self):
        rows = VARIETY[2].rows(50)
        with ThreadPoolExecutor(8) as pool:
            futures = [
                pool.submit(compute_score, "x", text, row["problem"] + row["question"], {"modulus": 5, "num_turns": None})
                for row in rows
                for text in (row["response"], misread(row["response"]))
            ]
        assert [future.result() for future in futures] == [1.0, 0.0] * len(rows)

    def test_a_grader_that_a_file_leaves_out_is_executable(self):
        row = VARIETY[0].row(0)
        truth = row["problem"] + row["question"]
        called = [compute_score("x", misread(row["response"]), truth, extra) for extra in (None, {}, {"grader": None})]
        assert called == [0.0] * 3 and compute_score("x", misread(row["response"]), truth, {"grader": "answer"}) == 1.0

    def test_the_chat_template_gives_the_bare_prompt(self, tmp_path):
        write_tokenizer(tmp_path, load_tokenizer("garden"), None)
        tokenizer, row = PreTrainedTokenizerFast.from_pretrained(tmp_path), VARIETY[2].row(0)
        template = re.search(r"custom_chat_template` to `(.+?)`", section("verl"))[1]
        messages = [{"role": "user", "content": row["prompt"]}]
        given = tokenizer.apply_chat_template(messages, chat_template=template, add_generation_prompt=True, return_dict=False)
        assert given == tokenizer(row["prompt"])["input_ids"]


def loaded(path):
    """`compute_score` of a file, as verl loads a reward."""
    spec = importlib.util.spec_from_file_location("custom_module", ROOT / path)
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module.compute_score


def call(reward, row, text):
    extra = row["extra_info"] | {"num_turns": 2, "rollout_reward_scores": {}}
    truth = row["reward_model"]["ground_truth"]
    return reward(data_source=row["data_source"], solution_str=text, ground_truth=truth, extra_info=extra)


HARNESS = """
import httpx
import verifiers.v1 as vf

class Harness(vf.Harness[vf.HarnessConfig]):
    '''Asks once, from this process; the library's own fetches its program from the network.'''
    APPENDS_SYSTEM_PROMPT = True
    EXECUTES_CODE = NEEDS_CONTAINER = False

    async def launch(self, ctx, trace, runtime, endpoint, secret, mcp_urls, data, tool_interception_url=None):
        asked = {"model": ctx.model, "messages": [{"role": "user", "content": data.prompt}]}
        async with httpx.AsyncClient(timeout=60) as client:
            reply = await client.post(f"{endpoint}/chat/completions", headers={"Authorization": f"Bearer {secret}"}, json=asked)
        reply.raise_for_status()
        return vf.ProgramResult(exit_code=0, stdout="", stderr="")

__all__ = ["Harness"]
"""


@contextmanager
def endpoint(replies):
    """A server of OpenAI's protocol that gives each prompt its reply."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            message = {"role": "assistant", "content": replies[asked["messages"][-1]["content"]]}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            made = {"id": "0", "created": 0, "object": "chat.completion", "model": asked["model"], "choices": [choice]}
            body = json.dumps(made | {"usage": usage}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *said):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


class TestVerifiers:
    def test_the_page_shows_a_task(self):
        (_, code), (shown,) = blocks("python", "verifiers"), blocks("text", "verifiers")
        found, printed = run(code)
        rows = Problems("2-4", ["garden"], split="test").rows(100)
        assert printed == shown
        assert [(task.data.idx, task.data.row) for task in found["tasks"]] == list(enumerate(rows))

    @pytest.mark.parametrize("own", [False, True])
    def test_the_command_of_the_page_scores_replies(self, own, tmp_path):
        pytest.importorskip("verifiers")
        module, (command,) = blocks("python", "verifiers")[0], blocks("bash", "verifiers")
        (tmp_path / re.match(r"# (\S+\.py)\n", module)[1]).write_text(module)
        (tmp_path / "harness_of_tests.py").write_text(HARNESS)
        rows = Problems("2-4", ["garden", "orchestra"], split="test").rows(3)
        replies = [change(row["response"]) for change, row in zip((str, misread, lambda text: "17"), rows, strict=True)]
        request = "\n\nReply with the answer as <answer> N </answer>, where N is a number."
        asked = [row["prompt"] if own else row["plain"] + request for row in rows]
        more = re.findall(r"`(--env\.\S+ \S+)`", section("verifiers")) if own else []
        assert len(more) == 2 * own
        with endpoint(dict(zip(asked, replies, strict=True))) as url:
            for old, new in {"http://localhost:8000/v1": url, "-n 100": "-n 3", " null ": " harness_of_tests "}.items():
                assert old in command
                command = command.replace(old, new)
            words = shlex.split(" ".join([command.replace("\\\n", ""), "--no-rich", *more]))
            words[0] = str(Path(sys.executable).parent / words[0])
            paths = os.pathsep.join([str(tmp_path), str(ROOT)])
            done = subprocess.run(words, cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        (file,) = tmp_path.glob("outputs/*/traces.jsonl")
        traces = [trace for line in file.read_text().splitlines() for trace in json.loads(line)["traces"]]
        traces.sort(key=lambda trace: trace["task"]["data"]["idx"])
        scores = [[trace["rewards"][grader]["score"] for grader in GRADERS] for trace in traces]
        assert scores == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]
        assert [traces[0]["rewards"][grader]["weight"] for grader in GRADERS] == [1, 0, int(own)]

    def test_settings_are_refused_by_name(self):
        pytest.importorskip("verifiers")
        from datamodules.verifiers_taskset import ProblemsConfig, ProblemTaskset

        with pytest.raises(ValueError, match="number_rnge"):
            ProblemsConfig(graph={"number_rnge": 7})
        with pytest.raises(ValueError, match="context 'gardens' does not exist"):
            next(iter(ProblemTaskset(ProblemsConfig(contexts=["gardens"]))))


class TestReasoningGym:
    def test_the_page_shows_an_entry(self):
        (code,), (shown,) = blocks("python", "reasoning-gym"), blocks("text", "reasoning-gym")
        found, printed = run(code)
        assert printed == shown
        entries, rows = list(found["dataset"]), Problems("2-4", ["garden"], seed=1).rows(100)
        assert [(entry["question"], entry["answer"]) for entry in entries] == [(row["plain"], row["answer"]) for row in rows]
        assert entries[7] == found["dataset"][7] and entries[7]["metadata"]["source_index"] == 7

    @pytest.fixture
    def create(self):
        gym = pytest.importorskip("reasoning_gym")
        importlib.import_module("datamodules.reasoning_gym_dataset")
        return gym.create_dataset

    def test_answers_are_numbers_or_texts(self, create):
        dataset = create("interplay", size=10, seed=0)
        for entry in dataset:
            number, response = entry["answer"], entry["metadata"]["response"]
            right = number, f" {number}\n", f"So <answer>{number}</answer>", response, misread(response)
            wrong = None, "", "17000", f"It is {number}", answered(response, 17000)
            assert [dataset.score_answer(answer, entry) for answer in (*right, *wrong)] == [1.0] * 5 + [0.0] * 5

    def test_stricter_graders_want_whole_solutions(self, create):
        dataset = create("interplay", size=10, seed=0, grader="executable")
        for entry in dataset:
            given = entry["answer"], misread(entry["answer"]), entry["metadata"]["answer"]
            assert [dataset.score_answer(answer, entry) for answer in given] == [1.0, 0.0, 0.0]

    def test_composite_and_reseeded_data_sets(self, create):
        from reasoning_gym.composite import CompositeConfig, CompositeDataset, DatasetSpec
        from reasoning_gym.dataset import ReseedingDataset

        ours = {"ops": "2-4", "contexts": ["garden"], "split": "test"}
        specs = [DatasetSpec("interplay", 1, ours), DatasetSpec("chain_sum", 1, {})]
        mixed = CompositeDataset(CompositeConfig(size=20, seed=0, datasets=specs))
        assert {entry["metadata"]["source_dataset"] for entry in mixed} == {"interplay", "chain_sum"}
        assert {mixed.score_answer(entry["answer"], entry) for entry in mixed} == {1.0}
        endless = iter(ReseedingDataset(create("interplay", size=10, seed=0), chunk_size=10))
        assert len({next(endless)["question"] for _ in range(40)}) > 30

    @pytest.mark.parametrize("setting", [{"grader": "x"}, {"size": 0}, {"ops": "1"}])
    def test_validate_refuses(self, create, setting):
        from datamodules.reasoning_gym_dataset import ProblemsConfig

        (name,) = setting
        for refusing in (ProblemsConfig(**setting).validate, lambda: create("interplay", **setting)):
            with pytest.raises(ValueError, match=name.removesuffix("s")):
                refusing()
