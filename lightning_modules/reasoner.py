"""What all stages share: a language model that is asked problems, and whose solutions are read and judged.

Not here: how it learns (pretrain.py, midtrain.py, grpo.py), formulas (algorithms/), what is done with verdicts (callbacks/).
"""

from dataclasses import dataclass
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from datamodules.batch import PromptBatch
from datamodules.synthesis import Example
from grammar import GRADERS, Report, grade, parse_response, verify
from lightning_modules.language_model import build_language_model, load_language_model
from lightning_modules.metrics import pass_at_k
from lightning_modules.optimizers import OptimizerFactory
from lightning_modules.rollout import Completions, SamplingParams, sample
from lightning_modules.schedules import Schedule

END_OF_ANSWER = "</answer>"


@dataclass(slots=True)
class Rollout:
    """B problems with G judged responses each.

    examples, indices: the problems and their numbers within their split (length B).
    completions:       tokens of the N = B*G responses.
    responses:         [B][G] what the model wrote after `<solution>`.
    reports:           [B][G] what is true of it.
    """

    examples: list[Example]
    indices: list[int]
    completions: Completions
    responses: list[list[str]]
    reports: list[list[Report]]

    def passed(self, grader: str) -> Tensor:
        """[B, G] bool: accepted by `grader`."""
        return torch.tensor([[grade(report, grader) for report in group] for group in self.reports])


@dataclass(frozen=True)
class Evaluation:
    """How validation, test and prediction sample.

    samples:  completions per problem.
    sampling: temperature and lengths.
    seed:     of the samples; the same weights and seed give the same samples.
    """

    samples: int = 8
    sampling: SamplingParams = SamplingParams()
    seed: int = 0


class Reasoner(LightningModule):
    """A causal LM whose solutions can be sampled, verified and graded. Subclasses say how it learns."""

    def __init__(
        self, architecture: dict[str, Any] | None, init_from: str | None, optimizer: OptimizerFactory, schedule: Schedule,
        evaluation: Evaluation,
    ) -> None:  # fmt: skip
        """Keep the settings; the language model is built by `configure_model`.

        Args:
            architecture: see `build_language_model`; None: as in `init_from`.
            init_from: weights to start from, see `load_language_model`; None: fresh ones.
            optimizer: builds the optimiser.
            schedule: factor of the learning rates over `trainer.max_steps`.
            evaluation: how validation, test and prediction sample.
        """
        super().__init__()
        if (architecture is None) == (init_from is None):
            raise ValueError("give the model either `architecture` (fresh weights) or `init_from` (weights of an earlier stage).")
        self.architecture, self.init_from = architecture, init_from
        self.optimizer, self.schedule, self.evaluation = optimizer, schedule, evaluation
        self.language_model: PreTrainedModel | None = None

    def configure_model(self) -> None:
        """Build or load the language model, once."""
        if self.language_model is None:
            fresh = self.init_from is None
            self.language_model = build_language_model(self.architecture) if fresh else load_language_model(self.init_from)

    def setup(self, stage: str) -> None:
        """Check that the tokenizer fits the embedding."""
        rows, ids = self.language_model_config["vocab_size"], len(self.tokenizer)
        if ids > rows:
            raise ValueError(
                f"the tokenizer has {ids} entries, the model {rows}; raise `model.init_args.architecture.vocab_size`."
            )

    @property
    def language_model_config(self) -> dict[str, Any]:
        """The transformers config of the language model."""
        self.configure_model()
        return self.language_model.config.to_dict()

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The data module's tokenizer."""
        return self.trainer.datamodule.tokenizer

    def configure_optimizers(self) -> dict[str, Any]:
        """One optimiser; its rates follow the schedule, a step being an update."""
        optimizer: Optimizer = self.optimizer(self.language_model)
        steps = self.trainer.max_steps
        if steps < 1:
            raise ValueError("the schedule needs an end: set `trainer.max_steps` to the number of updates.")
        schedule = LambdaLR(optimizer, lambda step: self.schedule(step, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what a later stage needs to build the model (`init_from`)."""
        checkpoint["language_model_config"] = self.language_model.config.to_dict()

    def sample(
        self, batch: PromptBatch, group_size: int, params: SamplingParams, generator: torch.Generator | None = None
    ) -> Rollout:
        """Sample `group_size` responses to each prompt and judge them."""
        tokenizer, model = self.tokenizer, self.language_model
        stop = [tokenizer.convert_tokens_to_ids(END_OF_ANSWER), tokenizer.eos_token_id]
        was_training = model.training
        model.eval()
        with self.trainer.precision_plugin.forward_context():
            done = sample(
                model, batch.prompt_ids, group_size, params, stop_ids=stop, pad_id=tokenizer.pad_token_id, generator=generator
            )
        model.train(was_training)
        texts = tokenizer.batch_decode(done.rows(), skip_special_tokens=False)
        responses = [texts[i : i + group_size] for i in range(0, len(texts), group_size)]
        reports = [
            [verify(parse_response(text), example.graph) for text in group]
            for example, group in zip(batch.examples, responses, strict=True)
        ]
        return Rollout(batch.examples, batch.indices, done, responses, reports)

    def evaluate(self, batch: PromptBatch, batch_idx: int) -> dict[str, Any]:
        """Sample and judge; outputs for callbacks: `rollout`, `n`, and per grader the [B] numbers of accepted samples."""
        config = self.evaluation
        generator = torch.Generator(self.device).manual_seed(config.seed * 1_000_003 + batch.indices[0])
        rollout = self.sample(batch, config.samples, config.sampling, generator)
        passed = {grader: rollout.passed(grader).sum(dim=1) for grader in GRADERS}
        return {"rollout": rollout, "n": config.samples, "passed": passed, "pass_at_k": pass_at_k}

    def validation_step(self, batch: PromptBatch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        """Judge samples; see `evaluate`."""
        return self.evaluate(batch, batch_idx)

    def test_step(self, batch: PromptBatch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        """Judge samples; see `evaluate`."""
        return self.evaluate(batch, batch_idx)

    def predict_step(self, batch: PromptBatch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        """Judge samples; see `evaluate`."""
        return self.evaluate(batch, batch_idx)
