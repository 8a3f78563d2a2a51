"""Data of reinforcement learning: problems in, experience out.

The training loader samples by calling the module's `collect`; it is sized, so that Lightning does not read ahead and a rollout
comes from the weights after the last update.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import distributed

from datamodules.files.jsonl import to_example
from datamodules.problems.mixture import Cell, Component
from datamodules.reasoning import ReasoningDataModule
from datamodules.rows.documents import PromptBatch, encode_prompts
from datamodules.rows.mixture_counts import MixtureCounts
from datamodules.rows.tokenizer import TokenizerSettings

ATTEMPT = 1 << 40  # offset of the problem numbers of each attempt, more than a run can reach


class Collector(Protocol):
    """The part of a policy module that the loader uses."""

    epochs: int

    def collect(self, prompts: PromptBatch, more: Callable[[int, int], PromptBatch]) -> list[Any]:
        """Turn problems into minibatches; `more` gives fresh problems by attempt (from 1) and count."""

    def restore(self, states: list[dict[str, Any]]) -> list[Any]:
        """Rebuild minibatches from their `state_dict`s; none if this policy cannot learn from them."""


class ExperienceLoader:
    """Collects rollouts and yields their minibatches, once per epoch of the policy.

    Its state is the number of problems used and, within a rollout, its minibatches (of every process) and the number of those
    used. `batches` minibatches make one pass.
    """

    def __init__(self, data: "PromptDataModule", policy: Collector, batches: int) -> None:
        self.data, self.policy, self.batches = data, policy, batches
        self.problems, self.used = 0, 0
        self.held: list[Any] = []

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Any]:
        for _ in range(self.batches):
            if not self.held:
                first = self.problems
                self.problems += self.data.world * self.data.prompts_per_rollout
                self.held = self.policy.collect(self.data.prompts(first), partial(self.data.prompts, first))
            batch = self.held[self.used % len(self.held)]
            self.used += 1
            self._forget_used()
            yield batch

    def _forget_used(self) -> None:
        """Let go of a rollout of which every epoch was used; a resumed run may have fewer of them."""
        if self.used >= len(self.held) * self.policy.epochs:
            self.held, self.used = [], 0

    def state_dict(self) -> dict[str, Any]:
        """Problems used by all processes, and the rest of the last rollout; every process must call it."""
        held = [{k: v.cpu() if torch.is_tensor(v) else v for k, v in batch.state_dict().items()} for batch in self.held]
        everyones = [held]
        if held and distributed.is_available() and distributed.is_initialized():
            everyones = [None] * distributed.get_world_size()
            distributed.all_gather_object(everyones, held)
        return {"problems": self.problems, "used": self.used, "held": everyones}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume with the next minibatch.

        Raises:
            ValueError: the checkpoint is from mid-rollout with another number of processes, or from an earlier version.
        """
        if "problems" not in state:
            raise ValueError("the checkpoint is of an earlier version; start from its weights with `model.init_args.init_from`.")
        world, everyones = self.data.world, state["held"]
        if state["used"] and len(everyones) != world:
            raise ValueError(
                f"the checkpoint was written within a rollout of {len(everyones)} processes, and there are {world}; "
                "resume with as many, or from a checkpoint between rollouts."
            )
        self.problems, self.used = state["problems"], state["used"]
        self.held = self.policy.restore(everyones[self.data.rank]) if self.used else []
        self._forget_used()


