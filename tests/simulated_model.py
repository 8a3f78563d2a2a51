"""A module that answers without a language model: gold solutions, some of them spoilt, so that every verdict occurs."""

import torch
from grammar_cases import response_of

from grammar import gold_trace, parse_problem, render_trace
from lightning_modules import PretrainModule
from lightning_modules.rollout import Completions

MODULUS = 5  # of context `garden`


def spoil(text: str, generator: torch.Generator) -> str:
    """Leave a response as it is, change a number, drop a step, or cut its end off."""

    def draw(most: int) -> int:
        return int(torch.randint(most, (1,), generator=generator))

    match draw(5):
        case 0:
            digits = [i for i, c in enumerate(text) if c.isdigit()]
            at = digits[draw(len(digits))]
            return text[:at] + str((int(text[at]) + 1) % MODULUS) + text[at + 1 :]
        case 1:
            first, _, rest = text.partition(". ")
            return rest or first
        case 2:
            return text[: draw(len(text))]
    return text


class SimulatedModule(PretrainModule):
    """PretrainModule whose completions are made up from the problem; `stop_after` batches it is interrupted."""

    stop_after = None
    batches = 0

    def complete(self, prompt_ids, group_size, params, generator=None, *, share=False):
        """Spoilt gold solutions."""
        SimulatedModule.batches += 1
        if self.stop_after is not None and SimulatedModule.batches > self.stop_after:
            raise KeyboardInterrupt
        texts = []
        for ids, own in zip(prompt_ids, generator, strict=True):
            words = self.tokenizer.decode(ids).removeprefix("<question>").removesuffix("</question> <solution>")
            gold = response_of(render_trace(gold_trace(parse_problem(words.strip(), modulus=MODULUS))))
            texts.append([spoil(gold, own) for _ in range(group_size)])
        lengths = [len(self.tokenizer(text)["input_ids"]) for group in texts for text in group]
        return Completions(torch.zeros(len(lengths), 1), torch.zeros(len(lengths), 1), torch.tensor(lengths)), texts
