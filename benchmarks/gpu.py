"""Everything of a GPU in one command, correctness first: `python -m benchmarks.gpu`, at most 8 minutes.

1. the losses and gradients of each attention backend equal a CPU's; rollouts have the log-probabilities of teacher forcing,
   also when their graphs serve a second rollout with other weights, and so do evaluation's shared prefixes;
2. the shipped configs run as they are, a few updates each: tokens a second, memory, waiting for data;
3. training speed by attention backend, with and without torch.compile, against transformers.Trainer in the same run (by `sdpa`
   where flash-attn is missing: compare it with that row); a side whose first loss is another fails.
Each case is tried by itself, and the JSON file in `benchmarks/results/` is written after each. MFU is against the matrix rate
that this GPU reaches (a bf16 product of 8192 x 8192 matrices), not against its data sheet; padding is not counted.
`--device cpu` tries all of it with minute models, which says nothing about speed. Then, as a second command, an experiment:
`python main.py run configs/recipe/extrapolation.yaml --scale small --out runs/small`.
"""

import argparse
import csv
import json
import logging
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import yaml
from transformers import AutoConfig, PreTrainedModel

from benchmarks.sides import Job, ours, rows_of, transformers_trainer
from benchmarks.train_speed import MIXTURE
from callbacks.records.run_record import environment
from datamodules import PretrainDataModule
from datamodules.rows.documents import PackedBatch
from lightning_modules import PretrainModule
from lightning_modules.models.attention import BACKENDS, missing
from lightning_modules.models.compute import packed_counts
from lightning_modules.models.flops import training_flops
from lightning_modules.models.language_model import build_language_model
from lightning_modules.rollout import SamplingParams, sample

ROOT = Path(__file__).parent.parent
SECONDS = 420  # no further case begins after so many
TARGETS = {"tokens_per_s": 400_000, "mfu": 0.5}
ORDER = ("flash_attention_2", "varlen", "flex_attention", "sdpa")  # of backends on a GPU, the fastest expected first
TOLERANCE = {True: 0.02, False: 1e-3}  # of a loss, in 16 bit or not
Case = Callable[[], dict[str, Any]]


