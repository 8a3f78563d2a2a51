"""Compare the results of arms at scale `tiny` with the paper's claims: python -m recipes.findings.findings_command runs/study

configs/claims.yaml says, for each recipe, what the paper claims and which values of which arms show it. From the runs alone
this writes, in docs/findings, `effects.json` (every seed's value, the files behind it, seconds by stage), pictures and
`README.md`; the report goes into the folder of the runs. An effect is the difference of two arms with the same seed, or,
without `against`, the value of one arm (with `before`: before its last stage); its interval is Student's t over seeds.
`expected` of a difference is `above` or `below` (zero), `same`, or `open`, if nothing is claimed. `planned` are the seeds
chosen before any result was seen; if there are more, a verdict that they changed has that of the planned ones beside it. In a
`reading`, `{WHAT}` is the value of that effect; the reading is left out if the table is not the one, `reading_of`, that it was
written for.
"""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import yaml

from callbacks.files import write_json, write_text
from recipes.findings.findings_page import SCALE, draw_forest, key_of, page
from recipes.report.effects import cost, environment, measure
from recipes.report.report_command import CLAIMS, report
from recipes.report.sourced_numbers import Files
from recipes.report.studies import find_studies

HERE = Path(__file__).parents[2] / "docs/findings"


def main(argv: list[str] | None = None, here: Path = HERE, claims_file: Path = CLAIMS) -> None:
    """Measure, then write.

    Raises:
        ValueError: the folder has none of the findings' recipes.
    """
    parser = ArgumentParser(prog="python -m recipes.findings.findings_command", description=__doc__)
    parser.add_argument("folder", type=Path, help="of `run --out`; arms that it lacks are `not measured`")
    root = parser.parse_args(argv).folder
    claims, files = yaml.safe_load(claims_file.read_text(encoding="utf-8")), Files(root)
    measured: dict[str, dict[str, Any]] = {}
    for study in find_studies(root):
        name, _, scale = study.index.removesuffix(".json").partition(".")
        if name in claims["findings"] and scale == SCALE and study.groups:
            effects = measure(study, files, claims["findings"][name], claims["planned"])
            if claims["findings"][name].get("reading_of") != (key := key_of(effects)):
                print(f"claims.yaml: the reading of {name} was written for other numbers; if it fits, reading_of: '{key}'")
            measured[name] = {"environment": environment(study, files), "seconds": cost(study, files), "effects": effects}
    if not measured:
        raise ValueError(
            f"{root} holds no complete arm of {', '.join(claims['findings'])} at scale {SCALE}; run their recipes first."
        )
    text = page(claims, measured)
    for name, found in measured.items():
        draw_forest([effect for effect in found["effects"] if "verdict" in effect], here / f"figures/{name}-effects.png")
    write_json(here / "effects.json", measured)
    write_text(here / "README.md", text)
    print(f"findings: {here / 'README.md'}\nreport: {report(root, root)}")


if __name__ == "__main__":
    main()
