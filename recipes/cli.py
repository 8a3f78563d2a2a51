"""LightningCLI as this project uses it: callbacks that are always on, the folder of a run, messages of config errors.

A run's folder is `trainer.default_root_dir`; `validate`, `test` and `predict` write to a folder of that name inside it.
"""

import atexit
import logging
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import Namespace
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.trainer.states import TrainerFn
from transformers.utils.logging import disable_progress_bar

import callbacks
from callbacks.files import claimed, damage, run_folder
from callbacks.records.checkpoint import newest_checkpoint
from callbacks.records.earlier_run import set_aside
from callbacks.records.resume import ResumeContract
from recipes.earlier_keys import MODE, added_keys, read_earlier_keys, renamed_flags
from recipes.named_files import with_named_configs
from recipes.trajectory import checkpoints_in, evaluate_all, is_hugging_face

read_earlier_keys()
PARSER = {"parser_mode": MODE, "exit_on_error": False}  # an error is raised, not printed with the whole usage
PARSERS = {**PARSER, **dict.fromkeys(("fit", "validate", "test", "predict"), PARSER)}
UNNAMED = "runs/unnamed"  # folder of a run that was given none
NOISE = (
    r".*args parameter is intended to run from within Python.*",
    r".*does not have many workers.*",
    r".*there is no last checkpoint available.*",
    r".*You have overridden `on_before_batch_transfer`.*",
    r".*when logging on epoch level in distributed setting.*",
    r".*exists and is not empty.*",
    r".*The dirpath has changed from.*",
    r".*isinstance\(treespec, LeafSpec\).*",
    r".*Found .* module\(s\) in eval mode at the start of training.*",
    r".*``compute`` method of metric .* was called before.*",
    r".*`lr_scheduler.step\(\)` before `optimizer.step\(\)`.*",
)

ALWAYS_ON = {
    "checkpoint": callbacks.Checkpoint, "pass_at_k": callbacks.VerifiedPassAtK, "sample_log": callbacks.SampleLog,
    "sample_writer": callbacks.SampleWriter, "export": callbacks.HuggingFaceExport, "run_record": callbacks.RunRecord,
    "throughput": callbacks.Throughput, "compute_ledger": callbacks.ComputeLedger, "budget": callbacks.TokenBudget,
    "mixture_record": callbacks.MixtureRecord, "random_state": callbacks.RandomState, "rewind_logs": callbacks.RewindLogs,
    "non_finite_loss": callbacks.NonFiniteLoss, "gradient_norm": callbacks.GradientNorm, "memory": callbacks.Memory,
}  # fmt: skip


def check_trainer(config: Mapping[str, Any]) -> None:
    """Refuse settings of the Trainer that it would take and that do not do here what they say.

    Raises:
        ValueError: names the setting.
    """
    lowest = {"accumulate_grad_batches": 1, "gradient_clip_val": 0, "max_steps": -1, "log_every_n_steps": 1}
    for name, least in lowest.items():
        if (value := config.get(name)) is not None and value < least:
            raise ValueError(f"trainer.{name}={value} must be at least {least}.")
    if isinstance(interval := config.get("val_check_interval"), int | float) and interval <= 0:  # a text is a time
        raise ValueError(f"trainer.val_check_interval={interval} must be above 0.")
    for name in ("overfit_batches", "reload_dataloaders_every_n_epochs"):
        if config.get(name):
            raise ValueError(
                f"trainer.{name}={config[name]} has no meaning here, as training data is one endless pass; leave it out, or "
                "train on few problems by `data.init_args.files.train`."
            )


