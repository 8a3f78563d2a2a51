"""`python main.py plan CONFIG|RECIPE ... --device h100 --devices 8`: what training would take, before any of it is run.

For each stage: memory by part, FLOPs, kernels and bytes read, expected tokens a second, hours; and where the same stage would
break with 8 billion parameters on 512 devices. A model of cost (docs/scaling.md), which no GPU has confirmed yet.
"""

import json
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from callbacks.text_tables import align
from datamodules.yaml_text import read_yaml
from recipes.cli import quiet
from recipes.named_files import named_file
from recipes.planning.devices import DEVICES, Device, device_named
from recipes.planning.plan import Planned, make_plan
from recipes.planning.recipe import load_recipe
from recipes.planning.resolve import kind_of, processes, resolve
from recipes.planning.stage_cost import (
    Setting,
    cache_per_token,
    decode_seconds,
    forward_kernels,
    memory,
    parameters,
    peak,
    seconds,
)
from recipes.planning.workload import DECODE, PREFILL, Workload, architecture_of, flops_of, workload

GIB, HOUR = 2**30, 3600
LARGE = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 8192,
}  # fmt: skip  # Llama 3, 8 billion
MANY = 512
DATA_RATE = 215_000  # tokens of packed rows that a core of a CPU makes in a second at the paper's mixture


@dataclass(frozen=True)
class Expected:
    """What a stage would take.

    memory:  bytes of a device by part; `peak`: at the worst moment.
    seconds: by phase; `evaluation`: of the test afterwards.
    flops, kernels, tokens: of the training; of a forward pass; trained on (RL: sampled).
    decode:  bytes that a step of sampling reads, 0 without.
    breaks:  why it cannot work, or not well.
    """

    memory: Mapping[str, float]
    peak: float
    seconds: Mapping[str, float]
    evaluation: float
    flops: float
    kernels: int
    tokens: float
    decode: float
    breaks: Sequence[str]

    @property
    def total(self) -> float:
        """Seconds of training."""
        return sum(self.seconds.values())


def expected(stage: Planned, model: PretrainedConfig, where: Setting) -> Expected:
    """The cost of a stage with a given model on given devices, its work being what its config says."""
    work, config = workload(stage), stage.config
    parts, times = memory(config, model, work, where), seconds(config, model, work, where)
    rows, decode = 0.0, 0.0
    if work.rollouts:
        rows = min(config["model"]["init_args"]["sampling"]["max_rows"], work.completions / where.devices)
        number = 2 if where.half else 4
        decode = number * parameters(model) + rows * work.rollout[DECODE].context * cache_per_token(model, half=where.half)
    found = Expected(
        parts, peak(parts), times, _evaluation_seconds(config, model, work, where), flops_of(model, work.phases()),
        forward_kernels(model), work.trained, decode, (),
    )  # fmt: skip
    return replace(found, breaks=tuple(_breaks(found, config, model, work, where)))


def _evaluation_seconds(config: Mapping[str, Any], model: PretrainedConfig, work: Workload, where: Setting) -> float:
    """Of sampling the held-out problems; prompts left out, and what samples share."""
    how, total = config["model"]["init_args"]["evaluation"], 0.0
    for name, phase in work.evaluation.items():
        if name.endswith(DECODE):
            prompts = work.evaluation[name.replace(DECODE, PREFILL)]
            completions = prompts.tokens / (2 * prompts.context) * how["samples"]
            rows = min(how["sampling"]["max_rows"], config["data"]["init_args"]["held_out"]["batch_size"] * how["samples"])
            total += decode_seconds(model, phase, completions, phase.tokens / completions, rows, where)
    return total


def _breaks(found: Expected, config: Mapping[str, Any], model: PretrainedConfig, work: Workload, where: Setting) -> list[str]:
    """What goes wrong, each with its figures."""
    broken, device = [], where.device
    if found.peak > device.memory:
        name, size = max(found.memory.items(), key=lambda part: part[1])
        broken.append(f"memory: {found.peak / GIB:.0f} GiB of {device.memory / GIB:.0f}, most of it {name} ({size / GIB:.0f})")
    if work.rollouts:
        share = work.completions / config["model"]["init_args"]["group"]["size"] / where.devices
        if share < 1:
            broken.append(f"batch: {share:.2g} problems of a rollout for each device")
    else:
        rows = work.update["update"].tokens / config["data"]["init_args"]["row_length"]
        if rows < where.devices:
            broken.append(f"batch: {rows:.0f} rows of an update for {where.devices} devices")
        cores = work.trained / found.total / where.devices * min(where.devices, device.per_node) / DATA_RATE
        if cores > 1 and not config["data"]["init_args"].get("workers"):
            broken.append(f"data: {cores:.0f} cores of each machine must make rows; set data.init_args.workers")
    computing = found.total - found.seconds["communication"]
    if found.seconds["communication"] > computing:
        ratio = found.seconds["communication"] / computing
        broken.append(f"communication: {ratio:.1f} times as long as computing, if nothing hides it")
    if where.sharded and (whole := 4 * parameters(model)) > device.memory / 4:
        broken.append(f"whole weights: {whole / GIB:.0f} GiB on each device while it samples, and in each process for an export")
    return broken


