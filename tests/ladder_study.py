"""The files of a finished recipe with a base and stages of RL for each size, for tests."""

import json


def write_ladder(folder, gains, flops, sizes, base=None):
    """Two seeds, the second's gains greater by 0.02; RL's pass@1 at the edge is the base's and the gain.

    gains, flops: size -> value for each arm, in order; sizes: size -> parameters; base: measures of every base's evaluation.
    """
    arms = []
    for size, of_size in gains.items():
        for seed in (0, 1):
            _stage(folder, f"base{size}{seed}", 0.2, 1e9, sizes[size], "train/loss", base)
            for place, gain in enumerate(of_size):
                name = f"rl{size}{place}{seed}"
                _stage(folder, name, 0.2 + gain + 0.02 * seed, flops[size][place], sizes[size], "train/reward", base)
                chain = [
                    {"name": s, "kind": s, "folder": f"stages/{s}", "state": "complete"} for s in (f"base{size}{seed}", name)
                ]
                values = {"size": size, "rollouts": str(place)}
                arms.append({"name": f"{size}-{place}-seed{seed}", "values": values, "seed": seed, "stages": chain})
    axes = {"size": list(gains), "rollouts": [str(place) for place in range(max(map(len, gains.values())))]}
    index = {"recipe": "ladder", "scale": "", "about": "", "about_scale": "", "figures": [], "axes": axes, "arms": arms}
    (folder / "ladder.json").write_text(json.dumps(index))


def _stage(folder, name, solved, flops, parameters, column, more):
    path = folder / "stages" / name
    (path / "test").mkdir(parents=True)
    scores = {"executable": {"pass@1": {"mean": solved}}, "errors": {}}
    grades = {"all": {"all": scores}, "band": {"edge": scores}}
    (path / "test/evaluation.json").write_text(json.dumps({"grades": grades} | (more or {})))
    (path / "compute.json").write_text(json.dumps({"flops": flops, "parameters": parameters}))
    (path / "metrics.csv").write_text(f"step,{column}\n0,1.0\n")
