"""The base of all data modules: a tokenizer, endless synthetic examples, and held-out problems for evaluation."""

import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from statistics import fmean
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from lightning import LightningDataModule
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from datamodules.choices import check_choice
from datamodules.files.jsonl import to_example
from datamodules.files.overlap import KnownProblems, Overlap
from datamodules.files.row_source import BadRows, Files, RowSource, to_solved
from datamodules.problems.context import load_context
from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.mixture import Cell, Component, Mixture, components_of, parse_ops
from datamodules.problems.splits import canonical_hash, most_different
from datamodules.problems.synthesis import Example, Synthesis, TrainingText
from datamodules.rows.documents import PromptBatch, encode, encode_prompts
from datamodules.rows.mixture_counts import MixtureCounts, ShareOf
from datamodules.rows.tokenizer import TokenizerSettings, check_text, load_tokenizer

COMPARED = 200  # examples of training that are looked for among held-out files
MEASURED = 128  # examples that give the mean length of a cell
WIDER = 4  # problems of a band drawn for each one chosen, to choose different structures
TRIES = 50  # draws per problem before a band counts as too small


BAND = re.compile(r"(?!op\d+$)[\w(][\w .()+-]*")


@dataclass(frozen=True)
class HeldOut:
    """Problems for evaluation, the same for every stage: from the `validation` and `test` splits, never from `train`.

    Args:
        bands: name -> operations ("2-4", or 5); each gets `problems`.
        contexts: of the problems, evenly.
        modes: likewise.
        problems: per band, for `test` and `predict`; all distinct, up to sentence order.
        validation_problems: per band, for `validate` and during training.
        per_op: `problems` and `validation_problems` count for each number of operations of a band, not for the whole band.
        batch_size: problems sampled side by side.
        files: JSONL files, folders or globs of problems instead of synthetic ones (see `jsonl`), every row at each validation and
            test. `bands` only group them; `contexts` to `per_op` and `predict_split` say nothing of them.
        bad_rows: of `files`: "raise" at the first, or "skip" and count.
        predict_split: split that `predict` reads; "train" to sample solutions to learn from; "mixture": no bands, but `problems`
            of the training mixture, the first that it draws.
        overlap: of `files` with what training reads, its `files.train` or the first problems of its mixture: "refuse" if a
            problem is in both, or "allow" and say how many.
    """

    bands: Mapping[str, str | int] = field(default_factory=dict)
    contexts: Sequence[str] = ()
    modes: Sequence[str] = ("normalforward",)
    problems: int = 200
    validation_problems: int = 32
    per_op: bool = False
    batch_size: int = 64
    files: Sequence[str] = ()
    bad_rows: BadRows = "raise"
    predict_split: Literal["train", "validation", "test", "mixture"] = "test"
    overlap: Overlap = "refuse"

    def __post_init__(self) -> None:
        for name, ops in self.bands.items():
            parse_ops(ops)
            if (not BAND.fullmatch(name) or name == "all") and name != f"op{ops}":
                raise ValueError(
                    f"held_out: a band cannot be called {name!r}; use letters, digits, spaces and - _ . + ( ), and neither `all` "
                    "nor `opN` for other operations than N, which name other results."
                )
        check_choice("held_out: overlap", self.overlap, Overlap)
        if min(self.problems, self.validation_problems, self.batch_size) < 1:
            raise ValueError(
                f"held_out: problems={self.problems}, validation_problems={self.validation_problems} and batch_size="
                f"{self.batch_size} must be at least 1."
            )
        if self.bands and not self.files:
            if not self.contexts or not self.modes:
                raise ValueError("held_out: bands need `contexts` and `modes`; write e.g. contexts: [garden].")
            Component("2", self.contexts, self.modes)  # refuses what is no name of a context or mode
            for name in self.contexts:
                load_context(name)
            self._check_apart()

    def _check_apart(self) -> None:
        """Problems are drawn for each band and grouped by operations, so that a common one would get those of both."""
        owner: dict[int, str] = {}
        for name, ops in self.bands.items():
            for op in parse_ops(ops):
                if owner.setdefault(op, name) != name:
                    raise ValueError(
                        f"held_out.bands: op {op} is in {owner[op]!r} and in {name!r}; let bands differ, and take means of them "
                        "by `pass_at_k.weighted`."
                    )


