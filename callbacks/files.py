"""A run's files, which appear whole or not at all."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from sysconfig import get_path
from typing import Any
from zipfile import BadZipFile, ZipFile
from zlib import crc32

from lightning import Trainer

PACKAGES = {"grammar", "datamodules", "lightning_modules", "callbacks", "recipes", "interplay", "main.py"}
CHECKSUMS = "checksums.json"  # of the files in a folder of shards


def is_ours(file: Path) -> bool:
    """Whether a source file is of this project."""
    project = Path(__file__).resolve().parents[1]
    return file.is_relative_to(project) and file.relative_to(project).parts[0] in PACKAGES


def is_installed(file: Path) -> bool:
    """Whether a source file is of Python, or of a library."""
    return bool({"site-packages", "dist-packages"} & set(file.parts)) or file.is_relative_to(get_path("stdlib"))


def run_folder(trainer: Trainer) -> Path:
    """The folder of a run's files; a `fast_dev_run` has one of its own inside it, and touches no file of the run.

    Every process must call this, since Lightning broadcasts it; only one writes.
    """
    folder = Path(trainer.log_dir or trainer.default_root_dir)
    return folder / "fast_dev_run" if trainer.fast_dev_run else folder


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield the path of a file to write; it replaces `path` by an atomic rename once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    yield part
    os.replace(part, path)


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    with new_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, data: object) -> None:
    """Write a JSON file; one that holds the same already is left untouched."""
    text = json.dumps(data, indent=1)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_run_file(trainer: Trainer, name: str, content: Any) -> None:
    """Write a file of the run's folder from one process, unless this is a `fast_dev_run`; every process must call this."""
    path = run_folder(trainer) / name
    if trainer.is_global_zero and not trainer.fast_dev_run:
        write_json(path, content)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Be the only process that writes to a folder; a killed one gives up its claim. Without locks in the file system, say so.

    Raises:
        ValueError: another process has claimed it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".writer.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            raise ValueError(
                f"another process writes to {folder}; wait until it has ended, or give another trainer.default_root_dir."
            ) from err
        except OSError as err:
            print(f"{folder}: the file system has no locks ({err.strerror}); start no second run there.", flush=True)
        yield


def checksum(path: Path) -> int:
    """The CRC-32 of a file."""
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            value = crc32(chunk, value)
    return value


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, whose parts carry checksums; None: nothing.

    A file is an archive with a checksum of each entry; a folder of shards has a file that names those of the others.
    """
    if checkpoint.is_dir():
        if not (checkpoint / "meta.pt").is_file():
            return "it has no meta.pt"
        kept = read_json(checkpoint / CHECKSUMS) if (checkpoint / CHECKSUMS).is_file() else {}
        bad = (name for name, value in kept.items() if not (file := checkpoint / name).is_file() or checksum(file) != value)
        name = next(bad, None)
        return f"its file {name} is damaged or missing" if name else None
    try:
        with ZipFile(checkpoint) as archive:
            part = archive.testzip()
    except (BadZipFile, OSError, EOFError, NotImplementedError) as err:
        return f"it is not a whole checkpoint ({err})"
    return f"its part {part} is damaged" if part else None


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to fill; it replaces `path` once it is complete."""
    part = path.with_name(path.name + ".part")
    rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    rmtree(path, ignore_errors=True)
    os.replace(part, path)
