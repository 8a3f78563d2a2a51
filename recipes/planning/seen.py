"""Whether evaluation asks what some stage has seen: its bands of operations, its contexts, its modes.

A study may well ask for more (the paper's hard band is never trained on). It then says so, in the recipe or its scale:
`unseen: [hard]`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from datamodules.problems.mixture import Cell, components_of, parse_ops
from recipes.planning.plan import Plan


def check_seen(plan: Plan) -> None:
    """Refuse bands, contexts and modes of evaluation that no stage of the recipe trains on, unless it calls them unseen.

    A band counts as seen if any of its operations is. Nothing is refused of a recipe that has neither a scale nor `unseen`, nor
    where training reads files or starts from weights from outside, whose problems are not known.

    Raises:
        ValueError: something unseen that `unseen` does not name, or a name in `unseen` that is no band, context or mode.
    """
    configs = [stage.config for stage in plan.stages().values()]
    asked = [config["data"]["init_args"]["held_out"] for config in configs]
    scale, unseen = plan.recipe.scale, plan.recipe.unseen
    if scale is None and unseen is None:
        return
    allowed = {*(unseen or ()), *(scale.unseen if scale else ())}
    known = {name for held_out in asked for key in ("bands", "contexts", "modes") for name in held_out[key]}
    if strange := sorted(set(unseen or ()) - known):
        raise ValueError(f"recipe {plan.recipe.name!r}: unseen: {strange} are no bands, contexts or modes of its evaluations.")
    if any(_unknown(stage.config, outside=stage.parent is None) for stage in plan.stages().values()):
        return
    seen = {cell for config in configs for cell in _cells(config["data"]["init_args"])}
    missing = [name for held_out in asked if not held_out["files"] for name in _unseen(held_out, seen)]
    if found := [name for name in dict.fromkeys(missing) if name not in allowed]:
        raise ValueError(
            f"recipe {plan.recipe.name!r}: no stage sees {', '.join(map(repr, found))}, which evaluations ask for; train on it, "
            f"change `data.init_args.held_out`, or say that it is meant: `unseen: [{', '.join(found)}]`."
        )


def _unknown(config: Mapping[str, Any], *, outside: bool) -> bool:
    data = config["data"]["init_args"]
    return not data.get("mixture") or (outside and config["model"]["init_args"].get("init_from") is not None)


def _cells(data: Mapping[str, Any]) -> Iterator[Cell]:
    """The cells with weight that a stage trains on."""
    for mixture in (data["mixture"], data.get("replay") or ()):
        for component in components_of(mixture):
            yield from component.cells() if component.weight else ()


def _unseen(held_out: Mapping[str, Any], seen: set[Cell]) -> Iterator[str]:
    ops, contexts, modes = ({getattr(cell, key) for cell in seen} for key in ("op", "context", "mode"))
    for name, text in held_out["bands"].items():
        if not ops & {*parse_ops(text)}:
            yield name
    yield from (name for name in held_out["contexts"] if name not in contexts)
    yield from (name for name in held_out["modes"] if name not in modes)
