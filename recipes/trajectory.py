"""Checkpoints of one run, evaluated one by one: results by training step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from callbacks.files import read_json, write_json
from callbacks.records.checkpoint import step_of


def is_hugging_face(path: Path) -> bool:
    """Whether `path` is a folder that `from_pretrained` opens."""
    return (path / "config.json").is_file()


def checkpoints_in(folder: Path) -> dict[int, Path]:
    """Training step -> checkpoint, of a run's folder or its `checkpoints/`, in the order of the steps.

    Raises:
        ValueError: there is none.
    """
    inner = folder / "checkpoints" if (folder / "checkpoints").is_dir() else folder
    found: dict[int, Path] = {}
    for path in sorted(inner.glob("*.ckpt")):
        found.setdefault(step_of(path), path)
    if not found:
        raise ValueError(
            f"--ckpt_path {str(folder)!r}: expected a .ckpt file, a Hugging Face folder (with config.json) or a folder with "
            ".ckpt files; found none of them."
        )
    return dict(sorted(found.items()))


def evaluate_all(checkpoints: dict[int, Path], evaluate: Callable[[Path, str], tuple[Path, bool]]) -> None:
    """Evaluate checkpoints, then write `trajectory.json` beside their folders.

    Args:
        checkpoints: training step -> checkpoint.
        evaluate: (checkpoint, name of the folder for its results) -> that folder, and whether this process writes files.
    """
    rows: list[dict[str, Any]] = []
    for step, path in checkpoints.items():
        folder, writes = evaluate(path, f"step{step:07d}")
        if writes and (folder / "evaluation.json").is_file():
            found = read_json(folder / "evaluation.json")
            kept = {key: found[key] for key in ("grades", "skills", "likelihood", "topology") if key in found}
            kept["grades"] = {name: found["grades"][name] for name in ("all", "band", "op")}
            rows.append({"step": step, "checkpoint": str(path)} | kept)
            write_json(folder.parent / "trajectory.json", rows)
