"""The README of an exported model: what it was trained on, how to prompt it, how to judge what it writes, what it scored."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Template

from callbacks.files import read_json
from callbacks.text_tables import rounded

TEMPLATE = Path(__file__).with_suffix(".md")
GRADERS = ("answer", "executable")


def model_card(folder: Path, run: Path) -> str:
    """The card of a Hugging Face folder, from its files and those of its run, as far as they exist.

    Args:
        folder: with config.json and interplay.json.
        run: the run's folder.
    """
    record = read_json(folder / "interplay.json")
    cost, mixture = (read_json(run / name) if (run / name).is_file() else {} for name in ("training.json", "mixture.json"))
    found = {path.parent.name: read_json(path) for path in sorted(run.glob("*/evaluation.json"))}
    return Template(TEMPLATE.read_text(encoding="utf-8"), keep_trailing_newline=True).render(
        name=run.resolve().name, folder=folder.name, architecture=read_json(folder / "config.json")["model_type"], cost=cost,
        cells=mixture.get("cells"), evaluations=[_scores(split, one) for split, one in found.items() if _of(record, one)],
        **record,
    )  # fmt: skip


def _of(record: Mapping[str, Any], evaluation: Mapping[str, Any]) -> bool:
    """Whether these very weights were evaluated."""
    return evaluation["settings"]["weights"] == record["weights"]


def _scores(split: str, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    settings = evaluation["settings"]["evaluation"]
    rows = []
    for band, grades in evaluation["grades"]["band"].items():
        if not grades["problems"]:
            continue
        passed = {grader: grades[grader]["pass@1"] for grader in GRADERS}
        cells = {
            grader: f"{rounded(one['mean'])} [{rounded(one['low'])}, {rounded(one['high'])}]" for grader, one in passed.items()
        }
        rows.append({"band": band, "problems": grades["problems"], **cells})
    return {"split": split, "samples": settings["samples"], "temperature": settings["sampling"]["temperature"], "rows": rows}
