"""How far one must walk to follow a thing through the code: python -m benchmarks.architecture

Files and functions of ours that one GRPO update, one packed batch, one evaluation and one stage of a recipe enter, counted by a
profiler while each runs with a minute model; arrows between rooms (a subfolder of a package, or a file at its top), by imports;
lines of product code (tests and benchmarks left out); the longest chain of our classes. Copied into a checkout
of another commit, it counts that one.
"""

import ast
import json
import sys
import threading
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from lightning import Trainer
from lightning.pytorch.callbacks import Callback

import main as front_door

ROOT = Path(__file__).parent.parent
PACKAGES = ("grammar", "datamodules", "lightning_modules", "callbacks", "recipes")
DATA = ("grammar", "datamodules")  # making prompts and judging
TINY = {
    "model_type": "qwen2", "vocab_size": 576, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip
Passed = set[tuple[str, str, int]]  # file, function, line
WALKS: dict[str, Passed] = {}


@contextmanager
def walk(name: str) -> Iterator[None]:
    """Note every function of ours that is entered."""
    found: Passed = WALKS.setdefault(name, set())

    def note(frame: Any, event: str, argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(ROOT)):
            path = Path(code.co_filename).relative_to(ROOT)
            if path.parts[0] in PACKAGES and not code.co_name.startswith("<"):  # comprehensions and lambdas are their function's
                found.add((str(path), code.co_qualname, code.co_firstlineno))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


class Walker(Callback):
    """Walks through training or validation; named by class_path in a config. `what`: "training", "batch" or "validation"."""

    def __init__(self, name: str, what: str) -> None:
        """Wait for what is to be walked through."""
        self.name, self.what, self.walk = name, what, None

    def _begin(self, *args: object) -> None:
        self.walk = walk(self.name)
        self.walk.__enter__()

    def _end(self, *args: object) -> None:
        if self.walk is not None:
            self.walk.__exit__(None, None, None)
            self.walk = None

    def on_train_start(self, trainer: Trainer, *args: object) -> None:
        """Begin, or walk through one batch."""
        if self.what == "training":
            self._begin()
        if self.what == "batch":
            with walk(self.name):
                next(iter(trainer.datamodule.train_dataloader()))

    def on_validation_start(self, *args: object) -> None:
        """Begin."""
        if self.what == "validation":
            self._begin()

    on_train_end = on_validation_end = _end


def config(stage: str, folder: Path, name: str, what: str) -> Path:
    """The quickstart's config of a stage with a minute model and one update."""
    source = ROOT / f"configs/experiment/quickstart_{stage}.yaml"
    found = yaml.safe_load(source.read_text())
    for part in ("model", "data"):
        found[part] = yaml.safe_load((source.parent / found[part]).read_text())
    walker = {"class_path": "benchmarks.architecture.Walker", "init_args": {"name": name, "what": what}}
    found["trainer"] |= {
        "max_steps": 1, "limit_val_batches": 1, "val_check_interval": 100, "enable_progress_bar": False, "log_every_n_steps": 1,
        "callbacks": [walker], "default_root_dir": str(folder / name), "check_val_every_n_epoch": None,
    }  # fmt: skip
    model, data = found["model"]["init_args"], found["data"]["init_args"]
    model["evaluation"] = {"samples": 2, "sampling": {"max_new_tokens": 6}}
    data["held_out"] |= {"problems": 2, "validation_problems": 2, "bands": {"ID": "2"}}
    if stage == "pretrain":
        model["architecture"], data["batch_rows"] = TINY, 2
    else:
        model["init_from"], data["prompts_per_rollout"] = str(folder / "packed batch/huggingface"), 2
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(found))
    return folder / f"{name}.yaml"


def walk_all(folder: Path) -> None:
    """Run the four."""
    with redirect_stdout(StringIO()):
        front_door.main(["fit", "--config", str(config("pretrain", folder, "packed batch", "batch"))])
        front_door.main(["fit", "--config", str(config("grpo", folder, "GRPO update", "training"))])
        front_door.main(["validate", "--config", str(config("grpo", folder, "evaluation", "validation"))])
        plain = config("pretrain", folder, "recipe stage", "nothing")
        (folder / "recipe.yaml").write_text(yaml.safe_dump({"about": "One stage.\n", "stages": {"one": {"config": plain.name}}}))
        with walk("recipe stage"):
            front_door.main(["run", str(folder / "recipe.yaml"), "--out", str(folder / "out")])


def parsed(package: str) -> dict[Path, ast.Module]:
    """The files of a package."""
    return {path.relative_to(ROOT): ast.parse(path.read_text()) for path in sorted((ROOT / package).rglob("*.py"))}


def room(path: Path) -> str:
    """Of a file: its subfolder, or the file itself where it lies at the top of its package."""
    return "/".join(path.parts[:2])


def arrows(package: str) -> set[tuple[str, str]]:
    """Pairs of rooms of a package, the first importing from the second; what `__init__` files hand on does not count."""
    found = set()
    for path, tree in parsed(package).items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and path.name != "__init__.py":
                target = Path(*node.module.split("."))
                inside = target.parts[0] == package and len(target.parts) > 1
                target = target if (ROOT / target).is_dir() else target.with_suffix(".py")
                if inside and room(target) != room(path):
                    found.add((room(path), room(target)))
    return found


def longest_chain() -> list[str]:
    """The longest chain of our classes, each the base of the one before."""
    bases = {
        node.name: [base.id for base in node.bases if isinstance(base, ast.Name)]
        for package in PACKAGES for tree in parsed(package).values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    }  # fmt: skip

    def chain(name: str) -> list[str]:
        return [name, *max((chain(base) for base in bases[name] if base in bases), key=len, default=[])]

    return max(map(chain, bases), key=len)


def lines() -> int:
    """Of all Python files but tests and benchmarks."""
    kept = [path for path in ROOT.rglob("*.py") if not {"tests", "benchmarks", ".venv"} & set(path.relative_to(ROOT).parts)]
    return sum(len(path.read_text().splitlines()) for path in kept)


def measure() -> dict[str, Any]:
    """Everything as plain numbers."""
    with TemporaryDirectory() as folder:
        walk_all(Path(folder))
    walks = {
        name: {
            "files": len({path for path, _, _ in passed}), "functions": len(passed),
            "files without data and judging": len({path for path, _, _ in passed if Path(path).parts[0] not in DATA}),
            "functions without data and judging": len([1 for path, _, _ in passed if Path(path).parts[0] not in DATA]),
        }
        for name, passed in WALKS.items()
    }  # fmt: skip
    return {
        "walks": walks, "arrows": {package: len(arrows(package)) for package in PACKAGES}, "lines": lines(),
        "longest chain": longest_chain(),
    }  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Measure, print, keep."""
    parser = ArgumentParser(prog="python -m benchmarks.architecture", description=__doc__)
    parser.add_argument("--out", type=Path, help="JSON file that gets the numbers, beside those of other commits")
    parser.add_argument("--of", default="now", help="name of the numbers in that file (default: %(default)s)")
    args = parser.parse_args(argv)
    found = measure()
    for name, counts in found["walks"].items():
        print(f"{name:14} {counts['files']:4} files {counts['functions']:5} functions")
    print(f"arrows {found['arrows']}\nlines {found['lines']}\nlongest chain {' < '.join(found['longest chain'])}")
    if args.out:
        kept = json.loads(args.out.read_text()) if args.out.is_file() else {}
        args.out.write_text(json.dumps(kept | {args.of: found}, indent=1) + "\n")


if __name__ == "__main__":
    from benchmarks.architecture import main as run  # one module, not two: the callback is found by its class path

    run()
