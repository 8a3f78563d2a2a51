"""A whole GRPO step (sample, judge, price, update) against TRL's GRPOTrainer, on a CPU. `python -m benchmarks.grpo_speed`.

Needs `trl` (`pip install -e '.[peers]'`). The same weights, prompts (of the paper's mixture), group, lengths, optimiser and
clipping, and a trivial reward; float32, one thread. Both sides take turns, a step each; times are CPU times and the table has
medians over these pairs. Ours samples every completion to the limit and verifies it; TRL, which verifies nothing, ends rows at
its EOS token and goes on to the limit for the others. The last line is what reading, judging and pricing take of our step when
responses are like gold solutions (those of a fresh model are rejected at their first word).
"""

import argparse
import json
import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback

from benchmarks.train_speed import MIXTURE
from benchmarks.turns import Turns
from callbacks.records.run_record import environment
from datamodules import PromptDataModule
from datamodules.problems.synthesis import Example
from datamodules.rows.tokenizer import load_tokenizer
from grammar import Report, parse_response, verify
from lightning_modules import GRPOModule
from lightning_modules.models.language_model import build_language_model
from lightning_modules.optimizers import AdamW
from lightning_modules.policy.collector import GroupSettings
from lightning_modules.rewards import OutcomeReward, Reward
from lightning_modules.rollout import Completions, SamplingParams, sample

ARCHITECTURE = {
    "model_type": "qwen2", "vocab_size": 2200, "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048, "tie_word_embeddings": True,
}  # fmt: skip
PROMPTS, GROUP, TOKENS, WARM, STEPS = 16, 8, 96, 1, 4
TARGET, MOST_VERIFYING = 3.0, 0.05


@dataclass(frozen=True)
class Length(Reward):
    """A reward that costs nothing and varies within a group."""

    def __call__(self, response: str, report: Report) -> dict[str, float]:
        """{"length": characters}."""
        return {"length": float(len(response))}


class FixedLength(GRPOModule):
    """GRPO whose completions all have `TOKENS` tokens."""

    def complete(
        self, prompt_ids: list[list[int]], group_size: int, params: SamplingParams, *args: Any, **kwargs: Any
    ) -> tuple[Completions, list[list[str]]]:
        """As `StageModule.complete`, without tokens that end a completion."""
        done = sample(self.language_model, prompt_ids, group_size, params, stop_ids=[], pad_id=self.tokenizer.pad_token_id)
        texts = self.tokenizer.batch_decode(done.rows())
        return done, [texts[i : i + group_size] for i in range(0, len(texts), group_size)]


class Ticks(Callback):
    """Ends a turn with each step."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self.tick = tick

    def on_train_batch_end(self, *args: Any) -> None:
        """The loader's rollout lies between two calls, too."""
        self.tick()


def data() -> PromptDataModule:
    """The paper's problems."""
    return PromptDataModule(MIXTURE, "published", prompts_per_rollout=PROMPTS)


def ours(folder: str, steps: int, tick: Callable[[], None]) -> None:
    """This project's GRPO."""
    torch.manual_seed(0)
    module = FixedLength(
        folder,
        Length(),
        group=GroupSettings(GROUP),
        sampling=SamplingParams(max_new_tokens=TOKENS),
        optimizer=AdamW(lr=1e-6, weight_decay=0.0),
    )
    trainer = Trainer(
        max_steps=steps, accelerator="cpu", devices=1, precision="32-true", gradient_clip_val=1.0, callbacks=[Ticks(tick)],
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(module, data())


def trl(folder: str, steps: int, tick: Callable[[], None]) -> None:
    """TRL's, given the same problems; no reference model, no recomputation of activations, no logs."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    class Steps(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, *rest: Any, **kwargs: Any) -> None:
            tick()

    torch.manual_seed(0)
    tokenizer = load_tokenizer("published")
    rows = [{"prompt": example.prompt} for example in problems(PROMPTS * steps)]
    arguments = GRPOConfig(
        output_dir=folder + "/trl", max_steps=steps, per_device_train_batch_size=PROMPTS * GROUP, gradient_accumulation_steps=1,
        num_generations=GROUP, max_completion_length=TOKENS, temperature=1.0, beta=0.0, learning_rate=1e-6, max_grad_norm=1.0,
        lr_scheduler_type="constant", bf16=False, use_cpu=True, gradient_checkpointing=False, shuffle_dataset=False, report_to=[],
        save_strategy="no", logging_strategy="no", disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), args=arguments, processing_class=tokenizer,
        reward_funcs=lambda completions, **kwargs: [float(len(text)) for text in completions],
        train_dataset=Dataset.from_list(rows), callbacks=[Steps()],
    )  # fmt: skip
    trainer.train()


def problems(count: int) -> list[Example]:
    """The first problems of the training stream."""
    synthesis = data().synthesis
    return [synthesis.example("train", i) for i in range(count)]


def verification_seconds() -> float:
    """CPU seconds of judging and pricing one rollout of responses that are gold solutions but for one number each."""
    groups = [(example, spoilt(example.response)) for example in problems(PROMPTS)]
    reward, started = OutcomeReward(), time.thread_time()
    for example, responses in groups:
        for response in responses:
            reward(response, verify(parse_response(response), example.graph))
    return time.thread_time() - started


def spoilt(text: str) -> list[str]:
    """`GROUP` responses, each with another digit changed."""
    digits = [i for i, c in enumerate(text) if c.isdigit()]
    return [text[:i] + str((int(text[i]) + 1) % 10) + text[i + 1 :] for i in (digits * GROUP)[:GROUP]]


def main() -> None:
    """Measure, print the table, keep it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args()
    if find_spec("trl") is None:
        raise SystemExit("this benchmark compares with TRL, which is not installed: `pip install -e '.[peers]'`.")
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with TemporaryDirectory() as folder:
        model = build_language_model(ARCHITECTURE)
        model.save_pretrained(folder)
        load_tokenizer("published").save_pretrained(folder)
        sides = {"this project": ours, "TRL": trl}
        seconds = Turns().run({name: partial(side, folder, WARM + STEPS) for name, side in sides.items()})
    mine, theirs = (seconds[name][WARM:] for name in sides)
    ratio = median(b / a for a, b in zip(mine, theirs, strict=True))
    prompt = mean(len(ids) for ids in load_tokenizer("published")([example.prompt for example in problems(PROMPTS)])["input_ids"])
    share = median(verification_seconds() for _ in range(5)) / median(mine)
    size = model.num_parameters() / 1e6
    print(f"{PROMPTS} prompts of {prompt:.0f} tokens x {GROUP} completions of {TOKENS}, {size:.1f}M parameters")
    print(f"{'side':14} {'s a step':>9} {'ratio':>7} {'target':>7}")
    print(f"{'TRL':14} {median(theirs):9.2f}")
    print(f"{'this project':14} {median(mine):9.2f} {ratio:7.1f} {TARGET:7.1f}")
    print(f"judging and pricing: {share:.1%} of a step (at most {MOST_VERIFYING:.0%})")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        table = {"this project": median(mine), "TRL": median(theirs)}
        found = {
            "environment": environment(),
            "seconds_a_step": table,
            "ratio": ratio,
            "judging_share": share,
            "prompt_tokens": prompt,
        }
        args.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
