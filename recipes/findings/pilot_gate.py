"""Whether a study has something to see: `python -m recipes.findings.pilot_gate runs/pilot`, which `make pilot` calls.

The bases of recipe `pilot` must know what they were trained on, with room to gain at the edge and more than nothing beyond it:
within the bounds of `gate` in configs/claims.yaml, with each of at least three seeds. Writes docs/findings/pilot.json, which
`make findings` asks for; of another scale than the study's, pilot.SCALE.json.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from callbacks.files import read_json, write_json
from callbacks.text_tables import align
from recipes.findings.findings_command import HERE
from recipes.findings.gate_bounds import gate_values, missed
from recipes.named_files import CONFIGS
from recipes.planning.plan import make_plan
from recipes.planning.recipe import load_recipe
from recipes.report.report_command import CLAIMS
from recipes.report.sourced_numbers import Files
from recipes.report.studies import find_studies

FEWEST = 3
RECIPE = CONFIGS / "recipe/pilot.yaml"


def measured(root: Path, gate: Sequence[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """The pilot's scale; for each base, by seed, what the gate measures, whether it is within bounds, and how training ended."""
    files, bases = Files(root), []
    (study,) = (study for study in find_studies(root) if study.index.startswith("pilot."))
    for run in (run for group in study.groups for run in group.runs):
        bands = files.yaml(run.last.path("config.yaml"))["data"]["init_args"]["held_out"]["bands"]
        values = gate_values(files, run.last, gate, bands)
        if untested := [what for what, value in values.items() if value is None]:
            raise ValueError(f"{run.last.folder} was not tested on what the gate bounds: {', '.join(untested)}; run its test.")
        trained = files.json(run.last.path("competence.json"))
        if trained is None:
            raise ValueError(f"{run.last.folder} does not train by competence; add configs/callbacks/until_competent.yaml.")
        bases.append(
            {
                "seed": run.seed,
                "passes": not missed(values, gate),
                "values": {name: round(value, 4) for name, value in values.items()},
            }
            | {
                "stage": Path(run.last.folder).name,
                "updates": trained["validations"][-1]["step"],
                "competent_at_validation": trained["reached"],
            }
        )
    return study.index.split(".")[1], bases


def passes(bases: Sequence[dict[str, Any]]) -> bool:
    """Whether the study may start."""
    return len(bases) >= FEWEST and all(base["passes"] for base in bases)


def is_open(claims: Mapping[str, Any]) -> bool:
    """Whether a pilot of today's scale has passed today's gate: its stages are those that the recipe would train now."""
    if not (HERE / "pilot.json").is_file():
        return False
    found = read_json(HERE / "pilot.json")
    planned = {arm.stages[-1].label for arm in make_plan(load_recipe(RECIPE, claims["scale"])).arms}
    return found["passes"] and found["gate"] == claims["gate"] and {base["stage"] for base in found["bases"]} == planned


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write and print; 1: the gate is shut."""
    parser = ArgumentParser(prog="python -m recipes.findings.pilot_gate", description=__doc__)
    parser.add_argument("folder", type=Path, help="of `run pilot --out`")
    claims = yaml.safe_load(CLAIMS.read_text(encoding="utf-8"))
    scale, bases = measured(parser.parse_args(argv).folder, claims["gate"])
    name = "pilot.json" if scale == claims["scale"] else f"pilot.{scale}.json"
    write_json(HERE / name, {"scale": scale, "gate": claims["gate"], "passes": passes(bases), "bases": bases})
    bounds = [f"{bound['what']} {bound['within'][0]}-{bound['within'][1]}" for bound in claims["gate"]]
    rows = [[str(base["seed"]), *(f"{value:.3f}" for value in base["values"].values()), str(base["passes"])] for base in bases]
    print(align([["seed", *bounds, "passes"], *rows]))
    print("The study may start." if passes(bases) else f"The study does not start: {FEWEST} bases have to pass, and every one.")
    return int(not passes(bases))


if __name__ == "__main__":
    sys.exit(main())