def synchronized() -> float:
    """The time when the GPU has done what it was asked."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@dataclass
class Bench:
    """What is measured and where.

    kind:         "cuda", or "cpu" with minute models.
    rows, length: of a batch.      steps: that are timed, after `warm`.
    folder:       of the runs of the shipped configs.
    """

    kind: str
    rows: int
    steps: int
    folder: Path
    length: int = 2048
    warm: int = 5
    peak: float = 0.0
    first_loss: float | None = None
    batches: list[PackedBatch] = field(default_factory=list)

    def __post_init__(self) -> None:
        model = yaml.safe_load((ROOT / "configs/model/pretrain_100m.yaml").read_text())["init_args"]["architecture"]
        minute = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2} if self.kind == "cpu" else {}
        self.architecture = model | minute
        self.device, self.half = torch.device(self.kind), self.kind == "cuda"
        if self.kind == "cpu":
            self.rows, self.steps, self.length, self.warm = 1, 1, 1024, 1
        distinct = rows_of(PretrainDataModule(MIXTURE, "published", row_length=self.length, batch_rows=self.rows), 5)
        self.batches = [distinct[i % len(distinct)] for i in range(self.warm + self.steps)]

    def precision(self) -> Any:
        """That of training."""
        return torch.autocast(self.kind, torch.bfloat16) if self.half else nullcontext()

    def model(self) -> PreTrainedModel:
        """Fresh weights, the same at every call, on the CPU."""
        torch.manual_seed(0)
        return build_language_model(self.architecture).eval()

    def backends(self) -> list[str]:
        """Attention backends that are here."""
        names = ORDER if self.kind == "cuda" else ("documents", "sdpa")
        return [name for name in names if not missing(name, self.device, half=self.half)]

    def cases(self) -> Iterator[tuple[str, Case]]:
        """Names and cases, in order."""
        for name in self.backends():
            yield f"loss, {name}", lambda name=name: self.loss(name)
        yield "rollout, teacher-forced", lambda: self.rollouts(share=False)
        yield "shared prefixes, teacher-forced", lambda: self.rollouts(share=True)
        for name in ("pretrain", "midtrain", "grpo"):
            yield f"shipped config, {name}", lambda name=name: self.shipped(name)
        first, *others = self.backends()
        yield f"speed, {first}", lambda: self.speed({"attention": first})
        yield "speed, transformers.Trainer", lambda: self.speed("flash_attention_2" if first == "flash_attention_2" else "sdpa")
        if self.kind == "cuda":
            yield f"speed, {first}, compiled", lambda: self.speed({"attention": first, "compile": True})
            for name in others:
                yield f"speed, {name}", lambda name=name: self.speed({"attention": name})

    def loss(self, name: str) -> dict[str, Any]:
        """Loss and size of the gradient of one batch, against those of a CPU in float32 by sdpa."""
        wanted, found = self._loss("sdpa", "cpu", half=False), self._loss(name, self.kind, half=self.half)
        off = max(abs(a - b) / abs(b) for a, b in zip(found, wanted, strict=True))
        return {"loss": found[0], "gradient": found[1], "on a CPU": wanted, "off": off, "ok": off < TOLERANCE[self.half]}

    def _loss(self, name: str, kind: str, *, half: bool) -> tuple[float, float]:
        torch.manual_seed(0)
        module, backend = PretrainModule(self.architecture), BACKENDS[name]()
        module.language_model, module.backend = self.model().to(kind), backend
        batch = rows_of(PretrainDataModule(MIXTURE, "published", row_length=self.length, batch_rows=1), 1)[0]
        edges = backend.edges(batch.document_BT)
        parts = [None if x is None else x.to(kind) for x in (batch.tokens_BT, batch.labels_BT, batch.position_BT, edges)]
        document_BT = batch.document_BT.to(kind)
        with torch.autocast(kind, torch.bfloat16, enabled=half), backend.attending(module.language_model):
            sums_3 = module._sums(*parts[:3], **backend.arguments(document_BT, parts[3]))
        loss = sums_3[0] / sums_3[2]
        loss.backward()
        squares = [p.grad.float().square().sum() for p in module.language_model.parameters() if p.grad is not None]
        return loss.item(), torch.stack(squares).sum().sqrt().item()

    def rollouts(self, *, share: bool) -> dict[str, Any]:
        """Two rollouts of one model, whose weights change in between: mean and largest gap to teacher forcing, nats."""
        model, gaps, seconds = self.model().to(self.device), [], []
        model.get_output_embeddings().weight.data *= 3  # samples of a surer model
        long = 8 if self.kind == "cpu" else 200
        prompts = [list(range(5, 5 + n)) for n in (3, 40, 17, 9)]
        params = SamplingParams(max_new_tokens=long, max_rows=16)
        for _ in range(2):
            started = synchronized()
            with self.precision():
                done = sample(model, prompts, 8, params, stop_ids=[], pad_id=1, share=share)
                seconds.append(synchronized() - started)
                gaps += [self._gap(model, prompts[n // 8], done.tokens_NT[n], done.logp_NT[n]) for n in range(32)]
            for parameter in model.parameters():
                parameter.data += 0.01 * parameter.data.std() * torch.randn_like(parameter)
        found = torch.cat(gaps)
        bound = 0.05 if self.half else 1e-4
        mean = found.mean().item()
        return {"mean gap": mean, "largest gap": found.max().item(), "seconds": seconds, "ok": mean < bound}

    @torch.no_grad()
    def _gap(self, model: PreTrainedModel, prompt: list[int], token_T: torch.Tensor, logp_T: torch.Tensor) -> torch.Tensor:
        ids = torch.cat([torch.tensor(prompt, device=self.device), token_T])[None]
        logits_TV = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
        return (logits_TV.log_softmax(-1).gather(1, token_T[:, None]).squeeze(1) - logp_T).abs()

    def shipped(self, name: str) -> dict[str, Any]:
        """A few updates of an experiment as it is shipped, in a process of its own, from what the stage before left here."""
        parent = {"midtrain": "pretrain", "grpo": "midtrain"}.get(name)
        size = "paper" if self.kind == "cuda" else "quickstart"
        trainer = "single_gpu" if self.kind == "cuda" else "cpu"
        steps, folder = {"grpo": 4, "midtrain": 3}.get(name, 8) if self.kind == "cuda" else 2, self.folder / name
        settings = {
            "trainer.max_steps": steps, "trainer.default_root_dir": folder, "trainer.log_every_n_steps": 1,
            "trainer.limit_val_batches": 0, "trainer.enable_progress_bar": "false",
        }  # fmt: skip
        settings |= {"model.init_args.init_from": self.folder / parent / "huggingface"} if parent else {}
        if self.kind == "cpu":
            settings |= MINUTE[name]
        files = [f"configs/experiment/{size}_{name}.yaml", f"configs/trainer/{trainer}.yaml"]
        words = [*(f"--config={file}" for file in files), *(f"--{key}={value}" for key, value in settings.items())]
        command = [sys.executable, "main.py", "fit", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
        if done.returncode:
            raise RuntimeError((done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1])
        last: dict[str, float] = {}
        with (folder / "metrics.csv").open() as file:
            for row in csv.DictReader(file):
                last |= {key: float(value) for key, value in row.items() if key.startswith("train/") and value}
        return {"updates": steps, "ok": True} | last

    def speed(self, what: dict[str, Any] | str) -> dict[str, Any]:
        """Tokens per second, MFU, memory and first loss of our module with settings, or of transformers.Trainer's attention."""
        job = Job(self.architecture, self.batches, self.kind, "bf16-mixed" if self.half else "32-true", self.warm, synchronized)
        if self.kind == "cuda":
            self.peak = self.peak or matmul_rate()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        if isinstance(what, str):
            with TemporaryDirectory() as folder:
                seconds, loss = transformers_trainer(job, folder, what)
        else:
            job.settings = what
            seconds, loss, _ = ours(job)
        self.first_loss = self.first_loss or loss
        same = abs(loss - self.first_loss) < TOLERANCE[self.half] * self.first_loss  # or the sides do not do the same work
        found = {"tokens_per_s": job.timed_tokens / seconds, "first_loss": loss, "ok": same}
        if self.kind == "cuda":
            found["mfu"] = flops(self.batches[self.warm :], self.architecture) / seconds / self.peak
            found["memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        return found


_SMALL = {"data.init_args.batch_rows": 1, "data.init_args.row_length": 256}
MINUTE: dict[str, dict[str, Any]] = {
    "pretrain": _SMALL | {"model.init_args.architecture.hidden_size": 32, "model.init_args.architecture.intermediate_size": 64},
    "midtrain": _SMALL,
    "grpo": {"data.init_args.prompts_per_rollout": 2, "model.init_args.sampling.max_new_tokens": 8},
}


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


def run_cases(cases: Iterator[tuple[str, Case]], file: Path, facts: dict[str, Any], seconds: float) -> dict[str, dict[str, Any]]:
    """Run cases, each by itself; write what is known after each, and begin none after `seconds`."""
    begun, found = time.monotonic(), {}
    for name, case in cases:
        started = time.monotonic()
        if started - begun > seconds:
            found[name] = {"ok": None, "error": "no time left"}
        else:
            try:
                found[name] = case()
            except Exception as err:  # noqa: BLE001 (a case that fails says so, and the others run)
                found[name] = {"ok": False, "error": " ".join(f"{type(err).__name__}: {err}".split())[:500]}
        found[name]["case_seconds"] = round(time.monotonic() - started, 1)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(facts | {"cases": found}, indent=1) + "\n")
        print(f"{'ok    ' if found[name]['ok'] else 'FAILED'} {name}: {_line(found[name])}", flush=True)
    return found


