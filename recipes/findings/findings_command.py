"""Hold what arms reached at scale `tiny` against what is claimed: python -m recipes.findings.findings_command runs/study

`claims.yaml` says, for each recipe, what the paper claims and which values of which arms show it. Written from that folder
alone: `effects.json` (every seed's value, the files behind it, seconds by stage), `README.md` and the report. An effect is the
difference of two arms with the same seed, or, without `against`, the value of one arm (with `before`: before its last stage); its
interval is Student's t over seeds. `expected` of a difference is `above` or `below` (zero), `same`, or `open`, where nothing is
claimed. `planned` are the seeds that were to be run before any was seen; where there are more, a verdict that they changed has
that of the planned ones beside it. In a `reading`, `{WHAT}` is the value of that effect; it is left out where the table is not
the one, `reading_of`, that it was written for.
"""

import json
import shutil
from argparse import ArgumentParser
from pathlib import Path

import yaml

from callbacks.files import write_text
from recipes.findings.effects import cost, environment, measure
from recipes.findings.findings_page import SCALE, key_of, page
from recipes.findings.forest import draw_forest
from recipes.report.report_command import report
from recipes.report.sourced_numbers import Files
from recipes.report.studies import find_studies

HERE = Path(__file__).parents[2] / "docs/findings"


def main(argv: list[str] | None = None, here: Path = HERE) -> None:
    """Measure, then write.

    Raises:
        ValueError: the folder has none of the findings' recipes.
    """
    parser = ArgumentParser(prog="python -m recipes.findings.findings_command", description=__doc__)
    parser.add_argument("folder", type=Path, help="of `run --out`; what it lacks is `not measured`")
    root = parser.parse_args(argv).folder
    claims, files, measured = yaml.safe_load((here / "claims.yaml").read_text(encoding="utf-8")), Files(root), {}
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
    shutil.rmtree(here / "figures", ignore_errors=True)
    report(root, here)
    for name, found in measured.items():
        draw_forest([effect for effect in found["effects"] if "verdict" in effect], here / f"figures/{name}-effects.png")
    write_text(here / "effects.json", json.dumps(measured, indent=1) + "\n")
    write_text(here / "README.md", text)


if __name__ == "__main__":
    main()
