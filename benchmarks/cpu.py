"""What the quickstart's model does with a CPU, phase by phase, now and before: `python -m benchmarks.cpu [--isa avx2]`.

Tokens per second of training, rollouts, RL updates and evaluation, and which share of the CPU's own rate that is: fp32 products
of matrices of the model's shapes on one thread, times threads. FLOPs are those of linear layers on real tokens (logits where one
has a label), so attention, norms, sampling, Python and padding are all loss. `before` does what commit 32db771 did, in fp32 and
with Muon mended. Training: attention by a mask over packed rows, logits everywhere, Muon matrix by matrix. In all phases: threads
that sleep whenever they wait (OMP_WAIT_POLICY=passive), and in the others nothing else. Every side is a process of its own;
sides take turns, and medians count. `--isa avx2` holds PyTorch, oneDNN and MKL to AVX2. `--profile` says where the time
of a training step goes instead, on two threads.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import yaml
from jsonargparse import ArgumentParser
from lightning import LightningDataModule, Trainer
from torch.nn.functional import cross_entropy, linear
from transformers import AutoModelForCausalLM, PreTrainedModel

from benchmarks.eval_speed import trained
from callbacks.records.run_record import environment
from datamodules.rows.documents import IGNORE, PackedBatch
from lightning_modules.models.attending import attending
from lightning_modules.models.attention import SDPA, Backend, Documents
from lightning_modules.models.flops import matmul_parameters
from lightning_modules.models.group_forward import group_counts, grouped_logp
from lightning_modules.optimizers import AdamW, Muon, factories
from lightning_modules.optimizers.muon import orthogonalised
from lightning_modules.rollout import Completions, SamplingParams, sample

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
PASSIVE, AWAKE = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}, {"GOMP_SPINCOUNT": "3000"}
SIDES = {f"{when}-{threads}": {"when": when, "threads": threads} for threads in (1, 2) for when in ("before", "now")}
TARGETS = {"training": 2.0, "rollout": None, "update": None, "RL step": 1.5, "evaluation": None}  # phase -> now-2 over before-2
GROUP, SAMPLES = 8, 8


def data_of(stage: str, steps: int) -> LightningDataModule:
    """The data module of a quickstart config, as a Trainer sees it."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data")
    config = parser.parse_object({"data": yaml.safe_load(Path(f"configs/data/quickstart_{stage}.yaml").read_text())})
    data = parser.instantiate_classes(config).data
    data.trainer = Trainer(
        max_steps=steps, logger=False, enable_checkpointing=False, accelerator="cpu", devices=1, enable_model_summary=False
    )
    return data


def seconds(work: Callable[[], Any], times: int) -> float:
    """Median of several runs, after one to warm up."""
    work()
    found = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def product_rate(model: PreTrainedModel, tokens: int) -> float:
    """FLOP/s of one thread in the products of a layer, forward and backward, as training does them."""
    shapes = [p.shape for p in model.base_model.layers[0].parameters() if p.ndim == 2]
    inputs = {width: torch.randn(tokens, width) for width in {size for shape in shapes for size in shape}}
    weights = [torch.randn(shape) for shape in shapes]

    def work() -> None:
        for weight in weights:
            out, into = weight.shape
            linear(inputs[into], weight)
            inputs[out] @ weight
            inputs[out].T @ inputs[into]

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rate = 3 * sum(2 * tokens * shape.numel() for shape in shapes) / seconds(work, 8)
    torch.set_num_threads(threads)
    return rate


