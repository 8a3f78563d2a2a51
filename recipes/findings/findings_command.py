"""Compare the results of arms with claims: python -m recipes.findings.findings_command docs/findings/study

configs/claims.yaml says, for each recipe, what the paper claims and which values of which arms show it; it was written before
the runs. From the runs alone, or what `kept_study` keeps of them, this writes, in docs/findings, `effects.json` (every seed's
value, the files behind it, p-values, seconds by stage), pictures and `README.md`; the report goes into the folder of the runs.
An effect is the difference of two arms with the same seed, or, without `against`, the value of one arm (with `before`: before
its last stage; with `at_least`: the share of seeds that reach it); or, over all arms, the rank correlation of what is
measured before RL with the gain (`correlation`), or the slope of the gain over the logarithm of FLOPs (`slope`). Verdicts:
`judging.py`. In a `reading`, `{WHAT}` is the value of that effect; the reading is left out if the table is not the one,
`reading_of`, that it was written for. So is the `answer`, a sentence, which stands in the project's README too.
"""

import json
import re
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import yaml

from callbacks.files import write_text
from recipes.findings.findings_page import answers, draw_forest, key_of, page
from recipes.findings.gate_bounds import gate_values, missed
from recipes.named_files import CONFIGS, HOME
from recipes.planning.scale import load_scale
from recipes.report.effects import cost, environment, measure
from recipes.report.judging import families, judge, primaries
from recipes.report.report_command import CLAIMS, report
from recipes.report.sourced_numbers import Files
from recipes.report.studies import find_studies

HERE = HOME / "docs/findings"
RECIPES = CONFIGS / "recipe"
MARKED = re.compile(r"(?<=<!-- findings -->\n\n).*?(?=\n\n<!-- /findings -->)", re.DOTALL)


def measure_all(root: Path, claims: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What a folder of runs says of each claim: effects with verdicts, bases, environment, seconds.

    Raises:
        ValueError: the folder has none of the findings' recipes.
    """
    files, bounds = Files(root), claims.get("gate", ())
    bands = load_scale(claims["scale"], RECIPES).kind("pretrain")[1]["data.init_args.held_out.bands"] if bounds else {}
    measured: dict[str, dict[str, Any]] = {}
    sizes: dict[str, int | None] = {}  # of bases; the gate speaks of those of the usual size
    for study in find_studies(root):
        name, _, scale = study.index.removesuffix(".json").partition(".")
        if name in claims["findings"] and scale == claims["scale"] and study.groups:
            effects = measure(study, files, claims["findings"][name])
            bases = {folder: stage for folder, stage in study.stages().items() if files.json(stage.path("competence.json"))}
            sizes |= {folder: (files.json(stage.path("compute.json")) or {}).get("parameters") for folder, stage in bases.items()}
            gate = {folder: gate_values(files, stage, bounds, bands) for folder, stage in bases.items()}
            measured[name] = {
                "competent": {folder: files.json(stage.path("competence.json"))["reached"] for folder, stage in bases.items()},
                "outside": {folder: missed(values, bounds) for folder, values in gate.items() if None not in values.values()},
                "environment": environment(study, files),
                "seconds": cost(study, files),
                "effects": effects,
            }
    if not measured:
        raise ValueError(
            f"{root} holds no complete arm of {', '.join(claims['findings'])} at scale {claims['scale']}; run their "
            "recipes first."
        )
    usual = max(sizes.values(), key=[*sizes.values()].count, default=None)
    for found in measured.values():
        found["outside"] = {folder: bounds for folder, bounds in found["outside"].items() if sizes[folder] == usual}
    for family in families(claims["findings"]):
        effects = [effect for name in family if name in measured for effect in measured[name]["effects"]]
        judge(effects, primaries(claims["findings"][name] for name in family))
    return measured


def main(argv: list[str] | None = None, here: Path = HERE, claims_file: Path = CLAIMS) -> None:
    """Measure, then write.

    Raises:
        ValueError: the folder has none of the findings' recipes.
    """
    parser = ArgumentParser(prog="python -m recipes.findings.findings_command", description=__doc__)
    parser.add_argument("folder", type=Path, help="of `run --out`; arms that it lacks are `not measured`")
    root = parser.parse_args(argv).folder
    claims = yaml.safe_load(claims_file.read_text(encoding="utf-8"))
    measured = measure_all(root, claims)
    for name, found in measured.items():
        claim = claims["findings"][name]
        if claim.get("reading_of") != (key := key_of(claim, found["effects"])):
            print(f"claims.yaml: the reading of {name} was written for other numbers; if it fits, reading_of: '{key}'")
    text = page(claims, measured)
    for name, found in measured.items():
        if differences := [effect for effect in found["effects"] if "verdict" in effect]:
            draw_forest(differences, here / f"figures/{name}-effects.png")
    write_text(here / "effects.json", json.dumps(measured, separators=(",", ":")) + "\n")
    write_text(here / "README.md", text)
    if here == HERE:
        said = "\n".join(answers(claims, measured))
        write_text(HOME / "README.md", MARKED.sub(lambda _: said, (HOME / "README.md").read_text(encoding="utf-8")))
    print(f"findings: {here / 'README.md'}\nreport: {report(root, root)}")


if __name__ == "__main__":
    main()
