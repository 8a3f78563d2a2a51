"""`python main.py sample`: solutions of a model to problems of its own training, and of these the rows to train on.

The arguments are those of `predict`: a config with a mixture, the weights, a folder. Beside `predict/samples`, which hold every
solution, it leaves `train.jsonl` and `validation.jsonl`, and `rejection.json`, which counts them and says what sampling cost. A
stage of a recipe has it done once, before `fit` (`set: {rejection_sampling: ...}`); expert iteration does it in every round.
"""

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from callbacks.evaluation.sample_files import read_samples
from callbacks.files import read_json, write_json
from datamodules.yaml_text import read_yaml
from recipes.cli import run_stage
from recipes.rejection.accepted import Filter, select, set_apart, write_rows

SAMPLED = "rejection.json"
SIDES = ("train", "validation")


@dataclass(frozen=True)
class RejectionSampling:
    """What a stage learns from: solutions of the model that it starts from.

    problems: different problems, the first of the stage's mixture.
    samples:  solutions to each, sampled as `model.init_args.evaluation.sampling` says.
    keep:     which solutions are trained on.
    """

    problems: int
    samples: int
    keep: Filter = Filter()

    def __post_init__(self) -> None:
        if not all(type(count) is int and count > 0 for count in (self.problems, self.samples)):
            raise ValueError(f"problems={self.problems} and samples={self.samples} must be numbers of at least 1.")

    @classmethod
    def read(cls, raw: Any) -> "RejectionSampling":
        """As a recipe writes it: {problems: 500, samples: 16, keep: {grader: executable, most_per_problem: 4}}."""
        given = checked(cls, raw)
        return cls(**given | {"keep": Filter(**checked(Filter, given.get("keep", {})))})


def checked(kind: type, raw: Any) -> dict[str, Any]:
    """A mapping with all fields that `kind` needs, and no others.

    Raises:
        ValueError: it is none, or a key is unknown or missing.
    """
    known = {field.name for field in fields(kind)}
    needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    if not isinstance(raw, Mapping) or not needed <= raw.keys() <= known:
        raise ValueError(f"{kind.__name__} has the keys {sorted(known)}, of which {sorted(needed)} are needed; got {raw!r}.")
    return dict(raw)


def draw_rows(folder: Path, arguments: Sequence[str], keep: Filter) -> dict[str, Any]:
    """Sample by `predict` and write the rows that are kept; every process of a run calls it, and has the same counts.

    If rows are left to train on, `rejection.json` has the counts and, as `compute`, what sampling took.

    Args:
        folder: of the run; sampling that was interrupted there goes on.
        arguments: of `predict`.
        keep: which samples become rows.

    Returns:
        The counts of `select`, with `train_rows` and `validation_rows`.
    """
    counts: dict[str, Any] = {}
    run_stage(["predict", *arguments, "--trainer.default_root_dir", str(folder)])
    wait_for_all()
    if is_first():
        rows, counts = select(read_samples(sorted((folder / "predict/samples").glob("predict*.jsonl"))), keep)
        for side, part in zip(SIDES, set_apart(rows, keep.validation_share), strict=True):
            write_rows(folder / f"{side}.jsonl", part)
            counts[f"{side}_rows"] = len(part)
        if counts["train_rows"]:
            write_json(folder / SAMPLED, counts | {"compute": read_json(folder / "predict/compute_sums.json")})
    return of_first(counts)


def files_of(folders: Sequence[Path], record: str = SAMPLED) -> dict[str, list[str]]:
    """The rows that were drawn in these folders, as `data.init_args.files` names them."""
    found = {folder: read_json(folder / record) for folder in folders}
    return {side: [str(folder / f"{side}.jsonl") for folder in folders if found[folder][f"{side}_rows"]] for side in SIDES}


def is_first() -> bool:
    """Whether this process writes files: the only one, or the first of several."""
    return (torch.distributed.get_rank() if torch.distributed.is_initialized() else rank_zero_only.rank) == 0


def wait_for_all() -> None:
    """Wait until all processes of the run have come here."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def of_first(found: dict[str, Any]) -> dict[str, Any]:
    """What the first process found, for all of them, once it is there."""
    if torch.distributed.is_initialized():
        torch.distributed.broadcast_object_list(shared := [found])
        return shared[0]
    return found


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = ArgumentParser(prog="interplay sample", description=__doc__, allow_abbrev=False)
    parser.add_argument("--rejection_sampling", required=True, help="e.g. '{problems: 500, samples: 16}', as in a recipe")
    parser.add_argument("--trainer.default_root_dir", type=Path, required=True, dest="folder", help="folder of the files")
    args, predict = parser.parse_known_args(argv)
    wanted = RejectionSampling.read(read_yaml(args.rejection_sampling))
    asked = {
        "data.init_args.held_out.predict_split": "mixture", "data.init_args.held_out.problems": wanted.problems,
        "model.init_args.evaluation.samples": wanted.samples, "model.init_args.evaluation.likelihood": "false",
    }  # fmt: skip
    flags = [f"--{key}={value}" for key, value in asked.items()]
    counts = draw_rows(args.folder, [*predict, *flags], wanted.keep)
    if not counts["train_rows"]:
        raise ValueError(
            f"{args.folder}: of {counts['samples']} solutions none is left to train on ({counts['accepted']} accepted); start "
            "from a model that solves some of these problems, or ask for more problems and samples."
        )
    return 0
