"""What may change when a run is resumed: each key of its config is fixed, free, or holds from now on."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from pydoc import locate
from typing import Any
from zlib import crc32

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from callbacks.files import is_installed, is_ours, read_json, run_folder, write_json

# What a run is: its weights, its data, and the size of its steps. Longest prefix wins.
FIXED, FREE = "fixed", "free"
KEYS = {
    "": "new", "seed_everything": FIXED, "data": FIXED, "model.class_path": FIXED, "model.init_args.architecture": FIXED,
    "model.init_args.init_from": FIXED, "model.init_args.lora": FIXED, "trainer.accumulate_grad_batches": FIXED,
    "budget.batch_tokens": FIXED, "data.init_args.workers": FREE, "data.init_args.held_out": FREE,
    "data.init_args.validation_batches": FREE, "trainer.default_root_dir": FREE, "trainer.logger": FREE,
    "trainer.enable_progress_bar": FREE, "trainer.enable_model_summary": FREE, "ckpt_path": FREE, "weights_only": FREE,
    "config": FREE,
}  # fmt: skip
# sizes for each process of what an update, or a rollout, takes -> whether batches that are accumulated count
PER_PROCESS = {"data.init_args.batch_rows": True, "data.init_args.prompts_per_rollout": False}
ACCUMULATED = "trainer.accumulate_grad_batches"


class ResumeContract(Callback):
    """Compares the config of a resumed run with the one in its checkpoint.

    A change of what the run is (weights, data, the size of a step) is refused; another path to the same weights or files, which
    were moved, is none, nor are other numbers of processes, of rows for each and of accumulated batches that make steps of the
    same size. A change of anything else is said, noted in `history.json`, and holds from the next update on: rates
    and decay that the optimiser would restore are set again.

    Args:
        config: of the run, resolved, as nested plain values.
        added: dotted keys that checkpoints of earlier versions lack -> the value that they had then.
    """

    def __init__(self, config: Mapping[str, Any], added: Mapping[str, Any] | None = None) -> None:
        self.config, self.added = dict(flat(config)), dict(added or {})
        self.contents: dict[str, Any] = {}  # key that is fixed and names files -> what they hold
        self.changes: dict[str, list[Any]] = {}
        self.written: list[dict[str, Any]] = []  # settings of the optimiser as configured, by group

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Look at the files that the config names."""
        found = {key: content(value) for key, value in self.config.items() if rule(key) == FIXED}
        found |= {key: content(sources) for key, value in self.config.items() if (sources := _sources(key, value))}
        self.contents = {key: held for key, held in found.items() if held is not None}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the config."""
        checkpoint["config"], checkpoint["contents"], checkpoint["step_size"] = self.config, self.contents, self._step(trainer)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Compare, and refuse what is fixed.

        Raises:
            ValueError: names the keys.
        """
        before = self.added | checkpoint.get("config", self.config)  # checkpoints of earlier versions have none
        changed = differences(before, self.config)
        for key, held in checkpoint.get("contents", {}).items():
            now = self.contents.get(key)
            if held == now and rule(key) == FIXED:
                changed.pop(key, None)
            elif held != now and now is not None and key not in changed:
                changed[key] = [self.config[key], f"{self.config[key]}, with other content"]
        same = self._same_step(trainer, checkpoint, changed)
        if fixed := [
            f"{key} (was {old!r}, is {new!r})" for key, (old, new) in changed.items() if rule(key) == FIXED and key not in same
        ]:
            raise ValueError(
                f"--ckpt_path: a resumed run keeps {'; '.join(fixed)}. Undo the change or, for another run from these weights, "
                "set model.init_args.init_from to the checkpoint and give another trainer.default_root_dir."
            )
        self.changes = {key: values for key, values in changed.items() if rule(key) != FREE}
        if (step := checkpoint.get("step_size")) and step["batches"] != trainer.accumulate_grad_batches:
            _recount(checkpoint["loops"]["fit_loop"], trainer.accumulate_grad_batches, step["batches"])
        if trainer.limit_train_batches == 1.0 and (checkpoint["global_step"] < trainer.max_steps or trainer.max_steps == -1):
            _reopen(checkpoint["loops"]["fit_loop"])

    @property
    def _sized_by(self) -> str:
        """The key of PER_PROCESS that this run sets; "": its data are of another kind."""
        return next((key for key in PER_PROCESS if self.config.get(key) is not None), "")

    def _step(self, trainer: Trainer) -> dict[str, int | None]:
        """The size of a step: rows or prompts of all processes; the processes, and the batches that each accumulates."""
        key = self._sized_by
        each = self.config[key] * (trainer.accumulate_grad_batches if PER_PROCESS[key] else 1) if key else None
        size = None if each is None else each * trainer.world_size
        return {"size": size, "processes": trainer.world_size, "batches": trainer.accumulate_grad_batches}

    def _same_step(self, trainer: Trainer, checkpoint: Mapping[str, Any], changed: dict[str, list[Any]]) -> set[str]:
        """Keys that may change, as steps stay as large as they were; the number of processes, or the size, joins the changes."""
        if (before := checkpoint.get("step_size")) is None:  # of an earlier version
            return set()
        now = self._step(trainer)
        if before["processes"] != now["processes"]:
            changed["processes"] = [before["processes"], now["processes"]]
        key = self._sized_by
        if before["size"] == now["size"]:
            return {key, ACCUMULATED} if PER_PROCESS.get(key) else {key}
        if key not in changed:
            changed[f"{key}, of all processes"] = [before["size"], now["size"]]
        return set()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the optimisers' settings as they are written, before a checkpoint restores its own."""
        self.written = [settings(group) for optimizer in trainer.optimizers for group in optimizer.param_groups]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say and note what is new, and set it."""
        if not self.changes:
            return
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        for group, written in zip(groups, self.written, strict=True):
            group.update(written)
        for config in trainer.lr_scheduler_configs:
            _follow(config.scheduler)
        if trainer.is_global_zero:
            for key, (old, new) in self.changes.items():
                print(f"from step {trainer.global_step} on: {key} {new!r} (was {old!r})", flush=True)
        path = run_folder(trainer) / "history.json"
        if trainer.is_global_zero:
            write_json(
                path, [*(read_json(path) if path.is_file() else []), {"step": trainer.global_step, "changed": self.changes}]
            )


def _recount(loop: dict[str, Any], now: int, before: int) -> None:
    """Count batches as if as many had been accumulated for each update from the start as are now."""
    for counts in (loop["epoch_loop.batch_progress"][part] for part in ("total", "current")):
        counts.update({name: number * now // before for name, number in counts.items()})


def _reopen(loop: dict[str, Any]) -> None:
    """Training data has one pass, as long as the run: neither the batch nor the epoch that ended a shorter run is its last."""
    loop["epoch_loop.batch_progress"]["is_last_batch"] = False
    for epochs in loop["epoch_progress"].values():
        epochs["processed"] = epochs["completed"] = epochs["ready"] - 1


def _follow(scheduler: LRScheduler) -> None:
    """Set the rates of this step from the base rates of the optimiser as it is now."""
    groups = scheduler.optimizer.param_groups
    scheduler.base_lrs = [group["initial_lr"] for group in groups]
    if isinstance(scheduler, LambdaLR):
        for group, base, factor in zip(groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True):
            group["lr"] = base * factor(scheduler.last_epoch)


def settings(group: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a parameter group."""
    return {key: value for key, value in group.items() if key != "params"}


