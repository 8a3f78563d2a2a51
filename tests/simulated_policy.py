"""Modules that answer without their language model: right or wrong by a skill that the test sets, and always the same."""

from hashlib import blake2b

import torch
from grammar_cases import response_of

from grammar import gold_trace, parse_problem, render_trace
from lightning_modules import GRPOModule, MidtrainModule
from lightning_modules.rollout import Completions

MODULUS = 5  # of context `garden`
LOGP = -0.5  # of every token


def problem_of(tokenizer, ids):
    words = tokenizer.decode(ids).removeprefix("<question>").removesuffix("</question> <solution>")
    return parse_problem(words.strip(), modulus=MODULUS)


def wrong(gold: str) -> str:
    """The gold response with another answer."""
    head, _, tail = gold.rpartition("<answer> ")
    return f"{head}<answer> {(int(tail.split()[0]) + 1) % MODULUS} </answer>"


def hacked(gold: str) -> str:
    """The gold response with another value in its first step, and the right answer."""
    at = next(i for i, c in enumerate(gold) if c.isdigit())
    return gold[:at] + str((int(gold[at]) + 1) % MODULUS) + gold[at + 1 :]


def hash_of(ids: list[int], g: int) -> float:
    """A number in [0, 1) for completion g of a prompt."""
    return int.from_bytes(blake2b(repr((ids, g)).encode(), digest_size=4).digest(), "big") / 2**32


class Simulated:
    """Completion g of a problem is right where a hash of both falls below `skill(op)`."""

    def write(self, gold: str, *, right: bool) -> str:
        return gold if right else wrong(gold)

    def complete(self, prompt_ids, group_size, params, generator=None, *, share=False):
        texts = []
        for ids in prompt_ids:
            graph = problem_of(self.tokenizer, ids)
            gold, skill = response_of(render_trace(gold_trace(graph))), self.skill(graph.op)
            luck = [hash_of(ids, g) for g in range(group_size)]
            texts.append([self.write(gold, right=draw < skill) for draw in luck])
        rows = [torch.tensor(self.tokenizer(text)["input_ids"]) for group in texts for text in group]
        length_N = torch.tensor([len(row) for row in rows])
        tokens_NT = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        seen_NT = torch.arange(tokens_NT.shape[1]) < length_N[:, None]
        return Completions(tokens_NT, LOGP * seen_NT, length_N), texts


class SimulatedPolicy(Simulated, GRPOModule):
    """Solves all that lies below op 3, some of op 3, nothing above; one op more every `pace` updates."""

    pace = 2

    def skill(self, op: int) -> float:
        frontier = 3 + self.trainer.global_step // self.pace
        return 1.0 if op < frontier else 0.3 if op == frontier else 0.0


class SimulatedLearner(Simulated, MidtrainModule):
    """Solves most of what has up to three operations, nothing above."""

    def skill(self, op: int) -> float:
        return 0.6 if op <= 3 else 0.0
