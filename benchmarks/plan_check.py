"""`python main.py plan` against what is measured on this CPU, in one run: `python -m benchmarks.plan_check [--out FILE]`.

Predicted and measured seconds of a training step, of log-probabilities without gradients and of a rollout, for models of two
sizes with fresh weights, one thread; and the bytes that a forward pass keeps. On a CPU the model of cost takes the rates of a
product and of a copy measured here for the peak, and reaches all of it. Times are CPU times.
"""

import argparse
import json
import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from transformers import AutoConfig, PretrainedConfig

from benchmarks.rollout_speed import documents
from benchmarks.sides import Job, ours, rows_of
from benchmarks.train_speed import ARCHITECTURE, data
from callbacks.records.run_record import environment
from lightning_modules.models.compute import packed_counts
from lightning_modules.models.flops import forward_flops, training_flops
from lightning_modules.models.language_model import build_language_model
from lightning_modules.rollout import SamplingParams, sample
from recipes.planning.devices import this_cpu
from recipes.planning.stage_cost import Setting, decode_seconds, kept_per_token
from recipes.planning.workload import Phase

SIZES = {"3M": {}, "11M": {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 5, "num_attention_heads": 6}}
ROWS, TOKENS = 16, 256  # of the passes without gradients
GROUP = 8


def kept_bytes(run: Callable[[], Any]) -> int:
    """Bytes of distinct memory that autograd keeps from a forward pass."""
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        held = run()
    del held
    return sum(kept.values())


def check(architecture: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Predicted and measured, by what was measured."""
    settings, where = dict(architecture), Setting(this_cpu(), 1, sharded=False, half=False, checkpointing=False)
    config: PretrainedConfig = AutoConfig.for_model(settings.pop("model_type"), **settings)
    model, rate = build_language_model(architecture), where.device.flops * where.device.share
    job = Job(architecture, rows_of(data(), 8), warm=2, clock=time.process_time)
    counts = [packed_counts(batch.position_BT, batch.document_BT) for batch in job.batches[job.warm :]]
    tokens, attended = (float(sum(part)) for part in zip(*counts, strict=True))
    step = {"predicted": training_flops(config, tokens=tokens, context=attended / tokens) / rate, "measured": ours(job)[0]}
    ids = torch.randint(0, config.vocab_size, (ROWS, TOKENS))
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    kept = kept_bytes(lambda: model(input_ids=ids, use_cache=False).logits) - weights
    memory = {"predicted": ids.numel() * kept_per_token(config, half=False, checkpointing=False), "measured": kept}
    model.eval()
    with torch.no_grad():
        passing = timed(lambda: model(input_ids=ids, use_cache=False))
    passes = {"predicted": forward_flops(config, tokens=ids.numel(), context=(TOKENS + 1) / 2) / rate, "measured": passing}
    found = documents(64)
    prompts, lengths = [d.ids[: d.prompt_tokens] for d in found], [len(d.ids) - d.prompt_tokens for d in found]
    limits = [length for length in lengths for _ in range(GROUP)]
    rollout = timed(lambda: sample(
        model, prompts, GROUP, SamplingParams(max_new_tokens=max(limits)), stop_ids=[], pad_id=1, limits=limits,
    ))  # fmt: skip
    phase = Phase(sum(limits), mean(map(len, prompts)) + mean(limits) / 2)
    predicted = decode_seconds(config, phase, len(limits), mean(limits), len(limits), where)
    predicted += forward_flops(config, tokens=sum(map(len, prompts)), context=mean(map(len, prompts)) / 2) / rate
    return {
        "training step": step, "log-probabilities": passes, "rollout": {"predicted": predicted, "measured": rollout},
        "kept bytes": memory,
    }  # fmt: skip


def timed(run: Callable[[], Any]) -> float:
    """CPU seconds of the faster of two runs."""
    seconds = []
    for _ in range(2):
        started = time.process_time()
        run()
        seconds.append(time.process_time() - started)
    return min(seconds)


def main() -> None:
    """Measure, print the table, keep it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found = {name: check(ARCHITECTURE | changes) for name, changes in SIZES.items()}
    device = this_cpu()
    print(
        f"products {device.flops / 1e9:.0f} GFLOP/s, copies {device.bandwidth / 1e9:.1f} GB/s, a call {device.issue * 1e6:.1f} us"
    )
    print(f"{'model':6} {'what':20} {'predicted':>10} {'measured':>10} {'ratio':>6}")
    for name, rows in found.items():
        for what, pair in rows.items():
            predicted, measured = pair["predicted"], pair["measured"]
            print(f"{name:6} {what:20} {predicted:10.3g} {measured:10.3g} {predicted / measured:6.2f}")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({"environment": environment(), "device": vars(device), "sizes": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
