"""The files that a finished recipe of two arms and three seeds leaves, for tests."""

import json

KEY = "/grades/band/edge/executable/pass@16/mean"
VALUES = {"base": {0: 0.1, 1: 0.3, 2: 0.2}, "edge": {0: 0.4, 1: 0.45, 2: 0.52}}


def write_study(folder):
    """`extrapolation` at scale `tiny`, its arms `base` and `edge`, with the pass@16 of VALUES at the edge."""
    arms = []
    for arm, seeds in VALUES.items():
        for seed, value in seeds.items():
            stage = folder / "stages" / f"{arm}{seed}"
            (stage / "test").mkdir(parents=True)
            scores = {"executable": {"pass@16": {"mean": value}}}
            evaluation = {
                "grades": {"all": {"all": scores | {"errors": {}}}, "band": {"edge": scores}},
                "seconds": {"sampling": 20, "verification": 4},
            }
            (stage / "test/evaluation.json").write_text(json.dumps(evaluation))
            (stage / "training.json").write_text(json.dumps({"seconds": 100 * (seed + 1)}))
            made = {"versions": {"torch": "2.13"}, "commit": "0123456789", "python": "3", "threads": 1}
            (stage / "environment.json").write_text(json.dumps(made))
            chain = dict.fromkeys(("base", arm))
            stages = [{"name": s, "kind": "grpo", "folder": f"stages/{s}{seed}", "state": "complete"} for s in chain]
            arms.append({"name": f"{arm}-seed{seed}", "values": {"data": arm}, "seed": seed, "stages": stages})
    index = {
        "recipe": "extrapolation", "scale": "tiny", "about": "", "about_scale": "", "figures": [], "axes": {"data": list(VALUES)},
        "arms": arms,
    }  # fmt: skip
    (folder / "extrapolation.tiny.json").write_text(json.dumps(index))
