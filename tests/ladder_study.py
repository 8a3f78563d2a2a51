"""The files of finished recipes of a base and RL, for tests: RL of several lengths from each size, and from several models."""

import json


def write_ladder(folder, gains, flops, sizes):
    """Two seeds, the second's gains greater by 0.02; RL's pass@1 at the edge is the base's and the gain.

    gains, flops: size -> value for each arm, in order; sizes: size -> parameters.
    """
    arms = []
    for size, of_size in gains.items():
        for seed in (0, 1):
            _stage(folder, f"base{size}{seed}", 0.2, 1e9, sizes[size], "train/loss")
            for place, gain in enumerate(of_size):
                name = f"rl{size}{place}{seed}"
                _stage(folder, name, 0.2 + gain + 0.02 * seed, flops[size][place], sizes[size], "train/reward")
                arms.append(_arm({"size": size, "rollouts": str(place)}, seed, [f"base{size}{seed}", name]))
    _index(folder, {"size": list(gains), "rollouts": [str(place) for place in range(max(map(len, gains.values())))]}, arms)


def write_bases(folder, before, last_step=1):
    """Arms with two seeds each, which start from models of their own; RL ends at step 1, that of the last arm at `last_step`.

    before: arm -> for each seed pass@1, nats a token and process accuracy of the base at the edge, entropy, pass@1 after RL.
    """
    arms = []
    for arm, seeds in before.items():
        for seed, (solved, nats, process, entropy, after) in enumerate(seeds):
            more = {"likelihood": {"edge": {"all": {"nll_nats": nats}}}}
            _stage(folder, f"base{arm}{seed}", solved, 1e9, 1e6, "train/loss", more, process)
            _stage(folder, f"rl{arm}{seed}", after, 1e9, 1e6, "train/reward", more, process)
            step = last_step if arm == list(before)[-1] else 1
            log = f"step,train/reward,train/entropy_nats\n0,1.0,{entropy}\n{step},1.0,9.0\n"
            (folder / f"stages/rl{arm}{seed}/metrics.csv").write_text(log)
            arms.append(_arm({"mid-training": arm}, seed, [f"base{arm}{seed}", f"rl{arm}{seed}"]))
    _index(folder, {"mid-training": list(before)}, arms)


def _arm(values, seed, names):
    stages = [{"name": name, "kind": name, "folder": f"stages/{name}", "state": "complete"} for name in names]
    return {"name": f"{'-'.join(values.values())}-seed{seed}", "values": values, "seed": seed, "stages": stages}


def _index(folder, axes, arms):
    index = {"recipe": "made", "scale": "", "about": "", "about_scale": "", "figures": [], "axes": axes, "arms": arms}
    (folder / "made.json").write_text(json.dumps(index))


def _stage(folder, name, solved, flops, parameters, column, more=None, process=0.5):
    path = folder / "stages" / name
    (path / "test").mkdir(parents=True)
    scores = {"executable": {"pass@1": {"mean": solved}}, "errors": {}, "process_accuracy": {"mean": process}}
    grades = {"all": {"all": scores}, "band": {"edge": scores}}
    (path / "test/evaluation.json").write_text(json.dumps({"grades": grades} | (more or {})))
    (path / "compute.json").write_text(json.dumps({"flops": flops, "parameters": parameters}))
    (path / "metrics.csv").write_text(f"step,{column}\n0,1.0\n")
