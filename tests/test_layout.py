"""The tree is what docs/architecture.md says: rooms, sizes, names; arrows between rooms are held by import-linter."""

import ast
import importlib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("grammar", "datamodules", "lightning_modules", "callbacks", "recipes")
PRODUCT = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in PRODUCT}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def functions():
    return [(path, node) for path, tree in TREES.items() for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]


@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_ours(package):
    assert Path(importlib.import_module(package).__file__).is_relative_to(ROOT)


def test_no_file_is_longer_than_450_lines():
    files = [*PRODUCT, *ROOT.glob("*.py"), *ROOT.glob("benchmarks/*.py"), *ROOT.glob("tests/**/*.py")]
    assert len(files) > 100
    assert not {path.name: n for path in files if (n := len(path.read_text(encoding="utf-8").splitlines())) > 450}


def test_no_function_is_longer_than_50_lines():
    assert not {f"{path.name}:{f.name}": n for path, f in functions() if (n := f.end_lineno - f.lineno + 1) > 50}


def test_no_constructor_has_more_than_eight_parameters():
    constructors = [(path, f) for path, f in functions() if f.name == "__init__"]
    counts = {f"{path.name}:{f.lineno}": len(f.args.args) - 1 + len(f.args.kwonlyargs) for path, f in constructors}
    assert max(counts.values()) > 4
    assert not {where: count for where, count in counts.items() if count > 8}


def test_a_name_of_a_file_is_given_once():
    names = Counter(path.stem for path in PRODUCT if path.stem != "__init__")
    assert not [name for name, times in names.items() if times > 1]


def test_no_module_is_an_attic():
    assert not {path.stem for path in PRODUCT} & {"utils", "common", "helpers", "misc"}


def test_no_import_dodges_a_circle():
    inner = [node for _, f in functions() for node in ast.walk(f) if isinstance(node, ast.ImportFrom)]
    assert not [node.module for node in inner if node.module.split(".")[0] in PACKAGES]
    guards = [node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.Name)]
    assert "TYPE_CHECKING" not in {node.id for node in guards}


def test_every_pin_has_the_hashes_of_its_files():
    lines = (ROOT / "hashes.txt").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    hashes = {line.split()[0]: line.count("--hash=sha256:") for line in lines if line.strip()}
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    assert {pin.lower().replace("_", "-") for pin in pins if not pin.startswith("torch==")} == {*hashes}
    assert min(hashes.values()) >= 1
