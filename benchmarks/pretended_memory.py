"""Peak memory of a training step at the scales of the paper, without a GPU: `python -m benchmarks.pretended_memory`.

Each case runs a step of a shipped config on a pretended device (pretended_device.py): first the bytes of a token are measured
as a run on a GPU would measure them, then weights, Adam's states, gradients and a whole step are live. Rows of a rollout have
the lengths of gold solutions, and one sample that never ends. Needs a PyTorch that is linked against CUDA, as `make pretend-gpu`
has one.

--out FILE  writes the figures as JSON. Exit status 1: a step is above its bound, or waits for the device.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from benchmarks.pretended_device import GIB, ROOT, linked, pretended
from datamodules.problems.mixture import Component, Mixture
from datamodules.problems.synthesis import Synthesis
from datamodules.rows.documents import PackedBatch, encode
from datamodules.rows.tokenizer import load_tokenizer
from lightning_modules import GRPOModule, PPOModule, PretrainModule
from lightning_modules.models.attention import BACKENDS
from lightning_modules.models.critic import SeparateCritic
from lightning_modules.models.language_model import build_language_model
from lightning_modules.models.memory import learning_bytes, pass_tokens
from lightning_modules.policy.experience import ExperienceBatch
from lightning_modules.policy.policy_module import PolicyModule
from lightning_modules.policy.trust_region import Clip, KLPenalty
from lightning_modules.rewards import OutcomeReward
from lightning_modules.stage import StageModule

CONTEXTS = ("crazy_zootopia", "teachers_in_school", "movie_festival_awards")
ROW = 2048


@dataclass(frozen=True)
class Case:
    """A step: what the paper or a shipped config asks for, and the GiB that it must stay below on a device with `device` GiB.

    model: file of the architecture.    rows: of a batch, or of a minibatch of a rollout.
    ops:   of the rollout's problems.   longest: tokens of the sample that never ends.
    """

    model: str
    rows: int
    device: float
    most: float
    kind: str = "pretrain"
    ops: str = ""
    longest: int = 0


CASES = {
    "pre-training, 100M, 32 rows": Case("pretrain_100m", 32, 80, 75),
    "pre-training, 400M, 32 rows": Case("pretrain_400m", 32, 80, 75),
    "pre-training, small, 32 rows": Case("pretrain_12m", 32, 24, 20),
    "GRPO, paper": Case("pretrain_100m", 1536, 80, 60, "grpo", "11-14", 1024),
    "PPO, paper": Case("pretrain_100m", 1536, 80, 60, "ppo", "11-14", 1024),
    "GRPO, small": Case("pretrain_12m", 1024, 24, 20, "grpo", "7-9", 512),
}  # fmt: skip


def architecture(name: str) -> dict[str, Any]:
    """That of a file in configs/model."""
    return yaml.safe_load((ROOT / f"configs/model/{name}.yaml").read_text())["init_args"]["architecture"]


def lengths(case: Case) -> list[tuple[int, int]]:
    """Tokens of prompt, and of prompt and completion."""
    source, prompts = Synthesis(Mixture([Component(case.ops, CONTEXTS)])), 64
    documents = encode([source.example("train", i) for i in range(prompts)], load_tokenizer("published"))
    found = [(d.prompt_tokens, len(d.ids)) for d in documents]
    rows = [found[n % prompts] for n in range(case.rows)]
    first = max(prompt for prompt, _ in rows)
    return [(first, first + case.longest), *rows[1:]]


def stage(case: Case) -> StageModule:
    """The module of a case, without its models."""
    return {
        "pretrain": lambda: PretrainModule(architecture(case.model)),
        "grpo": lambda: GRPOModule("start", OutcomeReward(), clip=Clip(dual=3.0), kl=KLPenalty(weight=1e-3)),
        "ppo": lambda: PPOModule("start", OutcomeReward(), critic=SeparateCritic(), kl=KLPenalty(weight=1e-3)),
    }[case.kind]()  # fmt: skip


def set_up(module: StageModule, case: Case, device: str) -> None:
    """Give it models on the pretended device, as a run would."""
    module._device = torch.device(device, 0) if device == "cuda" else torch.device(device)
    with torch.device(device):
        module.language_model = build_language_model(architecture(case.model)).train()
        if isinstance(module, PPOModule):
            module.critic.model = build_language_model(architecture(case.model)).train().base_model
            module.critic.head = nn.Linear(module.language_model.config.hidden_size, 1)
    module.backend = BACKENDS["varlen"]()


def policy_batch(case: Case, rows: list[tuple[int, int]], device: str) -> ExperienceBatch:
    """A minibatch of these lengths."""
    shape = (case.rows, max(end for _, end in rows) - 1)
    floats = {name: torch.zeros(shape, device=device) for name in
              ("logp_old_NT", "logp_ref_NT", "value_NT", "advantage_NT", "return_NT")}  # fmt: skip
    one = torch.ones((), device=device)
    return ExperienceBatch(
        torch.zeros(case.rows, dtype=torch.int64, device=device),
        torch.zeros(shape[0], shape[1] + 1, dtype=torch.int64, device=device),
        torch.zeros(shape, dtype=torch.bool, device=device), logp_sampled_NT=torch.zeros(shape, device=device),
        tokens=one, sequences=one, weight_N1=torch.ones(case.rows, 1, device=device), lengths=rows, **floats,
    )  # fmt: skip


def packed_batch(case: Case, module: PretrainModule, device: str) -> PackedBatch:
    """Packed rows, with the boundaries of 8 documents in each."""
    ids = [torch.zeros(case.rows, ROW, dtype=torch.int64, device=device) for _ in range(4)]
    batch = PackedBatch(*ids)
    parts = len(batch.parts(module.rows_per_pass(batch)))
    batch.edges_PD = torch.zeros(parts, 128 * (-(-8 * case.rows // parts // 128)), dtype=torch.int32, device=device)
    return batch


def budget(case: Case) -> int:
    """`tokens_per_pass` as the device would give it."""
    module = stage(case)
    with pretended("cuda", gib=case.device) as watch:
        set_up(module, case, "cuda")
        for parameter in module.parameters():
            watch.track(parameter)
        with torch.autocast("cuda", torch.bfloat16):
            return pass_tokens(module.states, torch.device("cuda"), learning_bytes(module))


def step(case: Case, tokens: int, device: str, *, backward: bool) -> dict[str, Any]:
    """Peak GiB of a step, its kernels, and what the host waited for."""
    module, rows = stage(case), lengths(case) if case.ops else []
    module.tokens_per_pass = tokens
    with pretended(device) as watch:
        set_up(module, case, device)
        states = [torch.empty(2, *p.shape, device=device) for p in module.parameters()]  # Adam's
        for tensor in (*module.parameters(), *states):
            watch.track(tensor)
        if isinstance(module, PolicyModule):
            batch = policy_batch(case, rows, device)
        else:
            module.trainer = SimpleNamespace(world_size=1, accumulate_grad_batches=1)
            module.step_sums = torch.zeros(4, dtype=torch.float64, device=device)
            batch = packed_batch(case, module, device)
        watch.waits.clear()
        watch.kernels = 0
        with torch.autocast(device, torch.bfloat16):
            loss: Tensor = module.training_step(batch, 0)["loss"]
        if backward:
            loss.backward()
        del states
    return {"peak_gib": round(watch.peak / GIB, 1), "kernels": watch.kernels, "waits": dict(watch.waits)}


def measure(case: Case, report: Callable[[str], None] = print) -> dict[str, Any]:
    """`tokens_per_pass`, the peak of a whole step, and the waits of its forward passes."""
    tokens = budget(case)
    whole = step(case, tokens, "cpu", backward=True)
    forward = step(case, tokens, "cuda", backward=False)
    found = {
        "tokens_per_pass": tokens, "device_gib": case.device, "peak_gib": whole["peak_gib"], "most_gib": case.most,
        "kernels_forward": forward["kernels"], "waits": forward["waits"],
    }  # fmt: skip
    report(json.dumps(found))
    return found


def main() -> None:
    """Measure, print the table, keep it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    if not linked():
        raise SystemExit("this benchmark needs a PyTorch that is linked against CUDA: `make pretend-gpu` has one.")
    table = {name: measure(case) for name, case in CASES.items()}
    print(f"{'step':30} {'device, GiB':>11} {'tokens a pass':>13} {'peak, GiB':>10} {'must be below':>14}")
    for name, found in table.items():
        print(
            f"{name:30} {found['device_gib']:11} {found['tokens_per_pass']:13,} {found['peak_gib']:10.1f} {found['most_gib']:14}"
        )
    if args.out:
        args.out.write_text(json.dumps({"torch": torch.__version__, "steps": table}, indent=1) + "\n")
    if broken := [name for name, found in table.items() if found["peak_gib"] > found["most_gib"] or found["waits"]]:
        raise SystemExit(f"above their bound, or waiting for the device: {', '.join(broken)}")


if __name__ == "__main__":
    main()
