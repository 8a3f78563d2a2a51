"""The suite's tests of attention, sampling and training under several versions of PyTorch and transformers: `make versions`.

Each pair gets an environment of its own under `.venv-versions/`; the other packages are those of constraints.txt, where a pair
allows them. Results are kept pair by pair, so that a run that is interrupted goes on (`--again`: anew), and make the table of
docs/scaling.md.

python -m benchmarks.versions [--pair 2.11.0,5.17.0] [--again] [--discard]
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path
from time import monotonic
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
RESULTS, PAGE, PLACE = ROOT / "benchmarks/results/versions.json", ROOT / "docs/scaling.md", ROOT / ".venv-versions"
MARKED = re.compile(r"(?<=<!-- versions -->\n\n).*?(?=\n\n<!-- /versions -->)", re.DOTALL)
TORCH = ("2.11.0", "2.12.1", "2.13.0", "2.14.1", "2.15.0")  # from the lowest that pyproject.toml allows to the newest seen
TRANSFORMERS = ("5.17.0", "5.18.0", "5.19.0", "5.20.2", "5.21.1", "5.22.2", "5.23.0", "5.24.0")
USUAL = ("2.13.0", "5.23.0")  # those of constraints.txt
# what needs other versions with another PyTorch or transformers
FREE = re.compile(r"(torch|transformers|huggingface[-_]hub|tokenizers|nvidia.*|triton|setuptools|sympy|networkx|numpy)==", re.I)
TESTS = (
    "test_attention", "test_document_forward", "test_engine", "test_graphed", "test_sampling", "test_group_forward",
    "test_pretrain", "test_packed_rows", "test_policy",
)  # fmt: skip


def pairs() -> list[tuple[str, str]]:
    """Oldest and newest of each, then each PyTorch with the usual transformers and each transformers with the usual PyTorch."""
    corners = product((TORCH[0], TORCH[-1]), (TRANSFORMERS[0], TRANSFORMERS[-1]))
    crossed = [*((torch, USUAL[1]) for torch in TORCH), *((USUAL[0], transformers) for transformers in TRANSFORMERS)]
    return list(dict.fromkeys([*corners, *crossed]))


def environment(pair: tuple[str, str]) -> tuple[Path, str]:
    """Make the environment of a pair; its folder, and the last lines of pip if it failed."""
    folder = PLACE / "torch{}-transformers{}".format(*pair)
    if (folder / ".ready").exists():
        return folder, ""
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    bounds = folder / "constraints.txt"
    bounds.write_text("\n".join([line for line in lines if not FREE.match(line)]))
    wanted = ["--constraint", str(bounds), f"torch=={pair[0]}", f"transformers=={pair[1]}", "--editable", ".[dev]"]
    pip = subprocess.run([folder / "bin/python", "-m", "pip", "install", "-q", *wanted], cwd=ROOT, capture_output=True, text=True)
    (folder / ".ready").write_text("") if pip.returncode == 0 else None
    return folder, "" if pip.returncode == 0 else pip.stderr[-500:]


def tested(folder: Path) -> dict[str, Any]:
    """Run the tests; counts, names of those that failed, and the versions that they say they ran with."""
    report, begun, python = folder / "report.xml", monotonic(), str(folder / "bin/python")
    report.unlink(missing_ok=True)
    files = [f"tests/{name}.py" for name in TESTS]
    done = subprocess.run(
        [python, "-m", "pytest", "-q", f"--junitxml={report}", *files], cwd=ROOT, capture_output=True, text=True
    )
    if not report.exists():
        return {"error": (done.stdout + done.stderr)[-500:]}
    suite = next(ElementTree.parse(report).iter("testsuite"))
    counts = {key: int(suite.get(key)) for key in ("tests", "failures", "errors", "skipped")}
    failed = [
        f"{case.get('classname')}.{case.get('name')}" for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]  # fmt: skip
    asks = "import sys, torch, transformers; print(sys.version.split()[0], torch.__version__, transformers.__version__)"
    versions = subprocess.run([python, "-c", asks], capture_output=True, text=True, check=True).stdout.split()
    return {"versions": versions, **counts, "failed": failed, "seconds": round(monotonic() - begun)}


def table(found: dict[str, dict[str, Any]]) -> str:
    """What the tests said of each pair, in Markdown, the newest first."""
    lines = [f"Run so far, on a CPU: {len(found)} of {len(pairs())} pairs.", "", "| pair | tests | failed |", "|---|---|---|"]
    for name, one in reversed(sorted(found.items())):
        failed = ", ".join(case.rpartition(".")[2] for case in one.get("failed", ()))
        count = one.get("failures", 0) + one.get("errors", 0)
        said = "no environment" if "error" in one else f"{count}: {failed}" if count else "0"
        lines.append(f"| {name} | {one.get('tests', '-')} | {said} |")
    return "\n".join(lines)


def main() -> int:
    """Test the pairs; exit status 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", action="append", metavar="TORCH,TRANSFORMERS", help="only this pair; may be repeated")
    parser.add_argument("--again", action="store_true", help="test pairs again that have a result")
    parser.add_argument("--discard", action="store_true", help="delete each environment after its tests")
    args = parser.parse_args()
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    chosen = [tuple(pair.split(",")) for pair in args.pair] if args.pair else pairs()
    for pair in chosen:
        name = "torch {}, transformers {}".format(*pair)
        if args.again or name not in found:
            folder, fault = environment(pair)
            found[name] = {"error": fault} if fault else tested(folder)
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
            said = table(found)
            PAGE.write_text(MARKED.sub(lambda _, said=said: said, PAGE.read_text(encoding="utf-8")), encoding="utf-8")
            if args.discard:
                shutil.rmtree(folder)
        one = found[name]
        said = one.get("error") or f"{one['tests']} tests, {one['failures'] + one['errors']} failed, {one['skipped']} skipped"
        print(f"{name}: {said}", *one.get("failed", []), sep="\n    ", flush=True)
    return int(any("error" in one or one["failures"] or one["errors"] for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
