"""`python main.py iterate FILE.yaml --out DIR`: a model that learns from its own solutions, one operation further each round.

A round samples solutions to training problems of N operations, keeps those that a grader accepts, trains on them and on those of
earlier rounds, and is tested. The next round has N + 1 operations, as long as the gate holds. Rounds consist of `predict`, `fit`
and `test`; each resumes where it stopped, and so does the whole when it is started again.
"""

import json
from argparse import ArgumentError, ArgumentParser
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from callbacks.files import read_json, write_json
from callbacks.text_tables import align, bands_of, rounded
from datamodules.problems.mixture import parse_ops
from datamodules.yaml_text import read_yaml
from recipes.mistakes import innermost
from recipes.named_files import named_file
from recipes.planning.resolve import flags, resolve
from recipes.rejection.accepted import Filter
from recipes.rejection.rejection_sampling import checked, draw_rows, files_of, is_first, wait_for_all
from recipes.running.stage_folders import HARDWARE, finish

RECORD = "round.json"
NOT_ASKED = ("gate", "start_from", "about")  # neither samples nor weights depend on them; weights are known by their digest
# may differ between the parts of a round that is resumed
FREE = ("trainer.callbacks", "trainer.devices", "trainer.num_nodes", "trainer.strategy")


@dataclass(frozen=True)
class ExpertIteration:
    """An experiment, as FILE.yaml writes it.

    config:     of `fit`, `predict` and `test`, relative to the file, or by name: the model, how it trains, contexts, modes and
                bands of held-out problems. Its mixture is not used, nor its files when it samples.
    start_from: weights that the first round samples with: a Hugging Face folder or a checkpoint.
    ops:        operations, one round each, in this order: "5-12".
    problems:   different problems of a round.
    samples:    solutions to each.
    gate:       least pass@1 by the grader; a round below it ends the run before it trains.
    keep:       which solutions are trained on.
    restart:    every round trains from `start_from`; false: from the weights of the round before.
    union:      a round also trains on the rows of earlier rounds.
    settings:   further settings of the config, such as {trainer.max_steps: 100}.
    about:      printed above the table.
    """

    config: Path
    start_from: str
    ops: str
    problems: int = 500
    samples: int = 16
    gate: float = 0.01
    keep: Filter = Filter()
    restart: bool = True
    union: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""


def load(path: Path) -> ExpertIteration:
    """Read a file; `config` is found relative to it.

    Raises:
        ValueError: no such file, an unknown or missing key, or a value that allows no round.
    """
    path = named_file(path, "expert_iteration")
    try:
        raw = checked(ExpertIteration, read_yaml(path))
        checked(Filter, raw.get("keep", {}))
    except ValueError as err:
        raise ValueError(f"{path}: {err}") from err
    beside = path.parent / raw["config"]
    config = beside.resolve() if beside.is_file() else named_file(raw["config"], "experiment")
    spec = ExpertIteration(**raw | {"config": config, "keep": Filter(**raw.get("keep", {}))})
    if not isinstance(spec.gate, int | float):
        raise ValueError(f"{path}: gate={spec.gate!r} must be a number.")
    if any(type(count) is not int or count < 1 for count in (spec.problems, spec.samples)):
        raise ValueError(f"{path}: problems={spec.problems!r} and samples={spec.samples!r} must be whole numbers from 1 on.")
    try:
        parse_ops(spec.ops)
        settings = {"model.init_args.init_from": spec.start_from, **spec.settings}
        resolved = resolve([config], settings)
    except (ValueError, ArgumentError) as err:
        raise ValueError(f"{path}: {innermost(str(err))}") from err
    if "group" in resolved["model"]["init_args"]:
        raise ValueError(f"{path}: {config.name} is of RL, which samples by itself; take a config that trains on solutions.")
    if resolved["data"]["init_args"].get("replay_share"):
        raise ValueError(f"{path}: own solutions take the place of `mixture` and `replay`; leave out `replay_share`.")
    return spec


@dataclass(frozen=True)
class Round:
    """One round: its number of operations, the weights it samples with, those it trains from, and its folder."""

    op: int
    sampler: str
    init_from: str
    folder: Path

    @property
    def found(self) -> dict[str, Any]:
        """Counts of what became of the samples."""
        return read_json(self.folder / RECORD)

    @property
    def model(self) -> str:
        """The weights that it leaves."""
        return str(self.folder / "huggingface")


def run_rounds(spec: ExpertIteration, out: Path, seed: int) -> list[Round]:
    """Run every round that is not done; return those that sampled, of which the last may have failed the gate."""
    if not Path(spec.start_from).exists():
        raise ValueError(f"iterate: start_from {spec.start_from!r} does not exist; train it, or correct the path.")
    rounds: list[Round] = []
    sampler = spec.start_from
    for op in parse_ops(spec.ops):
        rounds.append(Round(op, sampler, spec.start_from if spec.restart else sampler, out / f"op{op:02d}"))
        print(f"\n=== round {len(rounds)}: {op} operations ===", flush=True)
        _sample(spec, seed, rounds[-1])
        if not _passed(spec, rounds[-1].found):
            break
        _train(spec, seed, rounds)
        sampler = rounds[-1].model
    return rounds


def _passed(spec: ExpertIteration, counts: Mapping[str, Any]) -> bool:
    """Whether a round goes on to train: the gate may have been moved since it sampled."""
    return counts["pass@1"] >= spec.gate and bool(counts["train_rows"])


def _settings(spec: ExpertIteration, seed: int, init_from: str) -> list[str]:
    seeds = {"seed_everything": seed, "data.init_args.seed": seed}
    return ["--config", str(spec.config), *flags({**spec.settings, **seeds, "model.init_args.init_from": init_from})]


