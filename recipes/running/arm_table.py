"""The arms of an experiment as text: what the last stage of each has reached, averaged over seeds."""

from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from recipes.text_tables import align, read_json

GRADER = "executable"


def arm_table(index: Path) -> str:
    """Arm x band: pass@1 and pass@n (mean over seeds, ± their standard deviation), seeds that are complete, and what failed.

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
        done = [read_json(out / arm["stages"][-1]["folder"] / "test" / "pass_at_k.json") for arm in arms if _complete(arm)]
        failed += [f"{arm['name']}: {s['name']} {s['state']}" for arm in arms for s in arm["stages"] if s["state"] == "failed"]
        bands = [band for band in (done[0] if done else {}) if not band.removeprefix("op").isdigit()]
        for i, band in enumerate(bands):
            first = [passes[band][GRADER]["pass@1"]["mean"] for passes in done]
            last, metric = [list(passes[band][GRADER].values())[-1]["mean"] for passes in done], list(done[0][band][GRADER])[-1]
            rows.append([name if i == 0 else "", band, str(len(done)), _spread(first), metric, _spread(last)])
        if not done:
            rows.append([name, "", "0", "", "", ""])
    return "\n".join([align(rows), *(f"FAILED {line}" for line in failed)])


def _complete(arm: Mapping[str, Any]) -> bool:
    return all(stage["state"] == "complete" for stage in arm["stages"])


def _spread(values: list[float]) -> str:
    return f"{mean(values):.3f}" + (f" ±{stdev(values):.3f}" if len(values) > 1 else "")
