"""`python main.py ask RUN "PROBLEM" "QUESTION"`: a model's solution to one problem, each step marked right or wrong, and why.

`python main.py ask RUN --random --op 6` draws a problem of the test split, of the kind that RUN is evaluated on. The model runs
on the CPU, so that training keeps its GPU.
"""

import json
import secrets
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from datamodules.problems.context import load_context
from datamodules.problems.keyed import keyed_generator, keyed_random
from datamodules.problems.mixture import MODES, Cell
from datamodules.problems.synthesis import Example, Synthesis
from datamodules.rows.documents import token_ids
from datamodules.rows.tokenizer import stop_ids
from grammar import GRADERS, grade, parse_problem
from grammar.checking.marking import MARKS, marked
from grammar.checking.pool import judge
from grammar.judge import judge_row
from lightning_modules.evaluation import Response, responses
from lightning_modules.rollout import SamplingParams, sample
from recipes.trained.trained_model import Kind, Trained, open_run

SPLIT = "test"  # of random problems: no run trains on it
PLAIN_MARKS = {True: "[ok]", False: "[no]", None: "    "}
STYLES = {True: "green", False: "red", None: ""}


def main(argv: list[str]) -> int:
    """Run the command."""
    args = _arguments(argv)
    trained = open_run(args.run)
    seed = secrets.randbelow(10**6) if args.seed is None else args.seed
    example = draw_problem(args, trained.kind, seed) if args.random else read_problem(args, trained.kind)
    params = SamplingParams(args.max_new_tokens, args.temperature)
    responses = solve(trained, example, args.samples, params, seed)
    told = seed if args.random or args.temperature else None  # nothing else depends on it
    if args.json:
        for response in responses:
            print(json.dumps(to_row(example, response, told)))
    else:
        _show(example, responses, told)
    return 0


def _arguments(argv: list[str]) -> Namespace:
    parser = ArgumentParser(prog="interplay ask", description=__doc__)
    parser.add_argument("run", type=Path, help="a run's folder, a Hugging Face folder, or a .ckpt file of a run")
    parser.add_argument("problem", nargs="?", help="its sentences")
    parser.add_argument("question", nargs="?", help="e.g. 'How many ferns are there?'")
    parser.add_argument("--modulus", type=int, help="what the problem's numbers are taken modulo (default: as in the run)")
    parser.add_argument("--context", help="of a random problem; for a text, computes as this context does (default: the run's)")
    parser.add_argument("--random", action="store_true", help="draw a problem instead")
    parser.add_argument("--op", type=int, help="its number of operations")
    parser.add_argument("--mode", choices=MODES, help="(default: the run's)")
    parser.add_argument("--samples", type=int, default=1, help="solutions (default: %(default)s)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0: the most likely token (default: %(default)s)")
    parser.add_argument("--max-new-tokens", type=int, default=1024, help="of a solution (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of the problem and of the samples (default: another one each time)")
    parser.add_argument("--json", action="store_true", help="one JSON object per solution, with the verdict as of `verify`")
    args = parser.parse_args(argv)
    if args.random and (args.problem is not None or args.op is None or args.modulus is not None):
        raise ValueError("ask: --random goes with --op N, perhaps with --context and --mode, and without a problem or --modulus.")
    if not args.random and (args.question is None or args.op is not None or args.mode is not None):
        raise ValueError("ask: give a problem and a question, each in quotes, or --random with --op N and perhaps --mode.")
    if args.samples < 1:
        raise ValueError(f"ask: --samples {args.samples} must be at least 1.")
    return args


def draw_problem(args: Namespace, kind: Kind, seed: int) -> Example:
    """Draw a problem of the run's kind, or of the context and mode that the arguments name."""
    contexts = [args.context] if args.context else kind.contexts
    if not contexts:
        raise ValueError(f"ask: no config.yaml of a run is beside {args.run}; name a --context for --random.")
    choice = keyed_random(f"ask/{seed}").choice
    cell = Cell(args.op, choice(contexts), args.mode or choice(kind.modes))
    return Synthesis(None, kind.graph, seed=seed).example(SPLIT, 0, cell)


def read_problem(args: Namespace, kind: Kind) -> Example:
    """Read the problem given as text.

    Raises:
        ValueError: it is not in the language, or does not determine an answer.
    """
    problem, question = (" ".join(text.split()) for text in (args.problem, args.question))
    modulus = args.modulus
    if modulus is None:
        modulus = load_context(args.context).modulus if args.context else kind.modulus
    graph = parse_problem(problem, question, modulus=modulus)
    if not graph.well_posed:
        raise ValueError(f"ask: the problem determines no answer: {graph.why_not}.")
    cell = Cell(graph.op, args.context or "", MODES[graph.unknown is not None])
    return Example("asked", problem, question, "", cell, graph)


def solve(trained: Trained, example: Example, count: int, params: SamplingParams, seed: int) -> list[Response]:
    """Sample solutions; a prompt that fills all positions of the model is refused."""
    model, tokenizer, _ = trained
    (prompt,) = token_ids([example.prompt], tokenizer)
    generators, stop = [keyed_generator(f"ask/{seed}")], stop_ids(tokenizer)
    done = sample(model, [prompt], count, params, stop_ids=stop, pad_id=tokenizer.pad_token_id, generator=generators)
    texts = tokenizer.batch_decode(done.rows(), skip_special_tokens=False)
    return responses(texts, done.length_N.tolist(), tokenizer)


def to_row(example: Example, response: Response, seed: int | None) -> dict[str, object]:
    """A solution with its verdict; `main.py verify` gives such rows the same verdict again."""
    row = {
        "id": example.id, "problem": example.problem, "question": example.question, "modulus": example.graph.modulus,
        "seed": seed, "response": response.text, "tokens": response.tokens, "finished": response.finished,
    }  # fmt: skip
    return row | judge_row(row, GRADERS[-1])


def _show(example: Example, responses: Sequence[Response], seed: int | None) -> None:
    """Print the problem and its solutions, in colour on a terminal; the seed, if they depend on it."""
    console = Console(highlight=False)
    marks = MARKS if console.encoding.startswith("utf") else PLAIN_MARKS
    indent = " " * (len(marks[True]) + 1)

    def say(text: str, style: str = "") -> None:
        plain = text.encode(console.encoding, "backslashreplace").decode(console.encoding)
        console.print(Text(plain, style), soft_wrap=not console.is_terminal)

    say(f"{example.problem.strip()}\n{example.question}", "bold")
    say(_about(example, seed), "dim")
    reports = judge(example.graph, [response.text for response in responses])
    for number, (response, report) in enumerate(zip(responses, reports, strict=True), start=1):
        say(f"\nSolution {number} of {len(responses)}:" if len(responses) > 1 else "")
        for line in marked(response.text, report, example.graph.answer):
            say(f"{marks[line.right]} {line.text}", STYLES[line.right])
            for note in line.notes:
                say(f"{indent}{note}", "yellow")
        if not response.finished:
            say(f"{indent}cut off after {response.tokens} tokens", "yellow")
        say("graders: " + ", ".join(f"{name} {marks[grade(report, name)]}" for name in GRADERS))


def _about(example: Example, seed: int | None) -> str:
    cell, modulus = example.cell, example.graph.modulus
    facts = [cell.context, cell.mode, f"op {cell.op}"]
    facts += [f"modulo {modulus}"] if modulus is not None else []
    facts += [f"seed {seed}"] if seed is not None else []
    return f"({', '.join(filter(None, facts))})"