class WholeKeys(LightningArgumentParser):
    """A parser for which a part of a key's name is no key; it also reads the arguments of classes."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings | {"allow_abbrev": False})


class SaveConfig(SaveConfigCallback):
    """Keeps a run's config.yaml as it is until a checkpoint to resume from has agreed with the new one."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the config of an evaluation."""
        if stage != "fit":
            super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the config of a training; under FSDP a checkpoint is read after `on_fit_start`."""
        super().setup(trainer, pl_module, "fit")


class StageTrainer(Trainer):
    """A Trainer whose evaluations have a folder, wherever their loggers write: not over the files of the run."""

    evaluation_folder: Path | None = None

    @property
    def log_dir(self) -> str | None:
        """See Trainer."""
        if self.state.fn in (TrainerFn.VALIDATING, TrainerFn.TESTING, TrainerFn.PREDICTING):
            return self.strategy.broadcast(str(self.evaluation_folder or self.default_root_dir))
        return super().log_dir


class ExperimentCLI(LightningCLI):
    """Each callback that is always on has its own key; users add theirs under `trainer.callbacks`."""

    def __init__(self, args: list[str] | None = None, folder: str = "") -> None:
        """Run the command `args`; `folder`: subfolder of an evaluation's folder."""
        self.folder = folder
        super().__init__(
            LightningModule, LightningDataModule, subclass_mode_model=True, subclass_mode_data=True, args=args,
            trainer_class=StageTrainer, parser_class=WholeKeys,
            parser_kwargs=PARSERS, save_config_callback=SaveConfig, save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
        )  # fmt: skip

    def before_instantiate_classes(self) -> None:
        """Settle which weights an evaluation reads; a Hugging Face folder as `ckpt_path` becomes the model's `init_from`."""
        config = self.config[self.subcommand]
        path = config.get("ckpt_path")
        check_trainer(config["trainer"])
        if self.subcommand != "fit" and not path and not config["model"].get("init_args", {}).get("init_from"):
            raise ValueError(f"{self.subcommand} needs trained weights; give them by --ckpt_path.")
        if self.subcommand != "fit" and path == "last":
            folder = Path(
                config["checkpoint"]["dirpath"] or Path(config["trainer"]["default_root_dir"] or UNNAMED) / "checkpoints"
            )
            if (found := newest_checkpoint(folder)) is None:
                raise ValueError(f"--ckpt_path last: {folder} holds no whole checkpoint; give the path of one.")
            config["ckpt_path"] = path = str(found)
        if path and is_hugging_face(Path(path)):
            if self.subcommand == "fit":
                raise ValueError(f"--ckpt_path {path!r} is a Hugging Face folder; give it as `model.init_args.init_from`.")
            settings = config["model"]["init_args"]
            settings["init_from"], config["ckpt_path"] = str(path), None
            if "architecture" in settings:
                settings["architecture"] = None
        elif path and self.subcommand != "fit":
            _start_from_checkpoint(config["model"]["init_args"], str(path))

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the callbacks that are always on."""
        for key, kind in ALWAYS_ON.items():
            parser.add_lightning_class_args(kind, key)
        parser.set_defaults({"checkpoint.save_last": True, "checkpoint.enable_version_counter": False})

    def _instantiate_trainer(self, config: dict[str, Any], always_on: list[Callback]) -> Trainer:
        """Log to TensorBoard and CSV in the run's folder, unless the config names loggers; show progress."""
        folder = Path(config.get("default_root_dir") or UNNAMED)
        self.place = folder if self.subcommand == "fit" else folder / self.subcommand / self.folder
        if config.get("logger") in (None, True):
            config["logger"] = [kind(self.place, name="", version="") for kind in (callbacks.TensorBoard, callbacks.MetricsCSV)]
        users = config.get("callbacks") or []
        users = [users] if isinstance(users, Callback) else users
        first = [one for one in always_on if isinstance(one, callbacks.TokenBudget)]  # EarlyStopping asks when validation is due
        config["callbacks"], always_on = [*first, *users], [one for one in always_on if one not in first]
        for one in always_on if any(isinstance(user, ModelCheckpoint) for user in users) else ():
            if isinstance(one, ModelCheckpoint) and one.filename is None:
                one.filename = "newest-{epoch}-{step}"  # two that name files alike remove each other's
        if config.get("enable_progress_bar") is not False and not any(isinstance(one, ProgressBar) for one in users):
            always_on = [*always_on, callbacks.progress()]
        chosen = self.plain_config()
        shown = {"seed": chosen.get("seed_everything"), "max_steps": chosen["trainer"]["max_steps"]}
        always_on = [*always_on, callbacks.BoardViews(shown | {part: chosen[part] for part in ("model", "data")})]
        if self.subcommand == "fit":
            always_on = [*always_on, ResumeContract(chosen, added_keys())]
        trainer = super()._instantiate_trainer(config, always_on)
        trainer.evaluation_folder = self.place
        if trainer.world_size > 1 and getattr(trainer, "_val_check_time_interval", None) is not None:
            raise ValueError("trainer.val_check_interval: processes disagree when a time is over; count batches, or updates.")
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        """Run as the only process that writes to the folder."""
        with claimed(self.place) if self.trainer.is_global_zero else nullcontext():
            if subcommand == "fit" and self.trainer.is_global_zero and not self.trainer.fast_dev_run:
                set_aside(self.place, self.config_init["fit"].get("ckpt_path"))
            super()._run_subcommand(subcommand)

    def plain_config(self) -> dict[str, Any]:
        """The config, all defaults filled in, as plain values."""
        return yaml.safe_load(self._parser(self.subcommand).dump(self.config[self.subcommand], skip_none=False))

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """Keep no predictions in memory: callbacks write them; print no results: `VerifiedPassAtK` does."""
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        quiet = {"predict": {"return_predictions": False}, "validate": {"verbose": False}, "test": {"verbose": False}}
        return kwargs | quiet.get(subcommand, {})

    def _parse_ckpt_path(self) -> None:
        """Take weights and states from a checkpoint, never hyper-parameters, which would override the user's."""


