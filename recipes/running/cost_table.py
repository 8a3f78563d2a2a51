"""The compute ledger of a recipe's run, from what each stage left in `compute.json`."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from callbacks.files import write_text
from recipes.text_tables import align, read_json


def aggregate(stages: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Sum the ledgers of stages.

    Args:
        stages: name -> ledger (`lightning_modules.models.compute.ledger`).

    Returns:
        `stages` as given, and `total` with tokens by phase, `flops`, `nominal_flops` (None where those of a stage are not known)
        and `nominal_tokens`.
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
    """Write `compute.json` of a whole run, and return it as text: stage x phase, tokens, FLOPs, and the nominal cost beside them.

    Args:
        out: folder of the experiment.
        names: of its stages, each with a `compute.json`.
    """
    found = aggregate({name: read_json(out / name / "compute.json") for name in names})
    path, text = out / "compute.json", json.dumps(found, indent=1)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
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
