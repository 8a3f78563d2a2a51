"""Rollouts of the 100M model on a GPU against transformers' `generate`, in one run. `python -m benchmarks.gpu_rollout`.

1,024 prompts of the paper's mixture x 6 in bf16 autocast, lengths forced to those of the reference solutions. `generate` gets
as many completions side by side as ours (`--rows`) and a sample of the prompts (`--generate-prompts`), from which its rate comes.
The bound is that of bandwidth: bytes of weights and of keys and values that each step must read, over the bandwidth that a copy
reaches on this GPU.
"""

import argparse
import json
from pathlib import Path

import torch
import yaml
from transformers import PreTrainedModel

from benchmarks.gpu import ROOT, synchronized
from benchmarks.rollout_speed import by_generate
from benchmarks.train_speed import MIXTURE
from callbacks.records.run_record import environment
from datamodules.problems.mixture import Mixture
from datamodules.problems.synthesis import Synthesis
from datamodules.rows.documents import Document, encode
from datamodules.rows.tokenizer import load_tokenizer
from lightning_modules.models.language_model import build_language_model
from lightning_modules.rollout import SamplingParams, sample

PROMPTS, GROUP, TARGET = 1024, 6, 10.0


def bandwidth() -> float:
    """Bytes per second of a copy, reading and writing counted; the best of three."""
    data = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    rates = []
    for _ in range(4):  # the first warms up
        started = synchronized()
        for _ in range(10):
            data.clone()
        rates.append(2 * data.numel() * 10 / (synchronized() - started))
    return max(rates[1:])


def bytes_read(model: PreTrainedModel, found: list[Document], rows: int) -> float:
    """What sampling must read at 2 bytes a number: weights once for `rows` tokens, keys and values of all before each token."""
    config, weights = model.config, sum(p.numel() for p in model.parameters())
    size = config.hidden_size // config.num_attention_heads
    per_token = 2 * 2 * config.num_hidden_layers * config.num_key_value_heads * size
    tokens = seen = 0
    for document in found:
        prompt, own = document.prompt_tokens, len(document.ids) - document.prompt_tokens
        tokens += GROUP * own
        seen += GROUP * (own * prompt + own * (own - 1) // 2)
    return 2 * weights * tokens / rows + per_token * seen


def main() -> None:
    """Measure, print the table, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2048, help="completions side by side")
    parser.add_argument("--generate-prompts", type=int, default=128)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("this benchmark needs a CUDA GPU; `python -m benchmarks.rollout_speed` is the one for a CPU.")
    architecture = yaml.safe_load((ROOT / "configs/model/pretrain_100m.yaml").read_text())["init_args"]["architecture"]
    model = build_language_model(architecture).cuda().eval()
    synthesis = Synthesis(Mixture(MIXTURE))
    found = encode([synthesis.example("train", i) for i in range(PROMPTS)], load_tokenizer("published"))
    prompts = [d.ids[: d.prompt_tokens] for d in found]
    limits = [len(d.ids) - d.prompt_tokens for d in found for _ in range(GROUP)]
    params = SamplingParams(max_new_tokens=max(limits), max_rows=args.rows)

    def native(count: int) -> float:
        started = synchronized()
        sample(model, prompts[:count], GROUP, params, stop_ids=[], pad_id=1, limits=limits[: count * GROUP])
        return synchronized() - started

    with torch.autocast("cuda", torch.bfloat16):
        native(32)  # warm up
        first = native(PROMPTS)
        part, chunk = args.generate_prompts, max(1, args.rows // GROUP)
        by_generate(model, prompts[: min(part, chunk)], GROUP, limits[: min(part, chunk) * GROUP])  # warm up
        started = synchronized()
        for begin in range(0, part, chunk):
            end = min(part, begin + chunk)
            by_generate(model, prompts[begin:end], GROUP, limits[begin * GROUP : end * GROUP])
        theirs = sum(limits[: part * GROUP]) / (synchronized() - started)
        seconds = (first + native(PROMPTS)) / 2  # before and after
    ours, bound = sum(limits) / seconds, bytes_read(model, found, args.rows) / bandwidth()
    print(f"{torch.cuda.get_device_name()}: {PROMPTS} prompts x {GROUP}, {sum(limits) / len(limits):.0f} tokens each")
    print(f"{'engine':12} {'tokens/s':>10} {'ratio':>7} {'target':>7}")
    print(f"{'generate':12} {theirs:10.0f}")
    print(f"{'native':12} {ours:10.0f} {ours / theirs:7.1f} {TARGET:7.1f}")
    print(f"{seconds:.1f} s; bound by bandwidth {bound:.1f} s ({bound / seconds:.0%} of it reached)")
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / f"gpu_rollout_{torch.cuda.get_device_name().replace(' ', '_')}.json"
    table = {"native_tokens_per_s": ours, "generate_tokens_per_s": theirs, "seconds": seconds, "bound_seconds": bound}
    file.write_text(json.dumps({"environment": environment(), "rows": args.rows} | table, indent=1))


if __name__ == "__main__":
    main()