@contextmanager
def matrix_by_matrix() -> Iterator[None]:
    """Muon as torch has it, a matrix at a time, but orthogonalising in float32."""

    def alone(grad: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> torch.Tensor:
        return orthogonalised(grad[None], coefficients, steps, eps=eps)[0]

    with (
        patch.object(factories, "BatchedMuon", torch.optim.Muon),
        patch.object(torch.optim._muon, "_zeropower_via_newtonschulz", alone),
    ):
        yield


def training(model: PreTrainedModel, batches: list[PackedBatch], before: bool) -> tuple[float, float, float]:
    """Seconds of a step, its real tokens, those with a label."""
    with matrix_by_matrix() if before else nullcontext():
        return _training(model, batches, SDPA() if before else Documents())


def _training(model: PreTrainedModel, batches: list[PackedBatch], backend: Backend) -> tuple[float, float, float]:
    optimizer, numbers = Muon()(model), iter(range(1 << 30))

    def step() -> None:
        batch = batches[next(numbers) % len(batches)]
        with attending(model, backend.name):
            where = backend.arguments(batch.document_BT, None)
            logits, labels = backend.logits(model, batch.tokens_BT, batch.labels_BT, batch.position_BT, **where)
        cross_entropy(logits, labels, ignore_index=IGNORE).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    took = seconds(step, len(batches) - 1)
    real = statistics.mean(float((batch.document_BT > 0).sum()) for batch in batches)
    return took, real, statistics.mean(float((batch.labels_BT != IGNORE).sum()) for batch in batches)


def update(model: PreTrainedModel, prompts: list[list[int]], done: Completions) -> tuple[float, float, float]:
    """Seconds of an update on all completions, tokens that pass through the model, those predicted."""
    rows = [[*prompts[n // GROUP], *ids] for n, ids in enumerate(done.rows())]
    tokens_NT = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    column_T, first_N1 = torch.arange(1, tokens_NT.shape[1]), torch.tensor([[len(prompts[n // GROUP])] for n in range(len(rows))])
    mask_NT = (column_T >= first_N1) & (column_T < first_N1 + done.length_N[:, None])
    optimizer = AdamW(lr=1e-9)(model)

    def step() -> None:
        grouped_logp(model, tokens_NT, mask_NT).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return seconds(step, 3), float(group_counts(tokens_NT, mask_NT)[0]), float(mask_NT.sum())


def sampling(
    model: PreTrainedModel, prompts: list[list[int]], stop: list[int], pad: int
) -> tuple[float, Completions, list[float]]:
    """Seconds, the completions, and tokens that passed through layers and head (equal beginnings do once)."""
    passed = [0.0, 0.0]

    def count(place: int) -> Callable[..., None]:
        def hook(module: torch.nn.Module, args: tuple, *rest: object) -> None:
            passed[place] += args[0].shape[:-1].numel()

        return hook

    def work() -> Completions:
        torch.manual_seed(0)
        return sample(model, prompts, GROUP, SamplingParams(max_new_tokens=96), stop_ids=stop, pad_id=pad)

    hooks = [
        model.base_model.layers[0].mlp.register_forward_pre_hook(count(0)),
        model.lm_head.register_forward_pre_hook(count(1)),
    ]
    done = work()
    for hook in hooks:
        hook.remove()
    return seconds(work, 3), done, passed


def measure(when: str, threads: int, start: Path) -> dict[str, Any]:
    """All phases of one side, in this process."""
    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(start)
    batches, data = list(data_of("pretrain", 12).train_dataloader()), data_of("grpo", 4)
    layers = matmul_parameters(model.config) - (head := model.config.hidden_size * model.config.vocab_size)
    rate = product_rate(model, int((batches[0].document_BT > 0).sum()))
    tokenizer = data.tokenizer
    stop, pad = [tokenizer.convert_tokens_to_ids("</answer>"), tokenizer.eos_token_id], tokenizer.pad_token_id
    prompts, held_out = data.prompts(0).prompt_ids, [ids for batch in data.test_dataloader() for ids in batch.prompt_ids][::8]
    model.eval()
    took, done, passed = sampling(model, prompts, stop, pad)
    found = {"rollout": (took, float(done.length_N.sum()), 2 * (layers * passed[0] + head * passed[1]))}
    took, answers, passed = sampling(model, held_out, stop, pad)
    found["evaluation"] = (took, float(answers.length_N.sum()), 2 * (layers * passed[0] + head * passed[1]))
    model.train()
    took, tokens, predicted = update(model, prompts, done)
    found["update"] = (took, predicted, 6 * (layers * tokens + head * predicted))
    both = zip(found["rollout"], found["update"], strict=True)
    found["RL step"] = tuple(a if n == 1 else a + b for n, (a, b) in enumerate(both))  # the same tokens, sampled and learned from
    took, tokens, labelled = training(model, batches, when == "before")
    found["training"] = (took, tokens, 6 * (layers * tokens + head * labelled))
    return {
        "product_rate": rate, "cpu": environment()["cpu"],
        "tokens_per_s": {phase: tokens / took for phase, (took, tokens, _) in found.items()},
        "share": {phase: flops / took / (rate * threads) for phase, (took, _, flops) in found.items()},
    }  # fmt: skip


def profile(start: Path, most: int = 10) -> str:
    """Operators of training steps by their share of the time, the costliest first."""
    torch.set_num_threads(2)
    model, batches = AutoModelForCausalLM.from_pretrained(start), list(data_of("pretrain", 6).train_dataloader())
    training(model, batches, before=False)  # warm
    with torch.profiler.profile() as found:
        training(model, batches, before=False)
    operators = sorted(found.key_averages(), key=lambda operator: -operator.self_cpu_time_total)
    total = sum(operator.self_cpu_time_total for operator in operators)
    rows = [(operator.key, operator.self_cpu_time_total / total, operator.count) for operator in operators[:most]]
    return "\n".join(f"{name:60} {share:6.1%} {count:7}" for name, share, count in rows)


def in_turns(rounds: int, isa: dict[str, str], start: Path) -> dict[str, list[dict[str, Any]]]:
    """Each side in a process of its own, `rounds` times."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in SIDES}
    held = {key: value for key, value in os.environ.items() if key not in {*PASSIVE, *AWAKE}}
    for _ in range(rounds):
        for name, side in SIDES.items():
            waiting = PASSIVE if side["when"] == "before" else AWAKE
            command = [sys.executable, "-m", "benchmarks.cpu", "--side", name, "--start", str(start)]
            done = subprocess.run(command, env=held | isa | waiting, capture_output=True, text=True, check=True)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    return found


def medians(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Phase -> median tokens per second and share."""
    return {
        phase: {key: statistics.median(row[key][phase] for row in rows) for key in ("tokens_per_s", "share")} for phase in TARGETS
    }


def main() -> None:
    """Measure, print the table, keep it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--isa", choices=("own", "avx2"), default="own", help="hold the libraries to AVX2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--start", type=Path, help="Hugging Face folder of a trained quickstart model (default: trains one)")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--profile", action="store_true", help="where the time of a training step goes")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    start = args.start or trained()
    if args.profile:
        print(profile(start))
        return
    if args.side:
        print(json.dumps(measure(**SIDES[args.side], start=start)))
        return
    found = in_turns(args.rounds, AVX2 if args.isa == "avx2" else {}, start)
    table, cpu = {name: medians(rows) for name, rows in found.items()}, found["now-1"][0]["cpu"]
    rate = statistics.median(row["product_rate"] for rows in found.values() for row in rows)
    print(
        f"{cpu['name']}, {cpu['capability']}: {rate / 1e9:.0f} GFLOP/s a thread in fp32 products; tokens/s (share of that rate)"
    )
    print(f"{'phase':11}" + "".join(f"{name:>17}" for name in SIDES) + f"{'2 threads':>11} {'target':>7}")
    for phase in TARGETS:
        cells = "".join(f"{s[phase]['tokens_per_s']:>10,.0f} ({s[phase]['share']:4.0%})" for s in table.values())
        ratio, target = table["now-2"][phase]["tokens_per_s"] / table["before-2"][phase]["tokens_per_s"], TARGETS[phase]
        print(f"{phase:11}{cells}{ratio:10.2f}x {f'{target}x' if target else '':>7}")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        kept = {
            "environment": environment() | {"cpu": cpu},
            "isa": args.isa,
            "product_rate": rate,
            "sides": table,
            "rounds": found,
        }
        args.out.write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
