"""Update the tables of the quickstart, those of all seeds in docs/quickstart.md and the first in the README.

    python -m recipes.findings.quickstart_tables runs/quickstart/seed0 [runs/...]

Copies the files behind the numbers, and the curves of the first run, to docs/quickstart.
"""

import re
import sys
from pathlib import Path
from shutil import copyfile

from callbacks.files import read_json, write_text
from recipes.named_files import HOME
from recipes.running.result_tables import result_table

KEPT = HOME / "docs/quickstart"
MARKED = re.compile(r"(?<=<!-- results -->\n\n).*?(?=\n\n<!-- /results -->)", re.DOTALL)
STAGES = ["pretrain", "midtrain", "grpo"]


def keep(run: Path) -> str:
    """Copy the sources of a run's table, and return the table."""
    for stage in STAGES:
        target = KEPT / run.name / stage
        (target / "test").mkdir(parents=True, exist_ok=True)
        for name in ("environment.json", "training.json", "test/pass_at_k.json"):
            copyfile(run / stage / name, target / name)
    made = read_json(KEPT / run.name / STAGES[0] / "environment.json")
    machine = f"{made['cpu']['name']} as {made['cpu']['capability']}, {made['threads']} threads"
    return f"Seed {run.name.removeprefix('seed')} ({machine}):\n\n```\n{result_table(KEPT / run.name, STAGES)}\n```"


def main(runs: list[Path]) -> None:
    """Copy, then write the tables between the marks of the two pages."""
    tables = [keep(run) for run in runs]
    copyfile(runs[0] / "curves.png", KEPT / "curves.png")
    for page, shown in ((HOME / "README.md", tables[:1]), (HOME / "docs/quickstart.md", tables)):
        write_text(page, MARKED.sub(lambda _, shown=shown: "\n\n".join(shown), page.read_text(encoding="utf-8")))  # type: ignore[misc]


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
