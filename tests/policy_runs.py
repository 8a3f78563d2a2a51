"""RL runs of a second for tests: a minute model, completions that depend on the prompt alone, gradients that show in weights."""

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback

from datamodules import PromptDataModule
from datamodules.problems.mixture import Component
from datamodules.reasoning import HeldOut
from lightning_modules import GRPOModule
from lightning_modules.evaluation import Evaluation
from lightning_modules.models.language_model import load_language_model
from lightning_modules.optimizers import OptimizerFactory
from lightning_modules.policy.collector import GroupSettings
from lightning_modules.policy.policy_module import PolicyModule, UpdateSettings
from lightning_modules.policy.trust_region import KLPenalty
from lightning_modules.rewards import Credit, Earned, Reward
from lightning_modules.rollout import Completions, SamplingParams
from tests_support import PLAIN, grouped

LONGEST = 12


class LengthReward(Reward):
    """Longer is better: there is something to learn in every group whose completions differ in length."""

    def __init__(self, weight=1.0):
        self.weight = weight

    def __call__(self, response, report):
        return {"length": self.weight * len(response)}


class HalfwayCredit(Credit):
    """Two steps, whatever is written: the first half earns its number of distinct letters, the second 0.1."""

    def __call__(self, responses, reports):
        halves = [max(1, len(text) // 2) for text in responses]
        return [
            [Earned(half, len(set(text[:half])) / 10), Earned(max(1, len(text)), 0.1)]
            for text, half in zip(responses, halves, strict=True)
        ]


class Descent(OptimizerFactory):
    """Weights go down the bare gradient (or, with momentum, a mean of it): an update shows it."""

    def __init__(self, lr, momentum=0.0):
        self.lr, self.momentum = lr, momentum

    def __call__(self, model):
        return torch.optim.SGD(model.parameters(), lr=self.lr, momentum=self.momentum)


def scripted(module_type: type[PolicyModule], *, flat: bool = False) -> type[PolicyModule]:
    """The module with completions that depend on the prompt alone, and that remembers its groups.

    flat: to half of the prompts it always gives the same completion.
    """

    class Scripted(module_type):
        def complete(self, prompt_ids, group_size, params, generator=None, *, share=False):
            rows = []
            for ids in prompt_ids:
                draw = torch.Generator().manual_seed(sum(i * n for i, n in enumerate(ids, 7)) % 2**31)
                same = flat and sum(ids) % 2 == 0
                for g in range(group_size):
                    n = 5 if same else 3 + (g + len(ids)) % (LONGEST - 2)
                    row = torch.randint(10, 500, (n,), generator=draw)
                    rows.append(rows[-1] if same and g else row)
            length_N = torch.tensor([len(row) for row in rows])
            tokens_NT = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            texts = self.tokenizer.batch_decode([row.tolist() for row in rows])
            groups = [texts[i : i + group_size] for i in range(0, len(texts), group_size)]
            return Completions(tokens_NT, torch.zeros(tokens_NT.shape), length_N), groups

        def __init__(self, *args, **settings):
            super().__init__(*args, **settings)
            collect = self.collector.collect

            def remember(prompts, more):
                self.groups = collect(prompts, more)
                return self.groups

            self.collector.collect = remember

    return Scripted


class Ragged(GRPOModule):
    """Processes sample differently long, and differently often."""

    def complete(self, prompt_ids, group_size, params, generator=None, *, share=False):
        rank = self.trainer.global_rank
        for _ in range(rank):
            super().complete(prompt_ids, group_size, SamplingParams(max_new_tokens=3), generator)
        return super().complete(prompt_ids, group_size, SamplingParams(max_new_tokens=4 + 5 * rank), generator)


def build(start, module_type=GRPOModule, *, flat=False, lr=0.1, **settings):
    return scripted(module_type, flat=flat)(
        start, settings.pop("reward", LengthReward()),
        sampling=SamplingParams(max_new_tokens=LONGEST),
        optimizer=Descent(lr), evaluation=Evaluation(samples=1, sampling=SamplingParams(max_new_tokens=4)), **grouped(**settings),
    )  # fmt: skip


def module(start, kind=GRPOModule, *, group=GroupSettings(4), update=UpdateSettings(), kl=KLPenalty(), lr=0.1, **settings):
    """As `build`, with settings in groups."""
    return scripted(kind)(
        start, settings.pop("reward", LengthReward()), group=group, update=update, kl=kl,
        sampling=SamplingParams(max_new_tokens=LONGEST), optimizer=settings.pop("optimizer", Descent(lr)),
        evaluation=Evaluation(samples=1, sampling=SamplingParams(max_new_tokens=4)), **settings,
    )  # fmt: skip


class Stopping(GRPOModule):
    """A completion has ended by itself if its last token is even."""

    @property
    def stop_ids(self):
        return list(range(10, 500, 2))


def forced_logp(model, batch):
    """Log-probabilities of a minibatch's sampled tokens, one after the other, by teacher forcing."""
    with torch.no_grad():
        logp_NTV = model(input_ids=batch.tokens_NT[:, :-1], use_cache=False).logits.log_softmax(-1)
    return logp_NTV.gather(-1, batch.tokens_NT[:, 1:, None]).squeeze(-1)[batch.mask_NT]


def problems(prompts=4):
    held_out = HeldOut({"ID": "2-3"}, ["garden"], validation_problems=2)
    return PromptDataModule(
        [Component("2-3", ["garden"])],
        "garden",
        prompts_per_rollout=prompts,
        graph=PLAIN,
        random_letters=False,
        held_out=held_out,
    )


def fit(module, folder, *, prompts=4, resume=None, **settings):
    trainer = Trainer(
        **{
            "max_steps": 3, "accelerator": "cpu", "devices": 1, "logger": False, "enable_checkpointing": False,
            "enable_progress_bar": False, "enable_model_summary": False, "default_root_dir": folder, "num_sanity_val_steps": 0,
            "limit_val_batches": 0, **settings,
        }
    )  # fmt: skip
    trainer.fit(module, problems(prompts), ckpt_path=resume)
    return trainer


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.language_model.parameters()])


def all_weights(module):
    whole = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in module.parameters()]
    return torch.cat([p.detach().flatten() for p in whole])


def start_weights(start):
    return torch.cat([p.detach().flatten() for p in load_language_model(start).parameters()])


class Watch(Callback):
    """What was logged after every step, the experience before it, and the weights that gave it."""

    def __init__(self):
        self.logs, self.batches, self.policies = [], [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.batches.append(batch)
        self.policies.append(weights(pl_module))

    def on_train_batch_end(self, trainer, *args):
        self.logs.append({key: value.item() for key, value in trainer.callback_metrics.items()})

    def column(self, name):
        return [log[name] for log in self.logs]
