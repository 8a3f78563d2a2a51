"""`python main.py check CONFIG|RECIPE ...`: find mistakes in seconds, before anything is trained.

A config is read, its classes are built, and what training would refuse later is asked now: the tokenizer against the model, the
end of the schedule, the weights to start from. Of a recipe every stage of every arm is. An accelerator that is not here is taken
to be where training will run: the rest is checked on one CPU.
"""

import tempfile
from argparse import ArgumentParser
from pathlib import Path

import torch
import yaml
from lightning import LightningModule
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks.files import damage
from datamodules.rows.vocabulary import entries_in_use
from datamodules.yaml_text import read_yaml
from lightning_modules.models.language_model import build_language_model
from recipes.cli import ExperimentCLI, quiet
from recipes.named_files import named_file
from recipes.planning.plan import make_plan
from recipes.planning.recipe import load_recipe
from recipes.planning.seen import check_seen

ONE_CPU = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto", "precision": None}  # of the Trainer


class Checker(ExperimentCLI):
    """Builds everything and trains nothing."""

    def before_instantiate_classes(self) -> None:
        """Leave out what an accelerator that is not here would be asked for."""
        super().before_instantiate_classes()
        trainer = self.config[self.subcommand]["trainer"]
        if not _is_here(trainer["accelerator"]):
            for key, value in ONE_CPU.items():
                trainer[key] = value

    def _run_subcommand(self, subcommand: str) -> None:
        """Ask what `fit` would ask."""
        self.datamodule.held_out_examples("test", 1)
        module, trainer = self.model, self.trainer
        if trainer.max_steps == -1 and not any(
            getattr(callback, "max_tokens", None) or getattr(callback, "max_problems", None) for callback in trainer.callbacks
        ):
            raise ValueError("training has no end: set `budget.max_tokens`, or `trainer.max_steps` to the number of updates.")
        teacher = getattr(getattr(module, "kl", None), "reference", None)
        if teacher is not None and not Path(teacher).exists():
            raise ValueError(f"model.init_args.kl.reference {teacher!r} does not exist; train the teacher, or correct it.")
        if module.architecture is not None:
            with torch.device("meta"):
                rows = build_language_model(module.architecture).config.vocab_size
            if entries_in_use(self.datamodule.tokenizer, rows) > rows:
                raise ValueError(
                    f"the tokenizer has {len(self.datamodule.tokenizer)} entries, the model {rows}; raise "
                    "`model.init_args.architecture.vocab_size`."
                )


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = ArgumentParser(prog="interplay check", description=__doc__)
    parser.add_argument("file", type=Path, nargs="+", help="configs of one stage, later ones winning; or recipes")
    parser.add_argument("--scale", help="of recipes, as `run` takes it")
    args = parser.parse_args(argv)
    quiet()
    args.file = [named_file(path, "recipe", "experiment") for path in args.file]
    found = [read_yaml(path) for path in args.file]
    if all(isinstance(content, dict) and "stages" in content for content in found):
        for path in args.file:
            print(f"{path}: {_check_recipe(path, args.scale)}")
    else:
        checker = Checker(["fit", *(word for path in args.file for word in ("--config", str(path)))])
        _check_start(checker.model)
        print(f"{', '.join(map(str, args.file))}: nothing wrong")
    return 0


def _check_recipe(path: Path, scale: str | None) -> str:
    """Check every stage of every arm, equal ones once; return what was checked."""
    recipe = load_recipe(path, scale)
    plan = make_plan(recipe, recipe.seeds[:1])
    check_seen(plan)
    stages = plan.stages()
    with tempfile.TemporaryDirectory() as folder:
        for stage in stages.values():
            file = Path(folder) / f"{stage.label}.yaml"
            file.write_text(yaml.safe_dump(stage.config), encoding="utf-8")
            try:
                checker = Checker(["fit", "--config", str(file)])
                if stage.parent is None:
                    _check_start(checker.model)
            except (ValueError, MisconfigurationException) as err:
                raise ValueError(f"{path}, stage {stage.name!r}: {err}") from err
    return f"{len(plan.arms)} arms, {len(stages)} different stages a seed, nothing wrong"


def _is_here(accelerator: object) -> bool:
    """Whether this machine has what `trainer.accelerator` asks for, if it asks by name."""
    names = {"gpu": ("cuda", "mps")}.get(str(accelerator), (str(accelerator),))
    known = [name for name in names if name in AcceleratorRegistry.available_accelerators()]
    return not known or any(AcceleratorRegistry[name]["accelerator"].is_available() for name in known)


def _check_start(model: LightningModule) -> None:
    """The weights that a model and its critic start from."""
    for key, part in {"init_from": model, "critic.init_args.init_from": getattr(model, "critic", None)}.items():
        if (start := getattr(part, "init_from", None)) is None:
            continue
        if not Path(start).exists():
            raise ValueError(f"model.init_args.{key} {start!r} does not exist; train the earlier stage, or correct it.")
        if Path(start).is_file() and (fault := damage(Path(start))):
            raise ValueError(f"model.init_args.{key} {start!r}: {fault}.")