class PromptDataModule(ReasoningDataModule):
    """Problems of a mixture, or of files, for a policy to solve.

    Between rollouts, a callback may narrow the mixture to some of its cells (`focus`); checkpoints keep the choice.
    """

    read_row = staticmethod(to_example)

    def __init__(
        self, mixture: str | Sequence[Component] | None = None, tokenizer: str | TokenizerSettings = "published", *,
        prompts_per_rollout: int = 16, **problems: Any,
    ) -> None:  # fmt: skip
        """Set the number of problems of a rollout.

        Args:
            mixture: problems for the policy: components whose weights sum to 1, the name of a preset, or a YAML file of
                components. None: those of `files`, whose text is the authority for their graphs.
            tokenizer: name of a shipped tokenizer, or a Hugging Face folder; {name: FOLDER, add_tags: true} adds missing tags.
            prompts_per_rollout: B, problems of one rollout on each device.
            problems: `share_of`, `files`, `graph`, `random_letters`, `seed` and `held_out`; see ReasoningDataModule.
        """
        super().__init__(mixture, tokenizer, **problems)
        if prompts_per_rollout < 1:
            raise ValueError(f"prompts_per_rollout={prompts_per_rollout} must be at least 1.")
        if self.drawn.intended is not None:  # only prompts are drawn, so shares are of examples
            self.drawn = MixtureCounts(self.synthesis.mixture.cells, self.synthesis.mixture.weights, "examples")
        self.prompts_per_rollout = prompts_per_rollout
        self.focused: tuple[Cell, ...] = ()

    def prompts(self, first: int, attempt: int = 0, count: int | None = None) -> PromptBatch:
        """Problems of a rollout that no other rollout, attempt or device gets; of files, an attempt reads another pass over them.

        Args:
            first: number of the rollout's first problem on all devices.
            attempt: 0 for the rollout, from 1 on for problems that replace others.
            count: at most `prompts_per_rollout`, the default.
        """
        first += self.rank * self.prompts_per_rollout + attempt * ATTEMPT
        numbers = list(range(first, first + (self.prompts_per_rollout if count is None else count)))
        batch = encode_prompts([self.source.example("train", i) for i in numbers], numbers, self.tokenizer)
        self.drawn.add(
            torch.tensor([self.drawn.numbers[example.cell] for example in batch.examples]),
            torch.tensor([len(ids) for ids in batch.prompt_ids]),
        )
        return batch

    @property
    def cells(self) -> list[Cell]:
        """All cells of the mixture that have weight, in focus or not.

        Raises:
            ValueError: the problems come from files.
        """
        if self.rows is not None:
            raise ValueError("problems of files have no cells to choose from; set `data.init_args.mixture` instead of `files`.")
        return [cell for cell, weight in self.synthesis.mixture.weights.items() if weight]

    def focus(self, cells: Sequence[Cell]) -> None:
        """Draw the problems of future rollouts from these cells alone; every process must choose the same cells.

        Args:
            cells: of the mixture, in unchanged proportions; none: all.
        """
        self.focused = tuple(cells)
        mixture = self.synthesis.mixture
        self.source = replace(self.synthesis, mixture=mixture.only(cells)) if cells else self.rows or self.synthesis

    def cell_problems(self, numbered: Sequence[tuple[Cell, int]]) -> PromptBatch:
        """Training problems by cell and number within it; rollouts never get them."""
        examples = [self.synthesis.example("train", index, cell) for cell, index in numbered]
        return encode_prompts(examples, [index for _, index in numbered], self.tokenizer)

    def state_dict(self) -> dict[str, Any]:
        """The cells in focus."""
        return {"focus": [astuple(cell) for cell in self.focused]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the focus if training resumes; evaluation draws nothing from the mixture, which may differ."""
        if self.trainer is not None and self.trainer.training:
            self.focus([Cell(*cell) for cell in state["focus"]])

    def train_dataloader(self) -> ExperienceLoader:
        """As many minibatches as the trainer takes steps.

        Raises:
            ValueError: there is no Trainer, so no policy whose experience this could be.
        """
        if self.trainer is None:
            raise ValueError(
                "experience is of a policy, which a Trainer knows: call trainer.fit(module, datamodule=...), or take the "
                "problems of a rollout from `prompts(first)`, or minibatches from `ExperienceLoader(data, policy, batches)`."
            )
        return ExperienceLoader(self, self.trainer.lightning_module, self.batches)
