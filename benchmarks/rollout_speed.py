"""Sampling against transformers' `generate`, on a CPU, in one run. `python -m benchmarks.rollout_speed`.

Same model (the quickstart's, fresh weights: how long a token takes does not depend on them), same prompts, lengths forced to
those of reference solutions of op 2-10. Ratios of tokens of finished samples per second, so that noise hits both sides; ours is
timed before and after `generate`. `generate` is given each prompt once per sample, as transformers does it for groups.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import mean

import torch
import yaml
from transformers import PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from callbacks.records.run_record import environment
from datamodules.problems.mixture import Component, Mixture
from datamodules.problems.synthesis import Synthesis
from datamodules.rows.documents import Document, encode
from datamodules.rows.tokenizer import load_tokenizer
from lightning_modules.models.language_model import build_language_model
from lightning_modules.rollout import SamplingParams, sample

MODEL, TARGET = "configs/model/pretrain_tiny.yaml", 3.0


class Lengths(StoppingCriteria):
    """Ends each row at its own length; `generate` goes on until all have ended."""

    def __init__(self, prompt: int, limit_N: torch.Tensor) -> None:
        """Keep the lengths."""
        self.end_N = prompt + limit_N

    def __call__(self, input_ids: torch.Tensor, scores: object, **kwargs: object) -> torch.Tensor:
        """[N] bool: has ended."""
        return input_ids.shape[1] >= self.end_N


def documents(count: int) -> list[Document]:
    """Reference solutions, op 2-10 evenly, with their prompts."""
    synthesis = Synthesis(Mixture([Component("2-10", ["garden"])]))
    return encode([synthesis.example("train", i) for i in range(count)], load_tokenizer("garden"))


def by_generate(model: PreTrainedModel, prompts: list[list[int]], group: int, limits: list[int]) -> None:
    """Left-padded prompts, sampled with a dynamic cache."""
    width = max(map(len, prompts))
    ids = torch.tensor([[1] * (width - len(p)) + p for p in prompts], device=model.device)
    limit_N = torch.tensor(limits, device=model.device)
    model.generate(
        ids, attention_mask=(ids != 1).long(), do_sample=True, temperature=1.0, top_k=0, top_p=1.0, num_return_sequences=group,
        max_new_tokens=max(limits), eos_token_id=None, pad_token_id=1,
        stopping_criteria=StoppingCriteriaList([Lengths(width, limit_N)]),
    )  # fmt: skip


def by_us(model: PreTrainedModel, prompts: list[list[int]], group: int, limits: list[int]) -> None:
    """The native engine."""
    params = SamplingParams(max_new_tokens=max(limits))
    done = sample(model, prompts, group, params, stop_ids=[], pad_id=1, limits=limits)
    assert done.length_N.tolist() == limits


def main() -> None:
    """Measure, print the table, keep it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = build_language_model(yaml.safe_load(Path(MODEL).read_text())["init_args"]["architecture"]).eval()
    found = documents(args.prompts)
    prompts = [d.ids[: d.prompt_tokens] for d in found]
    limits = [len(d.ids) - d.prompt_tokens for d in found for _ in range(args.group)]
    by_us(model, prompts[:2], args.group, limits[: 2 * args.group])  # warm up
    seconds: dict[str, list[float]] = {"generate": [], "native": []}
    for name in ("native", "generate", "native"):
        started = time.perf_counter()
        {"native": by_us, "generate": by_generate}[name](model, prompts, args.group, limits)
        seconds[name].append(time.perf_counter() - started)
    rate = {name: sum(limits) / mean(times) for name, times in seconds.items()}
    lengths = {"prompt_tokens": mean(map(len, prompts)), "completion_tokens": mean(limits)}
    print(f"{args.prompts} prompts x {args.group}; mean tokens: {lengths}")
    print(f"{'engine':12} {'tokens/s':>10} {'ratio':>7} {'target':>7}")
    print(f"{'generate':12} {rate['generate']:10.0f}")
    print(f"{'native':12} {rate['native']:10.0f} {rate['native'] / rate['generate']:7.1f} {TARGET:7.1f}")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        table = {"environment": environment(), "tokens_per_s": rate, "ratio": rate["native"] / rate["generate"]} | lengths
        args.out.write_text(json.dumps(table | {"prompts": args.prompts, "group": args.group}, indent=1))


if __name__ == "__main__":
    main()
