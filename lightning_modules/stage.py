"""The base of all stages: a language model whose solutions to problems are sampled and judged.

Not here: how it learns (pretrain.py, policy/), formulas (formulas/), use of the verdicts (callbacks/).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from timeit import repeat
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from datamodules.problems.keyed import keyed_generator
from datamodules.problems.synthesis import Example
from datamodules.rows.documents import PromptBatch, encode
from datamodules.rows.token_kinds import response_token_kinds
from datamodules.rows.tokenizer import stop_ids
from datamodules.rows.vocabulary import Vocabulary, entries_in_use
from grammar.checking.pool import judge
from lightning_modules.evaluation import Answered, Evaluation, Judgements, Labels, Recall, Response, released_verdicts, responses
from lightning_modules.metrics import Intervals
from lightning_modules.models.attending import checkpoint_activations
from lightning_modules.models.compute import ComputeMeter, generation_counts, ledger
from lightning_modules.models.folder import write_folder
from lightning_modules.models.label_scores import head_fault, headless
from lightning_modules.models.language_model import build_language_model, checkpoint_record, load_language_model
from lightning_modules.models.lora import LoRA, adapted, add_adapters, merged
from lightning_modules.models.memory import learning_bytes, pass_tokens
from lightning_modules.models.sharding import gathered, shard, weights_digest
from lightning_modules.models.token_nll import TOKENS_AT_ONCE, token_nll
from lightning_modules.optimizers import OptimizerFactory, number_by_model
from lightning_modules.rollout import Completions, Randomness, SamplingParams, chosen_engine, release, sample
from lightning_modules.schedules import Schedule

SAMPLING = "sampling"  # of predictions, in the ledger
SLOW = 2.0  # slowdown of bfloat16 over float32 above which a CPU user is warned


class StageModule(LightningModule):
    """A causal LM whose solutions can be sampled, verified and graded. Subclasses say how it learns."""

    compile_layers = False  # of a sharded model
    whole_logits = False  # of a pass, as the head is not all that makes them
    learns_from_samples = False
    default_optimizer: OptimizerFactory
    default_schedule: Schedule

    def __init__(
        self, architecture: dict[str, Any] | None, init_from: str | None, *, optimizer: OptimizerFactory | None = None,
        schedule: Schedule | None = None, evaluation: Evaluation = Evaluation(), lora: LoRA | None = None,
        gradient_checkpointing: bool = False, tokens_per_pass: int | None = None,
    ) -> None:  # fmt: skip
        """Store the parts; `configure_model` builds the language model.

        Args:
            architecture: see `build_language_model`; None: as in `init_from`.
            init_from: weights to start from, see `load_language_model`; None: fresh ones.
            optimizer: builds the optimiser; None: the stage's default.
            schedule: factor of the learning rates over `trainer.max_steps`; None: the stage's default.
            evaluation: how validation, test and prediction sample.
            lora: learn adapters instead of the weights of `init_from`; None: learn the weights.
            gradient_checkpointing: keep the inputs of layers alone and recompute the rest in the backward pass: a third more
                computation for a fraction of the memory.
            tokens_per_pass: bound on the memory of a step. A batch with more tokens goes through the model in several passes,
                each but the last run again for its gradients, which are those of the whole batch; None: what fits the
                device's free memory, and 131,072 on a CPU.
        """
        super().__init__()
        if (architecture is None) == (init_from is None):
            raise ValueError(
                "set either `architecture` (fresh weights) or `init_from` (weights of an earlier stage) of the model."
            )
        if tokens_per_pass is not None and tokens_per_pass < 1:
            raise ValueError(f"tokens_per_pass={tokens_per_pass} must be at least 1.")
        if lora and init_from is None:
            raise ValueError("lora adapts trained weights; set `model.init_args.init_from`, or leave out `lora`.")
        self.architecture, self.init_from, self.lora = architecture, init_from, lora
        self.gradient_checkpointing, self.tokens_per_pass = gradient_checkpointing, tokens_per_pass
        self.optimizer, self.schedule = optimizer or self.default_optimizer, schedule or self.default_schedule
        self.evaluation = evaluation
        self.language_model: PreTrainedModel | None = None
        self.judgements, self.compute = Judgements(), ComputeMeter()
        self.recall: Recall = lambda index: None  # responses of an interrupted evaluation; set by a callback

    def configure_model(self) -> None:
        """Build or load the language model, once."""
        if self.language_model is None:
            fresh = self.init_from is None
            self.language_model = build_language_model(self.architecture) if fresh else self.load(self.init_from)
            if self.lora:
                add_adapters(self.language_model, self.lora)
            if self.gradient_checkpointing:
                checkpoint_activations(self.language_model)
            self.shard(self.language_model)

    def shard(self, model: PreTrainedModel) -> PreTrainedModel:
        """Under FSDP2, shard `model` over the processes, in place."""
        if self.device_mesh is not None:
            half = self.trainer.precision == "bf16-mixed"
            shard(model, self.device_mesh, half=half, compile_layers=self.compile_layers)
        return model

    def load(self, init_from: str) -> PreTrainedModel:
        """Open weights of an earlier stage, and check that they belong to the data's tokenizer."""
        return load_language_model(init_from, self.known_tokenizer)

    def setup(self, stage: str) -> None:
        """Check that the tokenizer fits the embedding, and that the precision is neither too low nor too slow."""
        if self.trainer.precision in ("bf16-true", "16-true"):
            raise ValueError(
                f"precision {self.trainer.precision} keeps weights, random numbers and log-probabilities in half precision; "
                "set `trainer.precision` to bf16-mixed."
            )
        if self.trainer.precision == "bf16-mixed" and self.trainer.strategy.root_device.type == "cpu" and bf16_slowdown() > SLOW:
            rank_zero_warn(
                f"precision bf16-mixed: a product of matrices took {bf16_slowdown():.0f} times as long in bfloat16 as in float32 "
                "on this CPU; set `trainer.precision` to 32-true."
            )
        self.configure_model()
        self.language_model.to(self.trainer.strategy.root_device)
        with gathered(self.language_model), self.trainer.precision_plugin.forward_context():
            self.whole_logits = head_fault(self.language_model) is not None
        rows = self.language_model.config.get_text_config().vocab_size
        if (ids := entries_in_use(self.tokenizer, rows)) > rows:
            raise ValueError(
                f"the tokenizer has {ids} entries, the model {rows}; raise `model.init_args.architecture.vocab_size`."
            )
        if self.learns_from_samples or self.trainer.datamodule.evaluates:
            with gathered(self.language_model), self.trainer.precision_plugin.forward_context():
                sampling = self.evaluation.sampling
                chosen_engine(self.language_model, sampling.engine, max_rows=sampling.max_rows)

    @cached_property
    def pass_tokens(self) -> int:
        """Tokens of a pass with gradients, the same for all processes; measured at the first use, which all must share."""
        if self.tokens_per_pass is not None:
            return self.tokens_per_pass
        with self.trainer.precision_plugin.forward_context():
            trained = any(optimizer.state for optimizer in self.trainer.optimizers)
            found = pass_tokens(self.states, self.device, 0 if trained else learning_bytes(self))
        found = int(self.trainer.strategy.reduce(torch.tensor(found, device=self.device), reduce_op="min"))
        if self.device.type == "cuda" and self.trainer.is_global_zero:
            print(f"tokens_per_pass: {found:,}, from the free memory of {self.device}", flush=True)
        return found

    def states(self, tokens_BT: Tensor) -> list[Tensor]:
        """Last states of all models that an update runs."""
        with headless(self.language_model):
            return [self.language_model(input_ids=tokens_BT, use_cache=False).logits]

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The data module's tokenizer."""
        return self.trainer.datamodule.tokenizer

    @property
    def known_tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The tokenizer; None: there is no Trainer, so that nothing is known of the data."""
        return None if self._trainer is None else self.tokenizer

    @property
    def stop_ids(self) -> list[int]:
        """Tokens that end a solution."""
        return stop_ids(self.tokenizer)

    def build_optimizer(self) -> Optimizer:
        """The optimiser of all trained parameters."""
        return self.optimizer(self.language_model)

    def configure_optimizers(self) -> dict[str, Any]:
        """One optimiser; its rates follow the schedule, one step per update."""
        optimizer = self.build_optimizer()
        steps = self.trainer.max_steps
        if steps < 1:
            other = "callbacks.ComputeBudget" if self.learns_from_samples else "`budget.max_tokens`"
            raise ValueError(
                f"the schedule needs an end: set `trainer.max_steps` to the number of updates; {other} may end it sooner."
            )
        schedule = LambdaLR(optimizer, lambda step: self.schedule(step, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save what a later stage needs to build the model (`init_from`), and optimiser states that any strategy can load."""
        checkpoint |= checkpoint_record(self.language_model, self.known_tokenizer, self.lora)
        if self.device_mesh is None and checkpoint.get("optimizer_states"):
            states, (optimizer,) = checkpoint["optimizer_states"], self.trainer.optimizers
            checkpoint["optimizer_states"] = [number_by_model(state, optimizer, self) for state in states]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the weights are of this model, and belong to the data's tokenizer."""
        self._check_shapes(checkpoint.get("state_dict", {}))
        if "vocabulary" in checkpoint and (tokenizer := self.known_tokenizer) is not None:
            Vocabulary(**checkpoint["vocabulary"]).check(tokenizer, "the checkpoint")

    def _check_shapes(self, weights: Mapping[str, Tensor]) -> None:
        if not weights or self.language_model is None or not self.strict_loading:  # shards have none here
            return
        there, here = ({name: list(weight.shape) for name, weight in of.items()} for of in (weights, self.state_dict()))
        for name in there | here:
            if there.get(name) != here.get(name):
                raise ValueError(
                    f"the checkpoint is of another architecture ({name}: {there.get(name, 'absent')}, here "
                    f"{here.get(name, 'absent')}); take the config of its run, or start from it by `model.init_args.init_from`."
                )

    def on_train_start(self) -> None:
        """Recompute layers by their own attention, whoever asked for it."""
        if any(getattr(module, "gradient_checkpointing", False) for module in self.language_model.modules()):
            checkpoint_activations(self.language_model)

    def complete(
        self, prompt_ids: list[list[int]], group_size: int, params: SamplingParams, generator: Randomness = None,
        *, share: bool = False,
    ) -> tuple[Completions, list[list[str]]]:  # fmt: skip
        """Sample `group_size` completions of each of B prompts; also as [B][G] texts.

        share: see `rollout.sample`.
        """
        tokenizer, stop = self.tokenizer, self.stop_ids
        with self._evaluating() as model:
            done = sample(
                model, prompt_ids, group_size, params, stop_ids=stop, pad_id=tokenizer.pad_token_id, generator=generator,
                share=share,
            )  # fmt: skip
        texts = tokenizer.batch_decode(done.rows(), skip_special_tokens=False)
        return done, [texts[i : i + group_size] for i in range(0, len(texts), group_size)]

    @contextmanager
    def _evaluating(self) -> Iterator[PreTrainedModel]:
        """The language model in evaluation mode, in the trainer's precision."""
        model = self.language_model
        was_training = model.training
        model.eval()
        with self.trainer.precision_plugin.forward_context():
            yield model
        model.train(was_training)

    def evaluate(self, batch: PromptBatch, batch_idx: int = 0, dataloader_idx: int = 0) -> dict[str, Any]:
        """Sample and judge; results accumulate in `judgements`, and `rollout` in the outputs is for callbacks."""
        count, found = len(batch.indices) - batch.repeats, self.judgements
        with found.timed("sampling"), gathered(self.language_model):
            answers, recalled = self._answers(batch)
        examples, answers = batch.examples[:count], answers[:count]
        with found.timed("verification"):
            reports = [judge(e.graph, [a.text for a in group]) for e, group in zip(examples, answers, strict=True)]
            released = [
                released_verdicts(e, [a.text for a in group]) if self.evaluation.released else None
                for e, group in zip(examples, answers, strict=True)
            ]
        done = Answered(examples, batch.indices[:count], answers, reports, recalled[:count], released)
        with found.timed("statistics"):
            found.update(done, self.labels)
        if self.evaluation.likelihood:
            with found.timed("likelihood"), gathered(self.language_model):
                self._measure_likelihood([example for example in examples if example.solution])
        return {"rollout": done}

    validation_step = test_step = evaluate

    def predict_step(self, batch: PromptBatch, batch_idx: int = 0, dataloader_idx: int = 0) -> dict[str, Any]:
        """Sample and judge; what it costs counts, as predictions may be learned from."""
        outputs = self.evaluate(batch, batch_idx, dataloader_idx)
        answers = outputs["rollout"].answers
        prompts = [len(ids) for ids in batch.prompt_ids[: len(answers)]]
        length_N = torch.tensor([answer.tokens for group in answers for answer in group])
        self.compute.add(SAMPLING, generation_counts(prompts, length_N))  # also of repeats alone: processes sum equal phases
        return outputs

    def _answers(self, batch: PromptBatch) -> tuple[list[Sequence[Response]], list[bool]]:
        """[B][n] responses, recalled or sampled, and which were recalled."""
        config = self.evaluation
        answers = [self.recall(index) for index in batch.indices]
        recalled = [answer is not None for answer in answers]
        unknown = [b for b, known in enumerate(recalled) if not known]
        if unknown:
            generators = [keyed_generator(f"{config.seed}/{batch.indices[b]}") for b in unknown]
            prompts = [batch.prompt_ids[b] for b in unknown]
            done, texts = self.complete(prompts, config.samples, config.sampling, generators, share=True)
            lengths = iter(done.length_N.tolist())
            for b, group in zip(unknown, texts, strict=True):
                answers[b] = responses(group, islice(lengths, len(group)), self.tokenizer)
        return answers, recalled

    def _measure_likelihood(self, examples: list[Example]) -> None:
        """Add the likelihood of the gold responses, without their EOS."""
        if not examples:
            return
        documents = encode(examples, self.tokenizer)
        with self._evaluating() as model:
            most, rows = min(TOKENS_AT_ONCE, self.tokens_per_pass or TOKENS_AT_ONCE), [d.ids[:-1] for d in documents]
            nll = token_nll(model, rows, [d.prompt_tokens for d in documents], tokens=most, whole=self.whole_logits)
        kinds = [response_token_kinds(example, self.tokenizer) for example in examples]
        self.judgements.add_likelihood(examples, nll, kinds)

    @property
    def labels(self) -> Labels:
        """Names of the contexts and modes of the held-out problems."""
        return self.trainer.datamodule.labels

    def summary(
        self, weighted: Mapping[str, Sequence[tuple[float, Sequence[int]]]], *, level: float = 0.95, resamples: int = 1000
    ) -> dict[str, Any]:
        """The results of the evaluation as plain numbers; every process must call it. See `Judgements.summary`.

        Args:
            weighted: name of a further band -> [(weight, operations)], weights summing to 1.
            level: coverage of the confidence intervals.
            resamples: bootstrap draws of problems; 0: no intervals.
        """
        if not self.trainer.datamodule.evaluates:
            return {}
        return self.judgements.summary(self.trainer.datamodule.bands, self.labels, weighted, Intervals(level, resamples))

    def identity(self) -> dict[str, Any]:
        """What samples of an evaluation depend on: its settings, the problems, the weights. Every process must call it."""
        settings, data = asdict(self.evaluation), self.trainer.datamodule
        del settings["released"]  # it judges samples that are there
        return {"evaluation": settings, "problems": data.problems_digest, "weights": weights_digest(self.language_model)}

    def whole_weights(self) -> dict[str, Tensor]:
        """The model's weights by name on the CPU, adapters merged; every process must call this."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        weights = get_model_state_dict(self.language_model, options=options)
        return merged(self.language_model, weights) if adapted(self.language_model) else weights

    def write_folder(self, folder: Path, weights: Mapping[str, Tensor], digest: str) -> None:
        """Write a Hugging Face folder of whole weights with their digest; one process is enough. See models/folder.py."""
        shown = self.trainer.datamodule.shown
        modulus = shown.graph.modulus if isinstance(shown, Example) else None
        example = {"problem": shown.problem.strip(), "question": shown.question, "modulus": modulus}
        facts = {"weights": digest, "init_from": self.init_from, "example": example}
        sampling = self.evaluation.sampling.as_generation_config()
        write_folder(folder, self.language_model.config, weights, self.tokenizer, self.stop_ids, sampling, facts)

    def ledger(self, sums: Mapping[str, Any]) -> dict[str, Any]:
        """The cost of training, from its sums (`ComputeMeter.state`)."""
        return ledger(sums, self.language_model.config)

    def _forget(self) -> None:
        self.judgements.reset()

    on_validation_epoch_start = on_test_epoch_start = on_predict_epoch_start = _forget

    def _release(self) -> None:
        release(self.language_model)

    on_validation_epoch_end = on_test_epoch_end = on_predict_epoch_end = _release


@cache
def bf16_slowdown() -> float:
    """The time of a matrix product in bfloat16 over that in float32 on this CPU; measured once, in a second.

    It depends on the CPU and on the libraries.
    """
    return _seconds(torch.bfloat16) / _seconds(torch.float32)


def _seconds(dtype: torch.dtype) -> float:
    """Time of the fastest of four products of a small model's size."""
    tokens, weights = torch.ones(1024, 128, dtype=dtype), torch.ones(128, 512, dtype=dtype)
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        return min(repeat(lambda: torch.mm(tokens, weights), number=1, repeat=4))
