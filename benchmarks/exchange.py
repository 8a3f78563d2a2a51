"""Do published rows and ours mean the same to a model? `python -m benchmarks.exchange --reference FOLDER --out RUNS`.

FOLDER holds op2.jsonl ... in the published schema. A base, `tiny`'s model, learns from ours of `graph.profile: published` in the
contexts and modes of these rows: what it solves of published rows is what ours teach. The published rows are too few for a model
to learn from alone. So the base goes on, for equally many updates, on equally many rows of each source: published ones; ours, in
the same cells; and, as a control that shows what a difference would look like, ours of `plain`. All are tested on published rows
that none has seen and on ours. Published rows are divided into folds, each of which is held out once; every fold has rows of its
own of the other sources. Ill-posed rows are left out.

Stages that are done are not run again, one that was stopped goes on. Writes benchmarks/results/exchange.json after each.
"""

import json
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path

import main as command
from callbacks.records.run_record import environment
from datamodules.files.jsonl import to_example, to_row
from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.mixture import MODES, Cell
from datamodules.problems.synthesis import Example, Synthesis
from grammar import parse_problem

OUT = Path("benchmarks/results/exchange.json")
OPS, FOLDS = range(2, 5), 3
SOURCES = ("published", "ours", "ours, plain")
TESTS = SOURCES[:2]
SPECS = {"ours": GraphSpec(profile="published"), "ours, plain": GraphSpec()}
GRADERS = ("answer", "paper", "executable")
CONTEXTS = ["crazy_zootopia", "teachers_in_school", "movie_festival_awards"]  # of published rows
TINY = {
    "model_type": "qwen3", "vocab_size": 2200, "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}  # fmt: skip


def published(folder: Path) -> list[Example]:
    """Published rows whose text determines the answer."""
    found = []
    for op in OPS:
        for number, line in enumerate((folder / f"op{op}.jsonl").read_text(encoding="utf-8").splitlines(), 1):
            row = json.loads(line)
            if parse_problem(row["problem"], row["question"]).well_posed:
                found.append(to_example(row, f"op{op}.jsonl", number))
    return found


def ours(cells: Mapping[Cell, int], source: str, split: str, fold: int) -> list[Example]:
    """As many problems of each cell; other ones in every fold."""
    synthesis = Synthesis(None, SPECS[source], seed=fold)
    return [synthesis.example(split, i, cell) for cell, count in cells.items() for i in range(count)]


def files(folder: Path, rows: Sequence[Example], fold: int) -> tuple[dict[str, Path], dict[str, Path]]:
    """Training files by source and test files by source, of one fold."""
    place: Counter[Cell] = Counter()
    kept: dict[bool, list[Example]] = {True: [], False: []}
    for row in rows:
        kept[place[row.cell] % FOLDS == fold].append(row)
        place[row.cell] += 1
    cells = {held: Counter(row.cell for row in found) for held, found in kept.items()}
    training = {"published": kept[False]} | {source: ours(cells[False], source, "train", fold) for source in SPECS}
    tested = {"published": kept[True], "ours": ours(cells[True], "ours", "test", fold)}
    folder.mkdir(parents=True, exist_ok=True)
    return _written(folder, "train", training), _written(folder, "test", tested)


def _written(folder: Path, of: str, sources: Mapping[str, Sequence[Example]]) -> dict[str, Path]:
    paths = {source: folder / f"{of}_{source.replace(', ', '_')}.jsonl" for source in sources}
    for source, rows in sources.items():
        paths[source].write_text("".join(json.dumps(to_row(row)) + "\n" for row in rows), encoding="utf-8")
    return paths


def run(folder: Path, config: Mapping, *, verb: str = "fit", **sections: Mapping) -> None:
    """A stage of its own config; one that is done is not run again."""
    if (folder / ("huggingface" if verb == "fit" else "test/evaluation.json")).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{verb}.json"
    path.write_text(json.dumps({**config, **sections}), encoding="utf-8")
    begun = ("--ckpt_path", "last") if verb == "fit" and (folder / "checkpoints/last.ckpt").exists() else ()
    if command.main([verb, "--config", str(path), *begun]):
        raise SystemExit(f"{path}: {verb} did not end; the same command goes on.")


def stage(args: object, folder: Path, model: Mapping, data: Mapping, steps: int) -> dict:
    """A config; `model` and `data` are what is special to it."""
    evaluation = {"samples": args.samples, "likelihood": True, "sampling": {"temperature": 0.7, "max_new_tokens": 224}}
    return {
        "seed_everything": args.seed,
        "trainer": {
            "default_root_dir": str(folder), "accelerator": "cpu", "devices": 1, "precision": args.precision, "max_epochs": -1,
            "max_steps": steps, "gradient_clip_val": 1.0, "log_every_n_steps": 10, "limit_val_batches": 0,
            "num_sanity_val_steps": 0, "enable_model_summary": False,
        },
        "model": {
            "class_path": "lightning_modules.PretrainModule",
            "init_args": {
                "schedule": {"class_path": "lightning_modules.schedules.WSD", "init_args": {"warmup": 0.02, "decay": 0.4}},
                "evaluation": evaluation, **model,
            },
        },
        "data": {
            "class_path": "datamodules.PretrainDataModule",
            "init_args": {"tokenizer": "published", "row_length": 768, "loss_on": "solution", **data},
        },
    }  # fmt: skip


def muon(rate: float) -> dict:
    """The optimiser of `tiny`."""
    return {"class_path": "lightning_modules.optimizers.Muon", "init_args": {"lr": rate, "adamw_lr": 0.15 * rate}}


def base(args: object) -> Path:
    """The base's folder, trained."""
    folder = args.out / "base"
    mixture = [{"ops": "2-4", "contexts": CONTEXTS, "modes": list(MODES)}]
    held = {"bands": {"ID": "2-4"}, "contexts": CONTEXTS, "modes": list(MODES), "problems": 60, "validation_problems": 1}
    data = {"mixture": mixture, "graph": {"profile": "published"}, "row_length": 768, "batch_rows": 5, "held_out": held}
    run(folder, stage(args, folder, {"architecture": TINY, "optimizer": muon(0.02)}, data, args.base_steps))
    return folder / "huggingface"


def trained(args: object, folder: Path, rows: Path, start: Path) -> Path:
    """The base, trained on a file of rows."""
    data = {"mixture": None, "files": {"train": [str(rows)]}, "batch_rows": 4}
    run(folder, stage(args, folder, {"init_from": str(start), "optimizer": muon(args.rate)}, data, args.steps))
    return folder / "huggingface"


def tested(args: object, folder: Path, weights: Path, rows: Path, learned: Path) -> dict:
    """What `evaluation.json` says of weights on a file of rows, none of which may be among those learned from."""
    data = {"mixture": None, "files": {"train": [str(learned)]}, "held_out": {"files": [str(rows)]}}
    run(folder, stage(args, folder, {"init_from": str(weights)}, data, 1), verb="test")
    return json.loads((folder / "test/evaluation.json").read_text(encoding="utf-8"))


def pooled(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Folds as one sample of problems: mean and 95% interval; of equal outcomes alone, what they would be one time in twenty."""
    total = sum(part["problems"] for part in parts)
    mean = sum(part["problems"] * part["mean"] for part in parts) / total
    error = sqrt(sum((part["problems"] * part["standard_error"]) ** 2 for part in parts)) / total
    margin = 1.96 * error or 1 - 0.05 ** (1 / total)
    return {"mean": mean, "low": max(0.0, mean - margin), "high": min(1.0, mean + margin), "problems": total}


def nats(parts: Sequence[Mapping]) -> float:
    """Nats a token of gold solutions of all folds: what a model gives to texts, whether it solves them or not."""
    every = [part["likelihood"][f"op{op}"]["all"] for part in parts for op in OPS]
    return sum(each["nll_nats"] * each["tokens"] for each in every) / sum(each["tokens"] for each in every)


def summary(found: Mapping[str, Mapping[str, Sequence[Mapping]]]) -> dict:
    """Trained on -> tested on -> pass@1 by grader, overall and by mode; and nats a token of gold solutions."""
    return {
        source: {
            test: {
                of: {grader: pooled([part["grades"][group][of][grader]["pass@1"] for part in parts]) for grader in GRADERS}
                for group, of in (("all", "all"), *(("mode", mode) for mode in MODES))
            } | {"nats": nats(parts)}
            for test, parts in tests.items()
        }
        for source, tests in found.items()
    }  # fmt: skip


def markdown(found: Mapping) -> str:
    """The tables of docs/paper.md: rows are what was trained on, columns what was tested."""
    said = "| trained on | " + " | ".join(f"{test}: {what}" for test in TESTS for what in (*GRADERS[1:], "nats a token"))
    lines = [f"{said} |", f"|---|{'---|' * 6}"]
    for source, tests in found["tests"].items():
        cells = [
            cell
            for test in TESTS
            for cell in (
                *("{mean:.2f} ({low:.2f}-{high:.2f})".format(**tests[test]["all"][grader]) for grader in GRADERS[1:]),
                f"{tests[test]['nats']:.3f}",
            )
        ]
        lines.append(f"| {source} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Trains, tests, writes, prints."""
    parser = ArgumentParser(prog="python -m benchmarks.exchange", description=__doc__)
    parser.add_argument("--reference", type=Path, required=True, help="folder of published rows")
    parser.add_argument("--out", type=Path, default=Path("runs/exchange"), help="folder of the runs")
    parser.add_argument("--base-steps", type=int, default=1400, help="updates of the base, 3,840 tokens each")
    parser.add_argument("--steps", type=int, default=60, help="updates on each source, 3,072 tokens each")
    parser.add_argument("--rate", type=float, default=0.002, help="learning rate on each source")
    parser.add_argument("--samples", type=int, default=4, help="for each problem")
    parser.add_argument("--folds", type=int, default=FOLDS, help="of the three")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    start, rows = base(args), published(args.reference)
    settings = {name: str(value) for name, value in vars(args).items() if name not in ("reference", "out")}
    found: dict[str, dict[str, list]] = {}
    for fold in range(args.folds):
        folder = args.out / f"fold{fold}"
        training, held = files(folder / "rows", rows, fold)
        models = {"base": start} | {
            source: trained(args, folder / path.stem.removeprefix("train_"), path, start) for source, path in training.items()
        }
        for source, weights in models.items():
            for test, path in held.items():
                place = folder / f"{source.replace(', ', '_')}_on_{test}"
                learned = training.get(source, training["published"])
                found.setdefault(source, {}).setdefault(test, []).append(tested(args, place, weights, path, learned))
        result = {"settings": settings, "folds": fold + 1, "rows": len(rows), "tests": summary(found)}
        result |= {"environment": environment()}
        OUT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(markdown(result), flush=True)


if __name__ == "__main__":
    main()
