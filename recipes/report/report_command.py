"""`python main.py report DIR`: from the files of runs in DIR, `report.html` (one file, opens offline) and `figures/*.png`."""

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from recipes.named_files import CONFIGS
from recipes.report.chart import Chart, draw_png
from recipes.report.figures import GRADED, MAKERS, curves, pass_at_k
from recipes.report.judging import families, primaries
from recipes.report.page import Section, write_page
from recipes.report.samples import sample_browser
from recipes.report.sourced_numbers import Files
from recipes.report.studies import Group, Run, StageFiles, Study, chain_of, find_studies
from recipes.report.study_values import ACCEPTED, GRADER, Values
from recipes.report.tables import tables
from recipes.report.verdicts import Verdict, judge_study

CLAIMS = CONFIGS / "claims.yaml"


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = ArgumentParser(prog="interplay report", description=__doc__)
    parser.add_argument("folder", type=Path, help="of `run --out`, or one that holds runs of `fit` and `test`")
    parser.add_argument("--out", type=Path, help="where to write (default: into the folder itself)")
    parser.add_argument(
        "--grader", type=lambda text: tuple(text.split(",")), default=(),
        help=f"of figures, one or more of {','.join(ACCEPTED)} (default: those of the scale, else {GRADER})",
    )  # fmt: skip
    args = parser.parse_args(argv)
    if unknown := [name for name in args.grader if name not in ACCEPTED]:
        raise ValueError(f"report: --grader {unknown[0]!r} is unknown; choose from {', '.join(ACCEPTED)}.")
    if not args.folder.is_dir():
        raise ValueError(f"report: {args.folder} is not a folder; give that of `run --out`.")
    path = report(args.folder, args.out or args.folder, args.grader)
    print(f"{path}\n{path.parent / 'figures'}")
    return 0


def report(root: Path, out: Path, graders: Sequence[str] = ()) -> Path:
    """Write the report of a folder, its figures by these graders or those of each study; return its page."""
    files, sections, claims = Files(root), [], read_claims()
    studies = find_studies(root)
    if graders and not any(_held(study, files, graders) for study in studies):
        raise ValueError(f"report: --grader {','.join(graders)}: no evaluation in {root} has it; choose another.")
    for study in studies:
        study = replace(study, graders=_held(study, files, graders or study.graders) or Study.graders)
        values = Values(study, files)
        if not study.groups:
            sections.append(Section(study, study.name, Verdict("No arm is complete.", ()), (), (), (), ()))
            continue
        charts = charts_of(values)
        for chart in charts:
            draw_png(chart, out / "figures" / f"{_file_name(study)}-{chart.key}.png")
        stages = tuple(study.stages().values())
        claim = claims.get(study.index.removesuffix(".json"), {})
        sections.append(
            Section(
                study, claim.get("title", study.name), judge_study(values, claim), tuple(charts), tuple(tables(values)),
                tuple(sample_browser(values)), stages,
            )
        )  # fmt: skip
    order = list(claims)  # of the paper; other studies follow
    names = {id(section): section.study.index.removesuffix(".json") for section in sections}
    sections.sort(key=lambda section: order.index(names[id(section)]) if names[id(section)] in order else len(order))
    return write_page(sections, files, out / "report.html")


def read_claims() -> dict[str, dict[str, Any]]:
    """RECIPE.SCALE -> what the paper claims and what shows it."""
    claims = yaml.safe_load(CLAIMS.read_text(encoding="utf-8"))
    findings = claims["findings"]
    planned = {name: primaries(findings[of] for of in family) for family in families(findings) for name in family}
    return {f"{name}.{claims['scale']}": claim | {"planned": planned[name]} for name, claim in findings.items()}


def charts_of(values: Values) -> list[Chart]:
    """The charts of a study, starting with those that its recipe names; those of pass@k once for each of the study's graders."""
    wanted, charts = values.study.figures, []

    def place(like: Sequence[int]) -> int:
        return min((wanted.index(number) for number in like if number in wanted), default=len(wanted))

    first, *further = values.study.graders
    for make, like in sorted(MAKERS.items(), key=lambda item: place(item[1])):
        named = make is pass_at_k or place(like) < len(wanted)
        for grader in (first, *further) if make in GRADED else (first,):
            if (found := make(replace(values, grader=grader))) is not None:
                shape = f" (the shape of Figure {', '.join(map(str, like))})" if like else ""
                by, key = ("", found.key) if not further or make not in GRADED else (f", by {grader}", f"{found.key}-{grader}")
                charts.append(replace(found, key=key, title=found.title + by + shape, first=named))
    return charts


def draw_curves(out: Path, stages: Sequence[str]) -> Path:
    """Draw the stages of a recipe without arms to `curves.png`; return its path."""
    folders = [out / name for name in stages]
    chains = {folder.name: [StageFiles(of.name, of.name) for of in chain_of(folder, folders)] for folder in folders}
    groups = tuple(Group(name, {}, (Run(0, tuple(chain)),)) for name, chain in chains.items())
    draw_png(curves(Values(Study(out.name, "", groups), Files(out))), out / "curves.png")
    return out / "curves.png"


def _held(study: Study, files: Files, graders: Sequence[str]) -> tuple[str, ...]:
    """Those graders by which a study was judged."""
    return tuple(grader for grader in graders if Values(study, files, grader).ks())


def _file_name(study: Study) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in study.name).strip("_")
