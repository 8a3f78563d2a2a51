"""Training speed on a GPU: tokens per second and MFU of the 100M model at 2,048 tokens in bf16, in one command, under 9 minutes.

`python -m benchmarks.gpu`. By attention backend, with and without torch.compile, against transformers.Trainer in the same run.
MFU here is against the matrix rate that this GPU reaches (a bf16 product of 8192 x 8192 matrices), not against its data sheet.
Results stay in `benchmarks/results/`, with versions. Tokens are real ones: padding is not counted, in neither tokens nor FLOPs.
"""

import argparse
import json
import logging
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import yaml
from transformers import AutoConfig

from benchmarks.sides import Job, ours, rows_of, transformers_trainer
from benchmarks.train_speed import MIXTURE
from callbacks.records.run_record import environment
from datamodules import PretrainDataModule
from datamodules.rows.documents import PackedBatch
from lightning_modules.models.attention import BACKENDS, missing
from lightning_modules.models.compute import packed_counts
from lightning_modules.models.flops import training_flops

ROOT = Path(__file__).parent.parent
SECONDS = 500  # no further case begins after so many
TARGETS = {"tokens_per_s": 400_000, "mfu": 0.5}


def synchronized() -> float:
    """The time when the GPU has done what it was asked."""
    torch.cuda.synchronize()
    return time.perf_counter()


def matmul_rate(size: int = 8192, repeats: int = 50) -> float:
    """FLOP/s of bf16 matrix products, the best of three runs."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    rates = []
    for _ in range(4):  # the first warms up
        started = synchronized()
        for _ in range(repeats):
            a @ b
        rates.append(2 * size**3 * repeats / (synchronized() - started))
    return max(rates[1:])


def flops(batches: list[PackedBatch], architecture: dict[str, Any]) -> float:
    """FLOPs of training on the real tokens of batches, each attending within its document."""
    settings = dict(architecture)
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    counts = [packed_counts(batch.position_BT, batch.document_BT) for batch in batches]
    tokens, attended = (float(sum(part)) for part in zip(*counts, strict=True))
    return training_flops(config, tokens=tokens, context=attended / tokens)


def cases() -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Name, and settings of our module or the attention of transformers.Trainer; the fastest expected first."""
    device = torch.device("cuda")
    there = [name for name in ("flash_attention_2", "varlen", "flex_attention", "sdpa") if not missing(name, device, half=True)]
    assert there[0] in BACKENDS
    yield f"ours, {there[0]}", {"attention": there[0]}
    yield f"ours, {there[0]}, compiled", {"attention": there[0], "compile": True}
    yield "transformers.Trainer", "flash_attention_2" if "flash_attention_2" in there else "sdpa"
    for name in there[1:]:
        yield f"ours, {name}", {"attention": name}
        yield f"ours, {name}, compiled", {"attention": name, "compile": True}


def main() -> None:
    """Measure, print the table, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=32, help="rows of 2,048 tokens in a batch")
    parser.add_argument("--steps", type=int, default=20, help="steps that are timed")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("this benchmark needs a CUDA GPU; `python -m benchmarks.train_speed` is the one for a CPU.")
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    begun, warm = time.monotonic(), 5
    architecture = yaml.safe_load((ROOT / "configs/model/pretrain_100m.yaml").read_text())["init_args"]["architecture"]
    distinct = rows_of(PretrainDataModule(MIXTURE, "published", row_length=2048, batch_rows=args.rows), 5)
    batches = [distinct[i % len(distinct)] for i in range(warm + args.steps)]
    peak, table = matmul_rate(), {}
    for name, what in cases():
        if time.monotonic() - begun < SECONDS:
            table[name] = measure(what, Job(architecture, batches, "cuda", "bf16-mixed", warm, synchronized), peak)
    print(f"{torch.cuda.get_device_name()}: {peak / 1e12:.0f} TFLOP/s in bf16 products; {args.rows} rows a batch")
    print(f"{'case':38} {'tokens/s':>10} {'MFU':>6} {'GiB':>6}    (targets: {TARGETS['tokens_per_s']:,}, {TARGETS['mfu']:.0%})")
    for name, found in table.items():
        print(f"{name:38} {found['tokens_per_s']:10,.0f} {found['mfu']:6.1%} {found['memory_gib']:6.1f}")
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / f"gpu_training_{torch.cuda.get_device_name().replace(' ', '_')}.json"
    file.write_text(json.dumps({"environment": environment(), "matmul_flops": peak, "rows": args.rows, "cases": table}, indent=1))


def measure(what: dict[str, Any] | str, job: Job, peak: float) -> dict[str, float]:
    """Tokens per second, MFU, memory and first loss of a case."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    if isinstance(what, str):
        with TemporaryDirectory() as folder:
            seconds, loss = transformers_trainer(job, folder, what)
    else:
        job.settings = what
        seconds, loss, _ = ours(job)
    return {
        "tokens_per_s": job.timed_tokens / seconds,
        "mfu": flops(list(job.batches[job.warm :]), job.architecture) / seconds / peak,
        "memory_gib": torch.cuda.max_memory_allocated() / 2**30, "first_loss": loss,
    }  # fmt: skip


if __name__ == "__main__":
    main()
