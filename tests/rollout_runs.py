"""Groups made by hand and minute runs, for tests of callbacks that are shown rollouts."""

import torch
from grammar_cases import response_of
from lightning import Trainer
from simulated_policy import hacked, wrong

from datamodules import PromptDataModule
from datamodules.problems.mixture import Cell, Component
from datamodules.problems.synthesis import Example
from grammar import gold_trace, parse_problem, parse_response, render_trace, verify
from lightning_modules import GRPOModule
from lightning_modules.optimizers import AdamW
from lightning_modules.policy.experience import Group
from lightning_modules.rewards import OutcomeReward, Reward
from lightning_modules.rollout import SamplingParams
from tests_support import PLAIN, grouped

PROBLEM = "The number of roses equals 3. The number of oaks equals the number of roses. "
QUESTION = "How many oaks are there?"
GRAPH = parse_problem(PROBLEM, QUESTION, modulus=5)
GOLD = response_of(render_trace(gold_trace(GRAPH)))
RIGHT, WRONG, HACKED = GOLD, wrong(GOLD), hacked(GOLD)


def group(*texts, op=2, reward=OutcomeReward(), logp=-1.0):
    reports = [verify(parse_response(text), GRAPH) for text in texts]
    example = Example("x", PROBLEM, QUESTION, "", Cell(op, "garden"), GRAPH)
    parts = [reward(text, report) for text, report in zip(texts, reports, strict=True)]
    return Group(
        example, [1, 2], [[3, 4, 5]] * len(texts), [torch.full((3,), logp / 3)] * len(texts), list(texts), reports, parts
    )


class LengthReward(Reward):
    """Longer is better: varies within every group, so that weights move."""

    def __call__(self, response, report):
        return {"length": float(len(response))}


def train(folder, module, *watch, steps=3, resume=None, **settings):
    torch.manual_seed(0)
    data = PromptDataModule([Component("2-4", ["garden"])], "garden", prompts_per_rollout=3, graph=PLAIN, random_letters=False)
    trainer = Trainer(
        **{
            "max_steps": steps, "accelerator": "cpu", "logger": False, "enable_checkpointing": False,
            "enable_progress_bar": False, "enable_model_summary": False, "default_root_dir": folder, "limit_val_batches": 0,
            "log_every_n_steps": 1, "callbacks": list(watch), **settings,
        }
    )  # fmt: skip
    trainer.fit(module, data, ckpt_path=resume)
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


def policy(start, kind=GRPOModule, **settings):
    return kind(
        start, settings.pop("reward", LengthReward()),
        sampling=SamplingParams(max_new_tokens=10, temperature=settings.pop("temperature", 1.0)),
        optimizer=AdamW(lr=settings.pop("lr", 1e-2), weight_decay=0.0), **grouped(**settings),
    )  # fmt: skip
