"""What a run prints at its end: results by stage or arm, and the compute ledger, from the files of its stages."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from callbacks.files import read_json, write_json
from callbacks.text_tables import align, bands_of, rounded
from recipes.validity import is_tested, unfinished

COLUMNS = (("answer", "pass@1"), ("answer", "pass@8"), ("executable", "pass@1"), ("executable", "pass@8"))
GRADER = "executable"


def result_table(out: Path, stages: list[str]) -> str:
    """Stage x band: mean pass@k under two graders, tokens seen and seconds of training.

    Args:
        out: folder of the experiment.
        stages: names of its stages, each with `training.json` and `test/pass_at_k.json`.
    """
    rows = [["stage", "band", *(f"{grader} {metric}" for grader, metric in COLUMNS), "tokens", "seconds"]]
    for stage in stages:
        cost, passes = read_json(out / stage / "training.json"), read_json(out / stage / "test" / "pass_at_k.json")
        for i, band in enumerate(bands_of(passes)):
            values = (passes[band].get(grader, {}).get(metric) for grader, metric in COLUMNS)
            scores = ["-" if v is None else f"{rounded(v['mean'])} ±{rounded(v['standard_error'])}" for v in values]
            first = [f"{cost['tokens'] / 1e6:.2f}M", f"{cost['seconds']:.0f}"] if i == 0 else ["", ""]
            rows.append([stage if i == 0 else "", band, *scores, *first])
    return align(rows)


def arm_table(index: Path) -> str:
    """Arm x band: pass@1 and pass@n of the last stage (mean over seeds, ± their standard deviation), and failed stages.

    Args:
        index: of the experiment, see `recipes.running.arm_index`.
    """
    found, out = read_json(index), index.parent
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for arm in found["arms"]:
        groups.setdefault("-".join(arm["values"].values()) or "all", []).append(arm)
    rows = [["arm", "band", "seeds", f"{GRADER} pass@1", "", "pass@n"]]
    failed = []
    for name, arms in groups.items():
        ended = [out / arm["stages"][-1]["folder"] for arm in arms if not unfinished(out, arm["stages"])]
        done = [read_json(folder / "test/pass_at_k.json") for folder in ended if is_tested(folder)]
        failed += [f"{arm['name']}: {s['name']} failed" for arm in arms for s in arm["stages"] if s["state"] == "failed"]
        bands = [band for band in bands_of(done[0]) if all(passes.get(band) for passes in done)] if done else []
        for i, band in enumerate(bands):
            metric = list(done[0][band][GRADER])[-1]
            first = [passes[band][GRADER]["pass@1"]["mean"] for passes in done]
            last = [list(passes[band][GRADER].values())[-1]["mean"] for passes in done]
            rows.append([name if i == 0 else "", band, str(len(done)), _spread(first), metric, _spread(last)])
        if not done:
            rows.append([name, "", "0", "", "", ""])
    return "\n".join([align(rows), *(f"FAILED {line}" for line in failed)])


def _spread(values: list[float | None]) -> str:
    if None in values:  # a part of the band had no problem
        return "-"
    return f"{mean(values):.3f}" + (f" ±{stdev(values):.3f}" if len(values) > 1 else "")


def sum_ledgers(stages: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Sum the compute ledgers of stages.

    Args:
        stages: name -> ledger (`lightning_modules.models.compute.ledger`).

    Returns:
        `stages` as given, and `total` with tokens by phase, `flops`, `nominal_flops` (None if a stage does not know its own) and
        `nominal_tokens`.
    """
    tokens: Counter[str] = Counter()
    for found in stages.values():
        tokens.update({phase: counts["tokens"] for phase, counts in found["phases"].items()})

    def total(key: str) -> float | None:
        values = [found[key] for found in stages.values()]
        return None if None in values else sum(values)

    keys = ("flops", "nominal_flops", "nominal_tokens")
    return {"stages": stages, "total": {"tokens": dict(tokens)} | {key: total(key) for key in keys}}


def compute_table(out: Path, names: list[str]) -> str:
    """Write `compute.json` of a whole run; return it as a table: stage x phase, tokens, FLOPs, and the nominal cost.

    Args:
        out: folder of the experiment.
        names: of its stages, each with a `compute.json`.
    """
    found = sum_ledgers({name: read_json(out / name / "compute.json") for name in names})
    write_json(out / "compute.json", found)
    rows = [["stage", "phase", "tokens", "FLOPs", "nominal tokens", "nominal FLOPs", "nominal / run"]]
    for name, stage in found["stages"].items():
        for phase, counts in stage["phases"].items():
            rows.append([name, phase, f"{counts['tokens'] / 1e6:.2f}M", _scientific(counts["flops"]), "", "", ""])
        rows.append(["", "all", "", *_costs(stage)])
    rows.append(["all", "", "", *_costs(found["total"])])
    return align(rows)


def _costs(ledger: dict[str, Any]) -> list[str]:
    run, nominal = ledger["flops"], ledger["nominal_flops"]
    ratio = f"{nominal / run:.1f}" if run and nominal else "-"
    return [_scientific(run), f"{ledger['nominal_tokens'] / 1e6:.2f}M", _scientific(nominal), ratio]


def _scientific(flops: float | None) -> str:
    return "-" if flops is None else f"{flops:.2e}"
