"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree

from lightning import Trainer


def run_folder(trainer: Trainer) -> Path:
    """The folder of a run's files. Every process must ask for it, since Lightning broadcasts it; only one writes."""
    return Path(trainer.log_dir or trainer.default_root_dir)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` by an atomic rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a folder to fill; it takes the place of `path` once it is full."""
    part = path.with_name(path.name + ".part")
    rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    rmtree(path, ignore_errors=True)
    os.replace(part, path)
