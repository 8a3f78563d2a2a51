"""Which outputs of a run are valid: those that record that they were made from what is there now.

Training is over when `training.json` says so; it names the weights that it left. Scores count if they are of these weights.
Runs of earlier versions recorded no weights; their files count as they are.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from callbacks.files import read_json


def is_trained(folder: Path) -> bool:
    """Whether training has ended, and the exported weights are those that it ended with."""
    if not (folder / "training.json").is_file():
        return False
    exported = folder / "huggingface/interplay.json"
    return not exported.is_file() or _agree(weights_after(folder), read_json(exported)["weights"])


def is_tested(folder: Path) -> bool:
    """Whether testing has ended, and the scores are those of the trained weights."""
    scores, evaluation = folder / "test/pass_at_k.json", folder / "test/evaluation.json"
    return scores.is_file() and (not evaluation.is_file() or is_current(evaluation))


def is_current(evaluation: Path) -> bool:
    """Whether an `evaluation.json` in a run's folder is of the weights that the run's training ended with.

    An evaluation of a model that no training left (`test` alone) is current.
    """
    if not evaluation.is_file():
        return False
    run = evaluation.parent.parent
    if not (run / "training.json").is_file() and any((run / name).exists() for name in ("checkpoints", "stage.json")):
        return False  # it is trained again
    return _agree(weights_after(run), read_json(evaluation).get("settings", {}).get("weights"))


def started_from(run: Path, parent: Path | None) -> bool:
    """Whether a stage, by the `start` in its `stage.json`, started from the weights that its parent's folder holds now.

    They differ if the parent was trained again, e.g. on another machine, whose rounding makes it another model. Stages of earlier
    versions recorded no start, and count as they are.
    """
    record = run / "stage.json"
    start = read_json(record).get("start") if record.is_file() else None
    return start is None or (parent is not None and start == weights_after(parent))


def unfinished(root: Path, stages: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Name -> state of those stages of an arm whose scores do not count today; an index lists them (`name`, `folder`, `state`).

    The index says how the last run that had the arm left it; a stage may have been removed or trained again since.
    """
    states = {s["name"]: s["state"] for s in stages if not is_current(root / s["folder"] / "test/evaluation.json")}
    for before, s in pairwise(stages):
        if not started_from(root / s["folder"], root / before["folder"]):
            states[s["name"]] = f"started from other weights than {before['name']} has now"
    return states


def weights_after(run: Path) -> Any:
    """The digest of the weights that training in a folder ended with; None: not recorded, or not ended."""
    return read_json(run / "training.json").get("weights") if (run / "training.json").is_file() else None


def _agree(one: Any, other: Any) -> bool:
    return None in (one, other) or one == other
