"""The tree is what design says: packages are ours, files and functions stay within bounds."""

import importlib
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("grammar", "datamodules", "lightning_modules", "callbacks", "recipes")


@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_ours(package):
    assert Path(importlib.import_module(package).__file__).is_relative_to(ROOT)


def test_no_file_is_longer_than_450_lines():
    tracked = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    long = {f: n for f in tracked if (ROOT / f).exists() and (n := len((ROOT / f).read_text().splitlines())) > 450}
    assert tracked
    assert not long


def test_no_module_is_an_attic():
    names = {path.stem for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert not names & {"utils", "common", "helpers", "misc"}
