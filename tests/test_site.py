"""The site and the README: their blocks run as they stand, in a folder outside the repository."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import callbacks
import lightning_modules

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```', re.MULTILINE | re.DOTALL)
PAGES = ("README.md", "docs/install.md", "docs/tutorial.md", "docs/howto.md")
MKDOCS = shutil.which("mkdocs", path=str(Path(sys.executable).parent))


def sections(page: str) -> dict[str, str]:
    """Title -> text, of a page's sections; what stands before them is called by the page."""
    first, *others = re.split(r"^## ", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {page: first} | {text.partition("\n")[0]: text for text in others}


def blocks(page: str, title: str) -> list[tuple[str, str, str]]:
    """Language, file and text of each block of a section."""
    return BLOCK.findall(sections(page)[title])


def having(language: str, pages: tuple[str, ...]) -> list[tuple[str, str]]:
    return [
        (page, title) for page in pages for title in sections(page) if any(kind == language for kind, _, _ in blocks(page, title))
    ]


@pytest.mark.parametrize(("page", "title"), having("python", PAGES))
def test_python_of_a_page_runs(page, title, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for kind, file, text in blocks(page, title):
        if file:
            (tmp_path / file).write_text(text)
        if kind == "python":
            exec(compile(text, f"{page}: {title}", "exec"), names)
    assert len(names) > 2


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the weights that how-tos start from, and a PATH on which `interplay` is this repository's."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "bin").mkdir()
    for name, command in {"interplay": f"{sys.executable} {ROOT / 'main.py'}", "python": sys.executable}.items():
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    carry_out(folder, "docs/howto.md", "docs/howto.md")
    return folder


def carry_out(folder: Path, page: str, title: str) -> str:
    """Write the files of a section and run its commands; return what they print."""
    path = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    said = ""
    for kind, file, text in blocks(page, title):
        if file:
            (folder / file).write_text(text)
        elif kind == "bash":
            ended = subprocess.run(
                ["bash", "-euc", text], cwd=folder, env=os.environ | path, capture_output=True, text=True, check=False
            )
            assert ended.returncode == 0, ended.stdout + ended.stderr
            said += ended.stdout
    return said


@pytest.mark.long
@pytest.mark.parametrize(
    ("page", "title"), [found for found in having("bash", PAGES[1:]) if found[0] != found[1] or "how" not in found[0]]
)
def test_commands_of_a_page_run(place, page, title):
    said = carry_out(place, page, title)
    wanted = {"A recipe": "2 arms", "The verifier elsewhere": "True 1.0", "Install": "nothing wrong"}
    assert wanted.get(title, "") in said
    for run, tag in {"brief": "train/reward/length", "openings": "train/openings", "first_error": "train/credit"}.items():
        if (table := place / "runs" / run / "metrics.csv").is_file():
            assert tag in table.read_text().splitlines()[0]


@pytest.mark.long
@pytest.mark.skipif(MKDOCS is None, reason="mkdocs is not installed; make docs installs it")
def test_the_site_builds_without_a_warning(tmp_path):
    built = subprocess.run(
        [MKDOCS, "build", "--strict", "--site-dir", tmp_path / "site"], cwd=ROOT, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stdout + built.stderr
    language = (tmp_path / "site/language/index.html").read_text()
    assert language.count('<svg class="railroad-diagram"') > 10
    keys = (tmp_path / "site/config/index.html").read_text()
    named = ("init_from", "prompts_per_rollout", "max_new_tokens", "every_n_train_steps", "outside")
    assert not [key for key in named if f"<code>{key}</code>" not in keys]


@pytest.mark.parametrize("package", [callbacks, lightning_modules], ids=lambda package: package.__name__)
def test_the_reference_has_every_class_that_a_package_exports(package):
    page = (ROOT / f"docs/api/{package.__name__}.md").read_text(encoding="utf-8").split()
    kinds = [name for name in package.__all__ if isinstance(getattr(package, name), type)]
    assert kinds and not [name for name in kinds if f"{package.__name__}.{name}" not in page]


def test_the_readme_is_short_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert len(links) > 15
    assert not [link for link in links if not (ROOT / link).exists()]


def test_versions_agree():
    from interplay import __version__

    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.long
def test_the_notebook_runs(tmp_path):
    """Its cells one after the other, with fewer updates and problems."""
    cells = json.loads((ROOT / "docs/notebooks/three_stages.ipynb").read_text(encoding="utf-8"))["cells"]
    code = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    short = code.replace("UPDATES, PROBLEMS = 500, 48, 64", "UPDATES, PROBLEMS = 3, 2, 4")
    assert short != code
    path = {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    ended = subprocess.run(
        [sys.executable, "-c", short], cwd=tmp_path, env=os.environ | path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    page = (tmp_path / "runs/notebook/report.html").read_text()
    assert page.count("<article>") == 1
    assert "grpo - pretrain: " in page