def flat(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings as dotted keys."""
    if isinstance(config, Mapping) and config:
        for key, value in config.items():
            yield from flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, config


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Key -> its value before and now, of two configs as dotted keys, where they differ.

    A key that is a value in one and a mapping in the other (`optimizer: null`, then `optimizer: {class_path: ...}`) differs; one
    that stands in one alone is a setting that the other's version did not have.
    """
    found = {key: [before[key], value] for key, value in now.items() if key in before and before[key] != value}
    for key in before.keys() - now.keys():
        if mapping := _under(now, key):
            found[key] = [before[key], mapping]
    for key in now.keys() - before.keys():
        if mapping := _under(before, key):
            found[key] = [mapping, now[key]]
    return dict(sorted(found.items()))


def content(value: Any) -> Any:
    """What the files hold that a value names, as plain values: a digest of weights, or of each file its name, size and the
    checksum of its ends; None: it names none. Of mappings, those count that name some.
    """
    if isinstance(value, Mapping):
        return [held for held in map(content, value.values()) if held is not None] or None
    if isinstance(value, list):
        parts = [content(one) for one in value]
        if any(isinstance(one, Mapping) for one in value):
            parts = [part for part in parts if part is not None]
        return parts if parts and None not in parts else None
    if not isinstance(value, str) or not value or not Path(value).exists():
        return None
    path = Path(value)
    if (facts := path / "interplay.json").is_file():
        return read_json(facts).get("weights")
    return [_ends(file) for file in sorted(path.iterdir() if path.is_dir() else [path]) if file.is_file()] or None


def class_paths(config: Any) -> set[str]:
    """All classes that a config names."""
    if isinstance(config, Mapping):
        own = {config["class_path"]} if isinstance(config.get("class_path"), str) else set()
        return own.union(*map(class_paths, config.values()))
    return set().union(*map(class_paths, config)) if isinstance(config, list) else set()


def _sources(key: str, value: Any) -> str | list[str] | None:
    """The file of the user's own class that a key of a flat config names, or files, if it lists classes."""
    if key.endswith("class_path"):
        return str(source) if value and (source := source_of(value)) else None
    return sorted({str(source) for name in class_paths(value) if (source := source_of(name))})


def source_of(class_path: str) -> Path | None:
    """The file of a class of the user's own; None: it is of this project, of Python, or installed."""
    module = sys.modules.get(getattr(locate(class_path), "__module__", ""))
    if not (file := getattr(module, "__file__", None)):
        return None
    path = Path(file).resolve()
    return None if is_ours(path) or is_installed(path) else path


def _ends(path: Path, length: int = 1 << 20) -> list[Any]:
    size = path.stat().st_size
    with path.open("rb") as file:
        value = crc32(file.read(length))
        file.seek(max(0, size - length))
        return [path.name, size, crc32(file.read(length), value)]


def _under(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The part of a config within a key."""
    return {name.removeprefix(f"{key}."): value for name, value in config.items() if name.startswith(f"{key}.")}


def rule(key: str) -> str:
    """How a key is treated: by the longest of its prefixes that KEYS names."""
    parts = key.split(".")
    return next(KEYS[name] for n in range(len(parts), -1, -1) if (name := ".".join(parts[:n])) in KEYS)
