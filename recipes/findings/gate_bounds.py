"""What the gate of configs/claims.yaml measures of a base, and which of its bounds the base misses."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from datamodules.problems.mixture import parse_ops
from recipes.report.sourced_numbers import Files
from recipes.report.studies import StageFiles

NAMED_BAND = re.compile(r"\{(.+)\}")


def gate_values(
    files: Files, stage: StageFiles, gate: Sequence[Mapping[str, Any]], bands: Mapping[str, str | int]
) -> dict[str, float | None]:
    """What each bound of the gate is about -> its value for a base; None if the base was not tested on it.

    A pointer with the name of a band in braces, `/grades/op/{ID}/...`, is the least value over the band's operations.

    Args:
        files: of the study's folder.
        stage: the base.
        gate: bounds with `what`, `at` (a JSON pointer into the evaluation) and `within`.
        bands: name -> operations, e.g. `2-4`.
    """
    return {bound["what"]: _value(files, stage, bound["at"], bands) for bound in gate}


def _value(files: Files, stage: StageFiles, at: str, bands: Mapping[str, str | int]) -> float | None:
    if (named := NAMED_BAND.search(at)) is None:
        return files.value(stage.evaluation, at)
    found = [files.value(stage.evaluation, at.replace(named[0], str(op))) for op in parse_ops(bands[named[1]])]
    return None if None in found else min(found)


def missed(values: Mapping[str, float | None], gate: Sequence[Mapping[str, Any]]) -> list[str]:
    """The bounds that a base is outside of; one that it was not tested on is missed, too."""

    def held(value: float | None, low: float, high: float) -> bool:
        return value is not None and low <= value <= high

    return [bound["what"] for bound in gate if not held(values[bound["what"]], *bound["within"])]
