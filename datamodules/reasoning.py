"""What all data modules share: a tokenizer, endless synthetic examples, and held-out problems to be evaluated on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lightning import LightningDataModule
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from datamodules.batch import PromptBatch
from datamodules.documents import encode_prompts
from datamodules.graph_spec import GraphSpec
from datamodules.mixture import Component, Mixture, parse_ops
from datamodules.splits import canonical_hash
from datamodules.synthesis import Example, Synthesis
from datamodules.tokenizer import load_tokenizer

TRIES = 50  # draws per wanted problem before a band counts as too small


@dataclass(frozen=True)
class HeldOut:
    """Problems to evaluate on, the same for every stage: they stand in the `validation` and `test` splits, never in `train`.

    bands:    name -> operations ("2-4"); each gets `problems`.
    contexts: where they come from, evenly.
    problems: per band, for `test` and `predict`; all different, up to sentence order.
    validation_problems: per band, for `validate` and during training.
    batch_size: problems sampled side by side.
    """

    bands: Mapping[str, str] = field(default_factory=dict)
    contexts: Sequence[str] = ()
    problems: int = 200
    validation_problems: int = 32
    batch_size: int = 64

    def __post_init__(self) -> None:
        """Refuse bands that cannot be read."""
        for ops in self.bands.values():
            parse_ops(ops)


class ReasoningDataModule(LightningDataModule):
    """Synthetic problems for a language model. Subclasses say what training reads."""

    def __init__(
        self, mixture: Sequence[Component], tokenizer: str, *, graph: GraphSpec = GraphSpec(), random_letters: bool = True,
        seed: int = 0, held_out: HeldOut = HeldOut(),
    ) -> None:  # fmt: skip
        """Check the settings and open the tokenizer.

        Args:
            mixture: which problems training sees, and how often; weights sum to 1.
            tokenizer: name of a shipped tokenizer, or a Hugging Face folder.
            graph: the shape of the problems' graphs.
            random_letters: name steps by random letters (as published); false: A, B, C ... in order.
            seed: of the training data; held-out problems do not depend on it.
            held_out: problems to evaluate on.
        """
        super().__init__()
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(tokenizer)
        self.synthesis = Synthesis(Mixture(mixture), graph, random_letters, seed)
        self.held_out = held_out
        self.held_out_synthesis = Synthesis(self.synthesis.mixture, graph, random_letters, seed=0)
        for cell in self.synthesis.mixture.cells:  # a cell that cannot be built is an error now, not in the middle of a run
            self.synthesis.example("train", 0, cell)

    @property
    def bands(self) -> dict[str, list[int]]:
        """Name of each held-out band -> its operation counts."""
        return {name: parse_ops(ops) for name, ops in self.held_out.bands.items()}

    def held_out_examples(self, split: str, problems: int) -> list[Example]:
        """`problems` different problems of `split` for each band, its operations and contexts taking turns.

        Raises:
            ValueError: a band has fewer different problems.
        """
        seen: set[bytes] = set()
        chosen: list[Example] = []
        for name, ops in self.bands.items():
            cells = Mixture([Component(self.held_out.bands[name], self.held_out.contexts)]).cells
            found = 0
            for index in range(problems * TRIES):
                example = self.held_out_synthesis.example(split, index, cells[index % len(cells)])
                if (key := canonical_hash(example.graph)) not in seen:
                    seen.add(key)
                    chosen.append(example)
                    found += 1
                if found == problems:
                    break
            else:
                raise ValueError(
                    f"band {name!r} (ops {ops}) has only {found} different problems in {split!r}; lower `held_out.problems`."
                )
        return chosen

    def _prompts(self, split: str, problems: int) -> DataLoader:
        numbered = list(enumerate(self.held_out_examples(split, problems)))
        return DataLoader(numbered, batch_size=self.held_out.batch_size, collate_fn=self._collate)

    def _collate(self, items: list[tuple[int, Example]]) -> PromptBatch:
        return encode_prompts([example for _, example in items], [i for i, _ in items], self.tokenizer)

    def val_dataloader(self) -> DataLoader | list:
        """Held-out problems of the validation split."""
        return self._prompts("validation", self.held_out.validation_problems)

    def test_dataloader(self) -> DataLoader:
        """Held-out problems of the test split."""
        return self._prompts("test", self.held_out.problems)

    def predict_dataloader(self) -> DataLoader:
        """Held-out problems of the test split."""
        return self.test_dataloader()