class Problem(NamedTuple):
    """An example and its number; a repeat keeps processes in step and is not counted."""

    index: int  # type: ignore[assignment]  # not that of tuples
    example: Example
    repeat: bool = False


class ReasoningDataModule(LightningDataModule):
    """Synthetic problems, or rows of files, for a language model. Subclasses say what training reads."""

    read_row: "ClassVar[staticmethod[[object, str, int], Any]]" = staticmethod(to_solved)  # what training reads in a row

    def __init__(
        self, mixture: str | Sequence[Component] | None = None, tokenizer: str | TokenizerSettings = "published", *,
        share_of: ShareOf = "examples", files: Files = Files(), graph: GraphSpec = GraphSpec(), random_letters: bool = True,
        seed: int = 0, held_out: HeldOut = HeldOut(),
    ) -> None:  # fmt: skip
        """Check the settings and open the tokenizer.

        Args:
            mixture: problems for training: components whose weights sum to 1, the name of a preset, or a YAML file of
                components. None: training reads `files`.
            tokenizer: name of a shipped tokenizer, or a Hugging Face folder; {name: FOLDER, add_tags: true} adds missing tags.
            share_of: whether weights are shares of the "examples" or of their "tokens".
            files: rows to train on instead of the mixture's problems.
            graph: the shape of the problems' graphs.
            random_letters: name steps by random letters (as published); false: A, B, C ... in order.
            seed: of the training data; held-out problems do not depend on it.
            held_out: problems for evaluation.
        """
        super().__init__()
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(tokenizer)
        if mixture is None and not files.train:
            raise ValueError("nothing to train on: set `data.init_args.mixture`, or `data.init_args.files.train`.")
        if mixture is None and held_out.predict_split == "mixture":
            raise ValueError("held_out.predict_split: mixture needs `data.init_args.mixture`; set it, or another split.")
        if mixture is not None and files.train:
            rank_zero_warn("files.train is what training reads, and `mixture` is not drawn from; set it to null to say so.")
        shares = Mixture(components_of(mixture)) if mixture is not None else None
        self.synthesis = Synthesis(shares, graph, random_letters, seed)
        self.files, self.held_out = files, held_out
        self.problems_digest = ""  # of the held-out problems; known once their loader is built
        self.held_out_synthesis = Synthesis(None, graph, random_letters, seed=0)
        self._held_out: dict[tuple[str, int], list[Example]] = {}  # (split, number for a band) -> problems
        for cell in shares.cells if shares else ():  # a cell that cannot be built fails now, not in mid-run
            self.synthesis.example("train", 0, cell)
        fillers = {graph.fillers_of} if graph.fillers_of else set()
        for name in sorted({*held_out.contexts, *fillers, *(cell.context for cell in (shares.cells if shares else ()))}):
            check_text(self.tokenizer, load_context(name).words, f"data.init_args.tokenizer: for context {name!r} it")
        if share_of == "tokens" and shares:
            tokens = self._mean_tokens()
            examples = shares.reweighted({cell: weight / tokens[cell] for cell, weight in shares.weights.items()})
            self.synthesis = replace(self.synthesis, mixture=examples)
        self.rows = self._training_rows() if files.train else None
        self.source = self.rows or self.synthesis
        cells, intended = (self.rows.cells, None) if self.rows else (shares.cells, shares.weights)
        self.drawn = MixtureCounts(cells, intended, share_of)
        if shares and not self.rows and held_out.files:
            self._compare_with_mixture()

    def __str__(self) -> str:
        """What training reads; Lightning's would draw batches to look at them."""
        what = f"{len(self.rows)} rows" if self.rows else f"{len(self.synthesis.mixture.cells)} cells of problems"
        return f"{type(self).__name__}({what})"

    def _compare_with_mixture(self) -> None:
        """`generate` makes the problems of training unless it is told to make others, and `held_out.files` may be its."""
        known = KnownProblems(self._from_files)
        first = [self.synthesis.example("train", i) for i in range(min(COMPARED, len(self._from_files)))]
        if met := sum(example in known for example in first):
            said = f"held_out.files: {met} of the first {len(first)} problems of training are among them"
            self._met(said, "`generate --split test` makes others")

    def _training_rows(self) -> RowSource:
        """The rows of `files.train`, none of which may be evaluated on."""
        known = KnownProblems(self._from_files) if self.held_out.files else ()
        rows = self._open(self.files.train, self.files.bad_rows, self.read_row, known)
        if rows.found:
            said = f"files.train: {len(rows.found)} of {len(rows)} rows are problems of `held_out.files` (first: {rows.found[0]})"
            self._met(said, "take them out")
        return rows

    def _met(self, said: str, mend: str) -> None:
        """Refuse, or warn of, problems of training that are evaluated."""
        if self.held_out.overlap == "refuse":
            raise ValueError(f"{said}; {mend}, or set `data.init_args.held_out.overlap: allow`.")
        rank_zero_warn(f"{said}; evaluations say less than they seem to.")

    def _open(
        self,
        sources: Sequence[str],
        bad_rows: BadRows,
        read: Callable[[object, str, int], Any],
        known: Any = (),
    ) -> RowSource:  # fmt: skip
        rows = RowSource(sources, seed=self.synthesis.seed, bad_rows=bad_rows, read=read, known=known)
        if rows.skipped:
            rank_zero_warn(f"{', '.join(map(str, sources))}: {rows.skipped} bad rows left out, {len(rows)} read.")
        return rows

    def _mean_tokens(self) -> dict[Cell, float]:
        """Mean length of the first examples of each cell."""
        draw, cells = self.synthesis.example, self.synthesis.mixture.cells
        return {cell: self._mean_length([draw("train", i, cell) for i in range(MEASURED)]) for cell in cells}

    def _mean_length(self, texts: Sequence[TrainingText]) -> float:
        return fmean(len(document.ids) for document in encode(texts, self.tokenizer))

    @cached_property
    def tokens_per_problem(self) -> float:
        """The mean length of the first training documents, EOS included."""
        return self._mean_length([self.source.example("train", i) for i in range(MEASURED)])

    @property
    def bands(self) -> dict[str, list[int]]:
        """Name of each held-out band -> its operation counts."""
        return {name: parse_ops(ops) for name, ops in self.held_out.bands.items()}

    @property
    def labels(self) -> dict[str, list[str]]:
        """Names of the contexts and modes of the problems that are evaluated."""
        contexts, modes = set(self.held_out.contexts), set(self.held_out.modes)
        if self.held_out.files:
            contexts = {example.cell.context for example in self._from_files}
            modes = {example.cell.mode for example in self._from_files}
        if self.held_out.predict_split == "mixture":
            contexts |= {cell.context for cell in self.synthesis.mixture.cells}
            modes |= {cell.mode for cell in self.synthesis.mixture.cells}
        return {"context": sorted(contexts), "mode": sorted(modes)}

    @property
    def shown(self) -> TrainingText:
        """A problem to show what this data is like: a held-out one, if there are any."""
        if self.held_out.files:
            return self._from_files[0]
        cells = self.synthesis.mixture.cells if self.synthesis.mixture else ()
        if not cells:
            return self.rows.example("train", 0)
        return self.held_out_synthesis.example("validation", 0, cells[0])

    @property
    def rank(self) -> int:
        """Number of this process; 0 without a Trainer."""
        return self.trainer.global_rank if self.trainer is not None else 0

    @property
    def world(self) -> int:
        """Number of processes; 1 without a Trainer."""
        return self.trainer.world_size if self.trainer is not None else 1

    @property
    def batches(self) -> int:
        """Training batches that the Trainer asks for; without one, so many that they never end."""
        return max(1, self.trainer.max_steps * self.trainer.accumulate_grad_batches) if self.trainer is not None else sys.maxsize

    @property
    def evaluates(self) -> bool:
        """Whether there are held-out problems."""
        return bool(self.held_out.bands or self.held_out.files)

    @cached_property
    def _from_files(self) -> list[Example]:
        return list(self._open(self.held_out.files, self.held_out.bad_rows, to_example))

    def held_out_examples(self, split: str, problems: int) -> list[Example]:
        """`problems` distinct problems of `split` for each band, as many from each of its operations, contexts and modes.

        Problems of files are returned as they are. Drawing takes seconds to minutes, so it is done once.

        Raises:
            ValueError: a band has fewer distinct problems.
        """
        if self.held_out.files:
            return self._from_files
        if (split, problems) not in self._held_out:
            self._held_out[split, problems] = self._draw_held_out(split, problems)
        return self._held_out[split, problems]

    def _draw_held_out(self, split: str, problems: int) -> list[Example]:
        seen: set[bytes] = set()
        chosen: list[Example] = []
        for name, ops in self.bands.items():
            for part in [[op] for op in ops] if self.held_out.per_op else [ops]:
                try:
                    found = self._different(split, part, problems, seen)
                except ValueError as err:
                    raise ValueError(f"held_out.bands, {name!r} (ops {part}): {err}") from err
                if len(found) < problems:
                    count = "validation_problems" if split == "validation" else "problems"
                    raise ValueError(
                        f"band {name!r} (ops {part}) has only {len(found)} different problems in {split!r}; "
                        f"lower `held_out.{count}`."
                    )
                chosen += found
        return chosen

    def _different(self, split: str, ops: list[int], problems: int, seen: set[bytes]) -> list[Example]:
        """Up to `problems` problems outside `seen`, drawn cell by cell in turn, as many from each; they are added to it.

        With `split_by: needed`, of WIDER times as many those of each cell whose needed parts have been met least often.
        """
        cells = Mixture([Component(",".join(map(str, ops)), self.held_out.contexts, self.held_out.modes)]).cells
        spread = self.held_out_synthesis.graph.split_by == "needed"
        found: dict[bytes, Example] = {}
        for index in range(problems * TRIES):
            example = self.held_out_synthesis.example(split, index, cells[index % len(cells)])
            if (key := canonical_hash(example.graph)) not in seen:
                found.setdefault(key, example)
            if len(found) == problems * (WIDER if spread else 1):
                break
        if spread:
            examples = [*found.values()]
            chosen = most_different([example.graph for example in examples], [example.cell for example in examples], problems)
            found = dict(item for i, item in enumerate(found.items()) if i in chosen)
        seen.update(found)
        counts = Counter(example.cell for example in found.values())
        least = min(cells, key=lambda cell: counts[cell])
        if len(found) == problems and counts[least] < problems // len(cells):
            rank_zero_warn(
                f"held-out problems of ops {ops}: only {counts[least]} different ones are of op {least.op}, {least.context}, "
                f"{least.mode}; the others of {problems} are of other operations, contexts or modes."
            )
        return [*found.values()]

    def first_examples(self, problems: int) -> list[Example]:
        """The first `problems` different problems of training, up to sentence order.

        Raises:
            ValueError: it has fewer.
        """
        found: dict[bytes, Example] = {}
        for index in range(problems * TRIES):
            example = self.synthesis.example("train", index)
            found.setdefault(canonical_hash(example.graph), example)
            if len(found) == problems:
                return [*found.values()]
        raise ValueError(f"training has only {len(found)} different problems among {problems * TRIES}; ask for fewer.")

    def _prompts(self, examples: Sequence[Example]) -> DataLoader:
        items = [Problem(i, example) for i, example in enumerate(examples)]
        self.problems_digest = blake2b(repr([(e.problem, e.question) for _, e, _ in items]).encode(), digest_size=8).hexdigest()
        world, count = self.world, len(items)
        # equally many for each process, so that Lightning's sampler adds none; repeats come last
        items += [Problem(i, items[i].example, repeat=True) for i in (j % count for j in range(-count % world))]
        own = torch.Generator()  # a loader draws a seed even if nothing is shuffled; not from the generator that samples
        return DataLoader(items, batch_size=self.held_out.batch_size, collate_fn=self._collate, generator=own)

    def _collate(self, items: list[Problem]) -> PromptBatch:
        batch = encode_prompts([item.example for item in items], [item.index for item in items], self.tokenizer)
        batch.repeats = sum(item.repeat for item in items)
        return batch

    def val_dataloader(self) -> DataLoader | list:
        """Held-out problems of the validation split."""
        return self._prompts(self.held_out_examples("validation", self.held_out.validation_problems))

    def test_dataloader(self) -> DataLoader:
        """Held-out problems of the test split."""
        return self._prompts(self.held_out_examples("test", self.held_out.problems))

    def predict_dataloader(self) -> DataLoader:
        """Problems of the test split, or those that `held_out.predict_split` names."""
        split, problems = self.held_out.predict_split, self.held_out.problems
        return self._prompts(self.first_examples(problems) if split == "mixture" else self.held_out_examples(split, problems))
