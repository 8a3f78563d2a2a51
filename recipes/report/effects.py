"""Results of arms compared with claims: effects with intervals and verdicts, and the environment and cost of their runs."""

import json
from statistics import mean
from typing import Any

from recipes.report.exact_tests import FEWEST, adjusted_for, binomial_interval, interval
from recipes.report.prediction import compared, correlations
from recipes.report.scaling import fits
from recipes.report.sourced_numbers import ROUNDING, Files, Number, Term, are_equal
from recipes.report.studies import Study
from recipes.report.study_values import Values

ALIKE = 0.05  # an interval within this says that there is no difference


def verdict(found: Number) -> str:
    """What the interval of a difference says of it, where nothing was claimed; with one seed, of the two models alone.

    One seed never shows that there is no difference: rare successes make the interval over problems too narrow for that.
    """
    if found.low is None or found.high is None:
        if len(found.runs) == 1:
            return "not resolvable (one seed)"
        return "zero for every seed" if abs(found.value) < ROUNDING else "above zero" if found.value > 0 else "below zero"
    if found.low > 0 or found.high < 0:
        said = "above zero" if found.low > 0 else "below zero"
        return said if len(found.runs) > 1 else f"{said} (these two models)"
    alike = len(found.runs) > 1 and max(-found.low, found.high) <= ALIKE
    return "no difference" if alike else "not resolvable" if len(found.runs) > 1 else "not resolvable (one seed)"


def measure(study: Study, files: Files, claim: dict[str, Any]) -> list[dict[str, Any]]:
    """Every effect of a claim, with each seed's value and its sources; none for arms that are incomplete or share no seed.

    Intervals are exact (`exact_tests.interval`); there is none with fewer seeds than 95% takes, nor where all seeds are equal,
    which says little of the next one. That of a share of seeds (`at_least`) is Clopper and Pearson's.

    Args:
        study: the recipe's results.
        files: of the study's folder.
        claim: its effects.

    Raises:
        ValueError: no evaluation holds the value of an effect.
    """
    values = Values(study, files)
    return [effect | _measured(values, effect) for effect in claim["effects"]]


def _measured(values: Values, effect: dict[str, Any]) -> dict[str, Any]:
    if "correlation" in effect:
        return _correlation(values, **effect["correlation"])
    if "slope" in effect:
        found = _slope(values, **effect["slope"])
        return {} if found is None else _over_seeds(found, values.files, effect)
    seeds = {group.label: {run.seed for run in group.runs} for group in values.study.groups}
    if not seeds.get(effect["arm"], set()) & seeds.get(effect.get("against", effect["arm"]), set()):
        return {}
    if (found := effect_number(values, effect)) is None:
        raise ValueError(
            f"claims.yaml, {values.study.name}, {effect['what']!r}: {effect['at']} is in no evaluation with a seed that it needs."
        )
    numbers = _over_seeds(found, values.files, effect)
    return numbers | (_adjusted(values, effect, numbers["seeds"]) if effect.get("primary") and "against" in effect else {})


def _correlation(values: Values, of: str, band: str, gain: int) -> dict[str, Any]:
    """Rank correlation over arms, within seeds, of what is measured before RL with its gain in pass@k; its terms are pairs."""
    if not compared(values):
        return {}
    found = {each.quantity: each for each in correlations(values, band) if each.k == gain}
    if of not in found:
        raise ValueError(f"claims.yaml, {values.study.name}: {of!r} is not measured before RL; choose from {', '.join(found)}.")
    if not (seeds := list(found[of].by_seed.values())):
        return {}
    return _summary(seeds) | {"terms": json.loads(json.dumps(found[of].sources))}


def _slope(values: Values, arms: str, band: str, gain: int) -> Number | None:
    """What a tenfold of RL's FLOPs adds to its gain in pass@k, by least squares over the arms of one base, or `all`."""
    return next((fit.terms[1] for fit in fits(values, band, gain) if fit.label == arms), None)


