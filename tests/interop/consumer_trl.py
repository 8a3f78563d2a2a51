"""Trains the folder with TRL's GRPOTrainer and the grammar's reward."""

from collections.abc import Callable
from typing import Any

import torch
from consumer_job import LAST, LIMIT, document, read_job, write_result
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from grammar.adapters import trl_reward

GROUP = 2  # completions of a prompt


class Kept:
    """The grammar's reward, and what it was called with last."""

    __name__ = "executable"

    def __init__(self) -> None:
        self.completions: list[str] = []
        self.rewards: list[float] = []
        self.lengths: list[int] = []

    def __call__(self, completions: list[str], completion_ids: list[list[int]], **columns: Any) -> list[float]:
        """Reward completions."""
        self.completions, self.rewards = completions, trl_reward("executable")(completions, **columns)
        self.lengths = [len(ids) for ids in completion_ids]
        return self.rewards


def trainer_of(folder: str, rows: list[dict[str, Any]], reward: Callable[..., list[float]], **settings: Any) -> GRPOTrainer:
    """A trainer that takes one step from GROUP completions of every row."""
    arguments = GRPOConfig(
        output_dir="trl", use_cpu=True, bf16=False, model_init_kwargs={"dtype": "float32"}, report_to=[], save_strategy="no",
        logging_steps=1, max_steps=1, shuffle_dataset=False, num_generations=GROUP,
        per_device_train_batch_size=GROUP * len(rows), max_completion_length=LIMIT, **settings,
    )  # fmt: skip
    return GRPOTrainer(folder, reward, args=arguments, train_dataset=Dataset.from_list(rows))


def main() -> None:
    """Generate greedily, then take a step from samples, which differ in reward."""
    folder, rows = read_job()

    greedy = Kept()
    trainer = trainer_of(folder, rows, greedy, generation_kwargs={"do_sample": False})
    encode = trainer.processing_class
    with torch.inference_mode():
        logits = trainer.model(torch.tensor([encode(document(rows))["input_ids"]])).logits[0, -LAST:]
    trainer.train()

    sampled = Kept()
    trainer = trainer_of(folder, rows, sampled, temperature=1.5, learning_rate=1e-4)
    before = [weight.detach().clone() for weight in trainer.model.parameters()]
    trainer.train()
    moved = [(new - old).abs().max().item() for new, old in zip(trainer.model.parameters(), before, strict=True)]
    write_result(
        ids=encode([row["prompt"] for row in rows])["input_ids"],
        texts={"generate": greedy.completions[::GROUP]},
        lengths={"generate": greedy.lengths[::GROUP]},
        logits=logits.tolist(),
        step={"log": trainer.state.log_history[0], "moved": max(moved), "group": GROUP, **vars(sampled)},
    )


if __name__ == "__main__":
    main()
