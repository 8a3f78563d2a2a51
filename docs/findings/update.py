"""Hold what arms reached at scale `tiny` against what is claimed: python -m docs.findings.update runs/study

`claims.yaml` says, for each recipe, what the paper claims and which difference between two arms shows it. Writes `README.md`,
`effects.json` (every seed's value, the files behind it, seconds by stage) and the report. Recipes that the folder does not hold
are left as they are. A difference is that of two arms with the same seed; its interval is Student's t over seeds. `expected` is
`above` or `below` (zero), `same`, or `open`, where nothing is claimed.
"""

import json
import sys
from argparse import ArgumentParser
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from callbacks.files import write_text
from recipes.report.command import report
from recipes.report.numbers import Files, Number, Term
from recipes.report.studies import Group, Study, find_studies
from recipes.table import align

HERE = Path(__file__).parent
SCALE = "tiny"
ALIKE = 0.05  # differences claimed to be none may be so large
NOTHING = 0.02  # differences claimed to be there are not, if they are no larger


def difference(study: Study, files: Files, effect: dict[str, Any]) -> Number | None:
    """An arm's value less that of another, seed by seed; None where no seed has both."""
    groups = {group.label: group for group in study.groups}
    if missing := {effect["arm"], effect["against"]} - groups.keys():
        print(f"{study.name}: {sorted(missing)} not complete; left out: {effect['what']}", file=sys.stderr)
        return None
    one, other = (_evaluations(groups[effect[side]]) for side in ("arm", "against"))
    key = effect["at"]
    return files.number([[Term(1, one[seed], key), Term(-1, other[seed], key)] for seed in sorted(one.keys() & other.keys())])


def _evaluations(group: Group) -> dict[int, str]:
    return {run.seed: run.last.evaluation for run in group.runs}


def verdict(found: Number, expected: str) -> str:
    """What an interval says about a claim; the page explains the words."""
    if found.low is None or found.high is None or len(found.runs) < 2:
        return "not resolvable"
    above, below, largest = found.low > 0, found.high < 0, max(-found.low, found.high)
    if expected == "open":
        return "above zero" if above else "below zero" if below else "not resolvable"
    reproduced, refuted = {
        "above": (above, below or largest <= NOTHING),
        "below": (below, above or largest <= NOTHING),
        "same": (largest <= ALIKE, above or below),
    }[expected]
    return "reproduced" if reproduced else "not reproduced" if refuted else "not resolvable"


def measure(study: Study, files: Files, claim: dict[str, Any]) -> list[dict[str, Any]]:
    """Every effect of a claim, with each seed's value and where it was read."""
    effects = []
    for effect in claim["effects"]:
        found = difference(study, files, effect)
        if found is not None:
            values = [sum(t.weight * files.value(t.path, t.key) for t in run) for run in found.runs]
            numbers = {"value": found.value, "low": found.low, "high": found.high, "seeds": values}
            effects.append(effect | numbers | {"verdict": verdict(found, effect["expected"]), "terms": json.loads(found.terms)})
    return effects


def environment(study: Study, files: Files) -> dict[str, Any]:
    """Commits and versions that made a study's stages."""
    found = [files.json(stage.path("environment.json")) or {} for stage in study.stages().values()]
    commits = sorted({of["commit"] for of in found if of.get("commit")})
    return {"commits": commits, "versions": found[0].get("versions", {}), "python": found[0].get("python", "")}


def cost(study: Study, files: Files) -> dict[str, float]:
    """Seconds of training and testing by stage, each stage once; starting its two processes is left out."""
    seconds = {}
    for folder, stage in study.stages().items():
        testing = files.json(stage.evaluation)["seconds"].values()
        seconds[folder] = round(files.json(stage.path("training.json"))["seconds"] + sum(testing), 1)
    return seconds


def section(name: str, found: dict[str, Any], figures: Path) -> list[str]:
    """What was found of a claim: its differences, its figure of pass@k where the report has drawn one, what made them."""
    rows = [["difference", "expected", "ours", "95% interval", "seeds", "verdict"]]
    for e in found["effects"]:
        interval = "-" if e["low"] is None else f"[{e['low']:+.3f}, {e['high']:+.3f}]"
        seeds = " ".join(f"{value:+.2f}" for value in e["seeds"])
        rows.append([e["what"], e["expected"], f"{e['value']:+.3f}", interval, seeds, e["verdict"]])
    verdicts = Counter(row[-1] for row in rows[1:]).most_common()
    figure = figures / f"{name}__{SCALE}-pass_at_k.png"
    drawn = [f"![pass@k of {name}]({figures.name}/{figure.name})"] if figure.is_file() else []
    made, cost = found["environment"], found["seconds"]
    commits = ", ".join(commit[:7] for commit in made["commits"])
    versions = ", ".join(f"{package} {version}" for package, version in made["versions"].items())
    made_by = (
        f"`python main.py run configs/recipe/{name}.yaml --scale {SCALE} --out runs/study` at {commits}: {len(cost)} stages, "
        f"{sum(cost.values()) / 60:.0f} minutes of one core. Python {made['python']}, {versions}."
    )
    return [f"```\n{align(rows)}\n```", ", ".join(f"{count} {verdict}" for verdict, count in verdicts) + ".", *drawn, made_by]


def page(claims: dict[str, Any], kept: dict[str, Any], figures: Path) -> str:
    """The findings as Markdown."""
    parts = [claims["about"].strip()]
    stages = {stage: seconds for found in kept.values() for stage, seconds in found["seconds"].items()}
    parts.append(
        f"All {len(stages)} stages, each made once: {sum(stages.values()) / 3600:.1f} hours of one core, training and testing; "
        f"{min(stages.values()) / 60:.1f} to {max(stages.values()) / 60:.1f} minutes each."
    )
    for name, claim in claims["findings"].items():
        parts.append(f"## {claim['title']}\n\nClaim: {claim['claim'].strip()}")
        parts += section(name, kept[name], figures) if name in kept else ["Not measured yet."]
        parts += [claim["reading"].strip()] if "reading" in claim else []
    return "\n\n".join(parts) + "\n"


def main(argv: list[str] | None = None, here: Path = HERE) -> None:
    """Measure, keep, write."""
    parser = ArgumentParser(prog="python -m docs.findings.update", description=__doc__)
    parser.add_argument("folder", type=Path, help="of `run --out`")
    root = parser.parse_args(argv).folder
    claims = yaml.safe_load((here / "claims.yaml").read_text(encoding="utf-8"))
    numbers, files = here / "effects.json", Files(root)
    kept = json.loads(numbers.read_text(encoding="utf-8")) if numbers.is_file() else {}
    for study in find_studies(root):
        name, _, scale = study.index.removesuffix(".json").partition(".")
        if name in claims["findings"] and scale == SCALE:
            effects = measure(study, files, claims["findings"][name])
            kept[name] = {"environment": environment(study, files), "seconds": cost(study, files), "effects": effects}
    write_text(numbers, json.dumps(kept, indent=1) + "\n")
    report(root, here)
    write_text(here / "README.md", page(claims, kept, here / "figures"))


if __name__ == "__main__":
    main()