def _asked(spec: ExpertIteration, seed: int, current: Round) -> tuple[str, str]:
    """Digests of all that the samples of a round depend on."""
    changed = {key: value for key, value in spec.settings.items() if not key.startswith("trainer.")}
    return _digests(spec, {"settings": changed, "ops": current.op}, seed, current.sampler)


def _digests(spec: ExpertIteration, given: Mapping[str, Any], seed: int, weights_from: str) -> tuple[str, str]:
    """The digest of an experiment, some fields of it given, and of the weights that it starts from.

    Also the one of earlier versions, in which the order of settings counted.
    """
    settings = {**asdict(spec), "config": spec.config.read_text(encoding="utf-8"), "about": "", **given}
    chosen = {key: value for key, value in settings.items() if key not in NOT_ASKED}
    start = Path(weights_from)
    record = start / "interplay.json"
    weights = read_json(record)["weights"] if record.is_file() else str(start)
    texts = json.dumps([chosen, seed, weights], sort_keys=True, default=str), repr((sorted(settings.items()), seed, weights))
    now, before = (blake2b(text.encode(), digest_size=8).hexdigest() for text in texts)
    return now, before


def _sample(spec: ExpertIteration, seed: int, current: Round) -> None:
    """Sample and select, unless that is done; `round.json` has the counts, whether the gate holds, and what was asked for.

    Raises:
        ValueError: the folder holds a round that was asked for otherwise.
    """
    wanted, before = _asked(spec, seed, current)
    if (current.folder / RECORD).is_file():
        if current.found.get("asked", wanted) not in (wanted, before):  # rounds of earlier versions do not say
            raise ValueError(
                f"iterate: {current.folder} holds a round of other settings ({current.found['asked']}, not {wanted}); give "
                "another --out, or remove the folder."
            )
        return
    asked = {
        "data.init_args.held_out.bands": {f"op{current.op}": str(current.op)}, "data.init_args.held_out.per_op": False,
        "data.init_args.held_out.files": [],
        "data.init_args.held_out.problems": spec.problems, "data.init_args.held_out.predict_split": "train",
        "model.init_args.evaluation.samples": spec.samples, "model.init_args.evaluation.seed": seed,
        "model.init_args.evaluation.likelihood": False,
    }  # fmt: skip
    arguments = [*_settings(spec, seed, current.sampler), *flags(asked)]
    counts = draw_rows(current.folder, arguments, spec.keep)
    found = {"op": current.op, "passed": _passed(spec, counts), "asked": wanted}
    if is_first():
        write_json(current.folder / RECORD, counts | found)
    wait_for_all()


def _train(spec: ExpertIteration, seed: int, rounds: list[Round]) -> None:
    """Train on the rows, and test, unless that is done.

    Raises:
        ValueError: the folder holds a model that was trained otherwise.
        RuntimeError: its scores are not of the weights that training left.
    """
    last = rounds[-1]
    training = {key: value for key, value in spec.settings.items() if key not in (*HARDWARE, *FREE)}
    wanted, before = _digests(spec, {"settings": training, "ops": last.op}, seed, last.init_from)
    if last.found.get("trained_as", wanted) not in (wanted, before):  # rounds of earlier versions do not say
        raise ValueError(
            f"iterate: {last.folder} holds a model that was trained otherwise ({last.found['trained_as']}, not {wanted}); give "
            "another --out, or remove the folder."
        )
    wait_for_all()
    if is_first():
        write_json(last.folder / RECORD, last.found | {"passed": True, "trained_as": wanted})
    wait_for_all()
    files = files_of([current.folder for current in (rounds if spec.union else [last])], RECORD)
    fit = [*_settings(spec, seed, last.init_from), *flags({"data.init_args.files": files, "data.init_args.mixture": None})]
    if not finish(last.folder, fit, _settings(spec, seed, last.model), alone=is_first()):
        raise RuntimeError(f"iterate: the scores in {last.folder} are not of the weights that training left.")


def table(rounds: list[Round]) -> str:
    """Each round: what it sampled, kept and scored on held-out problems."""
    rows: list[list[str]] = []
    heads = ["op", "pass@1 sampled", "kept", "duplicates"]
    for current in rounds:
        found, test = current.found, current.folder / "test/pass_at_k.json"
        kept = found["train_rows"] + found["validation_rows"]
        cells = [str(current.op), f"{found['pass@1']:.3f}", str(kept), str(found["duplicates"])]
        passes = read_json(test) if test.is_file() else {}
        bands = bands_of(passes)
        cells += [rounded(passes[band]["executable"]["pass@1"]["mean"], 3) for band in bands]
        heads += [f"{band} executable pass@1" for band in bands] if len(heads) == 4 else []
        rows.append(cells + ["-"] * (len(heads) - len(cells)))
    return align([heads, *rows])


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = ArgumentParser(prog="interplay iterate", description=__doc__)
    parser.add_argument("file", type=Path, help="a file, or the name of one in configs/expert_iteration/")
    parser.add_argument("--out", type=Path, required=True, help="folder of the experiment")
    parser.add_argument("--seed", type=int, default=0, help="of sampling and of the order of training rows")
    args = parser.parse_args(argv)
    spec = load(args.file)
    rounds = run_rounds(spec, args.out, args.seed)
    last = rounds[-1]
    if not _passed(spec, last.found):
        why = f"pass@1 {last.found['pass@1']:.4f}, needed {spec.gate}" if last.found["train_rows"] else "no solution was kept"
        print(f"\nThe gate closed at op {last.op}: {why}.")
    print(f"\n{spec.about}{table(rounds)}\n{args.out}/opNN has the files of each round")
    return 0
