"""Installed from a wheel that was built from an sdist, the project runs outside the repository under the one name `interplay`."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml
from finished_study import write_study
from minute_recipe import write_recipe

ROOT = Path(__file__).parent.parent
BUILD = "import setuptools.build_meta as backend; print(backend.build_sdist('dist'))"
PACKAGES = ("grammar", "datamodules", "lightning_modules", "callbacks", "recipes")
pytestmark = pytest.mark.long


def said(*command, **settings):
    ended = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **settings)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A virtual environment with the wheel; its dependencies are those of this process, read from where they are."""
    folder = tmp_path_factory.mktemp("wheel")
    skipped = shutil.ignore_patterns(".*", "runs", "build", "site", "*.egg-info", "__pycache__", "tests", "benchmarks", "docs")
    shutil.copytree(ROOT, folder / "source", ignore=skipped)
    archive = said(sys.executable, "-c", BUILD, cwd=folder / "source").splitlines()[-1]
    pip = (
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
    )
    said(*pip, folder, folder / "source" / "dist" / archive)
    said(sys.executable, "-m", "venv", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    said(python, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps", wheel)
    places = Path(said(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (places / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return places, python.parent


def test_a_wheel_adds_one_name_to_an_environment(environment):
    places, binaries = environment
    (record,) = places.glob("interplay-*.dist-info/RECORD")
    tops = {line.split("/")[0] for line in record.read_text().splitlines()} - {".."}
    assert tops == {"interplay", record.parent.name}
    source = places.parents[3] / "source"
    files = [
        path.relative_to(source) for folder in (*PACKAGES, "configs") for path in (source / folder).rglob("*") if path.is_file()
    ]
    assert len(files) > 300
    assert not [str(path) for path in files if path.suffix != ".pyc" and not (places / "interplay" / path).is_file()]
    for package in PACKAGES:
        tried = subprocess.run([binaries / "python", "-Ic", f"import {package}"], capture_output=True, text=True, check=False)
        assert f"No module named '{package}'" in tried.stderr


def test_the_namespace_and_the_class_paths_are_the_same_modules(environment, tmp_path):
    places, binaries = environment
    code = (
        "import interplay.grammar.reading.parse as long, grammar.reading.parse as short; assert long is short\n"
        "from interplay.lightning_modules import GRPOModule as a; from lightning_modules import GRPOModule as b; assert a is b\n"
        "import interplay.datamodules, interplay.callbacks, interplay.recipes.cli; print(interplay.grammar.__file__)"
    )
    assert said(binaries / "python", "-c", code, cwd=tmp_path).strip() == str(places / "interplay/grammar/__init__.py")


def test_a_package_of_another_project_by_one_of_our_names_is_told(environment, tmp_path):
    _, binaries = environment
    (tmp_path / "callbacks.py").write_text("mine = 1\n")
    told = subprocess.run(
        [binaries / "python", "-c", "import callbacks, interplay"], cwd=tmp_path, capture_output=True, text=True
    )
    assert "import interplay first" in told.stderr
    said(binaries / "python", "-c", "import interplay.callbacks; interplay.callbacks.TokenBudget", cwd=tmp_path)


def test_the_command_runs_recipes_and_configs_away_from_the_repository(environment, tmp_path):
    _, binaries = environment
    interplay = binaries / "interplay"
    assert said(interplay, "--version", cwd=tmp_path).startswith("interplay 0.")
    assert "nothing wrong" in said(interplay, "check", "quickstart", cwd=tmp_path)
    assert "GRPOModule" in said(interplay, "fit", "--config", "quickstart_grpo", "--print_config", cwd=tmp_path)
    rows = tmp_path / "rows.jsonl"  # workers are spawned
    said(interplay, "generate", "--ops=2-4", "--contexts=garden", "--count=8", "--workers=2", "--out", rows, cwd=tmp_path)
    assert len(rows.read_text().splitlines()) == 8
    recipe = write_recipe(tmp_path / "recipe")
    grpo = yaml.safe_load((recipe.parent / "grpo.yaml").read_text())
    grpo["model"]["init_args"]["reward"] = "lightning_modules.rewards.OutcomeReward"
    grpo["trainer"].pop("precision")
    (recipe.parent / "grpo.yaml").write_text(yaml.safe_dump(grpo))
    assert "FAILED" not in said(interplay, "run", recipe, "--only=3-seed0", cwd=tmp_path)
    assert len(list(tmp_path.glob("runs/minute/stages/*/test/pass_at_k.json"))) == 2
    assert said(interplay, "report", "runs/minute", cwd=tmp_path)
    assert (tmp_path / "runs/minute/report.html").is_file()


def test_a_report_has_the_verdicts_that_it_has_in_the_repository(environment, tmp_path):
    _, binaries = environment
    pages = []
    for place, command in {"wheel": [binaries / "interplay"], "repository": [sys.executable, ROOT / "main.py"]}.items():
        write_study(tmp_path / place / "study")
        said(*command, "report", "study", cwd=tmp_path / place)
        pages.append((tmp_path / place / "study/report.html").read_text().partition("Written ")[0])
    assert "edge - base: edge pass@16 is +0.21" in pages[0]
    assert "not resolvable" in pages[0]  # six of eight seeds
    assert pages[0] == pages[1]
