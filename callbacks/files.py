"""A run's files, which appear whole or not at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any

from lightning import Trainer


def run_folder(trainer: Trainer) -> Path:
    """The folder of a run's files. Every process must call this, since Lightning broadcasts it; only one writes."""
    return Path(trainer.log_dir or trainer.default_root_dir)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` by an atomic rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def write_json(trainer: Trainer, name: str, content: Any) -> None:
    """Write a file of the run's folder from one process, unless this is a `fast_dev_run`; every process must call this."""
    path = run_folder(trainer) / name
    if trainer.is_global_zero and not trainer.fast_dev_run:
        write_text(path, json.dumps(content, indent=1))


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a folder to fill; it replaces `path` once it is complete."""
    part = path.with_name(path.name + ".part")
    rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    rmtree(path, ignore_errors=True)
    os.replace(part, path)
