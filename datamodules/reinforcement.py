"""Data of reinforcement learning: problems in, experience out.

The training loader samples by calling the module's `collect`; it is sized, so Lightning does not read ahead across an update,
and a rollout comes from the weights that the last update left.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch

from datamodules.batch import PromptBatch
from datamodules.documents import encode_prompts
from datamodules.graph_spec import GraphSpec
from datamodules.mixture import Component
from datamodules.reasoning import HeldOut, ReasoningDataModule, ShareOf
from datamodules.row_source import Files, ProblemSource


class Collector(Protocol):
    """What the loader asks of a policy module."""

    updates_per_rollout: int
    epochs: int

    def collect(self, prompts: PromptBatch) -> list[Any]:
        """Turn problems into minibatches of experience."""


class ExperienceLoader:
    """Rolls out, then hands on the minibatches, once per epoch of the policy. Its state is the number of rollouts begun."""

    def __init__(self, data: "PromptDataModule", policy: Collector, batches: int) -> None:
        """Keep the parts; `batches` minibatches make one pass."""
        self.data, self.policy, self.batches = data, policy, batches
        self.rollouts = 0

    def __len__(self) -> int:
        """Minibatches of one pass."""
        return self.batches

    def __iter__(self) -> Iterator[Any]:
        """Yield minibatches."""
        for _ in range(-(-self.batches // self.policy.updates_per_rollout)):
            number = self.rollouts
            self.rollouts += 1
            minibatches = self.policy.collect(self.data.prompts(number))
            for _ in range(self.policy.epochs):
                yield from minibatches

    def state_dict(self) -> dict[str, int]:
        """Rollouts begun."""
        return {"rollouts": self.rollouts}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on with the next rollout."""
        self.rollouts = state["rollouts"]


class PromptDataModule(ReasoningDataModule):
    """Problems of a mixture, or of files, for a policy to solve."""

    row_source = ProblemSource

    def __init__(
        self, mixture: str | Sequence[Component] | None, tokenizer: str, *, share_of: ShareOf = "examples",
        files: Files = Files(), prompts_per_rollout: int = 16, graph: GraphSpec = GraphSpec(), random_letters: bool = True,
        seed: int = 0, held_out: HeldOut = HeldOut(),
    ) -> None:  # fmt: skip
        """Keep the settings.

        Args:
            mixture: which problems the policy sees, and how often: components whose weights sum to 1, the name of a preset, or a
                YAML file of components. None: those of `files`.
            tokenizer: name of a shipped tokenizer, or a Hugging Face folder.
            share_of: whether weights are shares of the "examples" or of their "tokens".
            files: rows whose problems are solved instead of the mixture's; the problem's text is the authority for its graph.
            prompts_per_rollout: B, problems of one rollout on each device.
            graph: the shape of the problems' graphs.
            random_letters: name steps by random letters; false: A, B, C ... in order.
            seed: of the training data.
            held_out: problems to evaluate on.
        """
        super().__init__(
            mixture, tokenizer, share_of=share_of, files=files, graph=graph, random_letters=random_letters, seed=seed,
            held_out=held_out,
        )  # fmt: skip
        self.prompts_per_rollout = prompts_per_rollout

    def prompts(self, rollout: int) -> PromptBatch:
        """The problems of rollout number `rollout` on this device."""
        world, rank = self.trainer.world_size, self.trainer.global_rank
        first = (rollout * world + rank) * self.prompts_per_rollout
        numbers = list(range(first, first + self.prompts_per_rollout))
        batch = encode_prompts([self.source.example("train", i) for i in numbers], numbers, self.tokenizer)
        self.drawn.add(
            torch.tensor([self.drawn.numbers[example.cell] for example in batch.examples]),
            torch.tensor([len(ids) for ids in batch.prompt_ids]),
        )
        return batch

    def train_dataloader(self) -> ExperienceLoader:
        """As many minibatches as the trainer takes steps."""
        batches = max(1, self.trainer.max_steps * self.trainer.accumulate_grad_batches)
        return ExperienceLoader(self, self.trainer.lightning_module, batches)