def _line(found: dict[str, Any]) -> str:
    """The numbers of a case in a line."""
    numbers = {key: value for key, value in found.items() if isinstance(value, float)}
    return found.get("error") or ", ".join(f"{key} {value:,.4g}" for key, value in numbers.items())


def main(argv: list[str] | None = None) -> int:
    """Run the cases; exit status 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--rows", type=int, default=32, help="rows of 2,048 tokens in a batch")
    parser.add_argument("--steps", type=int, default=20, help="steps that are timed")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results")
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("this benchmark needs a CUDA GPU; `--device cpu` tries it with minute models.")
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    name = torch.cuda.get_device_name().replace(" ", "_") if args.device == "cuda" else "cpu"
    with TemporaryDirectory() as folder:
        bench = Bench(args.device, args.rows, args.steps, Path(folder))
        cases = ((case, run) for case, run in bench.cases() if args.only in case)
        facts = {"environment": environment(), "rows": bench.rows, "targets": TARGETS}
        found = run_cases(cases, args.out / f"gpu_{name}.json", facts, SECONDS)
    for what, target in TARGETS.items():
        print(f"{what}: {max((case.get(what, 0.0) for case in found.values()), default=0.0):,.4g} of {target:,.4g} aimed at")
    return int(any(case["ok"] is False for case in found.values()))


if __name__ == "__main__":
    sys.exit(main())