def _summary(seeds: list[float]) -> dict[str, Any]:
    low, high = interval(seeds) if len(seeds) >= FEWEST and not are_equal(seeds) else (None, None)
    return {"seeds": seeds, "value": mean(seeds), "low": low, "high": high}


def _over_seeds(found: Number, files: Files, effect: dict[str, Any]) -> dict[str, Any]:
    seeds = files.by_run(found)
    numbers = {"seeds": seeds, "terms": json.loads(found.terms)}
    if "at_least" in effect:
        successes = sum(seed >= effect["at_least"] for seed in seeds)
        low, high = binomial_interval(successes, len(seeds))
        return {"value": successes / len(seeds), "low": low, "high": high, **numbers}
    return numbers | _summary(seeds)


def _adjusted(values: Values, effect: dict[str, Any], seeds: list[float]) -> dict[str, Any]:
    """What the difference would be with all bases at their mean level; nothing unless both arms of a seed have one base."""
    runs = {group.label: {run.seed: run for run in group.runs} for group in values.study.groups}
    arm, other = (runs[effect[side]] for side in ("arm", "against"))
    pairs = [(run.stages[0], other[seed].stages[0]) for seed, run in arm.items() if seed in other]
    levels = [values.files.value(base.evaluation, effect["at"]) for base, same in pairs if base.folder == same.folder]
    if None in levels or len(levels) != len(seeds) or len(seeds) < FEWEST or are_equal(levels):
        return {}
    adjusted, slope = adjusted_for(seeds, levels)
    if are_equal(adjusted):
        return {}
    low, high = interval(adjusted)
    return {"adjusted": {"slope": slope, "low": low, "high": high}}


def effect_number(values: Values, effect: dict[str, Any]) -> Number | None:
    """The difference of two arms, or the value of one, after its last stage or `before` it; None if there is none."""
    groups = {group.label: group for group in values.study.groups}
    arm, other, key = groups.get(effect["arm"]), groups.get(effect.get("against", effect["arm"])), effect["at"]
    before = effect.get("before", False)
    if arm is None or other is None:
        return None
    if "against" in effect:
        return values.difference(arm, other, key)
    return values.number(
        arm, lambda run: [Term(1, (run.before if before else run.last).evaluation, key)], share=not key.endswith("/trials")
    )


def environment(study: Study, files: Files) -> dict[str, Any]:
    """Seeds of a study, the commits, versions and threads of its stages, and the arms whose last stage ran on each machine."""
    machines: dict[str, set[str]] = {}
    for group in study.groups:
        for run in group.runs:
            made = files.json(run.last.path("environment.json")) or {}
            if "cpu" in made:
                on_cpu = made.get("computing", {}).get("accelerator") == "cpu"
                machine = made["cpu"]["name"] if on_cpu else ", ".join(made["devices"]) or made["cpu"]["name"]
                machines.setdefault(machine, set()).add(group.label)
    found = [files.json(stage.path("environment.json")) or {} for stage in study.stages().values()]

    def all_of(name: str) -> list[Any]:
        return sorted({of[name] for of in found if of.get(name)})

    pairs = {pair for of in found for pair in of.get("versions", {}).items() if pair[1]}
    versions = {package: sorted(of for name, of in pairs if name == package) for package, _ in sorted(pairs)}
    return {
        "seeds": sorted({run.seed for group in study.groups for run in group.runs}), "commits": all_of("commit"),
        "threads": all_of("threads"), "versions": versions, "python": all_of("python"),
        "machines": {machine: sorted(arms) for machine, arms in sorted(machines.items())},
    }  # fmt: skip


def cost(study: Study, files: Files) -> dict[str, float]:
    """Seconds of sampling (to learn from own solutions), training and testing by stage, each once, without processes' start."""
    seconds = {}
    for folder, stage in study.stages().items():
        testing = files.json(stage.evaluation)["seconds"]
        sampling = (files.json(stage.path("rejection.json")) or {"compute": {}})["compute"].get("seconds", {})
        parts = [files.json(stage.path("training.json"))["seconds"], *sampling.values(), *testing.values()]
        seconds[folder] = round(sum(parts), 1)
    return seconds
