"""Settings by dotted key, layer above layer: of a scale, a stage, an arm."""

from collections.abc import Mapping
from typing import Any


def layered(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """The layers as one, later ones winning; what one sets as a whole (`model.init_args.kl`) takes the place of earlier parts
    (`model.init_args.kl.weight`), and keys stand in the order in which they count.
    """
    found: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            for known in [other for other in found if other == key or other.startswith(f"{key}.")]:
                del found[known]
            found[key] = value
    return found
