"""Bring the README's quickstart tables up to date: python -m docs.quickstart.update runs/quickstart/seed0 [runs/...]

Keeps the files behind the numbers here, and the curves of the first run.
"""

import re
import sys
from pathlib import Path
from shutil import copyfile

from recipes.text_tables import read_json, result_table

HERE = Path(__file__).parent
README = HERE.parents[1] / "README.md"
STAGES = ["pretrain", "midtrain", "grpo"]


def keep(run: Path) -> str:
    """Copy the sources of a run's table, and return the table."""
    for stage in STAGES:
        target = HERE / run.name / stage
        (target / "test").mkdir(parents=True, exist_ok=True)
        for name in ("environment.json", "training.json", "test/pass_at_k.json"):
            copyfile(run / stage / name, target / name)
    made = read_json(HERE / run.name / STAGES[0] / "environment.json")
    machine = f"{made['cpu']['name']} as {made['cpu']['capability']}, {made['threads']} threads"
    return f"Seed {run.name.removeprefix('seed')} ({machine}):\n\n```\n{result_table(HERE / run.name, STAGES)}\n```"


def main(runs: list[Path]) -> None:
    """Copy, then write the tables between the README's marks."""
    tables = "\n\n".join(keep(run) for run in runs)
    copyfile(runs[0] / "curves.png", HERE / "curves.png")
    text = README.read_text(encoding="utf-8")
    marked = re.compile(r"(?<=<!-- results -->\n\n).*?(?=\n\n<!-- /results -->)", re.DOTALL)
    README.write_text(marked.sub(lambda _: tables, text), encoding="utf-8")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
