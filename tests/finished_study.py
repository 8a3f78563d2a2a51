"""The files that a finished recipe of two arms and six seeds leaves, for tests."""

import json

KEY = "/grades/band/edge/executable/pass@16/mean"
VALUES = {
    "base": dict(enumerate((0.1, 0.3, 0.2, 0.25, 0.15, 0.2))), "edge": dict(enumerate((0.4, 0.45, 0.52, 0.37, 0.4, 0.31))),
}  # fmt: skip


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
            made = {"versions": {"torch": "2.13", "interplay": None}, "commit": "0123456789", "python": "3", "threads": 1}
            made |= {"devices": ["GPU A"] if arm == "edge" else [], "cpu": {"name": "CPU B"}}
            (stage / "environment.json").write_text(json.dumps(made))
            (stage / "compute.json").write_text(json.dumps({"flops": 1e12}))
            if arm == "edge" and seed == 0:  # learns from own solutions
                sampled = {"phases": {"sampling": [5.0, 9.0]}, "seconds": {"sampling": 7, "verification": 1}}
                (stage / "rejection.json").write_text(json.dumps({"train_rows": 3, "compute": sampled}))
            if arm == "base" and seed < 3:
                (stage / "competence.json").write_text(json.dumps({"reached": seed != 2}))
            chain = dict.fromkeys(("base", arm))
            stages = [{"name": s, "kind": "grpo", "folder": f"stages/{s}{seed}", "state": "complete"} for s in chain]
            arms.append({"name": f"{arm}-seed{seed}", "values": {"data": arm}, "seed": seed, "stages": stages})
    index = {
        "recipe": "extrapolation", "scale": "tiny", "about": "", "about_scale": "", "figures": [], "axes": {"data": list(VALUES)},
        "arms": arms,
    }  # fmt: skip
    (folder / "extrapolation.tiny.json").write_text(json.dumps(index))
