"""LightningCLI as this project uses it: which callbacks are always on, where a run's files lie, what a bad config says.

A run's folder is `trainer.default_root_dir`; `validate`, `test` and `predict` write to a folder of that name inside it.
"""

import logging
import warnings
from pathlib import Path
from typing import Any

from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from transformers.utils.logging import disable_progress_bar

import callbacks

# jsonargparse: `${...}` is resolved after overrides; an error is raised, not printed with the whole usage
PARSER = {"parser_mode": "omegaconf+", "exit_on_error": False}
SUBCOMMANDS = ("fit", "validate", "test", "predict")
NOISE = (
    r".*args parameter is intended to run from within Python.*",
    r".*does not have many workers.*",
    r".*exists and is not empty.*",
    r".*isinstance\(treespec, LeafSpec\).*",
    r".*Found .* module\(s\) in eval mode at the start of training.*",
    r".*`lr_scheduler.step\(\)` before `optimizer.step\(\)`.*",
)


class ExperimentCLI(LightningCLI):
    """Our callbacks have a key of their own; users add theirs under `trainer.callbacks`."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the callbacks that are always on."""
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults({"checkpoint.save_last": True, "checkpoint.enable_version_counter": False})
        parser.add_lightning_class_args(callbacks.VerifiedPassAtK, "pass_at_k")
        parser.add_lightning_class_args(callbacks.SampleLog, "sample_log")
        parser.add_lightning_class_args(callbacks.SampleWriter, "sample_writer")
        parser.add_lightning_class_args(callbacks.HuggingFaceExport, "export")
        parser.add_lightning_class_args(callbacks.RunRecord, "run_record")
        parser.add_lightning_class_args(callbacks.Throughput, "throughput")

    def _instantiate_trainer(self, config: dict[str, Any], always_on: list[Callback]) -> Trainer:
        """Log to TensorBoard and to CSV in the run's folder, unless the config names loggers."""
        if config.get("logger") in (None, True):
            folder = Path(config.get("default_root_dir") or "runs/unnamed")
            folder = folder if self.subcommand == "fit" else folder / self.subcommand
            config["logger"] = [kind(folder, name="", version="") for kind in (TensorBoardLogger, CSVLogger)]
        return super()._instantiate_trainer(config, always_on)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """Predictions go to `samples/predict.jsonl`; none are kept in memory."""
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        return kwargs | {"return_predictions": False} if subcommand == "predict" else kwargs

    def _parse_ckpt_path(self) -> None:
        """A checkpoint brings weights and states; its hyper-parameters never override what the user wrote."""


def run_stage(argv: list[str]) -> int:
    """Run `fit | validate | test | predict` with the rest of `argv`."""
    for message in NOISE:
        warnings.filterwarnings("ignore", message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    disable_progress_bar()
    _check_checkpoint(argv)
    ExperimentCLI(
        LightningModule, LightningDataModule, subclass_mode_model=True, subclass_mode_data=True, args=argv,
        parser_kwargs={**PARSER, **dict.fromkeys(SUBCOMMANDS, PARSER)}, save_config_kwargs={"overwrite": True},
        auto_configure_optimizers=False,
    )  # fmt: skip
    return 0


def _check_checkpoint(argv: list[str]) -> None:
    """Fail before the model is built where `--ckpt_path` names no file."""
    for i, word in enumerate(argv):
        key, _, value = word.partition("=")
        path = value or (argv[i + 1] if i + 1 < len(argv) else "")
        if key == "--ckpt_path" and path not in ("last", "best", "hpc", "null", "") and not Path(path).exists():
            raise ValueError(f"--ckpt_path {path!r} does not exist; give a .ckpt file, or leave it out to start afresh.")