def _start_from_checkpoint(settings: Namespace, path: str) -> None:
    """Let what is evaluated be built from its own checkpoint where the weights that its training started from are gone."""
    start = settings.get("init_from")
    if start and not Path(start).exists() and Path(path).exists() and not settings.get("lora"):
        settings["init_from"] = path


def run_stage(argv: list[str]) -> int:
    """Run `fit | validate | test | predict` with the rest of `argv`.

    An evaluation's `--ckpt_path` is a .ckpt file, a Hugging Face folder, or a folder of .ckpt files, evaluated in turn.
    """
    quiet()
    atexit.register(leave_process_group)
    argv = with_named_configs(renamed_flags(argv), "experiment", "trainer", "objective", "callbacks", "evaluation")
    place, path = _checkpoint(argv)
    if path is not None and argv[0] != "fit" and path.suffix != ".ckpt" and not is_hugging_face(path):
        evaluate_all(
            checkpoints_in(path), lambda one, folder: _run([*argv[: place[0]], f"--ckpt_path={one}", *argv[place[1] :]], folder)
        )
    else:
        _run(argv)
    return 0


def leave_process_group() -> None:
    """Leave the other processes while Python still runs: a thread of gloo that lets go of a tensor later aborts the process.

    Lightning does so for NCCL alone.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def quiet() -> None:
    """Keep libraries from saying what helps nobody."""
    for message in NOISE:
        warnings.filterwarnings("ignore", message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    disable_progress_bar()


def _run(argv: list[str], folder: str = "") -> tuple[Path, bool]:
    """Run one stage; return the folder of its files, and whether this process writes them."""
    cli = ExperimentCLI(argv, folder)
    return run_folder(cli.trainer), cli.trainer.is_global_zero


def _checkpoint(argv: list[str]) -> tuple[tuple[int, int], Path | None]:
    """The place in `argv` of a `--ckpt_path` that is a path (first word, one past the last), and the path.

    Raises:
        ValueError: there is no such file.
    """
    for i, word in enumerate(argv):
        key, equals, value = word.partition("=")
        path = value or (argv[i + 1] if i + 1 < len(argv) else "")
        if key == "--ckpt_path" and path not in ("last", "best", "hpc", "null", ""):
            if not Path(path).exists():
                raise ValueError(f"--ckpt_path {path!r} does not exist; give a .ckpt file, or leave it out to start afresh.")
            if argv[0] == "fit" and Path(path).is_file() and not damage(Path(path)) and not _resumable(Path(path)):
                raise ValueError(
                    f"--ckpt_path {path!r} holds no state of a training run; to start from its weights, give it as "
                    "--model.init_args.init_from."
                )
            if argv[0] == "fit" and Path(path).is_dir() and not (Path(path) / "meta.pt").is_file():
                raise ValueError(
                    f"--ckpt_path {path!r} is a folder; give one of its .ckpt files to resume, or start from its weights with "
                    "--model.init_args.init_from."
                )
            if Path(path).is_file() and (fault := damage(Path(path))):
                raise ValueError(f"--ckpt_path {path!r}: {fault}; give another, or `last` for the newest whole one of the run.")
            return (i, i + 1 if equals else i + 2), Path(path)
    return (0, 0), None


def _resumable(path: Path) -> bool:
    """Whether a checkpoint file has the state of a training run beside its weights."""
    held = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    return isinstance(held, dict) and {"state_dict", "loops", "optimizer_states"} <= held.keys()