def stages_of(files: Sequence[Path], scale: str | None, start: Path | None) -> list[Planned]:
    """The stages of recipes, equal ones once and one seed; or the one that configs describe, later ones winning."""
    if all("stages" in (read_yaml(path) or {}) for path in files):
        plans = [make_plan(recipe, recipe.seeds[:1]) for recipe in (load_recipe(path, scale) for path in files)]
        return list({digest: stage for plan in plans for digest, stage in plan.stages().items()}.values())
    config = resolve(files, {})
    settings = config["model"]["init_args"]
    if start is not None:
        settings["architecture"] = read_yaml(start)["init_args"]["architecture"]
    elif settings.get("architecture") is None and not Path(settings["init_from"]).exists():
        raise ValueError(
            f"model.init_args.init_from {settings['init_from']!r} does not exist; say by --model what it would be, e.g. "
            "--model configs/model/pretrain_100m.yaml."
        )
    return [Planned(kind_of(config), config, None, "")]


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = ArgumentParser(prog="interplay plan", description=__doc__)
    parser.add_argument("file", type=Path, nargs="+", help="configs of one stage, later ones winning; or recipes; also by name")
    parser.add_argument("--scale", help="of recipes, as `run` takes it")
    parser.add_argument("--model", type=Path, help="config (or its name) with the architecture of weights that are not there yet")
    parser.add_argument("--device", default="h100", help=f"{', '.join([*DEVICES, 'cpu'])} (default: %(default)s)")
    parser.add_argument("--devices", type=int, default=1, help="their number (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args(argv)
    if args.devices < 1:
        raise ValueError(f"--devices {args.devices} must be at least 1.")
    quiet()
    args.file = [named_file(path, "recipe", "experiment") for path in args.file]
    args.model = args.model and named_file(args.model, "model")
    device, table, total = device_named(args.device), {}, 0.0
    for stage in stages_of(args.file, args.scale, args.model):
        model = architecture_of(stage)
        if model is None:
            raise ValueError(f"stage {stage.name!r}: the FLOPs of its architecture are not known (docs/models.md).")
        now = expected(stage, model, Setting.of(stage.config, device, args.devices))
        large = AutoConfig.for_model(**LARGE)
        then = expected(stage, large, Setting.of(stage.config, device, MANY, sharded=True))
        print(f"{_described(stage, model, now, device, args.devices)}\n\n{_large(then, device)}\n")
        table[stage.label] = {"now": vars(now), "large": vars(then)}
        total += now.total + now.evaluation
    print(f"All stages, of one seed: {total / HOUR:.2g} hours, {total * args.devices / HOUR:.2g} device-hours.")
    if args.json:
        args.json.write_text(json.dumps({"device": vars(device), "devices": args.devices, "stages": table}, indent=1))
    return 0


def _described(stage: Planned, model: PretrainedConfig, found: Expected, device: Device, devices: int) -> str:
    """A stage as text."""
    shared = processes(stage.config) or 1
    head = f"{stage.name} ({parameters(model) / 1e6:.0f}M parameters) on {devices} x {device.name}"
    if "group" in stage.config["model"]["init_args"] and devices != shared:
        each = stage.config["data"]["init_args"]["prompts_per_rollout"] * shared / devices
        same = f"to {each:g}" if each.is_integer() else f"so that it divides by {devices}, and then to its share of a device"
        head += f"; for the same rollouts set data.init_args.prompts_per_rollout {same}"
    memory_rows = [["memory of a device", "GiB"], *([name, f"{size / GIB:.2f}"] for name, size in found.memory.items())]
    memory_rows.append(["worst moment", f"{found.peak / GIB:.2f} of {device.memory / GIB:.0f}"])
    time_rows = [["phase", "hours", "share"]]
    time_rows += [[name, f"{s / HOUR:.3g}", f"{s / found.total:.0%}"] for name, s in found.seconds.items()]
    time_rows += [["training", f"{found.total / HOUR:.3g}", "100%"], ["test afterwards", f"{found.evaluation / HOUR:.3g}", ""]]
    facts = (
        f"{found.tokens:.3g} tokens at {found.tokens / found.total:,.0f} a second; {found.flops:.3g} FLOPs; {found.kernels} "
        f"kernels a forward pass; {found.total * devices / HOUR:.3g} device-hours"
    )
    read = f"; a step of sampling reads {found.decode / GIB:.2f} GiB" if found.decode else ""
    return "\n".join([head, align(memory_rows), align(time_rows), facts + read, *_problems(found)])


def _large(found: Expected, device: Device) -> str:
    """The same stage with a large model on many devices."""
    head = (
        f"The same with 8 billion parameters on {MANY} x {device.name} (FSDP2): {found.peak / GIB:.0f} GiB at the worst moment, "
    )
    return "\n".join([head + f"{found.total / HOUR:.3g} hours.", *_problems(found)])


def _problems(found: Expected) -> list[str]:
    return [f"  breaks: {what}" for what in found.breaks] or ["  nothing breaks"]
